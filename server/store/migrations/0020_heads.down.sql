CREATE OR REPLACE FUNCTION report_job(job test_jobs) RETURNS VOID AS $$
  INSERT INTO outbox AS o (dedupe_key, lane, account_id, event, job_id)
  SELECT 'job:' || job.id || ':forge', 'forge:' || job.change_line, job.user_id, 'job', job.id
  FROM reported_repositories r
  WHERE r.forge = job.change ->> 'forge' AND r.repository_id = (job.change ->> 'repository_id')::BIGINT
    AND r.account_id = job.user_id
  ON CONFLICT (dedupe_key) DO UPDATE SET state = 'pending', settled_at = NULL, news = o.news + 1, again_at = NULL,
    attempts = 0, lane = EXCLUDED.lane,
    next_at = CASE WHEN o.state = 'pending' AND o.last_status IN (403, 429) THEN o.next_at ELSE NOW() END;
$$ LANGUAGE sql;
DROP TABLE head_news;
DROP FUNCTION head_key;
DELETE FROM outbox WHERE event = 'head';
ALTER TABLE outbox DROP CONSTRAINT outbox_event_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_event_check CHECK (event IN ('job', 'warning', 'check', 'state'));
