-- Claims read one row an account, however much waits; places and waits are known without counting jobs.

-- Accounts with waiting jobs: their heads in the order of starting, and how much waits. The triggers below keep it equal
-- to test_jobs, whichever statement lets a job wait or go.
CREATE TABLE waiting_accounts (
  user_id UUID PRIMARY KEY,
  start_key TIMESTAMPTZ NOT NULL,   -- of its head
  jobs BIGINT NOT NULL CHECK (jobs >= 0),
  trials BIGINT NOT NULL            -- of these jobs
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Serves the claim: the oldest heads, without reading what waits behind them.
CREATE INDEX waiting_accounts_order ON waiting_accounts (start_key);

-- New jobs wait. One statement for all rows of a submit, accounts in order, so that two of them cannot deadlock.
CREATE FUNCTION enter_queue() RETURNS TRIGGER AS $$
BEGIN
  INSERT INTO waiting_accounts AS w (user_id, start_key, jobs, trials)
  SELECT n.user_id, MIN(n.start_key), COUNT(*), SUM(n.trials_total) FROM new_jobs n WHERE n.status = 'queued'
  GROUP BY n.user_id ORDER BY n.user_id
  ON CONFLICT (user_id) DO UPDATE SET start_key = LEAST(w.start_key, EXCLUDED.start_key),
    jobs = w.jobs + EXCLUDED.jobs, trials = w.trials + EXCLUDED.trials;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_enter AFTER INSERT ON test_jobs REFERENCING NEW TABLE AS new_jobs
FOR EACH STATEMENT EXECUTE FUNCTION enter_queue();

-- Jobs that were claimed or cancelled go, jobs that are given back wait again. The account's row is changed first, which
-- waits for whoever changes it too; the next statement then sees every job that the row counts.
CREATE FUNCTION move_in_queue() RETURNS TRIGGER AS $$
DECLARE
  move RECORD;
BEGIN
  FOR move IN
    SELECT m.user_id, SUM(m.jobs)::BIGINT AS jobs, SUM(m.trials)::BIGINT AS trials,
      MIN(m.start_key) FILTER (WHERE m.jobs > 0) AS start_key
    FROM (
      SELECT user_id, start_key, 1 AS jobs, trials_total AS trials FROM new_jobs WHERE status = 'queued'
      UNION ALL
      SELECT user_id, start_key, -1, -trials_total FROM old_jobs WHERE status = 'queued'
    ) m
    GROUP BY m.user_id ORDER BY m.user_id
  LOOP
    UPDATE waiting_accounts SET jobs = jobs + move.jobs, trials = trials + move.trials WHERE user_id = move.user_id;
    IF NOT FOUND AND move.jobs > 0 THEN
      -- Nothing of it waited; another may let it wait in this moment.
      INSERT INTO waiting_accounts AS w (user_id, start_key, jobs, trials)
      VALUES (move.user_id, move.start_key, move.jobs, move.trials)
      ON CONFLICT (user_id) DO UPDATE SET jobs = w.jobs + EXCLUDED.jobs, trials = w.trials + EXCLUDED.trials;
    END IF;
    DELETE FROM waiting_accounts WHERE user_id = move.user_id AND jobs = 0;
    UPDATE waiting_accounts w SET start_key = head.start_key
    FROM (
      SELECT j.start_key FROM test_jobs j WHERE j.user_id = move.user_id AND j.status = 'queued'
      ORDER BY j.start_key LIMIT 1
    ) head
    WHERE w.user_id = move.user_id AND w.start_key <> head.start_key;
  END LOOP;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_move AFTER UPDATE ON test_jobs REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs
FOR EACH STATEMENT EXECUTE FUNCTION move_in_queue();

-- An operator removes jobs by hand, if anybody.
CREATE FUNCTION leave_queue() RETURNS TRIGGER AS $$
BEGIN
  DELETE FROM waiting_accounts w USING old_jobs o WHERE w.user_id = o.user_id AND o.status = 'queued';
  INSERT INTO waiting_accounts (user_id, start_key, jobs, trials)
  SELECT j.user_id, MIN(j.start_key), COUNT(*), SUM(j.trials_total) FROM test_jobs j
  WHERE j.status = 'queued' AND j.user_id IN (SELECT o.user_id FROM old_jobs o WHERE o.status = 'queued')
  GROUP BY j.user_id ORDER BY j.user_id;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_leave AFTER DELETE ON test_jobs REFERENCING OLD TABLE AS old_jobs
FOR EACH STATEMENT EXECUTE FUNCTION leave_queue();

-- queued -> running: the next job in the order of starting is held by `owner`; no row when none may start.
-- Accounts with a free slot by (head, least running), then the head. Whoever is in the way with a lock is passed by.
-- A function, as each of its statements sees what was committed before it: an account's live leases are counted after
-- its row is locked (in one statement they are counted before, which breaks the limit); and as no lock is held while a
-- client that may be frozen is on turn. It walks past accounts that are full, never past waiting jobs. The settings
-- keep the planner on the indexes while the tables' statistics are behind.
CREATE FUNCTION claim_next_job(owner TEXT, lease_seconds FLOAT8, job_seconds FLOAT8)
RETURNS TABLE (job_id UUID, job_fence BIGINT, job_attempt INT, seconds_left FLOAT8) AS $$
DECLARE
  account RECORD;
BEGIN
  FOR account IN
    -- A lapsed subscription has no slots; its queued jobs finish one by one.
    SELECT w.user_id AS id, GREATEST(t.concurrent_jobs, 1) AS slots
    FROM waiting_accounts w
    JOIN users a ON a.id = w.user_id
    JOIN tiers t ON t.name = a.subscription_tier
    CROSS JOIN LATERAL (
      SELECT COUNT(*) AS jobs FROM test_jobs r
      WHERE r.user_id = w.user_id AND r.status = 'running' AND r.lease_until > CLOCK_TIMESTAMP()
    ) running
    WHERE running.jobs < GREATEST(t.concurrent_jobs, 1)
    ORDER BY w.start_key, running.jobs
    LIMIT 8
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
      RETURN;
    END IF;
  END LOOP;
END;
$$ LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off;

INSERT INTO waiting_accounts (user_id, start_key, jobs, trials)
SELECT user_id, MIN(start_key), COUNT(*), SUM(trials_total) FROM test_jobs WHERE status = 'queued' GROUP BY user_id;

-- A job of n trials takes about seconds_per_job + n * seconds_per_trial.
ALTER TABLE workers ADD COLUMN seconds_per_job DOUBLE PRECISION NOT NULL DEFAULT 0,
  ADD COLUMN seconds_per_trial DOUBLE PRECISION NOT NULL DEFAULT 0;

-- A popular package has very many jobs with one snapshot, and each insert into a hash index walked all of them.
DROP INDEX test_jobs_snapshot, test_jobs_suite;
CREATE INDEX test_jobs_snapshot ON test_jobs (snapshot_id);
CREATE INDEX test_jobs_suite ON test_jobs (suite_id);
