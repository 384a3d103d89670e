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
