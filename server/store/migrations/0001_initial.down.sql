DROP FUNCTION refuse(TEXT);
DROP FUNCTION can_run_test(UUID);
DROP TABLE workers, submissions, usage_ledger, user_test_usage, trials, job_outcomes, test_jobs, package_test_results,
  package_suites, package_versions, packages, suites, snapshots, access_tokens, users, tiers;
DROP SEQUENCE lease_fence;
