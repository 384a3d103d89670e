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

-- Nobody's backlog keeps another account from ever starting, however few slots there are.
ALTER TABLE waiting_accounts
  ADD COLUMN due_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP() + INTERVAL '10 minutes';

-- Serves the claim: who had no start for too long.
CREATE INDEX waiting_accounts_due ON waiting_accounts (due_at);

-- queued -> running: the next job in the order of starting is held by `owner`; no row when none may start.
-- Accounts with a free slot, first those that are due, then by (head, least running); then the head. Whoever is in the
-- way with a lock is passed by.
-- A function, as each of its statements sees what was committed before it: an account's live leases are counted after
-- its row is locked (in one statement they are counted before, which breaks the limit); and as no lock is held while a
-- client that may be frozen is on turn. It walks past accounts that are full, never past waiting jobs. The settings
-- keep the planner on the indexes while the tables' statistics are behind.
CREATE OR REPLACE FUNCTION claim_next_job(owner TEXT, lease_seconds FLOAT8, job_seconds FLOAT8)
RETURNS TABLE (job_id UUID, job_fence BIGINT, job_attempt INT, seconds_left FLOAT8) AS $$
DECLARE
  account RECORD;
BEGIN
  FOR account IN
    -- Whoever waits and had no start for ten minutes, the longest first. (The two lists are read in this order.)
    (SELECT w.user_id AS id, GREATEST(t.concurrent_jobs, 1) AS slots
    FROM waiting_accounts w
    JOIN users a ON a.id = w.user_id
    JOIN tiers t ON t.name = a.subscription_tier
    WHERE w.due_at <= CLOCK_TIMESTAMP() AND (
      SELECT COUNT(*) FROM test_jobs r
      WHERE r.user_id = w.user_id AND r.status = 'running' AND r.lease_until > CLOCK_TIMESTAMP()
    ) < GREATEST(t.concurrent_jobs, 1)
    ORDER BY w.due_at
    LIMIT 4)
    UNION ALL
    -- A lapsed subscription has no slots; its queued jobs finish one by one.
    (SELECT w.user_id AS id, GREATEST(t.concurrent_jobs, 1) AS slots
    FROM waiting_accounts w
    JOIN users a ON a.id = w.user_id
    JOIN tiers t ON t.name = a.subscription_tier
    CROSS JOIN LATERAL (
      SELECT COUNT(*) AS jobs FROM test_jobs r
      WHERE r.user_id = w.user_id AND r.status = 'running' AND r.lease_until > CLOCK_TIMESTAMP()
    ) running
    WHERE running.jobs < GREATEST(t.concurrent_jobs, 1)
    ORDER BY w.start_key, running.jobs
    LIMIT 8)
  LOOP
    -- NO KEY, as a submit's foreign key must not wait for it.
    PERFORM FROM users a WHERE a.id = account.id FOR NO KEY UPDATE SKIP LOCKED;
    CONTINUE WHEN NOT FOUND;
    RETURN QUERY
    UPDATE test_jobs c SET status = 'running', attempt = c.attempt + 1, fence = NEXTVAL('lease_fence'), lease_owner = owner,
      lease_until = CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => lease_seconds),
      started_at = COALESCE(c.started_at, CLOCK_TIMESTAMP()),
      deadline_at = COALESCE(c.deadline_at, CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => LEAST(
        job_seconds, (SELECT t.job_seconds FROM tiers t WHERE t.name = c.submit_tier)
      )))
    WHERE c.id = (
      SELECT j.id FROM test_jobs j
      WHERE j.user_id = account.id AND j.status = 'queued' AND j.next_run_at <= NOW()
      ORDER BY j.start_key LIMIT 1
      FOR UPDATE SKIP LOCKED
    ) AND c.status = 'queued' AND (
      SELECT COUNT(*) FROM test_jobs r
      WHERE r.user_id = account.id AND r.status = 'running' AND r.lease_until > CLOCK_TIMESTAMP()
    ) < account.slots
    RETURNING c.id, c.fence, c.attempt, EXTRACT(EPOCH FROM c.deadline_at - CLOCK_TIMESTAMP())::FLOAT8;
    IF FOUND THEN
      UPDATE waiting_accounts w SET due_at = CLOCK_TIMESTAMP() + INTERVAL '10 minutes' WHERE w.user_id = account.id;
      RETURN;
    END IF;
  END LOOP;
END;
$$ LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off;
