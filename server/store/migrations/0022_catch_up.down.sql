DROP INDEX linked_repositories_catch_up;
ALTER TABLE linked_repositories DROP COLUMN caught_up_at;
DROP TABLE door_watch;
