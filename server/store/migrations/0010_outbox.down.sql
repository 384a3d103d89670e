DROP TRIGGER test_jobs_tell_at_once ON test_jobs;
DROP TRIGGER test_jobs_tell ON test_jobs;
DROP FUNCTION tell_of_job;
DROP TABLE told_states, outbox, reported_repositories, notify_targets;
DROP SEQUENCE delivery_fence;
