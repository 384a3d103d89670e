-- Heads of changes, their approvals, and turns.

-- name: record_head
-- The line has this head now. What approved another one is over; a newer word about this one moves its times on.
-- True: nobody told of this head before.
-- $1 forge, $2 repository_id, $3 line, $4 head_sha, $5 made_at or NULL for now, $6 shown_at or NULL, $7 base_sha or NULL
WITH others AS (
  UPDATE change_heads SET approval = NULL, approved_by = NULL, approved_at = NULL
  WHERE forge = $1 AND repository_id = $2 AND line = $3 AND head_sha <> $4 AND approval IS NOT NULL
)
INSERT INTO change_heads AS h (forge, repository_id, line, head_sha, made_at, shown_at, base_sha)
VALUES ($1, $2, $3, $4, COALESCE($5, NOW()), $6, $7)
ON CONFLICT (forge, repository_id, line, head_sha) DO UPDATE
SET made_at = GREATEST(h.made_at, COALESCE($5, h.made_at)), shown_at = GREATEST(h.shown_at, EXCLUDED.shown_at),
  base_sha = COALESCE(h.base_sha, EXCLUDED.base_sha), seen_at = NOW()
RETURNING xmax = 0;

-- name: was_replaced
-- Whether the forge showed another head of the line later than it showed this one, and was looked at just now, so that
-- nothing newer than that is missed. Two words of one second tell nothing. The heads of one line, by the primary key.
-- $1 forge, $2 repository_id, $3 line, $4 head_sha, $5 when it was shown, $6 seconds that "just now" lasts
SELECT COALESCE(
  BOOL_OR(head_sha <> $4 AND shown_at > $5) AND MAX(seen_at) > NOW() - MAKE_INTERVAL(secs => $6), FALSE
)
FROM change_heads WHERE forge = $1 AND repository_id = $2 AND line = $3;

-- name: approve_head
-- Approved, unless this head came no earlier than what approves it, or is not known, or another one came since: a head
-- that is back, of which no delivery told yet, is not the one that was looked at. What approved first stays. The line's
-- heads are few, by the primary key.
-- $1 forge, $2 repository_id, $3 line, $4 head_sha, $5 approval, $6 approved_by, $7 said_at
UPDATE change_heads h SET approval = COALESCE(approval, $5), approved_by = COALESCE(approved_by, $6),
  approved_at = COALESCE(approved_at, NOW())
WHERE forge = $1 AND repository_id = $2 AND line = $3 AND head_sha = $4 AND made_at < $7
  AND NOT EXISTS (
    SELECT FROM change_heads o
    WHERE o.forge = $1 AND o.repository_id = $2 AND o.line = $3 AND o.head_sha <> $4 AND o.made_at > h.made_at
  )
RETURNING approval;

-- name: end_approvals
-- No head of the line is approved any more.
-- $1 forge, $2 repository_id, $3 line
UPDATE change_heads SET approval = NULL, approved_by = NULL, approved_at = NULL
WHERE forge = $1 AND repository_id = $2 AND line = $3 AND approval IS NOT NULL;

-- name: read_approval
-- What approved this head; NULL or no row: nothing.
-- $1 forge, $2 repository_id, $3 line, $4 head_sha
SELECT approval FROM change_heads WHERE forge = $1 AND repository_id = $2 AND line = $3 AND head_sha = $4;

-- name: read_base
-- What this head was compared with when it came; NULL or no row: with nothing, or nobody knows.
-- $1 forge, $2 repository_id, $3 line, $4 head_sha
SELECT base_sha FROM change_heads WHERE forge = $1 AND repository_id = $2 AND line = $3 AND head_sha = $4;

-- name: lines_of_commit
-- The lines that the commit is or was a head of, the latest first, by change_heads_commit.
-- $1 forge, $2 repository_id, $3 head_sha
SELECT line FROM change_heads WHERE forge = $1 AND repository_id = $2 AND head_sha = $3
ORDER BY made_at DESC, line LIMIT 20;

-- name: take_turn
-- Ours for $5 seconds. No row: somebody else has it.
-- $1 forge, $2 repository_id, $3 line, $4 holder, $5 seconds
INSERT INTO change_turns AS t (forge, repository_id, line, holder, until)
VALUES ($1, $2, $3, $4, CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => $5))
ON CONFLICT (forge, repository_id, line) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until
WHERE t.until < CLOCK_TIMESTAMP()
RETURNING holder;

-- name: end_turn
-- Somebody else may have it.
-- $1 forge, $2 repository_id, $3 line, $4 holder
DELETE FROM change_turns WHERE forge = $1 AND repository_id = $2 AND line = $3 AND holder = $4;

-- name: read_tested
-- Package and suite of a job of the account, of this commit and forge.
-- $1 account, $2 job_id, $3 forge, $4 repository_id, $5 head_sha
SELECT p.name AS package, j.suite_name
FROM test_jobs j JOIN packages p ON p.id = j.package_id
WHERE j.id = $2 AND j.user_id = $1 AND j.change ->> 'forge' = $3
  AND (j.change ->> 'repository_id')::BIGINT = $4 AND j.change ->> 'head_sha' = $5;

-- name: has_job
-- Whether the account had a job of this commit in the last eight days, which is longer than a delivery is tried. By its
-- jobs of that time.
-- $1 account, $2 forge, $3 repository_id, $4 head_sha
SELECT EXISTS (
  SELECT FROM test_jobs
  WHERE user_id = $1 AND created_at > NOW() - INTERVAL '8 days' AND change ->> 'forge' = $2
    AND (change ->> 'repository_id')::BIGINT = $3 AND change ->> 'head_sha' = $4
);

-- name: was_submitted_here
-- Whether the service itself submitted the job, which alone says how it is reported. By the primary key.
-- $1 job_id
SELECT report IS NOT NULL FROM test_jobs WHERE id = $1;

-- name: list_live_jobs
-- Jobs of a pull request that wait or run, by the account's heads and leases.
-- $1 account, $2 forge, $3 repository_id, $4 pull request, $5 submitted until then, or NULL
SELECT id FROM test_jobs
WHERE user_id = $1 AND status IN ('queued', 'running') AND change ->> 'forge' = $2
  AND (change ->> 'repository_id')::BIGINT = $3 AND (change ->> 'pull_request')::INT = $4
  AND ($5::TIMESTAMPTZ IS NULL OR created_at <= $5)
ORDER BY created_at LIMIT 1000;
