-- Suites that a model wrote for packages without one.

CREATE TABLE generated_suites (
  snapshot_id TEXT NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
  account_id UUID NOT NULL REFERENCES users (id),
  suite_id TEXT NOT NULL REFERENCES suites (id) ON DELETE CASCADE,
  trials INT NOT NULL,
  model TEXT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (snapshot_id, account_id)
);
-- Serves the clean-up of suites.
CREATE INDEX generated_suites_suite ON generated_suites USING hash (suite_id);
