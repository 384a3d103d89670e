ALTER TABLE test_jobs DROP COLUMN unwanted;
