DROP FUNCTION event_key, change_line;
DROP TABLE new_heads;
DROP INDEX submissions_event_age;
DELETE FROM submissions WHERE key LIKE 'event:%';
ALTER TABLE test_jobs DROP COLUMN superseded_by, DROP COLUMN change_line, DROP COLUMN change, DROP COLUMN suite_name;
