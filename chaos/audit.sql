-- What the harness notes inside the database, and the tables for what it saw from outside. No table of the service's
-- own is changed.

CREATE SCHEMA chaos;

-- Every change of a job's state or fence.
CREATE TABLE chaos.history (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id UUID NOT NULL,
  old_status TEXT NOT NULL,
  new_status TEXT NOT NULL,
  fence BIGINT,
  attempt INT NOT NULL,
  owner TEXT,
  at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP()
);
CREATE INDEX history_job ON chaos.history (job_id, id);

CREATE FUNCTION chaos.note_change() RETURNS TRIGGER AS $$
BEGIN
  INSERT INTO chaos.history (job_id, old_status, new_status, fence, attempt, owner)
  VALUES (NEW.id, OLD.status, NEW.status, NEW.fence, NEW.attempt, NEW.lease_owner);
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER chaos_note_change AFTER UPDATE ON test_jobs FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.fence IS DISTINCT FROM NEW.fence)
EXECUTE FUNCTION chaos.note_change();

-- Trials that came under another fence than their job had at that moment.
CREATE TABLE chaos.late_trials (job_id UUID, case_index INT, fence BIGINT, current_fence BIGINT);

CREATE FUNCTION chaos.note_late_trial() RETURNS TRIGGER AS $$
BEGIN
  INSERT INTO chaos.late_trials
  SELECT NEW.job_id, NEW.case_index, NEW.fence, j.fence FROM test_jobs j
  WHERE j.id = NEW.job_id AND (j.fence <> NEW.fence OR j.status <> 'running');
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER chaos_note_late_trial AFTER INSERT ON trials FOR EACH ROW EXECUTE FUNCTION chaos.note_late_trial();

-- What the submitters wanted. `seconds` from the first request to the last answer; `unsure`: some answer never came.
CREATE TABLE chaos.intents (
  id TEXT PRIMARY KEY, account_id UUID NOT NULL, is_keyed BOOLEAN NOT NULL, seconds FLOAT8 NOT NULL,
  unsure BOOLEAN NOT NULL,
  change_line TEXT  -- of an intent that tests a change: whose heads follow each other
);
-- What they were told, answer by answer.
CREATE TABLE chaos.answers (
  intent TEXT NOT NULL, status INT NOT NULL, retry_after TEXT, code TEXT, job_id UUID, body TEXT NOT NULL
);
-- What they were told when they wanted a job cancelled.
CREATE TABLE chaos.cancels (job_id UUID NOT NULL, status INT NOT NULL, retry_after TEXT, body TEXT NOT NULL);
-- What followers of events heard. `ended` NULL: they gave up at `until`.
CREATE TABLE chaos.followed (
  job_id UUID NOT NULL, ended TEXT, trials INT NOT NULL, repeated INT NOT NULL, until TIMESTAMPTZ NOT NULL
);
-- When the model was asked for which case.
CREATE TABLE chaos.calls (intent TEXT NOT NULL, case_index INT NOT NULL, began_at TIMESTAMPTZ NOT NULL);
-- Which ends the workers believe to have written, by their logs.
CREATE TABLE chaos.ends (job_id UUID NOT NULL, fence BIGINT NOT NULL, worker TEXT NOT NULL);
-- What the processes' logs call a fault of the service's own.
CREATE TABLE chaos.faults (process TEXT NOT NULL, event TEXT NOT NULL, line TEXT NOT NULL);
-- Moments at which an account had more live leases than its tier allows.
CREATE TABLE chaos.overruns (account_id UUID NOT NULL, leases INT NOT NULL, allowed INT NOT NULL, at TIMESTAMPTZ);
-- Every message that was found in Redis at the end.
CREATE TABLE chaos.messages (key TEXT NOT NULL, task TEXT NOT NULL, arguments TEXT NOT NULL);

-- Which intent a job came from: its suite says so. Read once, at the end.
CREATE MATERIALIZED VIEW chaos.jobs AS
SELECT j.id, j.user_id, j.status, SUBSTRING(s.body FROM 'intent-([0-9a-f]{12})') AS intent
FROM test_jobs j JOIN suites s ON s.id = j.suite_id
WITH NO DATA;
CREATE INDEX jobs_intent ON chaos.jobs (intent);
