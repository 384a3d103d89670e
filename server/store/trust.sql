-- Trusted repositories, and what their workflows exchange.

-- name: add_trust
-- One repository; no row when it is an account's already, or there is no such account.
-- $1 account's name, $2 issuer, $3 forge, $4 repository_id, $5 owner_id, $6 repository, $7 workflow or NULL, $8 events,
-- $9 scopes, $10 proof
INSERT INTO trusted_repositories (
  account_id, issuer, forge, repository_id, owner_id, repository, workflow, events, scopes, proof
)
SELECT a.id, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM users a WHERE a.username = $1 AND a.is_active
ON CONFLICT (issuer, repository_id) DO NOTHING
RETURNING id, account_id, issuer, forge, repository_id, owner_id, repository, workflow, events, scopes, proof, created_at;

-- name: is_linked_elsewhere
-- Whether the App or a webhook of its present owner links the repository to another account. By the primary key.
-- $1 forge, $2 repository_id, $3 account's name, $4 owner_id
SELECT EXISTS (
  SELECT FROM linked_repositories r JOIN users a ON a.id = r.account_id
  WHERE r.forge = $1 AND r.repository_id = $2 AND r.ended_at IS NULL AND a.username <> $3
    AND (r.owner_id IS NULL OR r.owner_id = $4)
);

-- name: remove_outdated_trust
-- Makes room for what the forge has just said: an account's own link, one of an owner who has the repository no longer,
-- or, where it is wanted, anybody's. Their tokens go with them. By the unique index of issuers and ids.
-- $1 issuer, $2 repository_id, $3 owner_id, $4 account's name, $5 replace
DELETE FROM trusted_repositories t USING users a
WHERE t.issuer = $1 AND t.repository_id = $2 AND a.id = t.account_id AND (t.owner_id <> $3 OR a.username = $4 OR $5)
RETURNING t.id;

-- name: read_trust
-- Whose a repository is, if it is anybody's, and the time, by which its token is judged: always one row.
-- By the unique index of issuers and ids.
-- $1 issuer, $2 repository_id
SELECT EXTRACT(EPOCH FROM CLOCK_TIMESTAMP())::FLOAT8 AS now, t.id, t.account_id, t.account, t.issuer, t.forge,
  t.repository_id, t.owner_id, t.repository, t.workflow, t.events, t.scopes, t.proof, t.created_at
FROM (SELECT) always LEFT JOIN LATERAL (
  SELECT r.id, r.account_id, a.username AS account, r.issuer, r.forge, r.repository_id, r.owner_id, r.repository,
    r.workflow, r.events, r.scopes, r.proof, r.created_at
  FROM trusted_repositories r JOIN users a ON a.id = r.account_id
  WHERE r.issuer = $1 AND r.repository_id = $2 AND a.is_active
) t ON TRUE;

-- name: list_trusts
-- Trusted repositories by account and name; NULL: of every account. By trusted_repositories_account.
-- $1 account or NULL
SELECT r.id, r.account_id, a.username AS account, r.issuer, r.forge, r.repository_id, r.owner_id, r.repository,
  r.workflow, r.events, r.scopes, r.proof, r.created_at
FROM trusted_repositories r JOIN users a ON a.id = r.account_id
WHERE $1::UUID IS NULL OR r.account_id = $1
ORDER BY a.username, r.repository, r.id;

-- name: remove_trust
-- Trusts a repository no longer; its tokens go with it. No row: there is none.
-- $1 trust, $2 account or NULL for the operator
DELETE FROM trusted_repositories WHERE id = $1 AND ($2::UUID IS NULL OR account_id = $2)
RETURNING id;

-- name: exchange_token
-- A workflow's token is used up, and a token of ours kept in its place: both or neither. No row: it was used before.
-- Of many that come at once with one token the first to insert goes on; the others wait for it, and find the row.
-- $1 issuer, $2 jti, $3 end of the workflow's token, $4 trust, $5 hash, $6 name, $7 seconds to live, $8 repository,
-- $9 the ref that the workflow runs for
WITH claimed AS (
  INSERT INTO oidc_exchanges (issuer, jti, expires_at) VALUES ($1, $2, TO_TIMESTAMP($3))
  ON CONFLICT (issuer, jti) DO NOTHING
  RETURNING jti
), renamed AS (
  UPDATE trusted_repositories SET repository = $8
  WHERE id = $4 AND repository <> $8 AND EXISTS (SELECT FROM claimed)
)
INSERT INTO access_tokens (user_id, kind, token_hash, name, scopes, expires_at, trust_id, ref)
SELECT t.account_id, 'oidc', $5, $6, t.scopes, NOW() + MAKE_INTERVAL(secs => $7), t.id, $9
FROM claimed, trusted_repositories t JOIN users a ON a.id = t.account_id
WHERE t.id = $4 AND a.is_active
RETURNING expires_at;
