DROP FUNCTION is_public_test, outcome_key;
DROP TABLE cached_outcomes, model_versions, completions;
ALTER TABLE test_jobs DROP COLUMN cached_from, DROP COLUMN use_cache, DROP COLUMN cause;
