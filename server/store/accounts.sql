-- Accounts and what proves them.

-- name: create_account
-- One account; no row when the name or address is taken.
-- $1 kind, $2 username, $3 email or NULL, $4 tier, $5 is_admin
INSERT INTO users (kind, username, email, subscription_tier, is_admin) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING id, kind, username, email, subscription_tier, is_admin, is_active, created_at,
  money_per_job_usd, money_per_month_usd;

-- name: read_account
-- One account by its name.
-- $1 username
SELECT id, kind, username, email, subscription_tier, is_admin, is_active, created_at,
  money_per_job_usd, money_per_month_usd
FROM users WHERE username = $1;

-- name: set_tier
-- Moves an account to a tier; running and queued jobs go on.
-- $1 username, $2 tier
UPDATE users SET subscription_tier = $2 WHERE username = $1
RETURNING id, kind, username, email, subscription_tier, is_admin, is_active, created_at,
  money_per_job_usd, money_per_month_usd;

-- name: set_caps
-- Gives an account money caps of its own, NULL for the tier's; calls of running jobs obey the month's at once.
-- $1 username, $2 USD a job, $3 USD a month
UPDATE users SET money_per_job_usd = $2, money_per_month_usd = $3 WHERE username = $1
RETURNING id, kind, username, email, subscription_tier, is_admin, is_active, created_at,
  money_per_job_usd, money_per_month_usd;

-- name: count_accounts
-- Whether anybody is here yet.
SELECT COUNT(*)::INT FROM (SELECT FROM users LIMIT 1) any_account;

-- name: read_caller_by_token
-- Who a token stands for, if it and its account are good.
-- $1 hash
SELECT a.id, a.kind, a.username, a.email, a.subscription_tier, a.is_admin, t.kind AS token_kind, t.scopes, t.trust_id
FROM access_tokens t JOIN users a ON a.id = t.user_id
WHERE t.token_hash = $1 AND t.is_active AND a.is_active AND (t.expires_at IS NULL OR t.expires_at > NOW());

-- name: read_caller_by_id
-- Who a signed token names, if the account is good. What the token says of scopes decides nothing.
-- $1 account
SELECT id, kind, username, email, subscription_tier, is_admin, 'jwt' AS token_kind,
  '{read:packages,write:packages}'::TEXT[] AS scopes, NULL::UUID AS trust_id
FROM users WHERE id = $1 AND is_active;

-- name: create_token
-- Keeps a token's hash.
-- $1 account, $2 kind, $3 hash, $4 name, $5 scopes, $6 seconds to live or NULL
INSERT INTO access_tokens (user_id, kind, token_hash, name, scopes, expires_at)
VALUES ($1, $2, $3, $4, $5, NOW() + MAKE_INTERVAL(secs => $6::FLOAT8))
RETURNING id, kind, name, scopes, expires_at, created_at;

-- name: revoke_token
-- Ends a token by its id or hash. No row: there is no such live token.
-- $1 id or NULL, $2 hash or NULL
UPDATE access_tokens SET is_active = FALSE
WHERE (id = $1 OR token_hash = $2) AND is_active
RETURNING id;

-- name: read_usage
-- The month's counts and limits of an account, by the database's clock in UTC.
-- $1 account
SELECT t.name AS tier, t.runs_per_month, t.concurrent_jobs, m.month,
  (m.month + INTERVAL '1 month')::DATE AS resets_on,
  COALESCE(u.test_runs_count, 0) AS test_runs_count, COALESCE(u.tokens_used, 0) AS tokens_used,
  COALESCE(u.cost_usd, 0) AS cost_usd, COALESCE(u.held_usd, 0) AS held_usd,
  COALESCE(a.money_per_job_usd, t.money_per_job_usd) AS money_per_job_usd,
  COALESCE(a.money_per_month_usd, t.money_per_month_usd) AS money_per_month_usd
FROM users a
JOIN tiers t ON t.name = a.subscription_tier
CROSS JOIN (SELECT DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE AS month) m
LEFT JOIN user_test_usage u ON u.user_id = a.id AND u.month = m.month
WHERE a.id = $1;

-- name: read_account_for
-- An account by its name, with the role that somebody has in it. By users' names and the members' primary key.
-- $1 username, $2 who asks
SELECT a.id, a.kind, a.username, a.email, a.subscription_tier, m.role
FROM users a LEFT JOIN organization_members m ON m.org_id = a.id AND m.user_id = $2
WHERE a.username = $1 AND a.is_active;
