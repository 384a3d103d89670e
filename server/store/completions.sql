-- Completions: what models answered, to be answered again without asking.

-- name: find_completions
-- For each key the newest answer that this account may have. Old ones too, so that a miss can say why it is one.
-- The primary key serves it: a few rows a key at most, one for each account that paid for it.
-- $1 keys, $2 account, $3 whether the test is public, $4 days
SELECT DISTINCT ON (c.key) c.key, c.version, c.body, c.created_at, m.version AS current_version,
  c.version = m.version AND c.created_at > NOW() - MAKE_INTERVAL(days => $4) AS is_good
FROM completions c JOIN model_versions m ON m.deployment = c.deployment
WHERE c.key = ANY ($1::BYTEA[]) AND (c.account_id = $2 OR ($3::BOOLEAN AND c.is_shared))
ORDER BY c.key, is_good DESC, c.created_at DESC;

-- name: store_completions
-- Keeps answers; a newer one takes the place of an older one. Keys must be sorted and each there once, so that two
-- jobs of an account never wait for each other in a circle. Nobody waits for the disk: a crash that takes the last of
-- them costs a call, and no more.
-- $1 account, $2 whether the test is public, $3 keys, $4 deployments, $5 versions, $6 bodies
WITH hasty AS MATERIALIZED (SELECT SET_CONFIG('synchronous_commit', 'off', TRUE))
INSERT INTO completions AS c (key, account_id, is_shared, deployment, version, body)
SELECT a.key, $1, $2, a.deployment, a.version, a.body
FROM hasty, UNNEST($3::BYTEA[], $4::TEXT[], $5::TEXT[], $6::TEXT[]) AS a (key, deployment, version, body)
ON CONFLICT (key, account_id) DO UPDATE SET is_shared = c.is_shared OR EXCLUDED.is_shared, version = EXCLUDED.version,
  body = EXCLUDED.body, created_at = EXCLUDED.created_at;

-- name: note_version
-- What a deployment says that it is. Answers and outcomes of another version are passed by from now on. Writes nothing,
-- and so waits for nothing, where that is known.
-- $1 deployment, $2 version
INSERT INTO model_versions AS m (deployment, version)
SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM model_versions k WHERE k.deployment = $1 AND k.version = $2)
ON CONFLICT (deployment) DO UPDATE SET version = EXCLUDED.version, since = EXCLUDED.since
  WHERE m.version <> EXCLUDED.version;
