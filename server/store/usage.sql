-- Usage: what the ledger says.

-- name: read_ledger_totals
-- A month's entries by kind, and the month itself.
-- $1 account, $2 a day of the month or NULL for the current one, UTC
SELECT m.month, COUNT(l.id) FILTER (WHERE l.kind = 'charge')::INT AS charges,
  COUNT(l.id) FILTER (WHERE l.kind = 'refund')::INT AS refunds,
  COUNT(l.id) FILTER (WHERE l.kind = 'cached')::INT AS cached, COALESCE(SUM(l.runs), 0)::INT AS runs,
  COALESCE((SELECT u.cost_usd FROM user_test_usage u WHERE u.user_id = $1 AND u.month = m.month), 0) AS cost_usd
FROM (SELECT DATE_TRUNC('month', COALESCE($2::DATE, (NOW() AT TIME ZONE 'UTC')::DATE))::DATE AS month) m
LEFT JOIN usage_ledger l ON l.user_id = $1 AND l.month = m.month
GROUP BY m.month;

-- name: list_ledger
-- A month's entries, newest first. A job's cost stands at its acceptance: a refund gives back the run alone.
-- $1 account, $2 month, $3 before this id or NULL, $4 how many
SELECT l.id, l.created_at AS at, l.kind, l.runs, l.reason, l.job_id, p.name AS package_name, j.package_version,
  CASE WHEN l.kind = 'refund' THEN 0 ELSE COALESCE(j.cost_usd, 0) END AS cost_usd
FROM usage_ledger l
JOIN test_jobs j ON j.id = l.job_id
JOIN packages p ON p.id = j.package_id
WHERE l.user_id = $1 AND l.month = $2 AND ($3::BIGINT IS NULL OR l.id < $3)
ORDER BY l.id DESC LIMIT $4;
