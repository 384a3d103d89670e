-- Floods of deliveries: whose each one is, and which heads were replaced.

-- Whose a delivery is, so that one webhook, installation or project never has all slots.
ALTER TABLE deliveries ADD COLUMN holder TEXT NOT NULL DEFAULT '';

ALTER TABLE change_heads
  ADD COLUMN shown_at TIMESTAMPTZ,      -- the forge's own time of the last word that showed it as the head; NULL: not told
  ADD COLUMN base_sha TEXT;             -- what it was compared with when it came, of a branch
