CREATE OR REPLACE FUNCTION claim_next_job(owner TEXT, lease_seconds FLOAT8, job_seconds FLOAT8)
RETURNS TABLE (job_id UUID, job_fence BIGINT, job_attempt INT, seconds_left FLOAT8) AS $$
DECLARE
  account RECORD;
BEGIN
  FOR account IN
    -- A lease that ran out counts until the sweep has taken it back: its holder may only have been frozen, and extend it.
    -- Whoever waits and had no start for ten minutes, the longest first. (The two lists are read in this order.)
    (SELECT w.user_id AS id, GREATEST(t.concurrent_jobs, 1) AS slots
    FROM waiting_accounts w
    JOIN users a ON a.id = w.user_id
    JOIN tiers t ON t.name = a.subscription_tier
    WHERE w.due_at <= CLOCK_TIMESTAMP() AND (
      SELECT COUNT(*) FROM test_jobs r
      WHERE r.user_id = w.user_id AND r.status = 'running'
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
      WHERE r.user_id = w.user_id AND r.status = 'running'
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
      WHERE r.user_id = account.id AND r.status = 'running'
    ) < account.slots
    RETURNING c.id, c.fence, c.attempt, EXTRACT(EPOCH FROM c.deadline_at - CLOCK_TIMESTAMP())::FLOAT8;
    IF FOUND THEN
      UPDATE waiting_accounts w SET due_at = CLOCK_TIMESTAMP() + INTERVAL '10 minutes' WHERE w.user_id = account.id;
      RETURN;
    END IF;
  END LOOP;
END;
$$ LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off;
