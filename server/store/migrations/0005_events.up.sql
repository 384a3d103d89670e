-- What readers of a job's events need: trials in the order in which they were kept, and their scores.

-- The order in which trials were stored. Those of one job are stored one batch after the other, under its lease, so
-- whoever has seen a number misses nothing below it. A clock would not do: it may be set back.
CREATE SEQUENCE trial_order;
-- Not an identity column, which would write every old row anew: those of before count as first, all together.
ALTER TABLE trials ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE trials ALTER COLUMN seq SET DEFAULT NEXTVAL('trial_order');
ALTER TABLE trials ADD COLUMN score DOUBLE PRECISION;

-- Serves a job's trials from a place on.
CREATE INDEX trials_job_order ON trials (job_id, seq);
