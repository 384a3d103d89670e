-- Retention: what is removed once it is too old. Each statement takes a bounded number of rows, the oldest first,
-- and passes by what somebody holds. Jobs and the usage ledger are never removed.

-- name: take_turn
-- Gives the chore to the first who asks once it is due. No row: it is not due, or another has it.
-- $1 name, $2 seconds until it is due again
INSERT INTO chores AS c (name, due_at) VALUES ($1, NOW() + MAKE_INTERVAL(secs => $2))
ON CONFLICT (name) DO UPDATE SET due_at = EXCLUDED.due_at WHERE c.due_at <= NOW()
RETURNING name;

-- name: delete_trials
-- Trials of jobs that ended: the outcome keeps all that people read.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM trials WHERE ctid = ANY (ARRAY(
    SELECT t.ctid FROM trials t JOIN test_jobs j ON j.id = t.job_id
    WHERE t.finished_at < NOW() - MAKE_INTERVAL(days => $1) AND j.status IN ('completed', 'failed')
    ORDER BY t.finished_at LIMIT $2
    FOR UPDATE OF t SKIP LOCKED
  ))
  RETURNING job_id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_outcomes
-- Answers and assertions of finished jobs; the job keeps its summary.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM job_outcomes WHERE job_id IN (
    SELECT job_id FROM job_outcomes WHERE created_at < NOW() - MAKE_INTERVAL(days => $1)
    ORDER BY created_at LIMIT $2
    FOR UPDATE SKIP LOCKED
  )
  RETURNING job_id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_change_heads
-- Heads that nothing was heard of for long; change_heads_age has them in order.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM change_heads h USING (
    SELECT forge, repository_id, line, head_sha FROM change_heads WHERE seen_at < NOW() - MAKE_INTERVAL(days => $1)
    ORDER BY seen_at LIMIT $2
    FOR UPDATE SKIP LOCKED
  ) old
  WHERE (h.forge, h.repository_id, h.line, h.head_sha) = (old.forge, old.repository_id, old.line, old.head_sha)
  RETURNING h.forge
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_change_turns
-- Turns whose holders died; all others are ended by who has them.
-- $1 how many
WITH gone AS (
  DELETE FROM change_turns t USING (
    SELECT forge, repository_id, line FROM change_turns WHERE until < NOW() - INTERVAL '1 day' LIMIT $1
    FOR UPDATE SKIP LOCKED
  ) old
  WHERE (t.forge, t.repository_id, t.line) = (old.forge, old.repository_id, old.line)
  RETURNING t.forge
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_deliveries
-- What forges delivered and was handled; deliveries_age has them in order.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM deliveries WHERE id = ANY (ARRAY(
    SELECT id FROM deliveries WHERE received_at < NOW() - MAKE_INTERVAL(days => $1) AND state <> 'received'
    ORDER BY received_at LIMIT $2
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_completions
-- Kept answers that are too old to be answered again.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM completions WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM completions WHERE created_at < NOW() - MAKE_INTERVAL(days => $1)
    ORDER BY created_at LIMIT $2
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING key
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_cached_outcomes
-- What makes outcomes answer for other jobs; the jobs that ran them keep theirs.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM cached_outcomes WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM cached_outcomes WHERE created_at < NOW() - MAKE_INTERVAL(days => $1)
    ORDER BY created_at LIMIT $2
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING key
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_idempotency_keys
-- Keys that callers chose: a submit under one of them is a new one from now on.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM submissions WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM submissions WHERE key LIKE 'key:%' AND created_at < NOW() - MAKE_INTERVAL(days => $1)
    ORDER BY created_at LIMIT $2
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING job_id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_events
-- Events of changes: one that is told of again after so long is a new one. By submissions_event_age.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM submissions WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM submissions WHERE key LIKE 'event:%' AND created_at < NOW() - MAKE_INTERVAL(days => $1)
    ORDER BY created_at LIMIT $2
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING job_id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_history
-- Jobs that no comparison counts any more, with their rows. By history_jobs_age.
-- $1 days, $2 how many jobs
WITH gone AS (
  DELETE FROM history_jobs WHERE job_id IN (
    SELECT job_id FROM history_jobs WHERE ended_at < NOW() - MAKE_INTERVAL(days => $1)
    ORDER BY ended_at LIMIT $2
    FOR UPDATE SKIP LOCKED
  )
  RETURNING job_id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_base_trials
-- Trials of packages as they were, of jobs that ended: the outcome keeps them.
-- By base_trials_age.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM base_trials WHERE ctid = ANY (ARRAY(
    SELECT t.ctid FROM base_trials t JOIN test_jobs j ON j.id = t.job_id
    WHERE t.finished_at < NOW() - MAKE_INTERVAL(days => $1) AND j.status IN ('completed', 'failed')
    ORDER BY t.finished_at LIMIT $2
    FOR UPDATE OF t SKIP LOCKED
  ))
  RETURNING job_id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_body_hashes
-- Hashes of bodies, which count for seconds.
-- $1 how many
WITH gone AS (
  DELETE FROM submissions WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM submissions WHERE key LIKE 'body:%' AND created_at < NOW() - INTERVAL '1 hour'
    ORDER BY created_at LIMIT $1
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING job_id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_notifications
-- What was told, or was given up, so long ago. What waits is never removed.
-- $1 days, $2 how many
WITH gone AS (
  DELETE FROM outbox WHERE id IN (
    SELECT id FROM outbox WHERE state <> 'pending' AND settled_at < NOW() - MAKE_INTERVAL(days => $1)
    ORDER BY settled_at LIMIT $2
    FOR UPDATE SKIP LOCKED
  )
  RETURNING id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_sessions
-- Browsers' sessions and workflows' tokens that ended a day ago. By access_tokens_session_end and access_tokens_oidc_end.
-- $1 how many
WITH gone AS (
  DELETE FROM access_tokens WHERE id IN (
    SELECT id FROM (
      SELECT id FROM access_tokens WHERE kind = 'session' AND expires_at < NOW() - INTERVAL '1 day'
      ORDER BY expires_at LIMIT $1
      FOR UPDATE SKIP LOCKED
    ) sessions
    UNION ALL
    SELECT id FROM (
      SELECT id FROM access_tokens WHERE kind = 'oidc' AND expires_at < NOW() - INTERVAL '1 day'
      ORDER BY expires_at LIMIT $1
      FOR UPDATE SKIP LOCKED
    ) workflows
    LIMIT $1
  )
  RETURNING id
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_oidc_exchanges
-- Workflows' tokens that nobody could show again. By oidc_exchanges_end.
-- $1 how many
WITH gone AS (
  DELETE FROM oidc_exchanges WHERE (issuer, jti) IN (
    SELECT issuer, jti FROM oidc_exchanges WHERE expires_at < NOW()
    ORDER BY expires_at LIMIT $1
    FOR UPDATE SKIP LOCKED
  )
  RETURNING jti
)
SELECT COUNT(*)::INT FROM gone;

-- name: delete_uploads
-- Uploaded working folders that nobody sent and no job used for so long. What they leave is named for the next blocks.
-- $1 days, $2 how many
DELETE FROM package_versions WHERE id IN (
  SELECT v.id FROM package_versions v JOIN packages p ON p.id = v.package_id
  WHERE v.version LIKE '0.0.0-snapshot.%' AND NOT p.is_published
    AND v.published_at < NOW() - MAKE_INTERVAL(days => $1)
    AND NOT EXISTS (
      SELECT FROM test_jobs j
      WHERE j.snapshot_id = v.snapshot_id
        AND (j.created_at >= NOW() - MAKE_INTERVAL(days => $1) OR j.status IN ('queued', 'running'))
    )
  ORDER BY v.published_at LIMIT $2
  FOR UPDATE OF v SKIP LOCKED
)
RETURNING package_id, snapshot_id, suite_id;

-- name: delete_snapshots
-- Files that no version and no job refers to any more.
-- $1 snapshot ids, $2 days
DELETE FROM snapshots WHERE id IN (
  SELECT s.id FROM snapshots s
  WHERE s.id = ANY ($1::TEXT[]) AND s.created_at < NOW() - MAKE_INTERVAL(days => $2)
    AND NOT EXISTS (SELECT FROM package_versions v WHERE v.snapshot_id = s.id)
    AND NOT EXISTS (SELECT FROM test_jobs j WHERE j.snapshot_id = s.id)
  FOR UPDATE SKIP LOCKED
);

-- name: empty_snapshots
-- The bytes of files that only old jobs refer to; the row stays for them, and is filled again when the files are sent.
-- $1 snapshot ids, $2 days
UPDATE snapshots SET archive = '' WHERE id IN (
  SELECT s.id FROM snapshots s
  WHERE s.id = ANY ($1::TEXT[]) AND s.created_at < NOW() - MAKE_INTERVAL(days => $2)
    AND NOT EXISTS (SELECT FROM package_versions v WHERE v.snapshot_id = s.id)
    AND NOT EXISTS (SELECT FROM test_jobs j WHERE j.snapshot_id = s.id AND j.status IN ('queued', 'running'))
  FOR NO KEY UPDATE SKIP LOCKED
);

-- name: delete_suites
-- Suites that no version, package or job refers to any more.
-- $1 suite ids, $2 days
DELETE FROM suites WHERE id IN (
  SELECT s.id FROM suites s
  WHERE s.id = ANY ($1::TEXT[]) AND s.created_at < NOW() - MAKE_INTERVAL(days => $2)
    AND NOT EXISTS (SELECT FROM package_versions v WHERE v.suite_id = s.id)
    AND NOT EXISTS (SELECT FROM package_suites p WHERE p.suite_id = s.id)
    AND NOT EXISTS (SELECT FROM test_jobs j WHERE j.suite_id = s.id)
  FOR UPDATE SKIP LOCKED
);

-- name: delete_packages
-- Unpublished packages that hold nothing and that no job or result names.
-- $1 package ids, $2 days
DELETE FROM packages WHERE id IN (
  SELECT p.id FROM packages p
  WHERE p.id = ANY ($1::UUID[]) AND NOT p.is_published AND p.updated_at < NOW() - MAKE_INTERVAL(days => $2)
    AND NOT EXISTS (SELECT FROM package_versions v WHERE v.package_id = p.id)
    AND NOT EXISTS (SELECT FROM package_suites s WHERE s.package_id = p.id)
    AND NOT EXISTS (SELECT FROM test_jobs j WHERE j.package_id = p.id)
    AND NOT EXISTS (SELECT FROM package_test_results r WHERE r.package_id = p.id)
  FOR UPDATE SKIP LOCKED
);
