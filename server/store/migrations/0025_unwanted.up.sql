-- A forge's change may end without a newer head: its merge group is gone, or it is for another branch now.

ALTER TABLE test_jobs ADD COLUMN unwanted TEXT;
