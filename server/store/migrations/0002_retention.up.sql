-- What the clean-up needs: to find what is old without reading what is young, and whose turn it is.

-- Work that one worker does for all, at its time.
CREATE TABLE chores (
  name TEXT PRIMARY KEY,
  due_at TIMESTAMPTZ NOT NULL       -- who moves it on has the turn
);

ALTER TABLE job_outcomes ADD COLUMN created_at TIMESTAMPTZ NOT NULL DEFAULT NOW();

-- Each serves the clean-up of what is too old.
CREATE INDEX trials_age ON trials (finished_at);
CREATE INDEX job_outcomes_age ON job_outcomes (created_at);
CREATE INDEX submissions_key_age ON submissions (created_at) WHERE key LIKE 'key:%';
CREATE INDEX submissions_body_age ON submissions (created_at) WHERE key LIKE 'body:%';
CREATE INDEX access_tokens_session_end ON access_tokens (expires_at) WHERE kind = 'session';
CREATE INDEX package_versions_upload_age ON package_versions (published_at) WHERE version LIKE '0.0.0-snapshot.%';

-- Each serves "does a job, a version or a package still need it?", and the foreign key when it goes.
CREATE INDEX test_jobs_snapshot ON test_jobs USING hash (snapshot_id);
CREATE INDEX test_jobs_suite ON test_jobs USING hash (suite_id);
CREATE INDEX test_jobs_package ON test_jobs (package_id);
CREATE INDEX package_versions_suite ON package_versions USING hash (suite_id);
CREATE INDEX package_suites_suite ON package_suites USING hash (suite_id);
