-- What forges sent while nobody answered, and how far it was looked for.

CREATE TABLE delivery_looks (
  source TEXT PRIMARY KEY,
  looked_until TIMESTAMPTZ NOT NULL,
  walk_until TIMESTAMPTZ,
  cursor TEXT NOT NULL DEFAULT '',
  next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  lease_until TIMESTAMPTZ,
  fence BIGINT NOT NULL
);

CREATE TABLE missed_deliveries (
  source TEXT NOT NULL,
  delivery_id TEXT NOT NULL,
  attempt_id BIGINT NOT NULL,
  event TEXT NOT NULL,
  trouble TEXT NOT NULL,
  sent_at TIMESTAMPTZ NOT NULL,
  asked SMALLINT NOT NULL DEFAULT 0,
  next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (source, delivery_id)
);
-- Serves who asks again: what is due of a source, the oldest first.
CREATE INDEX missed_deliveries_due ON missed_deliveries (source, sent_at);

-- Serves the operator's list of what needs a person, and its replay.
CREATE INDEX deliveries_failed ON deliveries (received_at) WHERE state = 'failed';
