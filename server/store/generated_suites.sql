-- Suites that a model wrote for packages without one: a job is accepted with a suite of no cases, and gets its own here.

-- name: adopt_suite
-- The job runs the suite that was written for the same files and account before. No row: there is none, or the lease is
-- not ours. By primary keys.
-- $1 job_id, $2 fence
UPDATE test_jobs j SET suite_id = g.suite_id, trials_total = g.trials * CARDINALITY(j.models_requested)
FROM generated_suites g JOIN suites s ON s.id = g.suite_id
WHERE j.id = $1 AND j.fence = $2 AND j.status = 'running'
  AND g.snapshot_id = j.snapshot_id AND g.account_id = j.user_id
RETURNING s.body, j.trials_total;

-- name: keep_suite
-- What a model wrote, kept for the files and the account by the lease's holder alone, and the job runs it. Whoever was
-- earlier stays: then the job runs that one. No row: the lease is not ours, and nothing was kept.
-- $1 job_id, $2 fence, $3 suite_id, $4 body, $5 trials on one model, $6 the model that wrote it
WITH holder AS (
  SELECT j.id, j.snapshot_id, j.user_id FROM test_jobs j WHERE j.id = $1 AND j.fence = $2 AND j.status = 'running'
  FOR NO KEY UPDATE
), body AS (
  INSERT INTO suites (id, body, trials) SELECT $3, $4, $5 FROM holder
  ON CONFLICT (id) DO UPDATE SET created_at = NOW()
), kept AS (
  INSERT INTO generated_suites AS g (snapshot_id, account_id, suite_id, trials, model)
  SELECT h.snapshot_id, h.user_id, $3, $5, $6 FROM holder h
  -- Changes nothing, but answers with the row that is there.
  ON CONFLICT (snapshot_id, account_id) DO UPDATE SET suite_id = g.suite_id
  RETURNING suite_id, trials
)
UPDATE test_jobs j SET suite_id = kept.suite_id, trials_total = kept.trials * CARDINALITY(j.models_requested)
FROM kept WHERE j.id = $1
RETURNING kept.suite_id;

-- name: find_suite
-- What was written for these files and this account. By primary keys.
-- $1 account, $2 snapshot_id
SELECT g.suite_id, g.trials, s.body FROM generated_suites g JOIN suites s ON s.id = g.suite_id
WHERE g.account_id = $1 AND g.snapshot_id = $2;

-- name: read_job_suite
-- The suite that a job runs now.
-- $1 job_id
SELECT s.body, j.trials_total FROM test_jobs j JOIN suites s ON s.id = j.suite_id WHERE j.id = $1;
