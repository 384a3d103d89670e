-- The invariants. Each statement returns the rows that break one; none may. To add a check, add a block.

-- name: V1 every acknowledged job is there, with whom it was promised to
SELECT a.intent, a.job_id FROM chaos.answers a
JOIN chaos.intents i ON i.id = a.intent
LEFT JOIN chaos.jobs j ON j.id = a.job_id AND j.user_id = i.account_id AND j.intent = i.id
WHERE a.status = 202 AND j.id IS NULL;

-- name: V2 no job waits or runs for ever
SELECT id, status, attempt, lease_until FROM test_jobs WHERE status NOT IN ('completed', 'failed');

-- name: V2 a completed job is whole
SELECT j.id, j.trials_total, COUNT(t.job_id) AS trials, o.job_id IS NOT NULL AS has_outcome
FROM test_jobs j LEFT JOIN trials t ON t.job_id = j.id LEFT JOIN job_outcomes o ON o.job_id = j.id
WHERE j.status = 'completed'
  AND j.cached_from IS NULL
  -- Where the job's time was over, the rest was not run, and the outcome says so.
  AND COALESCE(j.results::JSON ->> 'stopped_by', '') <> 'time_cap'
GROUP BY j.id, o.job_id HAVING COUNT(t.job_id) <> j.trials_total OR o.job_id IS NULL;

-- name: V2 the queue's front is what waits
SELECT COALESCE(w.user_id, j.user_id) AS account, w.start_key AS kept, j.start_key AS head, w.jobs AS kept_jobs, j.jobs
FROM waiting_accounts w FULL JOIN (
  SELECT user_id, MIN(start_key) AS start_key, COUNT(*) AS jobs FROM test_jobs WHERE status = 'queued' GROUP BY user_id
) j USING (user_id)
WHERE w.start_key IS DISTINCT FROM j.start_key OR w.jobs IS DISTINCT FROM j.jobs;

-- name: V2 a job that was answered by an identical one never ran, and that one is whole
SELECT j.id, j.status, j.attempt, j.fence, source.status AS source_status FROM test_jobs j
JOIN test_jobs source ON source.id = j.cached_from LEFT JOIN job_outcomes o ON o.job_id = source.id
WHERE j.status <> 'completed' OR j.attempt <> 0 OR j.fence IS NOT NULL OR source.status <> 'completed'
  OR source.cached_from IS NOT NULL OR o.job_id IS NULL OR EXISTS (SELECT FROM trials t WHERE t.job_id = j.id);

-- name: V3 one charge a job and at most one refund
SELECT j.id, ARRAY_AGG(l.kind) AS entries FROM test_jobs j LEFT JOIN usage_ledger l ON l.job_id = j.id
GROUP BY j.id
HAVING COUNT(*) FILTER (WHERE l.kind IN ('charge', 'cached')) <> 1 OR COUNT(*) FILTER (WHERE l.kind = 'refund') > 1;

-- name: V3 a run is charged one, an answer from the cache none, and nothing of that is given back
SELECT l.job_id, l.kind, l.runs, j.cached_from FROM usage_ledger l JOIN test_jobs j ON j.id = l.job_id
WHERE (l.kind = 'cached') <> (j.cached_from IS NOT NULL)
  OR l.runs <> CASE l.kind WHEN 'charge' THEN 1 WHEN 'cached' THEN 0 ELSE -1 END;

-- name: V3 a refund has a reason, and goes to the month that was charged
SELECT l.job_id, j.status, j.error_code, l.reason FROM usage_ledger l JOIN test_jobs j ON j.id = l.job_id
WHERE l.kind = 'refund' AND (
  j.status <> 'failed' OR j.error_code NOT IN ('infrastructure', 'no_verdict', 'cancelled', 'superseded')
  OR NOT EXISTS (SELECT FROM usage_ledger c WHERE c.job_id = l.job_id AND c.kind = 'charge' AND c.month = l.month)
);

-- name: V3 what the service could not do is given back
SELECT j.id, j.error_code FROM test_jobs j
WHERE j.status = 'failed' AND NOT EXISTS (SELECT FROM usage_ledger l WHERE l.job_id = j.id AND l.kind = 'refund')
  AND j.error_code <> 'superseded' AND (j.error_code <> 'cancelled' OR EXISTS (
    SELECT FROM chaos.history h WHERE h.job_id = j.id AND h.old_status = 'queued' AND h.new_status = 'failed'
  ));

-- name: V3 a job that was cancelled while it ran is not given back
SELECT j.id FROM test_jobs j JOIN usage_ledger l ON l.job_id = j.id AND l.kind = 'refund'
WHERE j.error_code = 'cancelled' AND NOT EXISTS (
  SELECT FROM chaos.history h WHERE h.job_id = j.id AND h.old_status = 'queued' AND h.new_status = 'failed'
);

-- name: V3 a superseded job is given back if no trial had a verdict, and only then
SELECT j.id, l.id IS NOT NULL AS is_given_back, found.verdicts FROM test_jobs j
LEFT JOIN usage_ledger l ON l.job_id = j.id AND l.kind = 'refund'
CROSS JOIN LATERAL (
  SELECT COUNT(*) AS verdicts FROM trials t WHERE t.job_id = j.id AND t.state IN ('passed', 'failed')
) found
WHERE j.error_code = 'superseded' AND (l.id IS NOT NULL) <> (found.verdicts = 0);

-- name: V4 usage is the ledger's sum, from nought to the tier's limit
SELECT user_id, month, u.test_runs_count AS used, l.runs AS by_ledger, t.runs_per_month AS allowed
FROM user_test_usage u
FULL JOIN (SELECT user_id, month, SUM(runs)::INT AS runs FROM usage_ledger GROUP BY user_id, month) l
  USING (user_id, month)
LEFT JOIN users a ON a.id = user_id LEFT JOIN tiers t ON t.name = a.subscription_tier
WHERE u.test_runs_count IS DISTINCT FROM l.runs OR u.test_runs_count NOT BETWEEN 0 AND COALESCE(t.runs_per_month, 1000000);

-- name: V4 a month's money is the sum of its jobs', and what they hold of it
SELECT u.user_id, u.month, u.cost_usd, u.held_usd, j.cost_usd AS by_jobs, j.held_usd AS held_by_jobs
FROM user_test_usage u
FULL JOIN (
  SELECT l.user_id, l.month, SUM(COALESCE(j.cost_usd, 0)) AS cost_usd, SUM(j.held_usd) AS held_usd
  FROM usage_ledger l JOIN test_jobs j ON j.id = l.job_id WHERE l.kind IN ('charge', 'cached')
  GROUP BY l.user_id, l.month
) j USING (user_id, month)
WHERE u.cost_usd IS DISTINCT FROM j.cost_usd OR u.held_usd IS DISTINCT FROM j.held_usd;

-- name: V4 a job that does not run holds no money
SELECT id, status, held_usd FROM test_jobs WHERE status <> 'running' AND held_usd <> 0;

-- name: V4 a job has cost what its trials cost, at least
SELECT j.id, j.cost_usd, SUM((t.body::JSON -> 'completion' ->> 'cost_usd')::NUMERIC) AS by_trials
FROM test_jobs j JOIN trials t ON t.job_id = j.id
GROUP BY j.id HAVING COALESCE(j.cost_usd, 0) < SUM((t.body::JSON -> 'completion' ->> 'cost_usd')::NUMERIC);

-- name: V4 money was spent at all
SELECT SUM(cost_usd) AS cost_usd FROM user_test_usage HAVING COALESCE(SUM(cost_usd), 0) = 0;

-- name: V5 a job ends once
SELECT job_id, ARRAY_AGG(old_status || ' -> ' || new_status ORDER BY id) AS changes FROM chaos.history
GROUP BY job_id
HAVING COUNT(*) FILTER (WHERE new_status IN ('completed', 'failed')) > 1
  OR COUNT(*) FILTER (WHERE old_status IN ('completed', 'failed')) > 0;

-- name: V5 only the holder of the highest fence ends a job
SELECT e.job_id, e.worker, e.fence AS ended_under, j.fence AS highest, j.status
FROM chaos.ends e JOIN test_jobs j ON j.id = e.job_id
WHERE e.fence <> j.fence OR j.status NOT IN ('completed', 'failed');

-- name: V5 one worker alone believes that it ended the job
SELECT job_id, ARRAY_AGG(worker) AS workers FROM chaos.ends GROUP BY job_id HAVING COUNT(*) > 1;

-- name: V5 no trial is stored under an old fence
SELECT * FROM chaos.late_trials;

-- name: V5 a trial that is stored is not run again
-- 50 ms, as a call may have been on its way when the trial of an earlier lease was stored.
SELECT j.id, t.case_index, t.fence, t.finished_at, c.began_at AS asked_again_at
FROM chaos.calls c JOIN chaos.jobs j ON j.intent = c.intent
JOIN trials t ON t.job_id = j.id AND t.case_index = c.case_index
WHERE c.began_at > t.finished_at + INTERVAL '50 milliseconds'
  AND (SELECT COUNT(*) FROM chaos.jobs o WHERE o.intent = j.intent) = 1;

-- name: V5 no job has more attempts than it may
SELECT id, attempt FROM test_jobs WHERE attempt > 3;

-- name: V6 live leases never exceed the tier's concurrency
SELECT * FROM chaos.overruns;

-- V7 (every end has its notifications) and V8 (none of them is overdue) stand here as soon as jobs tell of their ends.

-- name: V7 every ended job has a notification for each target that was there
SELECT j.id AS job_id, t.id AS target_id FROM test_jobs j
JOIN packages p ON p.id = j.package_id
JOIN notify_targets t ON t.account_id = j.user_id AND p.name LIKE TRANSLATE(t.package_glob, '*?', '%_')
LEFT JOIN outbox o ON o.job_id = j.id AND o.target_id = t.id
WHERE j.status IN ('completed', 'failed') AND t.created_at < j.created_at AND o.id IS NULL
  AND (t.stopped_at IS NULL OR t.stopped_at > j.completed_at);

-- name: V7 nothing is told of a job that has not ended, and of none twice
SELECT o.job_id, o.target_id, COUNT(*) AS notifications, j.status FROM outbox o JOIN test_jobs j ON j.id = o.job_id
GROUP BY o.job_id, o.target_id, j.status HAVING COUNT(*) > 1 OR j.status NOT IN ('completed', 'failed');

-- name: V8 no notification waits past its schedule
SELECT o.id, o.attempts, o.next_at, o.lease_until FROM outbox o LEFT JOIN notify_targets t ON t.id = o.target_id
WHERE o.state = 'pending' AND (
  o.created_at < NOW() - INTERVAL '72 hours' OR o.attempts > 8
  OR o.next_at < NOW() - INTERVAL '60 seconds'
    AND (o.lease_until IS NULL OR o.lease_until < NOW() - INTERVAL '60 seconds')
    AND (t.hold_until IS NULL OR t.hold_until < NOW() - INTERVAL '60 seconds')
    AND NOT EXISTS (SELECT FROM outbox e WHERE e.lane = o.lane AND e.state = 'pending' AND e.id < o.id)
);

-- name: V9 one job for each event
SELECT i.id AS intent, i.change_line, ARRAY_AGG(j.id) AS jobs FROM chaos.intents i JOIN chaos.jobs j ON j.intent = i.id
WHERE i.change_line IS NOT NULL GROUP BY i.id HAVING COUNT(*) > 1;

-- name: V9 one event, one answer byte for byte
SELECT a.intent, COUNT(DISTINCT a.body) AS bodies, MIN(a.body) AS one, MAX(a.body) AS another
FROM chaos.answers a JOIN chaos.intents i ON i.id = a.intent
WHERE i.change_line IS NOT NULL AND a.status = 202 GROUP BY a.intent HAVING COUNT(DISTINCT a.body) > 1;

-- name: V9 a job is superseded by a newer head of its own line, and no newest head is
SELECT j.id, j.change_line, j.superseded_by FROM test_jobs j LEFT JOIN test_jobs n ON n.id = j.superseded_by
WHERE (j.error_code = 'superseded' OR j.superseded_by IS NOT NULL) AND (
  n.id IS NULL OR n.user_id <> j.user_id OR n.change_line <> j.change_line OR n.created_at < j.created_at
  OR n.change ->> 'head_sha' = j.change ->> 'head_sha' OR n.change ->> 'cause' <> 'head'
);

-- name: V9 nothing starts for an older head once a newer one is known
-- 10 s, as whoever would end it may be away for as long.
SELECT j.id, j.started_at, n.id AS newer, n.created_at FROM test_jobs j
JOIN test_jobs n ON n.user_id = j.user_id AND n.change_line = j.change_line AND n.created_at > j.created_at
WHERE j.started_at > n.created_at + INTERVAL '10 seconds' AND n.change ->> 'cause' = 'head'
  AND n.change ->> 'head_sha' <> j.change ->> 'head_sha';

-- name: V9 every new head was seen to
SELECT job_id, change_line FROM new_heads;

-- name: V10 one Idempotency-Key, one job
SELECT i.id AS intent, ARRAY_AGG(j.id) AS jobs FROM chaos.intents i JOIN chaos.jobs j ON j.intent = i.id
WHERE i.is_keyed GROUP BY i.id HAVING COUNT(*) > 1;

-- name: V10 one Idempotency-Key, one answer byte for byte
SELECT a.intent, COUNT(DISTINCT a.body) AS bodies, MIN(a.body) AS one, MAX(a.body) AS another
FROM chaos.answers a JOIN chaos.intents i ON i.id = a.intent
WHERE i.is_keyed AND a.status = 202 GROUP BY a.intent HAVING COUNT(DISTINCT a.body) > 1;

-- name: V10 equal bodies within ten seconds get one job
SELECT i.id AS intent, ARRAY_AGG(j.id) AS jobs FROM chaos.intents i JOIN chaos.jobs j ON j.intent = i.id
WHERE NOT i.is_keyed AND i.seconds < 9 GROUP BY i.id
HAVING COUNT(*) FILTER (WHERE j.status <> 'failed') > 1;

-- name: V11 Redis holds nothing that PostgreSQL lacks
SELECT * FROM chaos.messages WHERE task <> 'wake' OR arguments <> '[]';

-- name: the API accepts, refuses for quota, or asks to wait, and nothing else
SELECT intent, status, code, retry_after, body FROM chaos.answers
WHERE status NOT IN (202, 402, 503) OR (status = 503 AND retry_after IS NULL);

-- name: the API cancels, says that the job has ended, or asks to wait, and nothing else
SELECT job_id, status, retry_after, body FROM chaos.cancels
WHERE status NOT IN (202, 409, 503) OR (status = 503 AND retry_after IS NULL);

-- name: no process logs a fault of its own, whatever is away
SELECT process, event, RIGHT(line, 300) AS line FROM chaos.faults;

-- name: jobs were accepted and completed at all
SELECT COUNT(*) AS accepted FROM test_jobs HAVING COUNT(*) FILTER (WHERE status = 'completed') = 0;

-- name: E1 whoever follows a job hears of its end, as it was
SELECT f.job_id, f.ended, j.status, j.completed_at, f.until FROM chaos.followed f JOIN test_jobs j ON j.id = f.job_id
WHERE f.ended IS DISTINCT FROM j.status AND (f.ended IS NOT NULL OR j.completed_at < f.until - INTERVAL '10 seconds');

-- name: E2 whoever follows a job hears of each trial once
SELECT f.job_id, f.trials AS heard, f.repeated, stored.trials AS stored
FROM chaos.followed f
CROSS JOIN LATERAL (SELECT COUNT(*)::INT AS trials FROM trials t WHERE t.job_id = f.job_id) stored
WHERE f.repeated > 0 OR (f.ended IS NOT NULL AND f.trials <> stored.trials);
