-- What was answered before is not paid for again: single answers, and whole outcomes.

ALTER TABLE test_jobs
  ADD COLUMN cause TEXT NOT NULL DEFAULT 'submit' CHECK (cause IN ('submit', 'schedule', 'baseline', 'rerun')),
  ADD COLUMN use_cache BOOLEAN NOT NULL DEFAULT TRUE,
  ADD COLUMN cached_from UUID REFERENCES test_jobs (id),
  ADD CONSTRAINT test_jobs_fresh CHECK (cause = 'submit' OR NOT use_cache AND cached_from IS NULL);

-- What models answered, to be answered again without asking. Keyed by all that decides the answer.
CREATE TABLE completions (
  key BYTEA NOT NULL,               -- SHA-256 of deployment, messages, parameters, sample and engine version
  account_id UUID NOT NULL REFERENCES users (id),  -- who paid for it
  is_shared BOOLEAN NOT NULL,       -- asked for by the suite of a public package: others with the same may have it
  deployment TEXT NOT NULL,         -- fingerprint
  version TEXT NOT NULL,            -- that the deployment said it was
  body TEXT NOT NULL,               -- JSON of evals.types.Completion
  created_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),  -- when it was asked for
  PRIMARY KEY (key, account_id)
);

-- Serves the clean-up.
CREATE INDEX completions_age ON completions (created_at);

-- What each deployment last said that it was: an alias may stand for another model from one day to the next.
CREATE TABLE model_versions (
  deployment TEXT PRIMARY KEY,      -- fingerprint
  version TEXT NOT NULL,
  since TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP()
);

-- Outcomes in which every row has a verdict, for jobs that would come to the same.
CREATE TABLE cached_outcomes (
  key BYTEA NOT NULL,               -- by outcome_key()
  account_id UUID NOT NULL REFERENCES users (id),  -- who paid for it
  is_shared BOOLEAN NOT NULL,       -- as of completions
  job_id UUID NOT NULL REFERENCES test_jobs (id),  -- that ran it
  conclusion TEXT NOT NULL,
  results TEXT NOT NULL,            -- JSON, the summary as a job that is answered by it shows it
  deployments TEXT[] NOT NULL,      -- fingerprints of all that answered or judged
  versions TEXT[] NOT NULL,         -- what each of them said that it was
  created_at TIMESTAMPTZ NOT NULL,  -- when its oldest answer was asked for
  PRIMARY KEY (key, account_id)
);

-- Serves the clean-up.
CREATE INDEX cached_outcomes_age ON cached_outcomes (created_at);

-- Names what decides an outcome: how its models are reached and asked, and what is tested by what.
CREATE FUNCTION outcome_key(settings TEXT, package UUID, snapshot TEXT, suite TEXT) RETURNS BYTEA AS $$
  SELECT SHA256(CONVERT_TO(settings || ' ' || package || ' ' || snapshot || ' ' || suite, 'UTF8'));
$$ LANGUAGE sql STABLE;

-- Whether anybody may see what is asked in this test: a published package's own suite.
CREATE FUNCTION is_public_test(package UUID, snapshot TEXT, source TEXT) RETURNS BOOLEAN AS $$
  SELECT source = 'package' AND EXISTS (
    SELECT FROM packages p JOIN package_versions v ON v.package_id = p.id
    WHERE p.id = package AND p.is_published AND p.visibility = 'public' AND v.snapshot_id = snapshot
  );
$$ LANGUAGE sql STABLE;
