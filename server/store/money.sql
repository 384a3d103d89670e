-- Money: what running jobs spend, and what they hold of their account's month for the calls to come.

-- name: settle_money
-- Books what a running job has spent since the last time, and lets it hold part of what its month has left: what it
-- needs for the next call, and up to what it wants while a quarter of the rest is enough for that, so that nobody
-- hoards the last dollars. What cannot be had is not held: the job then keeps what its calls under way may cost.
-- The month's row is locked and only then read, so any number of workers share it. No row: the lease is not ours.
-- Found by primary keys, usage_ledger_acceptance and the key (user_id, month).
-- $1 job_id, $2 fence, $3 spent in all, $4 reserved for calls under way, $5 needed and $6 wanted, both with $4
WITH job AS (
  SELECT j.id, j.held_usd, GREATEST($3::NUMERIC - COALESCE(j.cost_usd, 0), 0) AS spent_since, l.user_id, l.month,
    COALESCE(a.money_per_month_usd, t.money_per_month_usd) AS cap
  FROM test_jobs j
  JOIN usage_ledger l ON l.job_id = j.id AND l.kind IN ('charge', 'cached')
  JOIN users a ON a.id = j.user_id
  JOIN tiers t ON t.name = j.submit_tier
  WHERE j.id = $1 AND j.fence = $2 AND j.status = 'running'
  FOR NO KEY UPDATE OF j
), month AS (
  SELECT u.cost_usd, u.held_usd
  FROM job JOIN user_test_usage u ON u.user_id = job.user_id AND u.month = job.month
  FOR NO KEY UPDATE OF u
), others AS (
  SELECT month.held_usd - job.held_usd AS held_usd,
    job.cap - month.cost_usd - job.spent_since - (month.held_usd - job.held_usd) AS left_usd
  FROM job, month
), decided AS (
  SELECT job.id, job.spent_since, others.held_usd AS others_hold_usd, others.left_usd,
    CASE WHEN others.left_usd >= $5::NUMERIC THEN LEAST($6::NUMERIC, GREATEST($5, others.left_usd / 4))
    ELSE LEAST($4::NUMERIC, GREATEST(job.held_usd - job.spent_since, 0)) END AS held_usd
  FROM job, others
)
UPDATE test_jobs j SET cost_usd = COALESCE(j.cost_usd, 0) + d.spent_since, held_usd = d.held_usd
FROM decided d WHERE j.id = d.id
RETURNING j.held_usd, d.others_hold_usd > 0 AS others_hold, d.left_usd >= $5 AS is_granted;
