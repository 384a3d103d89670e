-- When deliveries could be kept, and until when each repository without an App was looked at for what was missed.

CREATE TABLE door_watch (
  id BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (id),
  open_at TIMESTAMPTZ NOT NULL,
  closed_until TIMESTAMPTZ
);

ALTER TABLE linked_repositories ADD COLUMN caught_up_at TIMESTAMPTZ NOT NULL DEFAULT NOW();
-- Serves who looks for what was missed: links without an App, the one that was looked at longest ago first.
CREATE INDEX linked_repositories_catch_up ON linked_repositories (forge, caught_up_at)
WHERE ended_at IS NULL AND installation_id IS NULL AND reports;
