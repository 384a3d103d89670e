-- Targets of notifications: where accounts want to be told.

-- name: add_target
-- No row: the account has it already, or as many as it may have.
-- $1 id, $2 account, $3 kind, $4 package glob, $5 mode, $6 sealed address, $7 its MAC, $8 as it is shown, $9 how many
INSERT INTO notify_targets (id, account_id, kind, package_glob, mode, sealed, address_mac, shown)
SELECT $1, $2, $3, $4, $5, $6, $7, $8
WHERE (SELECT COUNT(*) FROM notify_targets t WHERE t.account_id = $2) < $9
ON CONFLICT (account_id, kind, address_mac, package_glob) DO NOTHING
RETURNING id, kind, package_glob, mode, shown, created_at, stopped_at, stopped_reason;

-- name: find_equal_target
-- $1 account, $2 kind, $3 package glob, $4 MAC of the address
SELECT id FROM notify_targets WHERE account_id = $1 AND kind = $2 AND package_glob = $3 AND address_mac = $4;

-- name: list_targets
-- An account's targets, oldest first, each with its last notification.
-- $1 account
SELECT t.id, t.kind, t.package_glob, t.mode, t.shown, t.created_at, t.stopped_at, t.stopped_reason,
  o.state AS last_state, o.attempts AS last_attempts, o.last_error, COALESCE(o.settled_at, o.created_at) AS last_at
FROM notify_targets t
LEFT JOIN LATERAL (
  SELECT d.state, d.attempts, d.last_error, d.settled_at, d.created_at FROM outbox d WHERE d.target_id = t.id
  ORDER BY d.id DESC LIMIT 1
) o ON TRUE
WHERE t.account_id = $1 ORDER BY t.created_at, t.id;

-- name: read_own_target
-- $1 id, $2 account
SELECT id, kind, package_glob, mode, shown, created_at, stopped_at, stopped_reason FROM notify_targets
WHERE id = $1 AND account_id = $2;

-- name: remove_target
-- With its secret and its notifications.
-- $1 id, $2 account
DELETE FROM notify_targets WHERE id = $1 AND account_id = $2 RETURNING id;

-- name: resume_target
-- stopped -> active; what could not be told meanwhile stays dead. Safe to call twice.
-- $1 id, $2 account
UPDATE notify_targets SET stopped_at = NULL, stopped_reason = NULL, hold_until = NULL WHERE id = $1 AND account_id = $2
RETURNING id, kind, package_glob, mode, shown, created_at, stopped_at, stopped_reason;

-- name: list_sealed
-- All sealed addresses, for another key.
SELECT id, account_id, kind, sealed FROM notify_targets ORDER BY id;

-- name: replace_sealed
-- The same address under another key. No row: it was changed or removed meanwhile.
-- $1 id, $2 sealed as it was, $3 sealed anew, $4 its MAC
UPDATE notify_targets SET sealed = $3, address_mac = $4 WHERE id = $1 AND sealed = $2 RETURNING id;

-- name: report_in_repository
-- From now on the service itself reports there, for this account. A repository belongs to one account at most.
-- $1 forge, $2 repository id, $3 account
INSERT INTO reported_repositories (forge, repository_id, account_id) VALUES ($1, $2, $3)
ON CONFLICT (forge, repository_id) DO UPDATE SET account_id = reported_repositories.account_id
WHERE reported_repositories.account_id = EXCLUDED.account_id
RETURNING account_id;

-- name: leave_repository
-- The Action reports again.
-- $1 forge, $2 repository id, $3 account
DELETE FROM reported_repositories WHERE forge = $1 AND repository_id = $2 AND account_id = $3 RETURNING account_id;
