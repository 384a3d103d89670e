-- A job may test a change of a forge: one job for each event, and a newer head ends what is under way for older ones.

ALTER TABLE test_jobs
  ADD COLUMN suite_name TEXT NOT NULL DEFAULT 'default',
  ADD COLUMN change JSONB,
  ADD COLUMN change_line TEXT,
  ADD COLUMN superseded_by UUID REFERENCES test_jobs (id);

-- Serves the newest head of a line, and what is older.
CREATE INDEX test_jobs_lines ON test_jobs (user_id, change_line, created_at) WHERE change_line IS NOT NULL;
-- Serves the clean-up of events.
CREATE INDEX submissions_event_age ON submissions (created_at) WHERE key LIKE 'event:%';

-- Jobs of a new head, until what was under way for older ones is ended. No foreign key: written with the job itself.
CREATE TABLE new_heads (
  job_id UUID PRIMARY KEY,
  user_id UUID NOT NULL,
  change_line TEXT NOT NULL
);

-- Heads that follow each other: one pull request, or else one ref, tested by one suite of one package. NULL: no change.
CREATE FUNCTION change_line(change JSONB, package TEXT, suite_name TEXT) RETURNS TEXT AS $$
  SELECT ENCODE(SHA256(CONVERT_TO(JSONB_BUILD_ARRAY(
    change -> 'forge', change -> 'repository_id', change -> 'pull_request',
    CASE WHEN change -> 'pull_request' IS NULL THEN change -> 'ref' END, package, suite_name
  )::TEXT, 'UTF8')), 'hex') WHERE change IS NOT NULL;
$$ LANGUAGE sql STABLE;

-- One event: a head of a line, and why it is tested. Who tells of it again gets the same job.
CREATE FUNCTION event_key(line TEXT, change JSONB) RETURNS TEXT AS $$
  SELECT 'event:' || ENCODE(SHA256(CONVERT_TO(
    JSONB_BUILD_ARRAY(line, change -> 'head_sha', change -> 'cause')::TEXT, 'UTF8'
  )), 'hex');
$$ LANGUAGE sql STABLE;
