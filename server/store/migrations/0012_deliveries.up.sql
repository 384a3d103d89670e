-- What forges deliver, kept before it is read.

CREATE TABLE deliveries (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source TEXT NOT NULL,
  hook_id UUID,
  delivery_id TEXT NOT NULL,
  event TEXT NOT NULL,
  body BYTEA NOT NULL,
  received_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  state TEXT NOT NULL DEFAULT 'received'
    CHECK (state IN ('received', 'handled', 'ignored', 'invalid', 'failed')),
  reason TEXT,
  attempts SMALLINT NOT NULL DEFAULT 0,
  next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  lease_until TIMESTAMPTZ,
  fence BIGINT,
  UNIQUE NULLS NOT DISTINCT (source, hook_id, delivery_id)
);
-- Serves the handlers: what is due, the oldest first.
CREATE INDEX deliveries_due ON deliveries (next_at, id) WHERE state = 'received';
-- Serves the clean-up and the operator's list.
CREATE INDEX deliveries_age ON deliveries (received_at);
