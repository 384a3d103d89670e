-- Steps of a set-up that are open, and what they leave.

-- name: add_ticket
-- What opens a step once.
-- $1 hash, $2 purpose, $3 holder, $4 facts, $5 seconds to live
INSERT INTO setup_tickets (ticket_hash, purpose, holder, facts, expires_at)
VALUES ($1, $2, $3, $4::TEXT::JSONB, NOW() + MAKE_INTERVAL(secs => $5));

-- name: use_ticket
-- Of many that show it one goes on. No row: it was used, has ended, is for another step or another's browser.
-- $1 hash, $2 purpose, $3 holder
DELETE FROM setup_tickets
WHERE ticket_hash = $1 AND purpose = $2 AND holder = $3 AND expires_at > NOW()
RETURNING facts::TEXT;

-- name: delete_tickets
-- Those that have ended. By setup_tickets_end.
-- $1 how many
DELETE FROM setup_tickets WHERE ticket_hash IN (
  SELECT ticket_hash FROM setup_tickets WHERE expires_at < NOW() ORDER BY expires_at LIMIT $1
);

-- name: save_app
-- The App that was made; one that is there is replaced only where that was asked for. No row: it is kept.
-- $1 forge, $2 app_id, $3 slug, $4 client_id, $5 page_url, $6 sealed, $7 whether it may replace
INSERT INTO forge_apps AS a (forge, app_id, slug, client_id, page_url, sealed) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (forge) DO UPDATE
SET app_id = EXCLUDED.app_id, slug = EXCLUDED.slug, client_id = EXCLUDED.client_id, page_url = EXCLUDED.page_url,
  sealed = EXCLUDED.sealed, created_at = NOW()
WHERE $7
RETURNING forge;

-- name: list_apps
-- What is sealed of Apps, for another key.
SELECT forge, sealed FROM forge_apps ORDER BY forge;

-- name: replace_app
-- The same under another key. No row: it was replaced meanwhile.
-- $1 forge, $2 sealed as it was, $3 sealed anew
UPDATE forge_apps SET sealed = $3 WHERE forge = $1 AND sealed = $2 RETURNING forge;
