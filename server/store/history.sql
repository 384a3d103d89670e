-- History: what jobs found, for jobs that are compared with it.

-- name: find_version_base
-- A published version that the account may see: the one named, or the newest.
-- By packages_published_name and package_versions_latest.
-- $1 package name, $2 account, $3 version or NULL
SELECT v.version, v.snapshot_id, s.body AS suite_body
FROM packages p
JOIN LATERAL (
  SELECT pv.version, pv.snapshot_id, pv.suite_id FROM package_versions pv
  WHERE pv.package_id = p.id AND ($3::TEXT IS NULL OR pv.version = $3)
  ORDER BY pv.published_at DESC LIMIT 1
) v ON TRUE
LEFT JOIN LATERAL (
  SELECT ps.suite_id FROM package_suites ps WHERE ps.package_id = p.id ORDER BY ps.id DESC LIMIT 1
) stored ON v.suite_id IS NULL
LEFT JOIN suites s ON s.id = COALESCE(v.suite_id, stored.suite_id)
WHERE p.name = $1 AND p.is_published AND (p.visibility = 'public' OR p.owner_id = $2);

-- name: find_branch_base
-- Files and suite of the newest job of a branch, by history_jobs_branch.
-- $1 account, $2 package name, $3 branch, $4 repository or NULL, $5 suite name
SELECT h.repository, j.snapshot_id, s.body AS suite_body
FROM history_jobs h
JOIN test_jobs j ON j.id = h.job_id
JOIN suites s ON s.id = j.suite_id
WHERE h.user_id = $1 AND h.package_name = $2 AND h.branch = $3 AND ($4::TEXT IS NULL OR h.repository = $4)
  AND h.suite_name = $5
ORDER BY h.ended_at DESC LIMIT 1;

-- name: find_snapshot_suite
-- The suite in files that the account has, of the package of this name first; package_versions_snapshot has the few.
-- $1 account, $2 package name, $3 snapshot
SELECT s.body
FROM package_versions v
JOIN packages p ON p.id = v.package_id AND p.owner_id = $1
JOIN suites s ON s.id = v.suite_id
WHERE v.snapshot_id = $3
ORDER BY p.name <> $2, v.published_at DESC LIMIT 1;

-- name: find_job_base
-- Files and suite of a job of the account; of the job that ran it, where an identical one had.
-- $1 job_id, $2 account
SELECT COALESCE(j.cached_from, j.id) AS job_id, j.snapshot_id, s.body AS suite_body
FROM test_jobs j JOIN suites s ON s.id = j.suite_id
WHERE j.id = $1 AND (j.user_id = $2 OR j.submitted_by = $2);

-- name: read_branch_past
-- The newest trials of each of these questions on a branch, by history_rows_branch; how many jobs brought them, and when.
-- $1 account, $2 package name, $3 repository and branch, $4 models, $5 case digests, $6 newest rows of each
WITH known AS (
  SELECT asked.model, asked.case_digest, h.passed, h.failed, h.job_id, h.ended_at
  FROM (SELECT DISTINCT * FROM UNNEST($4::TEXT[], $5::TEXT[]) AS a (model, case_digest)) asked
  CROSS JOIN LATERAL (
    SELECT r.passed, r.failed, r.job_id, r.ended_at FROM history_rows r
    WHERE r.user_id = $1 AND r.package_name = $2 AND r.branch_key = $3
      AND r.model = asked.model AND r.case_digest = asked.case_digest
    ORDER BY r.ended_at DESC LIMIT $6
  ) h
)
SELECT k.model, k.case_digest, SUM(k.passed)::INT AS passed, SUM(k.failed)::INT AS failed,
  (SELECT COUNT(DISTINCT n.job_id)::INT FROM known n) AS jobs, (SELECT MIN(n.ended_at) FROM known n) AS oldest_at,
  (SELECT MAX(n.ended_at) FROM known n) AS newest_at
FROM known k GROUP BY k.model, k.case_digest ORDER BY k.model, k.case_digest;

-- name: read_version_past
-- The same of a published version, by history_rows_version.
-- $1 account, $2 package name, $3 version, $4 models, $5 case digests, $6 newest rows of each
WITH known AS (
  SELECT asked.model, asked.case_digest, h.passed, h.failed, h.job_id, h.ended_at
  FROM (SELECT DISTINCT * FROM UNNEST($4::TEXT[], $5::TEXT[]) AS a (model, case_digest)) asked
  CROSS JOIN LATERAL (
    SELECT r.passed, r.failed, r.job_id, r.ended_at FROM history_rows r
    WHERE r.user_id = $1 AND r.package_name = $2 AND r.version = $3
      AND r.model = asked.model AND r.case_digest = asked.case_digest
    ORDER BY r.ended_at DESC LIMIT $6
  ) h
)
SELECT k.model, k.case_digest, SUM(k.passed)::INT AS passed, SUM(k.failed)::INT AS failed,
  (SELECT COUNT(DISTINCT n.job_id)::INT FROM known n) AS jobs, (SELECT MIN(n.ended_at) FROM known n) AS oldest_at,
  (SELECT MAX(n.ended_at) FROM known n) AS newest_at
FROM known k GROUP BY k.model, k.case_digest ORDER BY k.model, k.case_digest;

-- name: read_job_past
-- The same of one job, by the primary key.
-- $1 job_id
SELECT r.model, r.case_digest, SUM(r.passed)::INT AS passed, SUM(r.failed)::INT AS failed, 1 AS jobs,
  MIN(r.ended_at) AS oldest_at, MAX(r.ended_at) AS newest_at
FROM history_rows r WHERE r.job_id = $1 GROUP BY r.model, r.case_digest ORDER BY r.model, r.case_digest;

-- name: may_use_snapshot
-- Whether the account uploaded these files, or they are a public version's. By package_versions_snapshot.
-- $1 snapshot_id, $2 account
SELECT EXISTS (
  SELECT FROM package_versions v JOIN packages p ON p.id = v.package_id
  WHERE v.snapshot_id = $1 AND (p.owner_id = $2 OR (p.is_published AND p.visibility = 'public'))
);

-- name: read_fixed_baseline
-- What the job is compared with, once that is fixed.
-- $1 job_id
SELECT body FROM job_baselines WHERE job_id = $1;

-- name: fix_baseline
-- Fixes it, if the lease is still ours; the first word stands.
-- $1 job_id, $2 fence, $3 JSON of domain.baselines.FixedBaseline
WITH holder AS (
  SELECT id FROM test_jobs WHERE id = $1 AND fence = $2 AND status = 'running' FOR SHARE
), fixed AS (
  INSERT INTO job_baselines (job_id, body) SELECT id, $3 FROM holder ON CONFLICT DO NOTHING
)
SELECT id FROM holder;

-- name: expect_trials
-- How many trials the job has in all, now that some are made again; for those who watch it.
-- $1 job_id, $2 fence, $3 trials
UPDATE test_jobs SET trials_total = $3 WHERE id = $1 AND fence = $2 AND status = 'running' RETURNING id;

-- name: store_base_trials
-- Keeps trials of the package as it was, if the lease is still ours.
-- $1 job_id, $2 fence, $3 case indexes, $4 models, $5 repeat indexes, $6 bodies
WITH holder AS (
  SELECT id FROM test_jobs WHERE id = $1 AND fence = $2 AND status = 'running' FOR SHARE
), stored AS (
  INSERT INTO base_trials (job_id, case_index, model, repeat_index, body)
  SELECT holder.id, t.case_index, t.model, t.repeat_index, t.body
  FROM holder, UNNEST($3::INT[], $4::TEXT[], $5::INT[], $6::TEXT[]) AS t (case_index, model, repeat_index, body)
  ON CONFLICT DO NOTHING
)
SELECT id FROM holder;

-- name: read_base_trials
-- All of them, for the next worker and for the outcome.
-- $1 job_id
SELECT body FROM base_trials WHERE job_id = $1 ORDER BY case_index, model, repeat_index;

-- name: list_history
-- Jobs of a package in an account's history with their rows, newest first, from behind a place on.
-- By history_jobs_package, and the rows by their primary key.
-- $1 account, $2 package name, $3 branch or NULL, $4 and $5 ended_at and id of the last one seen, or NULL, $6 how many
SELECT h.job_id, h.suite_name, h.branch, h.version, h.ended_at, rows.body AS rows
FROM (
  SELECT j.job_id, j.suite_name, j.branch, j.version, j.ended_at FROM history_jobs j
  WHERE j.user_id = $1 AND j.package_name = $2 AND ($3::TEXT IS NULL OR j.branch = $3)
    AND ($4::TIMESTAMPTZ IS NULL OR (j.ended_at, j.job_id) < ($4, $5::UUID))
  ORDER BY j.ended_at DESC, j.job_id DESC LIMIT $6
) h
CROSS JOIN LATERAL (
  SELECT JSON_AGG(JSON_BUILD_OBJECT(
    'title', r.title, 'model', r.model, 'case_digest', r.case_digest, 'passed', r.passed, 'failed', r.failed
  ) ORDER BY r.case_index, r.model)::TEXT AS body
  FROM history_rows r WHERE r.job_id = h.job_id
) rows
ORDER BY h.ended_at DESC, h.job_id DESC;
