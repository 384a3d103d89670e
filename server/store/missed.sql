-- Missed deliveries: what a forge sent while nobody answered.

-- name: claim_look
-- The look at a source's list for $2 seconds, if it is due and nobody has it; three days is how long it can be asked for.
-- $1 source, $2 seconds
INSERT INTO delivery_looks AS l (source, looked_until, lease_until, fence)
VALUES ($1, NOW() - INTERVAL '3 days', NOW() + MAKE_INTERVAL(secs => $2), NEXTVAL('delivery_fence'))
ON CONFLICT (source) DO UPDATE
SET lease_until = EXCLUDED.lease_until, fence = EXCLUDED.fence
WHERE l.next_at <= NOW() AND (l.lease_until IS NULL OR l.lease_until < NOW())
RETURNING l.source, l.fence, GREATEST(l.looked_until, NOW() - INTERVAL '3 days') AS looked_until, l.walk_until, l.cursor;

-- name: note_missed
-- Keeps those tries that failed and whose delivery is not here. A later try of the same one gives its newer number.
-- $1 source, $2 attempt ids, $3 delivery ids, $4 events, $5 troubles, $6 moments
INSERT INTO missed_deliveries AS m (source, delivery_id, attempt_id, event, trouble, sent_at)
SELECT DISTINCT ON (t.delivery_id) $1, t.delivery_id, t.attempt_id, t.event, t.trouble, t.sent_at
FROM UNNEST($2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TIMESTAMPTZ[])
  AS t (attempt_id, delivery_id, event, trouble, sent_at)
WHERE t.sent_at > NOW() - INTERVAL '3 days' AND NOT EXISTS (
  SELECT FROM deliveries d WHERE d.source = $1 AND d.hook_id IS NULL AND d.delivery_id = t.delivery_id
)
ORDER BY t.delivery_id, t.attempt_id DESC
ON CONFLICT (source, delivery_id) DO UPDATE
SET attempt_id = EXCLUDED.attempt_id, trouble = EXCLUDED.trouble, sent_at = LEAST(m.sent_at, EXCLUDED.sent_at)
WHERE EXCLUDED.attempt_id > m.attempt_id;

-- name: walk_on
-- The next round of the walk begins at the cursor. No row: another process has the look.
-- $1 source, $2 fence, $3 walk_until, $4 cursor
UPDATE delivery_looks SET walk_until = $3, cursor = $4 WHERE source = $1 AND fence = $2 RETURNING source;

-- name: end_walk
-- All before was seen. No row: another process has the look.
-- $1 source, $2 fence, $3 moment (NULL: as before)
UPDATE delivery_looks SET looked_until = COALESCE($3, looked_until), walk_until = NULL, cursor = ''
WHERE source = $1 AND fence = $2
RETURNING source;

-- name: end_look
-- Somebody may look again in $3 seconds.
-- $1 source, $2 fence, $3 seconds
UPDATE delivery_looks SET lease_until = NULL, next_at = NOW() + MAKE_INTERVAL(secs => $3)
WHERE source = $1 AND fence = $2;

-- name: forget_arrived
-- Those that are here now.
-- $1 source
DELETE FROM missed_deliveries m USING deliveries d
WHERE m.source = $1 AND d.source = $1 AND d.hook_id IS NULL AND d.delivery_id = m.delivery_id;

-- name: forget_old
-- Those that the forge has no more. How many.
-- $1 source
WITH gone AS (
  DELETE FROM missed_deliveries WHERE source = $1 AND sent_at < NOW() - INTERVAL '3 days' RETURNING source
)
SELECT COUNT(*) FROM gone;

-- name: due_missed
-- What is to be asked for now, the oldest first: missed_deliveries_due has them in order.
-- $1 source, $2 how often at most, $3 how many
SELECT source, delivery_id, attempt_id, event, trouble, sent_at, asked, next_at
FROM missed_deliveries
WHERE source = $1 AND next_at <= NOW() AND asked < $2
ORDER BY sent_at LIMIT $3;

-- name: was_asked
-- It was asked for; not again within $3 seconds.
-- $1 source, $2 delivery_id, $3 seconds
UPDATE missed_deliveries SET asked = asked + 1, next_at = NOW() + MAKE_INTERVAL(secs => $3)
WHERE source = $1 AND delivery_id = $2;

-- name: list_missed
-- For operators, the newest first.
-- $1 how many
SELECT source, delivery_id, attempt_id, event, trouble, sent_at, asked, next_at
FROM missed_deliveries ORDER BY sent_at DESC LIMIT $1;
