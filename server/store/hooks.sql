-- Webhooks with an address and a secret of their own.

-- name: add_hook
-- No row: the account has one for it already, or as many as it may have.
-- $1 id, $2 account, $3 forge, $4 name, $5 is_group, $6 place_id or NULL, $7 owner_id or NULL, $8 proof, $9 sealed,
-- $10 the token as it is shown or NULL, $11 who adds it, $12 how many
INSERT INTO hooks (
  id, account_id, forge, name, is_group, place_id, owner_id, proof, sealed, token_shown, created_by
)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
WHERE (SELECT COUNT(*) FROM hooks h WHERE h.account_id = $2 AND h.removed_at IS NULL) < $12
ON CONFLICT (account_id, forge, LOWER(name)) WHERE removed_at IS NULL DO NOTHING
RETURNING id;

-- name: find_equal_hook
-- $1 account, $2 forge, $3 name
SELECT id FROM hooks WHERE account_id = $1 AND forge = $2 AND LOWER(name) = LOWER($3) AND removed_at IS NULL;

-- name: read_hook
-- A hook that is not removed, and whose account is good, with what its token was refused for. By the primary keys.
-- $1 id
SELECT h.id, h.account_id, a.username AS account, h.forge, h.name, h.is_group, h.place_id, h.owner_id, h.proof, h.sealed,
  h.token_shown, h.created_at, h.created_by, h.rotated_at, h.old_until, h.delivered_at,
  COALESCE(h.old_until > NOW(), FALSE) AS is_old_good,
  ARRAY(SELECT doing FROM hook_refusals WHERE hook_id = h.id ORDER BY doing) AS refused,
  latest.at AS refused_at, latest.reason AS refused_reason
FROM hooks h JOIN users a ON a.id = h.account_id
LEFT JOIN LATERAL (
  SELECT at, reason FROM hook_refusals WHERE hook_id = h.id ORDER BY at DESC, doing LIMIT 1
) latest ON TRUE
WHERE h.id = $1 AND h.removed_at IS NULL AND a.is_active;

-- name: list_hooks
-- An account's hooks, by name; NULL: of every account. By hooks_account.
-- $1 account or NULL
SELECT h.id, h.account_id, a.username AS account, h.forge, h.name, h.is_group, h.place_id, h.owner_id, h.proof, h.sealed,
  h.token_shown, h.created_at, h.created_by, h.rotated_at, h.old_until, h.delivered_at,
  COALESCE(h.old_until > NOW(), FALSE) AS is_old_good,
  ARRAY(SELECT doing FROM hook_refusals WHERE hook_id = h.id ORDER BY doing) AS refused,
  latest.at AS refused_at, latest.reason AS refused_reason
FROM hooks h JOIN users a ON a.id = h.account_id
LEFT JOIN LATERAL (
  SELECT at, reason FROM hook_refusals WHERE hook_id = h.id ORDER BY at DESC, doing LIMIT 1
) latest ON TRUE
WHERE h.removed_at IS NULL AND ($1::UUID IS NULL OR h.account_id = $1)
ORDER BY a.username, h.forge, LOWER(h.name), h.id;

-- name: bind_hook
-- The number of its repository, which its first delivery says. No row: it has one.
-- $1 id, $2 place_id
UPDATE hooks SET place_id = $2 WHERE id = $1 AND place_id IS NULL AND removed_at IS NULL RETURNING id;

-- name: rename_hook
-- The name that the forge uses now. Nothing where the account has a hook of that name.
-- $1 id, $2 name
UPDATE hooks h SET name = $2
WHERE h.id = $1 AND h.name <> $2 AND h.removed_at IS NULL AND NOT EXISTS (
  SELECT FROM hooks o WHERE o.account_id = h.account_id AND o.forge = h.forge AND LOWER(o.name) = LOWER($2)
    AND o.removed_at IS NULL AND o.id <> h.id
);

-- name: rotate_hook
-- Other secrets; the one before holds for a while. No row: it was removed or changed meanwhile.
-- $1 id, $2 account, $3 sealed as it was, $4 sealed anew, $5 seconds for the old
UPDATE hooks SET sealed = $4, rotated_at = NOW(), old_until = NOW() + MAKE_INTERVAL(secs => $5)
WHERE id = $1 AND account_id = $2 AND sealed = $3 AND removed_at IS NULL
RETURNING old_until;

-- name: remove_hook
-- active -> removed: its secrets are forgotten.
-- $1 id, $2 account
WITH removed AS (
  UPDATE hooks SET removed_at = NOW(), sealed = NULL, token_shown = NULL
  WHERE id = $1 AND account_id = $2 AND removed_at IS NULL
  RETURNING id, forge
), forgotten AS (
  DELETE FROM hook_refusals r USING removed d WHERE r.hook_id = d.id
)
SELECT forge FROM removed;

-- name: replace_token
-- Another token in place of the one before, of which nothing was refused. What was proposed while that was refused is
-- looked for, and what could not be told is told now: by linked_repositories_hook, and by the index of what is due again.
-- No row: it was removed or changed meanwhile.
-- $1 id, $2 account, $3 sealed as it was, $4 sealed anew, $5 the token as it is shown
WITH replaced AS (
  UPDATE hooks SET sealed = $4, token_shown = $5
  WHERE id = $1 AND account_id = $2 AND sealed = $3 AND removed_at IS NULL
  RETURNING id
), forgotten AS (
  DELETE FROM hook_refusals r USING replaced d WHERE r.hook_id = d.id
), looked_at_again AS (
  UPDATE linked_repositories r SET caught_up_at = '-infinity' FROM replaced d WHERE r.hook_id = d.id AND r.ended_at IS NULL
), told_again AS (
  UPDATE outbox o SET again_at = NOW() FROM replaced d
  WHERE o.again_at IS NOT NULL AND o.state = 'dead' AND o.target_id IS NULL AND o.account_id = $2
)
SELECT id FROM replaced;

-- name: note_refusal
-- Its token was refused just now, to the minute, so that a storm does not write here.
-- $1 id, $2 doing, $3 reason
INSERT INTO hook_refusals AS r (hook_id, doing, reason)
SELECT h.id, $2, $3 FROM hooks h WHERE h.id = $1 AND h.removed_at IS NULL
ON CONFLICT (hook_id, doing) DO UPDATE SET reason = EXCLUDED.reason, at = NOW()
WHERE r.reason <> EXCLUDED.reason OR r.at < NOW() - INTERVAL '1 minute';

-- name: end_refusal
-- Its token works for this.
-- $1 id, $2 doing
DELETE FROM hook_refusals WHERE hook_id = $1 AND doing = $2;

-- name: list_hook_links
-- Numbers of the repositories that are linked by a hook. By linked_repositories_hook.
-- $1 id
SELECT repository_id FROM linked_repositories WHERE hook_id = $1 AND ended_at IS NULL;

-- name: note_delivery
-- When its latest delivery came, to the minute, so that a storm does not write here.
-- $1 id
UPDATE hooks SET delivered_at = NOW()
WHERE id = $1 AND (delivered_at IS NULL OR delivered_at < NOW() - INTERVAL '1 minute');

-- name: list_sealed
-- All that is sealed, for another key.
SELECT id, sealed FROM hooks WHERE sealed IS NOT NULL ORDER BY id;

-- name: replace_sealed
-- The same under another key. No row: it was changed or removed meanwhile.
-- $1 id, $2 sealed as it was, $3 sealed anew
UPDATE hooks SET sealed = $3 WHERE id = $1 AND sealed = $2 RETURNING id;
