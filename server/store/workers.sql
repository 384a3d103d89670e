-- Workers: who is there, and what they can reach.

-- name: announce_worker
-- A worker says that it lives, what it can run, and how fast jobs go.
-- $1 id, $2 slots, $3 mean_job_seconds, $4 models, $5 seconds_per_job, $6 seconds_per_trial
INSERT INTO workers (id, slots, mean_job_seconds, models, seconds_per_job, seconds_per_trial)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET slots = EXCLUDED.slots, mean_job_seconds = EXCLUDED.mean_job_seconds,
  seconds_per_job = EXCLUDED.seconds_per_job, seconds_per_trial = EXCLUDED.seconds_per_trial,
  models = EXCLUDED.models, seen_at = NOW();

-- name: retire_worker
-- A worker that stops takes its slots with it; what it said of the models stays for the next submit.
-- $1 id
UPDATE workers SET slots = 0, seen_at = NOW() - INTERVAL '1 minute' WHERE id = $1;

-- name: forget_workers
-- Drops workers that were not seen for a day.
DELETE FROM workers WHERE seen_at < NOW() - INTERVAL '1 day';

-- name: read_models
-- What the live workers can reach; without a live one, what the last could.
SELECT models, seen_at > NOW() - INTERVAL '15 seconds' AS is_live
FROM workers ORDER BY seen_at DESC LIMIT 50;

-- name: is_any_worker_live
-- Whether somebody claims. Who spoke last before the database's own start may have ended with it.
SELECT EXISTS (
  SELECT FROM workers
  WHERE seen_at > GREATEST(NOW() - INTERVAL '15 seconds', PG_POSTMASTER_START_TIME()) AND slots > 0
);
