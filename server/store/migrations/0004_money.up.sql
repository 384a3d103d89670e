-- What jobs may cost, what they have cost, and what running ones hold of the month's money.

-- Rows of tiers are copied from server/domain/tiers.py at the end of every migration.
ALTER TABLE tiers
  ADD COLUMN answer_tokens INT NOT NULL DEFAULT 1024,
  ADD COLUMN job_seconds INT NOT NULL DEFAULT 1800,
  ADD COLUMN money_per_job_usd NUMERIC(14, 6) NOT NULL DEFAULT 0,
  ADD COLUMN money_per_month_usd NUMERIC(14, 6) NOT NULL DEFAULT 0;
ALTER TABLE tiers
  ALTER COLUMN answer_tokens DROP DEFAULT,
  ALTER COLUMN job_seconds DROP DEFAULT,
  ALTER COLUMN money_per_job_usd DROP DEFAULT,
  ALTER COLUMN money_per_month_usd DROP DEFAULT;

ALTER TABLE users
  ADD COLUMN money_per_job_usd NUMERIC(14, 6) CHECK (money_per_job_usd >= 0),
  ADD COLUMN money_per_month_usd NUMERIC(14, 6) CHECK (money_per_month_usd >= 0);

ALTER TABLE test_jobs
  ADD COLUMN max_cost_usd NUMERIC(14, 6),
  ADD COLUMN held_usd NUMERIC(14, 6) NOT NULL DEFAULT 0 CHECK (held_usd >= 0);

ALTER TABLE user_test_usage
  ADD COLUMN held_usd NUMERIC(14, 6) NOT NULL DEFAULT 0 CHECK (held_usd >= 0);

-- A job that does not run holds nothing: whatever ends a lease gives back what it held.
CREATE FUNCTION let_go_of_money() RETURNS TRIGGER AS $$
BEGIN
  NEW.held_usd := 0;
  RETURN NEW;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_let_go BEFORE UPDATE ON test_jobs FOR EACH ROW
WHEN (NEW.status <> 'running' AND NEW.held_usd <> 0)
EXECUTE FUNCTION let_go_of_money();

-- What jobs cost and hold is added up in the month that they were charged to, by whichever statement changed it.
-- After the statement, as many of them write the month's row themselves.
CREATE FUNCTION add_up_money() RETURNS TRIGGER AS $$
BEGIN
  UPDATE user_test_usage u SET updated_at = NOW(), held_usd = u.held_usd + NEW.held_usd - OLD.held_usd,
    cost_usd = u.cost_usd + COALESCE(NEW.cost_usd, 0) - COALESCE(OLD.cost_usd, 0)
  FROM usage_ledger l
  WHERE l.job_id = NEW.id AND l.kind IN ('charge', 'cached') AND u.user_id = l.user_id AND u.month = l.month;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_add_up AFTER UPDATE ON test_jobs FOR EACH ROW
WHEN (OLD.held_usd <> NEW.held_usd OR COALESCE(OLD.cost_usd, 0) <> COALESCE(NEW.cost_usd, 0))
EXECUTE FUNCTION add_up_money();
