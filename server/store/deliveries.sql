-- Deliveries: the inbox of what forges send.

-- name: keep_delivery
-- Keeps a delivery once. One that came again is acted on again only if handling it had failed. True: there is work.
-- $1 source, $2 hook_id, $3 delivery_id, $4 event, $5 body, $6 seconds until its turn, $7 holder
INSERT INTO deliveries AS d (source, hook_id, delivery_id, event, body, next_at, holder)
VALUES ($1, $2, $3, $4, $5, NOW() + MAKE_INTERVAL(secs => $6), $7)
ON CONFLICT (source, hook_id, delivery_id) DO UPDATE
SET state = 'received', attempts = 0, next_at = EXCLUDED.next_at, lease_until = NULL
WHERE d.state = 'failed'
RETURNING TRUE;

-- name: claim_deliveries
-- Gives up to $1 due deliveries to one handler for $2 seconds; others pass by. deliveries_due has them in order. Of one
-- holder as many as leave as many slots of its source free as it then has, so that whose forge is slow leaves some to
-- others; who has that many already is passed by, and so is a source without slots.
-- $1 how many, $2 seconds, $3 sources, $4 free slots of each (others: $1), $5 holders, $6 how many the handler has of each,
-- $7 holders and $8 sources that get none
WITH due AS MATERIALIZED (
  SELECT id, source, holder, next_at FROM deliveries
  WHERE state = 'received' AND next_at <= NOW() AND (lease_until IS NULL OR lease_until < NOW())
    AND holder <> ALL($7::TEXT[]) AND source <> ALL($8::TEXT[])
  ORDER BY next_at, id LIMIT $1
  FOR UPDATE SKIP LOCKED
), placed AS (
  SELECT due.id, due.holder, COALESCE(s.free, $1::INT) AS free, COALESCE(h.has, 0) AS has,
    ROW_NUMBER() OVER (PARTITION BY due.source ORDER BY due.next_at, due.id) AS place,
    ROW_NUMBER() OVER (PARTITION BY due.holder ORDER BY due.next_at, due.id) AS place_of_holder
  FROM due
  LEFT JOIN UNNEST($3::TEXT[], $4::INT[]) AS s (source, free) ON s.source = due.source
  LEFT JOIN UNNEST($5::TEXT[], $6::INT[]) AS h (holder, has) ON h.holder = due.holder
)
UPDATE deliveries d
SET lease_until = NOW() + MAKE_INTERVAL(secs => $2), fence = NEXTVAL('lease_fence'), attempts = d.attempts + 1
FROM placed p
WHERE d.id = p.id AND p.place <= p.free AND (p.holder = '' OR p.place_of_holder <= CEIL((p.free - p.has) / 2.0))
RETURNING d.id, d.source, d.hook_id, d.delivery_id, d.event, d.body, d.attempts, d.fence, d.holder;

-- name: end_deliveries
-- What came of each. No row for one: another handler has it.
-- $1 ids, $2 fences, $3 states, $4 reasons
UPDATE deliveries d SET state = e.state, reason = e.reason, lease_until = NULL
FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::TEXT[], $4::TEXT[]) AS e (id, fence, state, reason)
WHERE d.id = e.id AND d.fence = e.fence AND d.state = 'received'
RETURNING d.id;

-- name: extend_leases
-- They are their handler's for $3 seconds more. No row for one: it has ended or was just put off, or another handler has
-- it.
-- $1 ids, $2 fences, $3 seconds
UPDATE deliveries d SET lease_until = NOW() + MAKE_INTERVAL(secs => $3)
FROM UNNEST($1::BIGINT[], $2::BIGINT[]) AS held (id, fence)
WHERE d.id = held.id AND d.fence = held.fence AND d.state = 'received' AND d.lease_until IS NOT NULL
RETURNING d.id;

-- name: release_deliveries
-- Their handler stops: they are due at once, and this attempt does not count.
-- $1 ids, $2 fences
UPDATE deliveries d SET lease_until = NULL, attempts = d.attempts - 1
FROM UNNEST($1::BIGINT[], $2::BIGINT[]) AS held (id, fence)
WHERE d.id = held.id AND d.fence = held.fence AND d.state = 'received' AND d.lease_until IS NOT NULL;

-- name: put_delivery_off
-- It is tried again after $3 seconds. No row: another handler has it.
-- $1 id, $2 fence, $3 seconds, $4 reason
UPDATE deliveries SET next_at = NOW() + MAKE_INTERVAL(secs => $3), reason = $4, lease_until = NULL
WHERE id = $1 AND fence = $2 AND state = 'received'
RETURNING id;

-- name: list_deliveries
-- The newest first; deliveries_age has them in order, and deliveries_failed those that failed.
-- $1 state (NULL: each), $2 source (NULL: each), $3 how many
SELECT id, source, hook_id, delivery_id, event, received_at, state, reason, attempts, next_at,
  OCTET_LENGTH(body) AS bytes
FROM deliveries
WHERE ($1::TEXT IS NULL OR state = $1) AND ($2::TEXT IS NULL OR source = $2)
ORDER BY received_at DESC, id DESC LIMIT $3;

-- name: read_delivery
-- $1 id
SELECT id, source, hook_id, delivery_id, event, received_at, state, reason, attempts, next_at,
  OCTET_LENGTH(body) AS bytes
FROM deliveries WHERE id = $1;

-- name: read_body
-- $1 id
SELECT body FROM deliveries WHERE id = $1;

-- name: replay_delivery
-- One that ended is handled once more. No row: there is none, or it waits anyway.
-- $1 id
UPDATE deliveries SET state = 'received', attempts = 0, next_at = NOW(), lease_until = NULL
WHERE id = $1 AND state <> 'received'
RETURNING id;

-- name: replay_failed
-- All that failed are handled once more; deliveries_failed has them. How many.
-- $1 source (NULL: each)
WITH again AS (
  UPDATE deliveries SET state = 'received', attempts = 0, next_at = NOW(), lease_until = NULL
  WHERE state = 'failed' AND ($1::TEXT IS NULL OR source = $1)
  RETURNING id
)
SELECT COUNT(*) FROM again;
