-- The queue as a whole, for those who say how long a job will wait. Read at most once a second by a process.

-- name: read_front
-- The jobs that wait, in the order of start keys, by the index for that.
-- $1 how many
SELECT j.id, j.user_id AS account_id, GREATEST(t.concurrent_jobs, 1) AS slots, j.trials_total AS trials, j.start_key
FROM (
  SELECT q.id, q.user_id, q.trials_total, q.start_key FROM test_jobs q
  WHERE q.status = 'queued' ORDER BY q.start_key LIMIT $1
) j JOIN users a ON a.id = j.user_id JOIN tiers t ON t.name = a.subscription_tier
ORDER BY j.start_key, j.id;

-- name: read_running
-- Jobs with a live lease, and how far they are.
-- $1 how many
SELECT j.id, j.user_id AS account_id, GREATEST(t.concurrent_jobs, 1) AS slots, j.trials_total AS trials,
  (SELECT COUNT(*)::INT FROM trials f WHERE f.job_id = j.id) AS finished, j.started_at
FROM test_jobs j JOIN users a ON a.id = j.user_id JOIN tiers t ON t.name = a.subscription_tier
WHERE j.status = 'running' AND j.lease_until > NOW()
LIMIT $1;

-- name: count_queue
-- How much waits, account by account.
-- $1 how many accounts
SELECT COALESCE(SUM(w.jobs), 0)::BIGINT AS jobs, COALESCE(SUM(w.trials), 0)::BIGINT AS trials
FROM (SELECT a.jobs, a.trials FROM waiting_accounts a LIMIT $1) w;

-- name: read_pace
-- Live workers together, and the tiers' bonuses. A worker that has run nothing yet has no say about the time.
-- $1 moment or NULL for now
SELECT COALESCE($1::TIMESTAMPTZ, NOW()) AS now, COALESCE(SUM(slots), 0)::INT AS slots,
  COALESCE(AVG(seconds_per_job) FILTER (WHERE mean_job_seconds > 0), 0) AS job_seconds,
  COALESCE(AVG(seconds_per_trial) FILTER (WHERE mean_job_seconds > 0), 0) AS trial_seconds,
  (SELECT ARRAY_AGG(name ORDER BY name) FROM tiers) AS tiers,
  (SELECT ARRAY_AGG(EXTRACT(EPOCH FROM start_bonus)::FLOAT8 ORDER BY name) FROM tiers) AS bonuses
FROM workers WHERE seen_at > NOW() - INTERVAL '15 seconds';

-- name: read_arrivals
-- What came lately, tier by tier: of each state the newest, by the index of states and times.
-- $1 moment, $2 seconds to look back, $3 how many of each state
SELECT r.submit_tier AS tier, COUNT(*)::INT AS jobs, SUM(r.trials_total)::BIGINT AS trials,
  -- Since the first of them all came; where only so many were looked at, since the first of those.
  GREATEST(EXTRACT(EPOCH FROM $1::TIMESTAMPTZ - CASE WHEN COUNT(*) < $3 THEN MIN(MIN(r.created_at)) OVER ()
    ELSE MIN(r.created_at) END)::FLOAT8, 60) AS seconds
FROM (VALUES ('queued'), ('running'), ('completed'), ('failed')) s (status) CROSS JOIN LATERAL (
  SELECT j.submit_tier, j.trials_total, j.created_at FROM test_jobs j
  WHERE j.status = s.status AND j.created_at BETWEEN $1::TIMESTAMPTZ - MAKE_INTERVAL(secs => $2) AND $1::TIMESTAMPTZ
  ORDER BY j.created_at DESC LIMIT $3
) r
GROUP BY s.status, r.submit_tier;
