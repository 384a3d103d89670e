-- What was proposed while nobody answered, in repositories whose forge has no list of what it sent.

-- name: note_open
-- Deliveries can be kept now. True: for at least $1 seconds none could. No row: somebody noted it a moment ago. By the
-- primary key.
-- $1 seconds
INSERT INTO door_watch AS d (open_at) VALUES (NOW())
ON CONFLICT (id) DO UPDATE SET open_at = NOW(),
  closed_until = CASE WHEN d.open_at < NOW() - MAKE_INTERVAL(secs => $1) THEN NOW() ELSE d.closed_until END
WHERE d.open_at < NOW() - INTERVAL '2 seconds'
RETURNING COALESCE(closed_until = NOW(), FALSE);

-- name: due_links
-- Links without an App that were not looked at since then, or never with the token that they have; one index has them in
-- order: linked_repositories_catch_up.
-- $1 forge, $2 how many
SELECT r.forge, r.repository_id, r.account_id, a.username AS account, r.installation_id, r.hook_id, r.owner_id, r.name,
  r.default_branch, r.reports, r.linked_at, FALSE AS is_suspended,
  GREATEST(r.caught_up_at, NOW() - INTERVAL '3 days') AS since
FROM door_watch d
JOIN linked_repositories r ON r.caught_up_at < GREATEST(d.closed_until, 'epoch'::TIMESTAMPTZ)
JOIN users a ON a.id = r.account_id AND a.is_active
WHERE r.forge = $1 AND r.ended_at IS NULL AND r.installation_id IS NULL AND r.reports
ORDER BY r.caught_up_at LIMIT $2;

-- name: was_caught_up
-- The link was looked at. By the primary key.
-- $1 forge, $2 repository_id
UPDATE linked_repositories SET caught_up_at = NOW() WHERE forge = $1 AND repository_id = $2;
