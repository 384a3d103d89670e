DROP TABLE signing_keys;
DROP TABLE base_trials;
DROP TABLE job_baselines;
DROP TABLE history_rows;
DROP TABLE history_jobs;
ALTER TABLE test_jobs DROP COLUMN against;
