DROP INDEX trials_age, job_outcomes_age, submissions_key_age, submissions_body_age, access_tokens_session_end,
  package_versions_upload_age, test_jobs_snapshot, test_jobs_suite, test_jobs_package, package_versions_suite,
  package_suites_suite;
ALTER TABLE job_outcomes DROP COLUMN created_at;
DROP TABLE chores;
