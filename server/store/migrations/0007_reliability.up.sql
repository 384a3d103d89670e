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

-- How many waiting jobs count earlier than one that comes now with this bonus; NULL where that takes too long to count.
-- A short queue is counted from its front, by test_jobs_order. Of a long one, what counts later is taken from all that
-- wait, as a new job stands near the end. A function for its settings: while the tables' statistics are behind, the
-- planner would sort or scan a long queue that it takes for an empty one. STABLE: it sees what its statement sees.
CREATE FUNCTION count_earlier(bonus INTERVAL) RETURNS BIGINT AS $$
DECLARE
  seen BIGINT;
  earlier BIGINT;
BEGIN
  SELECT COUNT(*), COUNT(*) FILTER (WHERE front.start_key <= NOW() - bonus) INTO seen, earlier
  FROM (SELECT j.start_key FROM test_jobs j WHERE j.status = 'queued' ORDER BY j.start_key LIMIT 40) front;
  IF seen < 40 THEN
    RETURN earlier;
  END IF;
  RETURN (
    SELECT CASE WHEN COUNT(*) <= 2000 THEN SUM(w.jobs) END
    FROM (SELECT a.jobs FROM waiting_accounts a LIMIT 2001) w
  ) - (
    SELECT CASE WHEN COUNT(*) < 1000 THEN COUNT(*) END FROM (
      SELECT FROM test_jobs j WHERE j.status = 'queued' AND j.start_key > NOW() - bonus ORDER BY j.start_key LIMIT 1000
    ) later
  );
END;
$$ LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off;
