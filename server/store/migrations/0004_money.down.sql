DROP TRIGGER test_jobs_add_up ON test_jobs;
DROP TRIGGER test_jobs_let_go ON test_jobs;
DROP FUNCTION add_up_money;
DROP FUNCTION let_go_of_money;
ALTER TABLE user_test_usage DROP COLUMN held_usd;
ALTER TABLE test_jobs DROP COLUMN held_usd, DROP COLUMN max_cost_usd;
ALTER TABLE users DROP COLUMN money_per_job_usd, DROP COLUMN money_per_month_usd;
ALTER TABLE tiers DROP COLUMN answer_tokens, DROP COLUMN job_seconds, DROP COLUMN money_per_job_usd,
  DROP COLUMN money_per_month_usd;
