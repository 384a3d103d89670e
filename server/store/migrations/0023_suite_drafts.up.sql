-- What models said to jobs that have no cases yet, so that who goes on after a worker that died pays for it no second time.

CREATE TABLE suite_drafts (
  job_id UUID NOT NULL REFERENCES test_jobs (id) ON DELETE CASCADE,
  number INT NOT NULL,
  model TEXT NOT NULL,
  completion TEXT,
  begun_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  PRIMARY KEY (job_id, number)
);

CREATE FUNCTION drop_drafts() RETURNS TRIGGER AS $$
BEGIN
  DELETE FROM suite_drafts d WHERE d.job_id = NEW.id;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_drop_drafts AFTER UPDATE OF status ON test_jobs FOR EACH ROW
WHEN (NEW.suite_source = 'generated' AND NEW.status IN ('completed', 'failed'))
EXECUTE FUNCTION drop_drafts();
