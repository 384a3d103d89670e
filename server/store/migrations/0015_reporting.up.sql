-- What a forge shows of a job from its acceptance on, and of what is no job.

ALTER TABLE test_jobs ADD COLUMN report JSONB;  -- domain.reporting.ReportSettings; NULL: as by default

ALTER TABLE outbox DROP CONSTRAINT outbox_event_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_event_check CHECK (event IN ('job', 'warning', 'check', 'state'));
ALTER TABLE outbox ADD COLUMN news INT NOT NULL DEFAULT 0;  -- grows with each change of what a forge's row shows
ALTER TABLE outbox ADD COLUMN again_at TIMESTAMPTZ;         -- settled -> pending then, though nothing is written
-- Serves the look for what is due again.
CREATE INDEX outbox_again ON outbox (again_at) WHERE again_at IS NOT NULL;

-- What the forge shows of a job is no longer true. One row a job, that is pending again with each change: who tells it
-- reads the job as it is then. What the forge asked to wait for is still waited for. By primary key and unique key.
CREATE FUNCTION report_job(job test_jobs) RETURNS VOID AS $$
  INSERT INTO outbox AS o (dedupe_key, lane, account_id, event, job_id)
  SELECT 'job:' || job.id || ':forge', 'forge:' || job.change_line, job.user_id, 'job', job.id
  FROM reported_repositories r
  WHERE r.forge = job.change ->> 'forge' AND r.repository_id = (job.change ->> 'repository_id')::BIGINT
    AND r.account_id = job.user_id
  ON CONFLICT (dedupe_key) DO UPDATE SET state = 'pending', settled_at = NULL, news = o.news + 1, again_at = NULL,
    attempts = 0, lane = EXCLUDED.lane,
    next_at = CASE WHEN o.state = 'pending' AND o.last_status IN (403, 429) THEN o.next_at ELSE NOW() END;
$$ LANGUAGE sql;

CREATE FUNCTION report_of_job() RETURNS TRIGGER AS $$
BEGIN
  PERFORM report_job(NEW);
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_report AFTER INSERT ON test_jobs FOR EACH ROW
WHEN (NEW.change IS NOT NULL AND NEW.status = 'queued')
EXECUTE FUNCTION report_of_job();

CREATE TRIGGER test_jobs_report_start AFTER UPDATE OF status ON test_jobs FOR EACH ROW
WHEN (NEW.change IS NOT NULL AND OLD.status = 'queued' AND NEW.status = 'running')
EXECUTE FUNCTION report_of_job();

-- A job has ended, whichever statement ended it: what is to be told is written with that. Few targets an account, found
-- by the unique index that begins with it. A repository's configuration may choose among them.
CREATE OR REPLACE FUNCTION tell_of_job() RETURNS TRIGGER AS $$
BEGIN
  INSERT INTO outbox (dedupe_key, lane, account_id, target_id, event, job_id)
  SELECT 'job:' || NEW.id || ':' || t.id, t.id::TEXT, t.account_id, t.id, 'job', NEW.id
  FROM notify_targets t
  WHERE t.account_id = NEW.user_id AND t.stopped_at IS NULL
    AND (SELECT p.name FROM packages p WHERE p.id = NEW.package_id) LIKE TRANSLATE(t.package_glob, '*?', '%_')
    AND (NEW.report -> 'notify' IS NULL OR NEW.report -> 'notify' ? t.id::TEXT)
  ORDER BY t.id
  ON CONFLICT (dedupe_key) DO NOTHING;
  IF NEW.change IS NOT NULL THEN
    PERFORM report_job(NEW);
  END IF;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;
