-- The outbox: who takes what is to be told, and what became of it. Times are the database's.

-- name: claim_notification
-- The next that is due, held by us for a while. The pending lanes are walked by their index, one look each, so that what
-- waits behind a lane's head is never read; a head that another worker holds or has just settled is passed by, and so
-- are those of accounts that have enough slots.
-- $1 lease seconds, $2 accounts that get none
WITH RECURSIVE lanes AS (
  (SELECT o.lane FROM outbox o WHERE o.state = 'pending' ORDER BY o.lane LIMIT 1)
  UNION ALL
  SELECT (SELECT o.lane FROM outbox o WHERE o.state = 'pending' AND o.lane > l.lane ORDER BY o.lane LIMIT 1)
  FROM lanes l WHERE l.lane IS NOT NULL
), heads AS (
  SELECT head.id, head.next_at
  FROM lanes l CROSS JOIN LATERAL (
    SELECT o.id, o.next_at, o.lease_until, o.target_id, o.account_id FROM outbox o WHERE o.state = 'pending' AND o.lane = l.lane
    ORDER BY o.id LIMIT 1
  ) head
  LEFT JOIN notify_targets t ON t.id = head.target_id
  WHERE head.next_at <= CLOCK_TIMESTAMP() AND (head.lease_until IS NULL OR head.lease_until < CLOCK_TIMESTAMP())
    AND (t.hold_until IS NULL OR t.hold_until <= CLOCK_TIMESTAMP())
    AND head.account_id <> ALL($2::UUID[])
)
UPDATE outbox SET lease_until = CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => $1), fence = NEXTVAL('delivery_fence'),
  attempts = attempts + 1
WHERE id = (
  SELECT o.id FROM outbox o JOIN heads h ON h.id = o.id
  WHERE o.state = 'pending' AND o.next_at <= CLOCK_TIMESTAMP()
    AND (o.lease_until IS NULL OR o.lease_until < CLOCK_TIMESTAMP())
  ORDER BY h.next_at, o.id LIMIT 1
  FOR UPDATE OF o SKIP LOCKED
)
RETURNING id, fence, news, attempts, event, job_id, target_id, account_id, facts, created_at;

-- name: extend_lease
-- Its holder still works on it. No row: it is another's, or settled. By the primary key.
-- $1 id, $2 fence, $3 lease seconds
UPDATE outbox SET lease_until = CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => $3)
WHERE id = $1 AND fence = $2 AND state = 'pending' AND lease_until IS NOT NULL
RETURNING id;

-- name: read_target
-- A target as its notification needs it, with what it was told last of this subject.
-- $1 target id, $2 subject or NULL
SELECT t.id, t.account_id, t.kind, t.mode, t.sealed, s.conclusion, s.accepted_at, s.message_id
FROM notify_targets t LEFT JOIN told_states s ON s.target_id = t.id AND s.subject = $2
WHERE t.id = $1;

-- name: read_told_job
-- What is told of a job, whose trials are counted while it runs. By primary keys.
-- $1 job id
SELECT j.id, j.user_id, p.name AS package_name, j.package_version, j.suite_name, j.change, j.created_at, j.started_at,
  j.completed_at, j.status, j.error_code, j.unwanted, j.error_message, j.snapshot_id, j.models_requested AS models, j.report,
  j.trials_total, counts.finished AS trials_finished, counts.failed AS trials_failed,
  CLOCK_TIMESTAMP() AS read_at, o.outcome, source.completed_at AS cached_at,
  COALESCE(j.change_line, ENCODE(SHA256(CONVERT_TO(JSONB_BUILD_ARRAY(p.name, j.suite_name)::TEXT, 'UTF8')), 'hex'))
    AS subject
FROM test_jobs j
JOIN packages p ON p.id = j.package_id
LEFT JOIN test_jobs source ON source.id = j.cached_from
LEFT JOIN job_outcomes o ON o.job_id = COALESCE(source.id, j.id)
LEFT JOIN LATERAL (
  SELECT COUNT(*)::INT AS finished, COUNT(*) FILTER (WHERE t.state = 'failed')::INT AS failed
  FROM trials t WHERE t.job_id = j.id AND j.status = 'running'
) counts ON TRUE
WHERE j.id = $1;

-- name: read_baseline_score
-- What the newest run of a baseline came to before a job ended, on the same suite and models: its overall score. By
-- history_jobs_package from that moment back, or the job's primary key.
-- $1 account, $2 package name, $3 suite name, $4 kind, $5 name, $6 forge and number of the repository or NULL, $7 models,
-- $8 before
SELECT (j.results::JSONB ->> 'overall_score')::FLOAT8 FROM (
  (SELECT h.job_id, h.ended_at FROM history_jobs h
    WHERE h.user_id = $1 AND h.package_name = $2 AND h.suite_name = $3 AND h.ended_at < $8
      AND CASE $4 WHEN 'branch' THEN h.branch = $5 AND h.repository IS NOT DISTINCT FROM $6
        WHEN 'version' THEN h.version = $5 ELSE FALSE END
    ORDER BY h.ended_at DESC LIMIT 1)
  UNION ALL
  SELECT n.id, n.completed_at FROM test_jobs n WHERE $4 = 'job' AND n.id::TEXT = $5 AND n.user_id = $1
) past JOIN test_jobs j ON j.id = past.job_id
WHERE j.status = 'completed' AND j.models_requested @> $7::TEXT[] AND j.models_requested <@ $7::TEXT[];

-- name: settle_notification
-- pending -> sent, quiet or dead, by its holder alone; what the target knows now is kept with it, and its rate. Where there
-- is more to tell since it was claimed it stays pending.
-- $1 id, $2 fence, $3 state, $4 HTTP status or NULL, $5 reason or NULL, $6 seconds until the target may be called again,
-- $7 subject or NULL: nothing was told of one, $8 conclusion or NULL, $9 accepted_at of the job, $10 message id or NULL,
-- $11 its news as it was claimed, $12 seconds until it is due again, or NULL
WITH done AS (
  UPDATE outbox SET state = CASE WHEN news = $11 THEN $3 ELSE 'pending' END,
    settled_at = CASE WHEN news = $11 THEN CLOCK_TIMESTAMP() END,
    again_at = CASE WHEN news = $11 THEN CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => $12) END,
    lease_until = NULL, last_status = $4, last_error = $5
  WHERE id = $1 AND fence = $2 AND state = 'pending'
  RETURNING target_id
), held AS (
  UPDATE notify_targets t SET hold_until = CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => $6)
  FROM done d WHERE t.id = d.target_id AND $6::FLOAT8 > 0
), told AS (
  INSERT INTO told_states AS s (target_id, subject, conclusion, accepted_at, message_id)
  SELECT d.target_id, $7::TEXT, $8, $9::TIMESTAMPTZ, $10 FROM done d WHERE d.target_id IS NOT NULL AND $7 IS NOT NULL
  ON CONFLICT (target_id, subject) DO UPDATE SET conclusion = COALESCE(EXCLUDED.conclusion, s.conclusion),
    accepted_at = GREATEST(s.accepted_at, EXCLUDED.accepted_at),
    message_id = COALESCE(EXCLUDED.message_id, s.message_id), told_at = NOW()
)
SELECT 1 FROM done;

-- name: delay_notification
-- Stays pending and is due again later; after some tries it lets those behind it pass, in a lane of its own.
-- $1 id, $2 fence, $3 seconds, $4 HTTP status or NULL, $5 reason, $6 whether those behind it may pass,
-- $7 seconds until the target may be called again
WITH late AS (
  UPDATE outbox SET next_at = CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => $3), lease_until = NULL, last_status = $4,
    last_error = $5, lane = CASE WHEN $6 THEN SPLIT_PART(lane, '#', 1) || '#' || id ELSE lane END
  WHERE id = $1 AND fence = $2 AND state = 'pending'
  RETURNING target_id
), held AS (
  UPDATE notify_targets t SET hold_until = CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => $7)
  FROM late l WHERE t.id = l.target_id AND $7::FLOAT8 > 0
)
SELECT 1 FROM late;

-- name: tell_again
-- What the forge shows is made true once more: its holder wrote there when the row was another's already.
-- $1 id, $2 the fence of that time
UPDATE outbox SET state = 'pending', settled_at = NULL, news = news + 1, again_at = NULL, attempts = 0, next_at = NOW()
WHERE id = $1 AND fence <> $2
RETURNING id;

-- name: look_again
-- settled -> pending, for what is due to be looked at again. By the index of those.
-- $1 how many
UPDATE outbox SET state = 'pending', settled_at = NULL, news = news + 1, again_at = NULL, attempts = 0, next_at = NOW()
WHERE id IN (
  SELECT id FROM outbox WHERE again_at <= CLOCK_TIMESTAMP() ORDER BY again_at LIMIT $1 FOR UPDATE SKIP LOCKED
) AND again_at IS NOT NULL AND state <> 'pending'
RETURNING id;

-- name: report_state
-- What a forge shows of a commit where there is no job. One row a check, which a later state replaces; the same state
-- once more changes nothing. Its lane is that of the jobs that take its place.
-- $1 dedupe key, $2 account, $3 JSON of domain.reporting.CheckState
INSERT INTO outbox AS o (dedupe_key, lane, account_id, event, facts)
SELECT $1, 'forge:' || change_line(s.facts -> 'change', s.facts ->> 'package', s.facts ->> 'suite_name'), $2, 'state',
  s.facts
FROM (SELECT $3::JSONB AS facts) s
ON CONFLICT (dedupe_key) DO UPDATE SET facts = EXCLUDED.facts, account_id = EXCLUDED.account_id, state = 'pending',
  settled_at = NULL, news = o.news + 1, again_at = NULL, attempts = 0, lane = EXCLUDED.lane,
  next_at = CASE WHEN o.state = 'pending' AND o.last_status IN (403, 429) THEN o.next_at ELSE NOW() END
WHERE o.facts - 'at' IS DISTINCT FROM EXCLUDED.facts - 'at'
RETURNING id;

-- name: follows_own_word
-- Whether a token submitted the job of this line and commit after the service itself, which alone says how it is reported,
-- or after it had said that the package fails. By the primary key, test_jobs_lines and the unique key.
-- $1 job id, $2 dedupe_key of the state
SELECT EXISTS (
  SELECT FROM test_jobs own
  WHERE own.user_id = j.user_id AND own.change_line = j.change_line AND own.created_at < j.created_at
    AND own.report IS NOT NULL AND own.change ->> 'head_sha' = j.change ->> 'head_sha'
) OR EXISTS (
  SELECT FROM outbox said
  WHERE said.dedupe_key = $2 AND said.account_id = j.user_id AND said.facts ->> 'state' = 'failure'
    AND (said.facts ->> 'at')::TIMESTAMPTZ < j.created_at
)
FROM test_jobs j WHERE j.id = $1 AND j.report IS NULL;

-- name: lock_head
-- The row of a commit's sum, which is the caller's until its transaction ends. One that was not there knows nothing yet.
-- $1 account, $2 JSON of domain.changes.Change
INSERT INTO outbox AS o (dedupe_key, lane, account_id, event, facts)
SELECT head_key($2::JSONB), 'forge:' || head_key($2::JSONB), $1, 'head', '{}'
ON CONFLICT (dedupe_key) DO UPDATE SET account_id = EXCLUDED.account_id
RETURNING id, facts;

-- name: keep_head
-- What is known of a commit is more or else from now on, which is to be told.
-- $1 id, $2 JSON of domain.heads.Head
UPDATE outbox SET facts = $2::JSONB, state = 'pending', settled_at = NULL, news = news + 1, again_at = NULL, attempts = 0,
  lane = SPLIT_PART(lane, '#', 1),
  next_at = CASE WHEN state = 'pending' AND last_status IN (403, 429) THEN next_at ELSE NOW() END
WHERE id = $1;

-- name: wake_heads
-- Sums of commits whose jobs have changed are to be told. The news by their order, whoever else takes some passes these
-- by; the sums by the unique key, locked in one order, so that two of these never wait for each other in a circle.
-- $1 how many news
WITH news AS (
  DELETE FROM head_news WHERE id IN (SELECT n.id FROM head_news n ORDER BY n.id LIMIT $1 FOR UPDATE SKIP LOCKED)
  RETURNING head
), heads AS MATERIALIZED (
  SELECT o.id FROM outbox o WHERE o.dedupe_key IN (SELECT head FROM news) ORDER BY o.id FOR NO KEY UPDATE
)
UPDATE outbox o SET state = 'pending', settled_at = NULL, news = o.news + 1, again_at = NULL, attempts = 0,
  lane = SPLIT_PART(o.lane, '#', 1),
  next_at = CASE WHEN o.state = 'pending' AND o.last_status IN (403, 429) THEN o.next_at ELSE NOW() END
FROM heads h WHERE o.id = h.id
RETURNING o.id;

-- name: read_head_parts
-- The packages of a commit's sum, each with the job that was submitted for it, and whether the change has a newer head. By
-- the jobs' primary key, and the line's rows of change_heads.
-- $1 account, $2 JSON of domain.heads.Head
SELECT c.key AS change, p.key AS part, j.id, j.status, j.conclusion, j.error_code, j.started_at,
  (j.results::JSONB ->> 'tests_passed')::INT AS tests_passed, (j.results::JSONB ->> 'total_tests')::INT AS total_tests,
  EXISTS (
    SELECT FROM change_heads mine JOIN change_heads newer USING (forge, repository_id, line)
    WHERE mine.forge = c.value -> 'change' ->> 'forge'
      AND mine.repository_id = (c.value -> 'change' ->> 'repository_id')::BIGINT
      AND mine.line = CASE WHEN c.value -> 'change' ? 'pull_request' THEN 'pull:' || (c.value -> 'change' ->> 'pull_request')
        ELSE 'ref:' || (c.value -> 'change' ->> 'ref') END
      AND mine.head_sha = c.value -> 'change' ->> 'head_sha'
      AND (newer.made_at, newer.seen_at) > (mine.made_at, mine.seen_at)
  ) AS has_newer
FROM JSONB_EACH($2::JSONB -> 'changes') c
CROSS JOIN LATERAL JSONB_EACH(c.value -> 'parts') p
LEFT JOIN test_jobs j ON j.id = (p.value ->> 'job_id')::UUID AND j.user_id = $1
ORDER BY c.key, p.key;

-- name: has_job_since
-- Whether a job stands for the check of a state since it was said; for one that fails, only the service's own. By the index
-- of lines.
-- $1 account, $2 JSON of domain.reporting.CheckState, $3 since
SELECT EXISTS (
  SELECT FROM test_jobs j WHERE j.user_id = $1
    AND j.change_line = change_line($2::JSONB -> 'change', $2::JSONB ->> 'package', $2::JSONB ->> 'suite_name')
    AND j.change ->> 'head_sha' = $2::JSONB -> 'change' ->> 'head_sha' AND j.created_at >= $3
    AND (j.report IS NOT NULL OR $2::JSONB ->> 'state' <> 'failure')
);

-- name: stop_target
-- active -> stopped; what waits for it is dead. Its owner sees the reason.
-- $1 target id, $2 reason
WITH stopped AS (
  UPDATE notify_targets SET stopped_at = CLOCK_TIMESTAMP(), stopped_reason = $2 WHERE id = $1 AND stopped_at IS NULL
  RETURNING id
)
UPDATE outbox SET state = 'dead', settled_at = CLOCK_TIMESTAMP(), lease_until = NULL, last_error = $2
WHERE target_id IN (SELECT id FROM stopped) AND state = 'pending'
RETURNING id;

-- name: was_told_since
-- Whether anything reached the target since then. By the index of a target's notifications, from the newest on.
-- $1 target id, $2 since
SELECT EXISTS (
  SELECT FROM (
    SELECT state, settled_at FROM outbox WHERE target_id = $1 ORDER BY id DESC LIMIT 1000
  ) recent WHERE recent.state = 'sent' AND recent.settled_at > $2
);

-- name: add_event
-- Something else than a job is told to one target. Once for a dedupe key; no row: it is there already.
-- $1 dedupe key, $2 target id, $3 account, $4 event, $5 facts as JSON or NULL
INSERT INTO outbox (dedupe_key, lane, account_id, target_id, event, facts)
SELECT $1, t.id::TEXT, t.account_id, t.id, $4, $5::JSONB FROM notify_targets t
WHERE t.id = $2 AND t.account_id = $3 AND t.stopped_at IS NULL
ON CONFLICT (dedupe_key) DO NOTHING
RETURNING id;

-- name: tell_warnings
-- Warnings that nobody was told of yet are told to all targets of their accounts, once each. By the index of those.
-- $1 how many warnings
WITH told AS (
  UPDATE account_warnings w SET told_at = NOW() FROM (
    SELECT account_id, month, kind, level FROM account_warnings WHERE told_at IS NULL ORDER BY created_at LIMIT $1
    FOR UPDATE SKIP LOCKED
  ) u
  WHERE (w.account_id, w.month, w.kind, w.level) = (u.account_id, u.month, u.kind, u.level)
  RETURNING w.account_id, w.month, w.kind, w.level, w.used, w.most
)
INSERT INTO outbox (dedupe_key, lane, account_id, target_id, event, facts)
SELECT 'warning:' || w.month || ':' || w.kind || ':' || w.level || ':' || t.id, t.id::TEXT, t.account_id, t.id, 'warning',
  JSONB_BUILD_OBJECT('month', w.month, 'kind', w.kind, 'level', w.level, 'used', w.used, 'most', w.most)
FROM told w JOIN notify_targets t ON t.account_id = w.account_id AND t.stopped_at IS NULL
ORDER BY t.id, w.level
ON CONFLICT (dedupe_key) DO NOTHING
RETURNING id;

-- name: list_notifications
-- A target's notifications, newest first.
-- $1 target id, $2 account, $3 how many
SELECT o.id, o.event, o.job_id, o.target_id, o.state, o.attempts, o.next_at, o.last_status, o.last_error, o.created_at,
  o.settled_at
FROM outbox o WHERE o.target_id = $1 AND o.account_id = $2 ORDER BY o.id DESC LIMIT $3;

-- name: count_outbox
-- How much is in which state, and since when the oldest waits, by kind of target. For operators: reads all rows.
SELECT COALESCE(t.kind, 'forge') AS kind, o.state, COUNT(*)::INT AS rows, MIN(o.created_at) AS oldest,
  MIN(o.next_at) FILTER (WHERE o.state = 'pending') AS next_at
FROM outbox o LEFT JOIN notify_targets t ON t.id = o.target_id
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: list_outbox
-- Rows of one state, newest first, for operators; of what a forge is told the repository, its change and the commit. By
-- the index of that state, and primary keys.
-- $1 state (pending or dead), $2 how many
SELECT o.id, o.event, o.job_id, o.target_id, o.state, o.attempts, o.next_at, o.last_status, o.last_error, o.created_at,
  o.settled_at, a.username, COALESCE(t.kind, 'forge') AS kind,
  COALESCE(t.shown, CONCAT_WS(' ', c.change ->> 'repository', '#' || (c.change ->> 'pull_request'),
    LEFT(c.change ->> 'head_sha', 7))) AS shown
FROM outbox o JOIN users a ON a.id = o.account_id LEFT JOIN notify_targets t ON t.id = o.target_id
LEFT JOIN test_jobs j ON j.id = o.job_id AND o.target_id IS NULL
LEFT JOIN LATERAL (
  SELECT COALESCE(j.change, o.facts -> 'change', (
    SELECT one.value -> 'change' FROM JSONB_EACH(o.facts -> 'changes') one LIMIT 1
  )) AS change
) c ON o.target_id IS NULL
WHERE o.state = $1 ORDER BY o.id DESC LIMIT $2;

-- name: replay_dead
-- dead -> pending, with all tries before it; of one row, one target, or all. Rows of stopped targets stay.
-- $1 row id or NULL, $2 target id or NULL
UPDATE outbox SET state = 'pending', settled_at = NULL, attempts = 0, next_at = NOW(), again_at = NULL,
  created_at = CLOCK_TIMESTAMP(), lane = SPLIT_PART(lane, '#', 1)
WHERE state = 'dead' AND ($1::BIGINT IS NULL OR id = $1) AND ($2::UUID IS NULL OR target_id = $2)
  AND NOT EXISTS (SELECT FROM notify_targets t WHERE t.id = target_id AND t.stopped_at IS NOT NULL)
RETURNING id;
