DROP INDEX trials_job_order;
ALTER TABLE trials DROP COLUMN score, DROP COLUMN seq;
DROP SEQUENCE trial_order;
