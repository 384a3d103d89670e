-- Links: whose a repository on a forge is, by an installation, a hook or the settings.

-- name: read_link
-- A repository's live link. By the primary keys.
-- $1 forge, $2 repository_id
SELECT r.forge, r.repository_id, r.account_id, a.username AS account, r.installation_id, r.hook_id, r.owner_id, r.name,
  r.default_branch, r.reports, r.linked_at, i.suspended_at IS NOT NULL AS is_suspended
FROM linked_repositories r
JOIN users a ON a.id = r.account_id
LEFT JOIN installations i ON i.forge = r.forge AND i.installation_id = r.installation_id
WHERE r.forge = $1 AND r.repository_id = $2 AND r.ended_at IS NULL AND a.is_active;

-- name: list_links
-- Live links by account and name; NULL: of every account. By linked_repositories_account.
-- $1 account or NULL
SELECT r.forge, r.repository_id, r.account_id, a.username AS account, r.installation_id, r.hook_id, r.owner_id, r.name,
  r.default_branch, r.reports, r.linked_at, i.suspended_at IS NOT NULL AS is_suspended
FROM linked_repositories r
JOIN users a ON a.id = r.account_id
LEFT JOIN installations i ON i.forge = r.forge AND i.installation_id = r.installation_id
WHERE r.ended_at IS NULL AND ($1::UUID IS NULL OR r.account_id = $1)
ORDER BY a.username, r.forge, r.name, r.repository_id;

-- name: list_installation_links
-- Numbers of the repositories that an installation has here. By linked_repositories_installation.
-- $1 forge, $2 installation_id
SELECT repository_id FROM linked_repositories WHERE forge = $1 AND installation_id = $2 AND ended_at IS NULL;

-- name: link_repository
-- ended -> linked, or new; what is linked stays the account's, and an App's link is not turned into a hook's. An App,
-- which the owner installs, takes over from a hook. With it comes who reports.
-- No row: the repository is another account's, or linked better.
-- $1 forge, $2 repository_id, $3 account_id, $4 installation_id, $5 hook_id, $6 owner_id, $7 name, $8 default_branch,
-- $9 reports
WITH linked AS (
  INSERT INTO linked_repositories AS r
    (forge, repository_id, account_id, installation_id, hook_id, owner_id, name, default_branch, reports)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
  ON CONFLICT (forge, repository_id) DO UPDATE
  SET account_id = EXCLUDED.account_id, installation_id = EXCLUDED.installation_id, hook_id = EXCLUDED.hook_id,
    owner_id = COALESCE(EXCLUDED.owner_id, r.owner_id), name = EXCLUDED.name,
    default_branch = COALESCE(NULLIF(EXCLUDED.default_branch, ''), r.default_branch), reports = EXCLUDED.reports,
    linked_at = CASE WHEN r.ended_at IS NULL AND r.account_id = EXCLUDED.account_id THEN r.linked_at ELSE NOW() END,
    ended_at = NULL, ended_reason = NULL
  WHERE r.ended_at IS NOT NULL
    OR CASE WHEN EXCLUDED.installation_id IS NOT NULL
      THEN r.installation_id IS NULL OR r.account_id = EXCLUDED.account_id
      ELSE r.installation_id IS NULL AND r.account_id = EXCLUDED.account_id
    END
  RETURNING r.forge, r.repository_id, r.account_id
), reported AS (
  INSERT INTO reported_repositories (forge, repository_id, account_id)
  SELECT forge, repository_id, account_id FROM linked WHERE $9
  ON CONFLICT (forge, repository_id) DO UPDATE SET account_id = EXCLUDED.account_id
), unreported AS (
  DELETE FROM reported_repositories d USING linked l
  WHERE NOT $9 AND d.forge = l.forge AND d.repository_id = l.repository_id
)
SELECT account_id FROM linked;

-- name: end_others_trust
-- A repository is one account's: where the App links it, nobody else's workflows' tokens are given any more, and those
-- that were end with their trust, whatever it came from. By the unique index of issuers and ids.
-- $1 issuer, $2 repository_id, $3 account_id
DELETE FROM trusted_repositories WHERE issuer = $1 AND repository_id = $2 AND account_id <> $3
RETURNING account_id;

-- name: trust_link
-- The trust that comes with a link; one that the account has stays as it is.
-- $1 account_id, $2 issuer, $3 forge, $4 repository_id, $5 owner_id, $6 name
INSERT INTO trusted_repositories (account_id, issuer, forge, repository_id, owner_id, repository, scopes, proof)
VALUES ($1, $2, $3, $4, $5, $6, '{run}', 'installation')
ON CONFLICT (issuer, repository_id) DO NOTHING;

-- name: is_trusted_elsewhere
-- Whether the workflows of a repository of this owner act for another account. By the unique index of issuers and ids.
-- $1 issuer, $2 repository_id, $3 account_id, $4 owner_id
SELECT EXISTS (
  SELECT FROM trusted_repositories t JOIN users a ON a.id = t.account_id
  WHERE t.issuer = $1 AND t.repository_id = $2 AND t.account_id <> $3 AND t.owner_id = $4 AND a.is_active
);

-- name: rename_repository
-- Its latest name, for people and addresses.
-- $1 forge, $2 repository_id, $3 name
UPDATE linked_repositories SET name = $3 WHERE forge = $1 AND repository_id = $2 AND name <> $3;

-- name: end_links
-- linked -> ended, with who reports and the trust that came with the link. By the primary key.
-- $1 forge, $2 repository ids, $3 reason
WITH ended AS (
  UPDATE linked_repositories SET ended_at = NOW(), ended_reason = $3
  WHERE forge = $1 AND repository_id = ANY($2::BIGINT[]) AND ended_at IS NULL
  RETURNING forge, repository_id, account_id
), unreported AS (
  DELETE FROM reported_repositories d USING ended e WHERE d.forge = e.forge AND d.repository_id = e.repository_id
), untrusted AS (
  DELETE FROM trusted_repositories t USING ended e
  WHERE t.forge = e.forge AND t.repository_id = e.repository_id AND t.account_id = e.account_id
    AND t.proof = 'installation'
)
SELECT repository_id, account_id FROM ended;

-- name: end_repository_jobs
-- queued -> failed: what waits for a repository that is not the account's any more, with the run given back unless a
-- trial had a verdict. Only what the account itself or the repository's workflows asked for; a member's own runs go on.
-- An account's waiting jobs by test_jobs_heads, locked in the order of ids.
-- $1 account, $2 forge, $3 repository_id, $4 error_message
WITH waiting AS MATERIALIZED (
  SELECT j.id, EXISTS (SELECT FROM trials t WHERE t.job_id = j.id AND t.state IN ('passed', 'failed')) AS has_verdict
  FROM test_jobs j
  WHERE j.user_id = $1 AND j.status = 'queued' AND j.change ->> 'forge' = $2
    AND (j.change ->> 'repository_id')::BIGINT = $3
    AND NOT EXISTS (SELECT FROM organization_members m WHERE m.org_id = j.user_id AND m.user_id = j.submitted_by)
  ORDER BY j.id
  FOR NO KEY UPDATE OF j
), ended AS (
  UPDATE test_jobs j SET status = 'failed', error_code = 'repository_unlinked', error_message = $4,
    cancel_requested_at = COALESCE(j.cancel_requested_at, NOW()), completed_at = CLOCK_TIMESTAMP(),
    fence = NEXTVAL('lease_fence')
  FROM waiting w WHERE j.id = w.id AND j.status = 'queued'
  RETURNING j.id, w.has_verdict
), refund AS (
  INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason)
  SELECT l.job_id, l.user_id, l.month, 'refund', -1, 'repository_unlinked'
  FROM ended JOIN usage_ledger l ON l.job_id = ended.id AND l.kind = 'charge'
  WHERE NOT ended.has_verdict
  RETURNING user_id, month
), spent AS (
  UPDATE user_test_usage u SET test_runs_count = u.test_runs_count - r.runs, updated_at = NOW()
  FROM (SELECT user_id, month, COUNT(*)::INT AS runs FROM refund GROUP BY user_id, month) r
  WHERE u.user_id = r.user_id AND u.month = r.month
)
SELECT id FROM ended;

-- name: read_installation
-- An installation that is an account's. By the primary key.
-- $1 forge, $2 installation_id
SELECT i.forge, i.installation_id, i.account_id, a.username AS account, i.owner_id, i.owner, i.proof, i.linked_at,
  i.suspended_at
FROM installations i JOIN users a ON a.id = i.account_id
WHERE i.forge = $1 AND i.installation_id = $2 AND i.removed_at IS NULL AND a.is_active;

-- name: list_installations
-- Installations by account; NULL: of every account. By installations_account.
-- $1 account or NULL
SELECT i.forge, i.installation_id, i.account_id, a.username AS account, i.owner_id, i.owner, i.proof, i.linked_at,
  i.suspended_at
FROM installations i JOIN users a ON a.id = i.account_id
WHERE i.removed_at IS NULL AND ($1::UUID IS NULL OR i.account_id = $1)
ORDER BY a.username, i.linked_at, i.installation_id;

-- name: link_installation
-- removed -> linked, or new; one that is linked stays its account's. No row: it is another's.
-- $1 forge, $2 installation_id, $3 account_id, $4 owner_id, $5 owner, $6 proof, $7 is suspended
INSERT INTO installations AS i (forge, installation_id, account_id, owner_id, owner, proof, suspended_at)
VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $7 THEN NOW() END)
ON CONFLICT (forge, installation_id) DO UPDATE
SET account_id = EXCLUDED.account_id, owner_id = EXCLUDED.owner_id, owner = EXCLUDED.owner,
  proof = CASE WHEN i.removed_at IS NULL THEN i.proof ELSE EXCLUDED.proof END,
  linked_at = CASE WHEN i.removed_at IS NULL THEN i.linked_at ELSE NOW() END,
  suspended_at = EXCLUDED.suspended_at, removed_at = NULL
WHERE i.removed_at IS NOT NULL OR i.account_id = EXCLUDED.account_id
RETURNING i.account_id;

-- name: suspend_installation
-- active -> suspended, with who reports in its repositories: it may not write there now. Safe to call twice.
-- $1 forge, $2 installation_id
WITH suspended AS (
  UPDATE installations SET suspended_at = COALESCE(suspended_at, NOW())
  WHERE forge = $1 AND installation_id = $2 AND removed_at IS NULL
  RETURNING forge, installation_id
), unreported AS (
  DELETE FROM reported_repositories d USING suspended s, linked_repositories r
  WHERE r.forge = s.forge AND r.installation_id = s.installation_id AND r.ended_at IS NULL
    AND d.forge = r.forge AND d.repository_id = r.repository_id
)
SELECT installation_id FROM suspended;

-- name: resume_installation
-- suspended -> active, and it reports again. Safe to call twice.
-- $1 forge, $2 installation_id
WITH resumed AS (
  UPDATE installations SET suspended_at = NULL
  WHERE forge = $1 AND installation_id = $2 AND removed_at IS NULL
  RETURNING forge, installation_id
), reported AS (
  INSERT INTO reported_repositories (forge, repository_id, account_id)
  SELECT r.forge, r.repository_id, r.account_id FROM resumed s
  JOIN linked_repositories r ON r.forge = s.forge AND r.installation_id = s.installation_id
  WHERE r.ended_at IS NULL AND r.reports
  ON CONFLICT (forge, repository_id) DO NOTHING
)
SELECT installation_id FROM resumed;

-- name: remove_installation
-- linked -> removed. Its repositories' links are ended beside it. No row: it was not linked.
-- $1 forge, $2 installation_id
UPDATE installations SET removed_at = NOW(), suspended_at = NULL
WHERE forge = $1 AND installation_id = $2 AND removed_at IS NULL
RETURNING account_id;

-- name: read_app
-- The App that was made here.
-- $1 forge
SELECT forge, app_id, slug, client_id, page_url, sealed FROM forge_apps WHERE forge = $1;
