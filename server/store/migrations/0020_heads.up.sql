-- One check of a commit that says the sum of its packages.

ALTER TABLE outbox DROP CONSTRAINT outbox_event_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_event_check CHECK (event IN ('job', 'warning', 'check', 'state', 'head'));
-- What was said of a change as a whole is part of its commit's sum from now on: what could not be told of it is old news.
UPDATE outbox SET again_at = NULL WHERE event = 'state' AND NOT facts ? 'package';

-- Names the row of the outbox that is the sum of what is known of a commit.
CREATE FUNCTION head_key(change JSONB) RETURNS TEXT AS $$
  SELECT 'head:' || (change ->> 'forge') || ':' || (change ->> 'repository_id') || ':' || (change ->> 'head_sha');
$$ LANGUAGE sql STABLE;

-- Commits of which a job is accepted, starts or ends: their sums are no longer true. Rows are only added here, beside the
-- job's change, as many jobs of a commit would wait for each other at the one row of its sum, or in a circle at those of
-- several; who tells moves them on. No foreign keys, and no index but the order: it is read from its front and emptied.
CREATE TABLE head_news (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  head TEXT NOT NULL                    -- by head_key()
);

-- What the forge shows of a job is no longer true, nor what it shows of its commit. One row a job, that is pending again
-- with each change: who tells it reads the job as it is then. What the forge asked to wait for is still waited for. By
-- primary key and unique key.
CREATE OR REPLACE FUNCTION report_job(job test_jobs) RETURNS VOID AS $$
  WITH reported AS (
    SELECT FROM reported_repositories r
    WHERE r.forge = job.change ->> 'forge' AND r.repository_id = (job.change ->> 'repository_id')::BIGINT
      AND r.account_id = job.user_id
  ), told AS (
    INSERT INTO head_news (head) SELECT head_key(job.change) FROM reported
  )
  INSERT INTO outbox AS o (dedupe_key, lane, account_id, event, job_id)
  SELECT 'job:' || job.id || ':forge', 'forge:' || job.change_line, job.user_id, 'job', job.id
  FROM reported
  ON CONFLICT (dedupe_key) DO UPDATE SET state = 'pending', settled_at = NULL, news = o.news + 1, again_at = NULL,
    attempts = 0, lane = EXCLUDED.lane,
    next_at = CASE WHEN o.state = 'pending' AND o.last_status IN (403, 429) THEN o.next_at ELSE NOW() END;
$$ LANGUAGE sql;
