-- Public keys that outcomes are or were signed with.

-- name: note_key
-- The key is in use now.
-- $1 public key
INSERT INTO signing_keys (public_key) VALUES ($1) ON CONFLICT (public_key) DO UPDATE SET seen_at = NOW();

-- name: list_keys
-- Every key, the one in use last first: a handful of rows.
SELECT public_key, since FROM signing_keys ORDER BY seen_at DESC, public_key;
