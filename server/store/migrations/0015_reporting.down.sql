DROP TRIGGER test_jobs_report ON test_jobs;
DROP TRIGGER test_jobs_report_start ON test_jobs;
DROP FUNCTION report_of_job;
DELETE FROM outbox WHERE event = 'state';
DELETE FROM outbox o USING test_jobs j WHERE j.id = o.job_id AND j.status IN ('queued', 'running');
CREATE OR REPLACE FUNCTION tell_of_job() RETURNS TRIGGER AS $$
BEGIN
  INSERT INTO outbox (dedupe_key, lane, account_id, target_id, event, job_id)
  SELECT 'job:' || NEW.id || ':' || t.id, t.id::TEXT, t.account_id, t.id, 'job', NEW.id
  FROM notify_targets t
  WHERE t.account_id = NEW.user_id AND t.stopped_at IS NULL
    AND (SELECT p.name FROM packages p WHERE p.id = NEW.package_id) LIKE TRANSLATE(t.package_glob, '*?', '%_')
  ORDER BY t.id
  ON CONFLICT (dedupe_key) DO NOTHING;
  IF NEW.change IS NOT NULL THEN
    INSERT INTO outbox (dedupe_key, lane, account_id, event, job_id)
    SELECT 'job:' || NEW.id || ':forge', 'forge:' || NEW.change_line, NEW.user_id, 'job', NEW.id
    FROM reported_repositories r
    WHERE r.forge = NEW.change ->> 'forge' AND r.repository_id = (NEW.change ->> 'repository_id')::BIGINT
      AND r.account_id = NEW.user_id
    ON CONFLICT (dedupe_key) DO NOTHING;
  END IF;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;
DROP FUNCTION report_job;
DROP INDEX outbox_again;
ALTER TABLE outbox DROP COLUMN again_at;
ALTER TABLE outbox DROP COLUMN news;
ALTER TABLE outbox DROP CONSTRAINT outbox_event_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_event_check CHECK (event IN ('job', 'warning', 'check'));
ALTER TABLE test_jobs DROP COLUMN report;
