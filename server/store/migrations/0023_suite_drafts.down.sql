DROP TRIGGER test_jobs_drop_drafts ON test_jobs;
DROP FUNCTION drop_drafts;
DROP TABLE suite_drafts;
