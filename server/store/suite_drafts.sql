-- What models said to a job that has no cases yet: one row a try, written before the model is asked.

-- name: begin_draft
-- Notes a try by the lease's holder. No row: the lease is not ours. Safe to repeat. By primary keys.
-- $1 job_id, $2 fence, $3 number of the try, $4 model
WITH holder AS (
  SELECT id FROM test_jobs WHERE id = $1 AND fence = $2 AND status = 'running' FOR SHARE
), begun AS (
  INSERT INTO suite_drafts (job_id, number, model) SELECT id, $3, $4 FROM holder
  ON CONFLICT DO NOTHING
)
SELECT id FROM holder;

-- name: keep_draft
-- The answer to a try, by the lease's holder. No row: the lease is not ours. Safe to repeat. By primary keys.
-- $1 job_id, $2 fence, $3 number of the try, $4 JSON of evals.types.Completion
WITH holder AS (
  SELECT id FROM test_jobs WHERE id = $1 AND fence = $2 AND status = 'running' FOR SHARE
), kept AS (
  UPDATE suite_drafts d SET completion = $4 FROM holder WHERE d.job_id = holder.id AND d.number = $3
)
SELECT id FROM holder;

-- name: read_drafts
-- All tries of a job so far, in their order. By the primary key.
-- $1 job_id
SELECT number, model, completion FROM suite_drafts WHERE job_id = $1 ORDER BY number;
