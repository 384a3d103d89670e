-- Trials: what a job has found so far.

-- name: store_trials
-- Keeps finished trials, if the lease is still ours. The row lock makes a sweep wait, so nothing late slips in.
-- $1 job_id, $2 fence, $3 case indexes, $4 models, $5 repeat indexes, $6 states, $7 bodies, $8 scores
WITH holder AS (
  SELECT id FROM test_jobs WHERE id = $1 AND fence = $2 AND status = 'running' FOR SHARE
), stored AS (
  INSERT INTO trials (job_id, case_index, model, repeat_index, state, body, fence, score)
  SELECT holder.id, t.case_index, t.model, t.repeat_index, t.state, t.body, $2, t.score
  FROM holder, UNNEST($3::INT[], $4::TEXT[], $5::INT[], $6::TEXT[], $7::TEXT[], $8::FLOAT8[])
    AS t (case_index, model, repeat_index, state, body, score)
  ON CONFLICT DO NOTHING
)
SELECT id FROM holder;

-- name: read_trials
-- Every finished trial of a job, for the next worker and for the outcome.
-- $1 job_id
SELECT body FROM trials WHERE job_id = $1 ORDER BY case_index, model, repeat_index;

-- name: measure_models
-- What each model did on a job's suite, in the account's last hundred jobs that ran it on the same package. Kept answers
-- are no new evidence. By the index of a suite's jobs, and the trials' primary key.
-- $1 job_id
WITH past AS (
  SELECT j.id FROM test_jobs j JOIN test_jobs o
    ON o.id = $1 AND j.suite_id = o.suite_id AND j.user_id = o.user_id AND j.package_id = o.package_id
  WHERE j.status = 'completed' AND j.cached_from IS NULL
    AND (o.framework = 'auto' OR j.framework = o.framework)  -- a job that ended names what ran
  ORDER BY j.created_at DESC LIMIT 100
)
SELECT t.model, COUNT(*) FILTER (WHERE t.state = 'passed')::INT AS passed,
  COUNT(*) FILTER (WHERE t.state = 'failed')::INT AS failed,
  COALESCE(SUM((told.trial #>> '{completion,cost_usd}')::FLOAT8), 0)::FLOAT8 AS usd
FROM past JOIN trials t ON t.job_id = past.id
-- JSONB refuses NUL, which a case of the suite may quote: such a trial is left out.
CROSS JOIN LATERAL (SELECT CASE WHEN STRPOS(t.body, '\u0000') = 0 THEN t.body::JSONB END AS trial) told
WHERE t.state IN ('passed', 'failed') AND told.trial IS NOT NULL
  AND told.trial #>> '{completion,cache,state}' IS DISTINCT FROM 'hit'
GROUP BY t.model;
