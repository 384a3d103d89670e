-- News: what changed about jobs, for whoever watches them.

-- name: announce_jobs
-- Tells every listener which jobs changed. A transaction of its own that nobody waits for: one with a NOTIFY holds a
-- lock of the whole server while it commits, so it must not wait for the disk, nor be one that somebody waits for.
-- $1 job ids
SELECT SET_CONFIG('synchronous_commit', 'off', TRUE), PG_NOTIFY('job_news', id::TEXT) FROM UNNEST($1::UUID[]) AS id;

-- name: ping
-- Whether the connection that listens is still one.
SELECT 1;

-- name: list_marks
-- What shows whether a job changed, for the look that finds lost notifications. Two index look-ups a job.
-- $1 job ids
SELECT j.id, j.status, j.fence, last.seq
FROM test_jobs j
LEFT JOIN LATERAL (SELECT MAX(t.seq) AS seq FROM trials t WHERE t.job_id = j.id) last ON j.status = 'running'
WHERE j.id = ANY($1::UUID[]);

-- name: list_trial_news
-- Trials of several jobs, each from behind a place on, in the order in which they were kept.
-- $1 job ids, $2 for each the last place that is known
SELECT t.job_id, t.seq, t.case_index, t.model, t.repeat_index, t.state, t.score
FROM UNNEST($1::UUID[], $2::BIGINT[]) AS known (job_id, seq)
JOIN trials t ON t.job_id = known.job_id AND t.seq > known.seq
ORDER BY t.seq, t.case_index, t.model, t.repeat_index;

-- name: list_suite_bodies
-- The suites of these jobs, for the titles of their cases.
-- $1 job ids
SELECT j.id, s.body FROM test_jobs j JOIN suites s ON s.id = j.suite_id WHERE j.id = ANY($1::UUID[]);
