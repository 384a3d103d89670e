-- What jobs found, kept so that later ones can be compared with it; what a job is compared with; the keys that signed.

ALTER TABLE test_jobs ADD COLUMN against JSONB;

-- Finished jobs whose trials later comparisons may count.
CREATE TABLE history_jobs (
  job_id UUID PRIMARY KEY REFERENCES test_jobs (id),
  user_id UUID NOT NULL,
  package_name TEXT NOT NULL,
  suite_name TEXT NOT NULL,
  repository TEXT,
  branch TEXT,
  version TEXT,
  ended_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP()
);

-- Serves a package's history, newest first.
CREATE INDEX history_jobs_package ON history_jobs (user_id, package_name, ended_at, job_id);
-- Serves the newest job of a branch, whose files and suite are the base.
CREATE INDEX history_jobs_branch ON history_jobs (user_id, package_name, branch, ended_at) WHERE branch IS NOT NULL;
-- Serves the clean-up.
CREATE INDEX history_jobs_age ON history_jobs (ended_at);

-- What one row of such a job brings: trials that were chance, and nothing else.
CREATE TABLE history_rows (
  job_id UUID NOT NULL REFERENCES history_jobs (job_id) ON DELETE CASCADE,
  case_index INT NOT NULL,
  model TEXT NOT NULL,
  title TEXT NOT NULL,
  case_digest TEXT NOT NULL,
  passed INT NOT NULL,
  failed INT NOT NULL,
  user_id UUID NOT NULL,
  package_name TEXT NOT NULL,
  branch_key TEXT,
  version TEXT,
  ended_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  PRIMARY KEY (job_id, case_index, model)
);

-- Each serves the newest trials of one question on one model, without reading any other's.
CREATE INDEX history_rows_branch ON history_rows (user_id, package_name, branch_key, model, case_digest, ended_at)
WHERE branch_key IS NOT NULL;
CREATE INDEX history_rows_version ON history_rows (user_id, package_name, version, model, case_digest, ended_at)
WHERE version IS NOT NULL;

-- What a running job is compared with, fixed when its first run is over: whoever goes on with it compares with the same.
CREATE TABLE job_baselines (
  job_id UUID PRIMARY KEY REFERENCES test_jobs (id),
  body TEXT NOT NULL
);

-- Trials of the package as it was, made for a job whose baseline knew too little.
CREATE TABLE base_trials (
  job_id UUID NOT NULL REFERENCES test_jobs (id),
  case_index INT NOT NULL,
  model TEXT NOT NULL,
  repeat_index INT NOT NULL,
  body TEXT NOT NULL,
  finished_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  PRIMARY KEY (job_id, case_index, model, repeat_index)
);

-- Serves the clean-up.
CREATE INDEX base_trials_age ON base_trials (finished_at);

-- Public keys that this service signs or has signed with. Private ones are never stored.
CREATE TABLE signing_keys (
  public_key TEXT PRIMARY KEY,
  since TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  seen_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);
