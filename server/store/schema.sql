-- The whole schema as the migrations leave it; a test builds both and compares them.

-- What each tier may do. server/domain/tiers.py is the truth; `migrate` copies it here for the statements that need it.
CREATE TABLE tiers (
  name VARCHAR(50) PRIMARY KEY,
  runs_per_month INT,               -- NULL: unlimited
  concurrent_jobs INT NOT NULL,
  start_bonus INTERVAL NOT NULL,    -- how much earlier than its submit a job counts in the queue
  trials_per_job INT NOT NULL,      -- cases times models times repeats, at most
  answer_tokens INT NOT NULL,       -- output tokens of one answer, at most
  job_seconds INT NOT NULL,         -- from a job's first start on
  money_per_job_usd NUMERIC(14, 6) NOT NULL,
  money_per_month_usd NUMERIC(14, 6) NOT NULL
);

-- Accounts: who is billed. An organisation is a row of its own kind.
CREATE TABLE users (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  kind TEXT NOT NULL DEFAULT 'user' CHECK (kind IN ('user', 'organization')),
  username VARCHAR(100) NOT NULL UNIQUE,
  email VARCHAR(255) UNIQUE,
  subscription_tier VARCHAR(50) NOT NULL DEFAULT 'free' REFERENCES tiers (name),
  is_admin BOOLEAN NOT NULL DEFAULT FALSE,
  is_active BOOLEAN NOT NULL DEFAULT TRUE,
  money_per_job_usd NUMERIC(14, 6) CHECK (money_per_job_usd >= 0),      -- NULL: the tier's
  money_per_month_usd NUMERIC(14, 6) CHECK (money_per_month_usd >= 0),  -- NULL: the tier's
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- Who belongs to which organisation. server/domain/rights.py says what each role may do.
CREATE TABLE organization_members (
  org_id UUID NOT NULL REFERENCES users (id),
  user_id UUID NOT NULL REFERENCES users (id),
  role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'maintainer', 'member')),
  joined_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (org_id, user_id)
);

-- Serves the list of a person's organisations.
CREATE INDEX organization_members_user ON organization_members (user_id);

-- Repositories whose workflows may test for an account without a key. One belongs to one account at most.
CREATE TABLE trusted_repositories (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  account_id UUID NOT NULL REFERENCES users (id),
  issuer TEXT NOT NULL,             -- exactly as in its tokens
  forge TEXT NOT NULL,              -- as in a job's change
  repository_id BIGINT NOT NULL,    -- the forge's numbers: names can be registered anew
  owner_id BIGINT NOT NULL,
  repository TEXT NOT NULL,         -- its name, for people; renewed with each exchange
  workflow TEXT,                    -- the only file that may; NULL: any
  events TEXT[] NOT NULL DEFAULT '{}',  -- risky ones that are allowed all the same
  scopes TEXT[] NOT NULL,           -- of the tokens that it gets
  proof TEXT NOT NULL,              -- why it is believed to be the account's
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  UNIQUE (issuer, repository_id)
);

-- Serves the list of an account's repositories.
CREATE INDEX trusted_repositories_account ON trusted_repositories (account_id, created_at);

-- API tokens, revocable JWTs, browser sessions and what workflows exchanged theirs for; only hashes are kept.
CREATE TABLE access_tokens (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL REFERENCES users (id),
  kind TEXT NOT NULL DEFAULT 'api' CHECK (kind IN ('api', 'jwt', 'session', 'oidc')),
  token_hash VARCHAR(64) NOT NULL UNIQUE,  -- hex SHA-256; serves the look-up at each request
  name VARCHAR(100) NOT NULL,
  scopes TEXT[] NOT NULL DEFAULT '{}',
  is_active BOOLEAN NOT NULL DEFAULT TRUE,
  expires_at TIMESTAMPTZ,
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  trust_id UUID REFERENCES trusted_repositories (id) ON DELETE CASCADE,  -- of a workflow: it is for this repository alone
  ref TEXT                  -- that a workflow runs for, as its forge says; a branch by its name
);

-- Serves the list of an account's tokens.
CREATE INDEX access_tokens_user ON access_tokens (user_id, created_at);
-- Serves the clean-up of sessions that ended.
CREATE INDEX access_tokens_session_end ON access_tokens (expires_at) WHERE kind = 'session';
-- Serves the end of a repository's tokens with its trust.
CREATE INDEX access_tokens_trust ON access_tokens (trust_id) WHERE trust_id IS NOT NULL;
-- Serves the clean-up of workflows' tokens that ended.
CREATE INDEX access_tokens_oidc_end ON access_tokens (expires_at) WHERE kind = 'oidc';

-- Tokens of workflows that were exchanged, so that none is twice; kept until they have ended.
CREATE TABLE oidc_exchanges (
  issuer TEXT NOT NULL,
  jti TEXT NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL,  -- with the leeway
  PRIMARY KEY (issuer, jti)
);

-- Serves the clean-up.
CREATE INDEX oidc_exchanges_end ON oidc_exchanges (expires_at);

-- A package's files at one moment, addressed by the SHA-256 of their paths and contents.
CREATE TABLE snapshots (
  id TEXT PRIMARY KEY,
  archive BYTEA NOT NULL,           -- the .tar.gz as it was first sent; empty once only old jobs refer to it
  archive_sha256 TEXT NOT NULL,
  file_count INT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()  -- when it was last sent
);

-- Parsed suites as canonical JSON, addressed by its SHA-256.
CREATE TABLE suites (
  id TEXT PRIMARY KEY,
  body TEXT NOT NULL,
  trials INT NOT NULL DEFAULT 1,     -- that it takes on one model: cases times their repeats
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()  -- when a package last brought it
);

-- Published packages, and the private ones that stand for an account's uploaded snapshots.
CREATE TABLE packages (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  owner_id UUID NOT NULL REFERENCES users (id),
  name VARCHAR(255) NOT NULL,       -- scope included
  description TEXT NOT NULL DEFAULT '',
  format TEXT NOT NULL,
  subtype TEXT NOT NULL DEFAULT 'rule',
  visibility TEXT NOT NULL DEFAULT 'public' CHECK (visibility IN ('public', 'private')),
  is_published BOOLEAN NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- A published name belongs to one package; serves the look-up by name.
CREATE UNIQUE INDEX packages_published_name ON packages (name) WHERE is_published;
-- An unpublished name belongs to its account alone, so nobody can squat another's.
CREATE UNIQUE INDEX packages_snapshot_name ON packages (owner_id, name) WHERE NOT is_published;

-- What was published or uploaded when, and what a job needs to know of it.
CREATE TABLE package_versions (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  package_id UUID NOT NULL REFERENCES packages (id),
  version VARCHAR(50) NOT NULL,
  snapshot_id TEXT NOT NULL REFERENCES snapshots (id),
  manifest TEXT NOT NULL,           -- JSON, as in the package
  suite_id TEXT REFERENCES suites (id),  -- NULL: the package brings none
  suite_path TEXT,
  suite_error TEXT,                 -- why the suite that it brings cannot be used
  published_by UUID NOT NULL REFERENCES users (id),
  published_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  UNIQUE (package_id, version)
);

-- Serves "latest", which is the newest published.
CREATE INDEX package_versions_latest ON package_versions (package_id, published_at);
-- Serves the run of a snapshot by its id.
CREATE INDEX package_versions_snapshot ON package_versions (snapshot_id);
-- Serves the clean-up of uploaded folders.
CREATE INDEX package_versions_upload_age ON package_versions (published_at) WHERE version LIKE '0.0.0-snapshot.%';
-- Serves "does a version need this suite?".
CREATE INDEX package_versions_suite ON package_versions USING hash (suite_id);

-- Suites that an owner stored for a package; the newest counts.
CREATE TABLE package_suites (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  package_id UUID NOT NULL REFERENCES packages (id),
  suite_id TEXT NOT NULL REFERENCES suites (id),
  stored_by UUID NOT NULL REFERENCES users (id),
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- Serves the newest suite of a package.
CREATE INDEX package_suites_newest ON package_suites (package_id, id);
-- Serves "does a package need this suite?".
CREATE INDEX package_suites_suite ON package_suites USING hash (suite_id);

-- Suites that a model wrote for packages without one: for an account's jobs on the same files.
CREATE TABLE generated_suites (
  snapshot_id TEXT NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
  account_id UUID NOT NULL REFERENCES users (id),
  suite_id TEXT NOT NULL REFERENCES suites (id) ON DELETE CASCADE,
  trials INT NOT NULL,              -- on one model
  model TEXT NOT NULL,              -- that wrote it
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (snapshot_id, account_id)
);

-- Serves the clean-up of suites.
CREATE INDEX generated_suites_suite ON generated_suites USING hash (suite_id);

-- Results that were uploaded for people to see.
CREATE TABLE package_test_results (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  package_id UUID NOT NULL REFERENCES packages (id),
  package_version VARCHAR(50) NOT NULL,
  job_id UUID NOT NULL UNIQUE,      -- one result a job, however often its completion is tried
  uploaded_by UUID NOT NULL REFERENCES users (id),
  models TEXT[] NOT NULL,
  conclusion TEXT NOT NULL,
  summary TEXT NOT NULL,            -- JSON, as `results` of the job
  is_verified BOOLEAN NOT NULL DEFAULT FALSE,
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- Serves the list of a package's results, newest first.
CREATE INDEX package_test_results_package ON package_test_results (package_id, created_at);

-- Tells a lease's holder from one that came before.
CREATE SEQUENCE lease_fence;

-- Test job queue
CREATE TABLE test_jobs (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL REFERENCES users (id),          -- who is billed
  submitted_by UUID NOT NULL,                           -- who asked: a person, a token's account or a trusted repository
  package_id UUID NOT NULL REFERENCES packages (id),
  package_version VARCHAR(50) NOT NULL,                 -- text: survives an unpublish

  -- Test configuration
  snapshot_id TEXT NOT NULL REFERENCES snapshots (id),
  suite_id TEXT NOT NULL REFERENCES suites (id),
  suite_source TEXT NOT NULL,                           -- request, package, stored, registry, generated
  models_requested TEXT[] NOT NULL,
  plugins_requested TEXT[],
  framework VARCHAR(50) NOT NULL,                       -- what runs: litellm, claude-agent
  upload_results BOOLEAN NOT NULL DEFAULT FALSE,
  verify_results BOOLEAN NOT NULL DEFAULT FALSE,
  trials_total INT NOT NULL,

  -- Job status: queued -> running -> completed | failed; running -> queued when a lease runs out
  status VARCHAR(50) NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'completed', 'failed')),
  priority INT NOT NULL DEFAULT 0,
  start_key TIMESTAMPTZ NOT NULL,                       -- created_at less the tier's bonus: the order of starting
  attempt INT NOT NULL DEFAULT 0,
  next_run_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  lease_owner TEXT,
  lease_until TIMESTAMPTZ,
  fence BIGINT,
  deadline_at TIMESTAMPTZ,                              -- the tier's time from the first start on
  cancel_requested_at TIMESTAMPTZ,                      -- its worker looks each second

  -- Results
  test_result_id UUID REFERENCES package_test_results (id),
  conclusion TEXT CHECK (conclusion IN ('passed', 'failed', 'inconclusive')),
  results TEXT,                                         -- JSON, the outcome's summary
  error_code TEXT,
  error_message TEXT,

  -- Timing
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  started_at TIMESTAMPTZ,
  completed_at TIMESTAMPTZ,

  -- Usage tracking
  tokens_used BIGINT,
  cost_usd NUMERIC(14, 6),                              -- so far, while it runs
  max_cost_usd NUMERIC(14, 6),                          -- asked for by its submit; the account's cap holds too
  held_usd NUMERIC(14, 6) NOT NULL DEFAULT 0 CHECK (held_usd >= 0),  -- of the month's money, for calls to come

  -- What the submit was answered, so that a repeated one gets the same bytes
  submit_position INT NOT NULL,                         -- 0: not counted
  submit_wait_seconds INT NOT NULL,
  submit_runs_used INT NOT NULL,
  submit_run_limit INT,
  submit_tier VARCHAR(50) NOT NULL,
  submit_money_level SMALLINT NOT NULL DEFAULT 0,       -- per cent of the month's money, as warning_level() says

  -- Caches: what exists to see drift asks every model anew
  cause TEXT NOT NULL DEFAULT 'submit' CHECK (cause IN ('submit', 'schedule', 'baseline', 'rerun')),
  use_cache BOOLEAN NOT NULL DEFAULT TRUE,
  cached_from UUID REFERENCES test_jobs (id),           -- the job whose outcome this one shows; it never ran itself

  -- What it tests on a forge
  suite_name TEXT NOT NULL DEFAULT 'default',           -- tells a package's suites apart
  change JSONB,                                         -- of domain.changes.Change
  change_line TEXT,                                     -- by change_line(): heads that follow each other
  superseded_by UUID REFERENCES test_jobs (id),         -- the job of a newer head, that ended this one
  against JSONB,                                        -- of domain.baselines.Against: what it is compared with, and gates
  report JSONB,                                         -- of domain.reporting.ReportSettings; NULL: as by default
  unwanted TEXT,                                        -- why nobody waits for it any more though no newer head came
  CONSTRAINT test_jobs_fresh CHECK (cause = 'submit' OR NOT use_cache AND cached_from IS NULL)
);

-- Serves lists by status.
CREATE INDEX idx_test_jobs_status ON test_jobs (status, created_at);
-- Serves an account's jobs, newest first.
CREATE INDEX idx_test_jobs_user ON test_jobs (user_id, created_at);
-- Serves the claim of an account's head, and the next head, without reading its tail.
CREATE INDEX test_jobs_heads ON test_jobs (user_id, start_key) WHERE status = 'queued';
-- Serves the position in the queue.
CREATE INDEX test_jobs_order ON test_jobs (start_key) WHERE status = 'queued';
-- Serves the count of live leases of an account, and the sweep of expired ones.
CREATE INDEX test_jobs_leases ON test_jobs (user_id, lease_until) WHERE status = 'running';
-- Each serves "does a job need it?" in the clean-up. No hash indexes: one value in very many rows makes each insert of a
-- hash index walk all of them.
CREATE INDEX test_jobs_snapshot ON test_jobs (snapshot_id);
CREATE INDEX test_jobs_suite ON test_jobs (suite_id);
CREATE INDEX test_jobs_package ON test_jobs (package_id);
-- Serves the newest head of a line, and what is older.
CREATE INDEX test_jobs_lines ON test_jobs (user_id, change_line, created_at) WHERE change_line IS NOT NULL;

-- Accounts with waiting jobs: their heads in the order of starting, and how much waits. The triggers below keep it equal
-- to test_jobs, whichever statement lets a job wait or go.
CREATE TABLE waiting_accounts (
  user_id UUID PRIMARY KEY,
  start_key TIMESTAMPTZ NOT NULL,   -- of its head
  jobs BIGINT NOT NULL CHECK (jobs >= 0),
  trials BIGINT NOT NULL,           -- of these jobs
  due_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP() + INTERVAL '10 minutes'  -- goes first then, if none has started
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Serves the claim: the oldest heads, without reading what waits behind them.
CREATE INDEX waiting_accounts_order ON waiting_accounts (start_key);
-- Serves the claim: who had no start for too long.
CREATE INDEX waiting_accounts_due ON waiting_accounts (due_at);

-- New jobs wait. One statement for all rows of a submit, accounts in order, so that two of them cannot deadlock.
CREATE FUNCTION enter_queue() RETURNS TRIGGER AS $$
BEGIN
  INSERT INTO waiting_accounts AS w (user_id, start_key, jobs, trials)
  SELECT n.user_id, MIN(n.start_key), COUNT(*), SUM(n.trials_total) FROM new_jobs n WHERE n.status = 'queued'
  GROUP BY n.user_id ORDER BY n.user_id
  ON CONFLICT (user_id) DO UPDATE SET start_key = LEAST(w.start_key, EXCLUDED.start_key),
    jobs = w.jobs + EXCLUDED.jobs, trials = w.trials + EXCLUDED.trials;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_enter AFTER INSERT ON test_jobs REFERENCING NEW TABLE AS new_jobs
FOR EACH STATEMENT EXECUTE FUNCTION enter_queue();

-- Jobs that were claimed or cancelled go, jobs that are given back wait again. The account's row is changed first, which
-- waits for whoever changes it too; the next statement then sees every job that the row counts.
CREATE FUNCTION move_in_queue() RETURNS TRIGGER AS $$
DECLARE
  move RECORD;
BEGIN
  FOR move IN
    SELECT m.user_id, SUM(m.jobs)::BIGINT AS jobs, SUM(m.trials)::BIGINT AS trials,
      MIN(m.start_key) FILTER (WHERE m.jobs > 0) AS start_key
    FROM (
      SELECT user_id, start_key, 1 AS jobs, trials_total AS trials FROM new_jobs WHERE status = 'queued'
      UNION ALL
      SELECT user_id, start_key, -1, -trials_total FROM old_jobs WHERE status = 'queued'
    ) m
    GROUP BY m.user_id ORDER BY m.user_id
  LOOP
    UPDATE waiting_accounts SET jobs = jobs + move.jobs, trials = trials + move.trials WHERE user_id = move.user_id;
    IF NOT FOUND AND move.jobs > 0 THEN
      -- Nothing of it waited; another may let it wait in this moment.
      INSERT INTO waiting_accounts AS w (user_id, start_key, jobs, trials)
      VALUES (move.user_id, move.start_key, move.jobs, move.trials)
      ON CONFLICT (user_id) DO UPDATE SET jobs = w.jobs + EXCLUDED.jobs, trials = w.trials + EXCLUDED.trials;
    END IF;
    DELETE FROM waiting_accounts WHERE user_id = move.user_id AND jobs = 0;
    UPDATE waiting_accounts w SET start_key = head.start_key
    FROM (
      SELECT j.start_key FROM test_jobs j WHERE j.user_id = move.user_id AND j.status = 'queued'
      ORDER BY j.start_key LIMIT 1
    ) head
    WHERE w.user_id = move.user_id AND w.start_key <> head.start_key;
  END LOOP;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_move AFTER UPDATE ON test_jobs REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs
FOR EACH STATEMENT EXECUTE FUNCTION move_in_queue();

-- An operator removes jobs by hand, if anybody.
CREATE FUNCTION leave_queue() RETURNS TRIGGER AS $$
BEGIN
  DELETE FROM waiting_accounts w USING old_jobs o WHERE w.user_id = o.user_id AND o.status = 'queued';
  INSERT INTO waiting_accounts (user_id, start_key, jobs, trials)
  SELECT j.user_id, MIN(j.start_key), COUNT(*), SUM(j.trials_total) FROM test_jobs j
  WHERE j.status = 'queued' AND j.user_id IN (SELECT o.user_id FROM old_jobs o WHERE o.status = 'queued')
  GROUP BY j.user_id ORDER BY j.user_id;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_leave AFTER DELETE ON test_jobs REFERENCING OLD TABLE AS old_jobs
FOR EACH STATEMENT EXECUTE FUNCTION leave_queue();

-- queued -> running: the next job in the order of starting is held by `owner`; no row when none may start.
-- Accounts with a free slot, first those that are due, then by (head, least running); then the head. Whoever is in the
-- way with a lock is passed by.
-- A function, as each of its statements sees what was committed before it: an account's live leases are counted after
-- its row is locked (in one statement they are counted before, which breaks the limit); and as no lock is held while a
-- client that may be frozen is on turn. It walks past accounts that are full, never past waiting jobs. The settings
-- keep the planner on the indexes while the tables' statistics are behind.
CREATE FUNCTION claim_next_job(owner TEXT, lease_seconds FLOAT8, job_seconds FLOAT8)
RETURNS TABLE (job_id UUID, job_fence BIGINT, job_attempt INT, seconds_left FLOAT8) AS $$
DECLARE
  account RECORD;
BEGIN
  FOR account IN
    -- A lease that ran out counts until the sweep has taken it back: its holder may only have been frozen, and extend it.
    -- Whoever waits and had no start for ten minutes, the longest first. (The two lists are read in this order. An index is
    -- asked only for what stays the same within a statement, as this clock does.)
    (SELECT w.user_id AS id, GREATEST(t.concurrent_jobs, 1) AS slots
    FROM waiting_accounts w
    JOIN users a ON a.id = w.user_id
    JOIN tiers t ON t.name = a.subscription_tier
    WHERE w.due_at <= STATEMENT_TIMESTAMP() AND (
      SELECT COUNT(*) FROM test_jobs r
      WHERE r.user_id = w.user_id AND r.status = 'running'
    ) < GREATEST(t.concurrent_jobs, 1)
    ORDER BY w.due_at
    LIMIT 4)
    UNION ALL
    -- A lapsed subscription has no slots; its queued jobs finish one by one.
    (SELECT w.user_id AS id, GREATEST(t.concurrent_jobs, 1) AS slots
    FROM waiting_accounts w
    JOIN users a ON a.id = w.user_id
    JOIN tiers t ON t.name = a.subscription_tier
    CROSS JOIN LATERAL (
      SELECT COUNT(*) AS jobs FROM test_jobs r
      WHERE r.user_id = w.user_id AND r.status = 'running'
    ) running
    WHERE running.jobs < GREATEST(t.concurrent_jobs, 1)
    ORDER BY w.start_key, running.jobs
    LIMIT 8)
  LOOP
    -- NO KEY, as a submit's foreign key must not wait for it.
    PERFORM FROM users a WHERE a.id = account.id FOR NO KEY UPDATE SKIP LOCKED;
    CONTINUE WHEN NOT FOUND;
    RETURN QUERY
    UPDATE test_jobs c SET status = 'running', attempt = c.attempt + 1, fence = NEXTVAL('lease_fence'), lease_owner = owner,
      lease_until = CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => lease_seconds),
      started_at = COALESCE(c.started_at, CLOCK_TIMESTAMP()),
      deadline_at = COALESCE(c.deadline_at, CLOCK_TIMESTAMP() + MAKE_INTERVAL(secs => LEAST(
        job_seconds, (SELECT t.job_seconds FROM tiers t WHERE t.name = c.submit_tier)
      )))
    WHERE c.id = (
      SELECT j.id FROM test_jobs j
      WHERE j.user_id = account.id AND j.status = 'queued' AND j.next_run_at <= NOW()
      ORDER BY j.start_key LIMIT 1
      FOR UPDATE SKIP LOCKED
    ) AND c.status = 'queued' AND (
      SELECT COUNT(*) FROM test_jobs r
      WHERE r.user_id = account.id AND r.status = 'running'
    ) < account.slots
    RETURNING c.id, c.fence, c.attempt, EXTRACT(EPOCH FROM c.deadline_at - CLOCK_TIMESTAMP())::FLOAT8;
    IF FOUND THEN
      UPDATE waiting_accounts w SET due_at = CLOCK_TIMESTAMP() + INTERVAL '10 minutes' WHERE w.user_id = account.id;
      RETURN;
    END IF;
  END LOOP;
END;
$$ LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off;

-- How many waiting jobs count earlier than one that comes now with this bonus; NULL where that takes too long to count.
-- A short queue is counted from its front, by test_jobs_order. Of a long one, what counts later is taken from all that
-- wait, as a new job stands near the end. A function for its settings: while the tables' statistics are behind, the
-- planner would sort or scan a long queue that it takes for an empty one. STABLE: it sees what its statement sees.
CREATE FUNCTION count_earlier(bonus INTERVAL) RETURNS BIGINT AS $$
DECLARE
  seen BIGINT;
  earlier BIGINT;
BEGIN
  SELECT COUNT(*), COUNT(*) FILTER (WHERE front.start_key <= NOW() - bonus) INTO seen, earlier
  FROM (SELECT j.start_key FROM test_jobs j WHERE j.status = 'queued' ORDER BY j.start_key LIMIT 40) front;
  IF seen < 40 THEN
    RETURN earlier;
  END IF;
  RETURN (
    SELECT CASE WHEN COUNT(*) <= 2000 THEN SUM(w.jobs) END
    FROM (SELECT a.jobs FROM waiting_accounts a LIMIT 2001) w
  ) - (
    SELECT CASE WHEN COUNT(*) < 1000 THEN COUNT(*) END FROM (
      SELECT FROM test_jobs j WHERE j.status = 'queued' AND j.start_key > NOW() - bonus ORDER BY j.start_key LIMIT 1000
    ) later
  );
END;
$$ LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off;

-- What every finished job found, whole.
CREATE TABLE job_outcomes (
  job_id UUID PRIMARY KEY REFERENCES test_jobs (id),
  outcome TEXT NOT NULL,            -- JSON text, as jsonb refuses the NUL that a model may answer
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- Serves the clean-up of old answers.
CREATE INDEX job_outcomes_age ON job_outcomes (created_at);

-- The order in which trials are stored; a clock may be set back.
CREATE SEQUENCE trial_order;

-- One case on one model once. A later lease finds these and does not run them again.
CREATE TABLE trials (
  job_id UUID NOT NULL REFERENCES test_jobs (id),
  case_index INT NOT NULL,
  model TEXT NOT NULL,
  repeat_index INT NOT NULL,
  state TEXT NOT NULL,
  body TEXT NOT NULL,               -- JSON of evals.types.Trial
  fence BIGINT NOT NULL,            -- the lease that wrote it
  finished_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  seq BIGINT NOT NULL DEFAULT NEXTVAL('trial_order'),  -- those of one job grow as they are committed; 0: older than this column
  score DOUBLE PRECISION,           -- NULL: older than this column
  PRIMARY KEY (job_id, case_index, model, repeat_index)
);

-- Serves a job's trials from a place on, for readers of its events.
CREATE INDEX trials_job_order ON trials (job_id, seq);

-- Serves the clean-up of old trials.
CREATE INDEX trials_age ON trials (finished_at);

-- Finished jobs whose trials later comparisons may count.
CREATE TABLE history_jobs (
  job_id UUID PRIMARY KEY REFERENCES test_jobs (id),
  user_id UUID NOT NULL,
  package_name TEXT NOT NULL,
  suite_name TEXT NOT NULL,
  repository TEXT,                  -- forge and number, as 'github:7'; NULL: the job tested no change
  branch TEXT,                      -- NULL: the job tested no branch's head
  version TEXT,                     -- NULL: the job tested no published version
  ended_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP()
);

-- Serves a package's history, newest first.
CREATE INDEX history_jobs_package ON history_jobs (user_id, package_name, ended_at, job_id);
-- Serves the newest job of a branch, whose files and suite are the base.
CREATE INDEX history_jobs_branch ON history_jobs (user_id, package_name, branch, ended_at) WHERE branch IS NOT NULL;
-- Serves the clean-up.
CREATE INDEX history_jobs_age ON history_jobs (ended_at);

-- What one row of such a job brings: trials that were chance, and nothing else.
CREATE TABLE history_rows (
  job_id UUID NOT NULL REFERENCES history_jobs (job_id) ON DELETE CASCADE,
  case_index INT NOT NULL,
  model TEXT NOT NULL,
  title TEXT NOT NULL,
  case_digest TEXT NOT NULL,        -- what was asked, as in evals.digests
  passed INT NOT NULL,
  failed INT NOT NULL,
  user_id UUID NOT NULL,
  package_name TEXT NOT NULL,
  branch_key TEXT,                  -- repository and branch, as 'github:7 main'
  version TEXT,
  ended_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  PRIMARY KEY (job_id, case_index, model)
);

-- Each serves the newest trials of one question on one model, without reading any other's.
CREATE INDEX history_rows_branch ON history_rows (user_id, package_name, branch_key, model, case_digest, ended_at)
WHERE branch_key IS NOT NULL;
CREATE INDEX history_rows_version ON history_rows (user_id, package_name, version, model, case_digest, ended_at)
WHERE version IS NOT NULL;

-- What a running job is compared with, fixed when its first run is over: whoever goes on with it compares with the same.
CREATE TABLE job_baselines (
  job_id UUID PRIMARY KEY REFERENCES test_jobs (id),
  body TEXT NOT NULL                -- JSON of domain.baselines.FixedBaseline
);

-- Trials of the package as it was, made for a job whose baseline knew too little.
CREATE TABLE base_trials (
  job_id UUID NOT NULL REFERENCES test_jobs (id),
  case_index INT NOT NULL,
  model TEXT NOT NULL,
  repeat_index INT NOT NULL,
  body TEXT NOT NULL,               -- JSON of evals.types.Trial
  finished_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  PRIMARY KEY (job_id, case_index, model, repeat_index)
);

-- Serves the clean-up.
CREATE INDEX base_trials_age ON base_trials (finished_at);

-- Public keys that this service signs or has signed with. Private ones are never stored.
CREATE TABLE signing_keys (
  public_key TEXT PRIMARY KEY,      -- 64 hex digits
  since TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  seen_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- What models answered, to be answered again without asking. Keyed by all that decides the answer.
CREATE TABLE completions (
  key BYTEA NOT NULL,               -- SHA-256 of deployment, messages, parameters, sample and engine version
  account_id UUID NOT NULL REFERENCES users (id),  -- who paid for it
  is_shared BOOLEAN NOT NULL,       -- asked for by the suite of a public package: others with the same may have it
  deployment TEXT NOT NULL,         -- fingerprint
  version TEXT NOT NULL,            -- that the deployment said it was
  body TEXT NOT NULL,               -- JSON of evals.types.Completion
  created_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),  -- when it was asked for
  PRIMARY KEY (key, account_id)
);

-- Serves the clean-up.
CREATE INDEX completions_age ON completions (created_at);

-- What each deployment last said that it was: an alias may stand for another model from one day to the next.
CREATE TABLE model_versions (
  deployment TEXT PRIMARY KEY,      -- fingerprint
  version TEXT NOT NULL,
  since TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP()
);

-- Outcomes in which every row has a verdict, for jobs that would come to the same.
CREATE TABLE cached_outcomes (
  key BYTEA NOT NULL,               -- by outcome_key()
  account_id UUID NOT NULL REFERENCES users (id),  -- who paid for it
  is_shared BOOLEAN NOT NULL,       -- as of completions
  job_id UUID NOT NULL REFERENCES test_jobs (id),  -- that ran it
  conclusion TEXT NOT NULL,
  results TEXT NOT NULL,            -- JSON, the summary as a job that is answered by it shows it
  deployments TEXT[] NOT NULL,      -- fingerprints of all that answered or judged
  versions TEXT[] NOT NULL,         -- what each of them said that it was
  created_at TIMESTAMPTZ NOT NULL,  -- when its oldest answer was asked for
  PRIMARY KEY (key, account_id)
);

-- Serves the clean-up.
CREATE INDEX cached_outcomes_age ON cached_outcomes (created_at);

-- Usage tracking for prpm+ limits: a sum of the ledger, kept beside it for the submit's one statement.
CREATE TABLE user_test_usage (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL REFERENCES users (id),
  month DATE NOT NULL,              -- first day of the month, UTC
  test_runs_count INT NOT NULL DEFAULT 0 CHECK (test_runs_count >= 0),
  tokens_used BIGINT NOT NULL DEFAULT 0,
  cost_usd NUMERIC(14, 6) NOT NULL DEFAULT 0,      -- the sum of its jobs'
  held_usd NUMERIC(14, 6) NOT NULL DEFAULT 0 CHECK (held_usd >= 0),  -- the sum of what its running jobs hold
  updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  UNIQUE (user_id, month)
);

-- What an account is told once a month and level: by the submit that reaches it, and by whoever sends what `told_at` lacks.
CREATE TABLE account_warnings (
  account_id UUID NOT NULL REFERENCES users (id),
  month DATE NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('runs', 'money')),
  level SMALLINT NOT NULL CHECK (level IN (50, 80, 100)),  -- per cent
  used NUMERIC(14, 6) NOT NULL,     -- runs or USD, at that moment
  most NUMERIC(14, 6) NOT NULL,     -- runs or USD a month
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  told_at TIMESTAMPTZ,              -- NULL: nobody was told yet
  PRIMARY KEY (account_id, month, kind, level)
);

-- Serves whoever tells of them.
CREATE INDEX account_warnings_untold ON account_warnings (created_at) WHERE told_at IS NULL;

-- Why each count is what it is; rows are only ever added.
CREATE TABLE usage_ledger (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id UUID NOT NULL REFERENCES test_jobs (id),
  user_id UUID NOT NULL,            -- the job's
  month DATE NOT NULL,              -- of acceptance; a refund goes to the same one
  kind TEXT NOT NULL CHECK (kind IN ('charge', 'cached', 'refund')),
  runs INT NOT NULL,                -- charge 1, cached 0, refund -1
  reason TEXT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- Exactly one entry of acceptance a job.
CREATE UNIQUE INDEX usage_ledger_acceptance ON usage_ledger (job_id) WHERE kind IN ('charge', 'cached');
-- At most one refund a job.
CREATE UNIQUE INDEX usage_ledger_refund ON usage_ledger (job_id) WHERE kind = 'refund';
-- Serves an account's ledger by month.
CREATE INDEX usage_ledger_user ON usage_ledger (user_id, month, id);

-- Which job answered which submit: by the caller's key, by a change's event, or by the hash of an equal body within
-- seconds.
-- No foreign keys: the one statement that writes here writes the job too, and rows live for days at most.
CREATE TABLE submissions (
  caller_id UUID NOT NULL,
  key TEXT NOT NULL,                -- 'key:' and the Idempotency-Key, 'event:' or 'body:' and a hash
  request_sha256 TEXT NOT NULL,
  job_id UUID NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (caller_id, key)
);

-- Serve the clean-up: events count for months, callers' keys for days, bodies for seconds.
CREATE INDEX submissions_event_age ON submissions (created_at) WHERE key LIKE 'event:%';
CREATE INDEX submissions_key_age ON submissions (created_at) WHERE key LIKE 'key:%';
CREATE INDEX submissions_body_age ON submissions (created_at) WHERE key LIKE 'body:%';

-- Workers as they announce themselves; the API reads here which models can be reached, and holds no vendor's key.
CREATE TABLE workers (
  id TEXT PRIMARY KEY,
  slots INT NOT NULL,
  mean_job_seconds DOUBLE PRECISION NOT NULL,
  models TEXT NOT NULL,             -- JSON, a list of evals.catalogue.ModelInfo
  started_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  seen_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  seconds_per_job DOUBLE PRECISION NOT NULL DEFAULT 0,   -- a job of n trials takes about this + n * seconds_per_trial
  seconds_per_trial DOUBLE PRECISION NOT NULL DEFAULT 0
);

-- Work that one worker does for all, at its time.
CREATE TABLE chores (
  name TEXT PRIMARY KEY,
  due_at TIMESTAMPTZ NOT NULL       -- who moves it on has the turn
);

-- Whether an account could start a run now. For people and reports: the submit decides by its own atomic statement.
CREATE FUNCTION can_run_test(user_uuid UUID) RETURNS BOOLEAN AS $$
  SELECT COALESCE((
    SELECT t.runs_per_month IS NULL OR COALESCE(u.test_runs_count, 0) < t.runs_per_month
    FROM users a
    JOIN tiers t ON t.name = a.subscription_tier
    LEFT JOIN user_test_usage u
      ON u.user_id = a.id AND u.month = DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE
    WHERE a.id = user_uuid AND a.is_active
  ), FALSE);
$$ LANGUAGE sql STABLE;

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

-- Jobs of a new head, until what was under way for older ones is ended. No foreign key: written with the job itself.
CREATE TABLE new_heads (
  job_id UUID PRIMARY KEY,
  user_id UUID NOT NULL,
  change_line TEXT NOT NULL
);

-- Heads that follow each other: one pull request, or else one ref, tested by one suite of one package. NULL: no change.
CREATE FUNCTION change_line(change JSONB, package TEXT, suite_name TEXT) RETURNS TEXT AS $$
  SELECT ENCODE(SHA256(CONVERT_TO(JSONB_BUILD_ARRAY(
    change -> 'forge', change -> 'repository_id', change -> 'pull_request',
    CASE WHEN change -> 'pull_request' IS NULL THEN change -> 'ref' END, package, suite_name
  )::TEXT, 'UTF8')), 'hex') WHERE change IS NOT NULL;
$$ LANGUAGE sql STABLE;

-- One event: a head of a line, and why it is tested. Who tells of it again gets the same job.
CREATE FUNCTION event_key(line TEXT, change JSONB) RETURNS TEXT AS $$
  SELECT 'event:' || ENCODE(SHA256(CONVERT_TO(
    JSONB_BUILD_ARRAY(line, change -> 'head_sha', change -> 'cause')::TEXT, 'UTF8'
  )), 'hex');
$$ LANGUAGE sql STABLE;

-- Where an account wants to be told of its jobs. What leads there is a secret, so it is kept encrypted.
CREATE TABLE notify_targets (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  account_id UUID NOT NULL REFERENCES users (id),
  kind TEXT NOT NULL,                   -- a notifier's name
  package_glob TEXT NOT NULL DEFAULT '*' CHECK (package_glob ~ '^[a-z0-9@/*?-]{1,214}$'),
  mode TEXT NOT NULL CHECK (mode IN ('changes', 'failures', 'always')),
  sealed BYTEA NOT NULL,                -- of services.sealing.Sealer: address and signing secret
  address_mac BYTEA NOT NULL,           -- tells equal addresses without opening them
  shown TEXT NOT NULL,                  -- the address as people may see it
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  hold_until TIMESTAMPTZ,               -- nothing is sent before: the other side's rate
  stopped_at TIMESTAMPTZ,               -- active -> stopped by what the other side said; -> active by its owner
  stopped_reason TEXT,
  CHECK ((stopped_at IS NULL) = (stopped_reason IS NULL)),
  -- Adding the same twice is no second message; serves the list of an account's targets and what a job has to tell.
  UNIQUE (account_id, kind, address_mac, package_glob)
);

-- Repositories in which the service itself reports, by its App; in all others the workflow's Action does.
CREATE TABLE reported_repositories (
  forge TEXT NOT NULL,
  repository_id BIGINT NOT NULL,
  account_id UUID NOT NULL REFERENCES users (id),
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (forge, repository_id)
);

-- Numbers the leases of deliveries.
CREATE SEQUENCE delivery_fence;

-- What is to be told, and what became of it. pending -> sent, quiet (no news) or dead; dead -> pending by an operator.
CREATE TABLE outbox (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dedupe_key TEXT NOT NULL UNIQUE,      -- one row for an event and a target, however often it is written
  lane TEXT NOT NULL,                   -- rows of one lane are delivered one after the other
  account_id UUID NOT NULL REFERENCES users (id),
  target_id UUID REFERENCES notify_targets (id) ON DELETE CASCADE,  -- NULL: the forge of the job's change
  event TEXT NOT NULL CHECK (event IN ('job', 'warning', 'check', 'state', 'head')),
  job_id UUID REFERENCES test_jobs (id),
  facts JSONB,                          -- domain.notifications.Warned; domain.reporting.CheckState of a state, and Head of a head
  state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'quiet', 'dead')),
  attempts INT NOT NULL DEFAULT 0,
  next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  lease_until TIMESTAMPTZ,
  fence BIGINT,
  last_status INT,                      -- of HTTP, if there was an answer
  last_error TEXT,                      -- in words of ours
  created_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  settled_at TIMESTAMPTZ,
  news INT NOT NULL DEFAULT 0,          -- grows with each change of what a forge's row shows
  again_at TIMESTAMPTZ,                 -- settled -> pending then, though nothing is written
  CHECK ((event = 'job') = (job_id IS NOT NULL)),
  CHECK ((state = 'pending') = (settled_at IS NULL))
);

-- Serves the next lane, its head, and what waits behind it.
CREATE INDEX outbox_lanes ON outbox (lane, id) WHERE state = 'pending';
-- Serves the deliveries of a target, newest first, and the end of its pending ones.
CREATE INDEX outbox_target ON outbox (target_id, id);
-- Serves the operator's list of what could not be told.
CREATE INDEX outbox_dead ON outbox (id) WHERE state = 'dead';
-- Serves the clean-up.
CREATE INDEX outbox_settled ON outbox (settled_at) WHERE state <> 'pending';
-- Serves the look for what is due again.
CREATE INDEX outbox_again ON outbox (again_at) WHERE again_at IS NOT NULL;

-- What a target was told last of one subject: a pull request or branch with a package's suite, else the suite alone.
CREATE TABLE told_states (
  target_id UUID NOT NULL REFERENCES notify_targets (id) ON DELETE CASCADE,
  subject TEXT NOT NULL,
  conclusion TEXT CHECK (conclusion IN ('passed', 'failed')),  -- NULL: none yet
  accepted_at TIMESTAMPTZ NOT NULL,     -- of the job that it comes from
  message_id TEXT,                      -- where the platform can edit what was posted
  told_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (target_id, subject)
);

-- Names the row of the outbox that is the sum of what is known of a commit.
CREATE FUNCTION head_key(change JSONB) RETURNS TEXT AS $$
  SELECT 'head:' || (change ->> 'forge') || ':' || (change ->> 'repository_id') || ':' || (change ->> 'head_sha');
$$ LANGUAGE sql STABLE;

-- Commits of which a job is accepted, starts or ends: their sums are no longer true. Rows are only added here, beside the
-- job's change, as many jobs of a commit would wait for each other at the one row of its sum, or in a circle at those of
-- several; who tells moves them on. No foreign keys, and no index but the order: it is read from its front and emptied.
CREATE TABLE head_news (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  head TEXT NOT NULL                    -- by head_key()
);

-- What the forge shows of a job is no longer true, nor what it shows of its commit. One row a job, that is pending again
-- with each change: who tells it reads the job as it is then. What the forge asked to wait for is still waited for. By
-- primary key and unique key.
CREATE FUNCTION report_job(job test_jobs) RETURNS VOID AS $$
  WITH reported AS (
    SELECT FROM reported_repositories r
    WHERE r.forge = job.change ->> 'forge' AND r.repository_id = (job.change ->> 'repository_id')::BIGINT
      AND r.account_id = job.user_id
  ), told AS (
    INSERT INTO head_news (head) SELECT head_key(job.change) FROM reported
  )
  INSERT INTO outbox AS o (dedupe_key, lane, account_id, event, job_id)
  SELECT 'job:' || job.id || ':forge', 'forge:' || job.change_line, job.user_id, 'job', job.id
  FROM reported
  ON CONFLICT (dedupe_key) DO UPDATE SET state = 'pending', settled_at = NULL, news = o.news + 1, again_at = NULL,
    attempts = 0, lane = EXCLUDED.lane,
    next_at = CASE WHEN o.state = 'pending' AND o.last_status IN (403, 429) THEN o.next_at ELSE NOW() END;
$$ LANGUAGE sql;

CREATE FUNCTION report_of_job() RETURNS TRIGGER AS $$
BEGIN
  PERFORM report_job(NEW);
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_report AFTER INSERT ON test_jobs FOR EACH ROW
WHEN (NEW.change IS NOT NULL AND NEW.status = 'queued')
EXECUTE FUNCTION report_of_job();

CREATE TRIGGER test_jobs_report_start AFTER UPDATE OF status ON test_jobs FOR EACH ROW
WHEN (NEW.change IS NOT NULL AND OLD.status = 'queued' AND NEW.status = 'running')
EXECUTE FUNCTION report_of_job();

-- A job has ended, whichever statement ended it: what is to be told is written with that. Few targets an account, found
-- by the unique index that begins with it. A repository's configuration may choose among them.
CREATE FUNCTION tell_of_job() RETURNS TRIGGER AS $$
BEGIN
  INSERT INTO outbox (dedupe_key, lane, account_id, target_id, event, job_id)
  SELECT 'job:' || NEW.id || ':' || t.id, t.id::TEXT, t.account_id, t.id, 'job', NEW.id
  FROM notify_targets t
  WHERE t.account_id = NEW.user_id AND t.stopped_at IS NULL
    AND (SELECT p.name FROM packages p WHERE p.id = NEW.package_id) LIKE TRANSLATE(t.package_glob, '*?', '%_')
    AND (NEW.report -> 'notify' IS NULL OR NEW.report -> 'notify' ? t.id::TEXT)
  ORDER BY t.id
  ON CONFLICT (dedupe_key) DO NOTHING;
  IF NEW.change IS NOT NULL THEN
    PERFORM report_job(NEW);
  END IF;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_tell AFTER UPDATE OF status ON test_jobs FOR EACH ROW
WHEN (OLD.status IN ('queued', 'running') AND NEW.status IN ('completed', 'failed'))
EXECUTE FUNCTION tell_of_job();

-- What a model said to a job that has no cases yet, by the number of its try: who goes on after a worker that died need not
-- pay for it again. A try without an answer was under way when its worker died.
CREATE TABLE suite_drafts (
  job_id UUID NOT NULL REFERENCES test_jobs (id) ON DELETE CASCADE,
  number INT NOT NULL,
  model TEXT NOT NULL,
  completion TEXT,                  -- JSON of evals.types.Completion
  begun_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  PRIMARY KEY (job_id, number)
);

-- Of no use once the job has ended, whichever statement ended it.
CREATE FUNCTION drop_drafts() RETURNS TRIGGER AS $$
BEGIN
  DELETE FROM suite_drafts d WHERE d.job_id = NEW.id;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_drop_drafts AFTER UPDATE OF status ON test_jobs FOR EACH ROW
WHEN (NEW.suite_source = 'generated' AND NEW.status IN ('completed', 'failed'))
EXECUTE FUNCTION drop_drafts();

-- A job that an identical one answered is completed from the start.
CREATE TRIGGER test_jobs_tell_at_once AFTER INSERT ON test_jobs FOR EACH ROW
WHEN (NEW.status IN ('completed', 'failed'))
EXECUTE FUNCTION tell_of_job();

-- Names what decides an outcome: how its models are reached and asked, and what is tested by what.
CREATE FUNCTION outcome_key(settings TEXT, package UUID, snapshot TEXT, suite TEXT) RETURNS BYTEA AS $$
  SELECT SHA256(CONVERT_TO(settings || ' ' || package || ' ' || snapshot || ' ' || suite, 'UTF8'));
$$ LANGUAGE sql STABLE;

-- Whether anybody may see what is asked in this test: a published package's own suite.
CREATE FUNCTION is_public_test(package UUID, snapshot TEXT, source TEXT) RETURNS BOOLEAN AS $$
  SELECT source = 'package' AND EXISTS (
    SELECT FROM packages p JOIN package_versions v ON v.package_id = p.id
    WHERE p.id = package AND p.is_published AND p.visibility = 'public' AND v.snapshot_id = snapshot
  );
$$ LANGUAGE sql STABLE;

-- Whether a viewer may see an account's things: its own, or those of an organisation that they are a member of.
CREATE FUNCTION sees_account(viewer UUID, account UUID) RETURNS BOOLEAN AS $$
  SELECT viewer = account OR EXISTS (
    SELECT FROM organization_members m WHERE m.org_id = account AND m.user_id = viewer
  );
$$ LANGUAGE sql STABLE;

-- Whether a viewer may see a job: an administrator (NULL) each, a person their account's and organisations', and a
-- trusted repository those that test a change of it.
CREATE FUNCTION may_see_job(viewer UUID, account UUID, change JSONB) RETURNS BOOLEAN AS $$
  SELECT viewer IS NULL OR viewer = account OR EXISTS (
    SELECT FROM organization_members m WHERE m.org_id = account AND m.user_id = viewer
  ) OR EXISTS (
    SELECT FROM trusted_repositories t
    WHERE t.id = viewer AND t.account_id = account AND t.forge = change ->> 'forge'
      AND t.repository_id = (change ->> 'repository_id')::BIGINT
  );
$$ LANGUAGE sql STABLE;

-- The highest of 50, 80 and 100 per cent that is reached, else 0. NULL for `most`: there is no end.
CREATE FUNCTION warning_level(used NUMERIC, most NUMERIC) RETURNS SMALLINT AS $$
  SELECT (CASE
    WHEN most IS NULL OR most <= 0 THEN 0
    WHEN used >= most THEN 100
    WHEN used >= most * 0.8 THEN 80
    WHEN used >= most * 0.5 THEN 50
    ELSE 0
  END)::SMALLINT;
$$ LANGUAGE sql IMMUTABLE;

-- A month's money has reached a level. Runs are counted by the submit's own statement, which warns by itself.
CREATE FUNCTION warn_of_money() RETURNS TRIGGER AS $$
BEGIN
  INSERT INTO account_warnings (account_id, month, kind, level, used, most)
  SELECT NEW.user_id, NEW.month, 'money', warning_level(NEW.cost_usd, cap.usd), NEW.cost_usd, cap.usd
  FROM (
    SELECT COALESCE(a.money_per_month_usd, t.money_per_month_usd) AS usd
    FROM users a JOIN tiers t ON t.name = a.subscription_tier WHERE a.id = NEW.user_id
  ) cap
  WHERE warning_level(NEW.cost_usd, cap.usd) > warning_level(OLD.cost_usd, cap.usd)
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER user_test_usage_warn AFTER UPDATE OF cost_usd ON user_test_usage FOR EACH ROW
WHEN (NEW.cost_usd > OLD.cost_usd)
EXECUTE FUNCTION warn_of_money();

-- Ends the statement that calls it, so that nothing of it is kept.
CREATE FUNCTION refuse(reason TEXT) RETURNS BOOLEAN AS $$
BEGIN
  RAISE EXCEPTION '%', reason USING ERRCODE = 'PR001';
END;
$$ LANGUAGE plpgsql;

-- What forges deliver, kept before it is read. `hook_id`: the hook whose own address it came to, NULL for the source's.
-- received -> handled | ignored | invalid | failed; failed -> received when it is delivered again or replayed.
CREATE TABLE deliveries (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source TEXT NOT NULL,
  hook_id UUID,
  delivery_id TEXT NOT NULL,        -- the sender's name for it, which no signature of GitHub's covers
  event TEXT NOT NULL,
  body BYTEA NOT NULL,              -- as it came: the signature was over these bytes
  received_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  state TEXT NOT NULL DEFAULT 'received'
    CHECK (state IN ('received', 'handled', 'ignored', 'invalid', 'failed')),
  reason TEXT,                      -- a sentence for people; while received, why the last attempt ended
  attempts SMALLINT NOT NULL DEFAULT 0,
  next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  lease_until TIMESTAMPTZ,          -- a handler has it until then
  fence BIGINT,                     -- of the latest handler; an older one may not write
  holder TEXT NOT NULL DEFAULT '',  -- whose it is, so that one webhook, installation or project never has all slots
  UNIQUE NULLS NOT DISTINCT (source, hook_id, delivery_id)
);
-- Serves the handlers: what is due, the oldest first.
CREATE INDEX deliveries_due ON deliveries (next_at, id) WHERE state = 'received';
-- Serves the clean-up and the operator's list.
CREATE INDEX deliveries_age ON deliveries (received_at);
-- Serves the operator's list of what needs a person, and its replay.
CREATE INDEX deliveries_failed ON deliveries (received_at) WHERE state = 'failed';

-- What each pull or merge request, branch or tag pointed to. An approval is for one head of one pull request.
CREATE TABLE change_heads (
  forge TEXT NOT NULL,
  repository_id BIGINT NOT NULL,        -- the forge's number
  line TEXT NOT NULL,                   -- 'pull:12' or 'ref:main'
  head_sha TEXT NOT NULL,
  made_at TIMESTAMPTZ NOT NULL,         -- when it became the head, by the forge's clock
  seen_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  approval TEXT,                        -- what approved it: 'comment:7' or 'label:7'; the next head clears it
  approved_by TEXT,                     -- for people
  approved_at TIMESTAMPTZ,
  shown_at TIMESTAMPTZ,                 -- the forge's own time of the last word that showed it as the head; NULL: not told
  base_sha TEXT,                        -- what it was compared with when it came, of a branch
  PRIMARY KEY (forge, repository_id, line, head_sha),
  CHECK ((approval IS NULL) = (approved_by IS NULL) AND (approval IS NULL) = (approved_at IS NULL))
);
-- Serves what asks for a commit once more: of which changes is it a head?
CREATE INDEX change_heads_commit ON change_heads (forge, repository_id, head_sha);
-- Serves the clean-up.
CREATE INDEX change_heads_age ON change_heads (seen_at);

-- Of several packages of one name in a repository, which one has the default suite: the one that was there first, whatever
-- folders come later. One row for each such name, as the default branch has it.
CREATE TABLE suite_folders (
  account_id UUID NOT NULL REFERENCES users (id),
  forge TEXT NOT NULL,
  repository_id BIGINT NOT NULL,        -- the forge's number
  package TEXT NOT NULL,
  folder TEXT NOT NULL,                 -- '' is the root
  PRIMARY KEY (account_id, forge, repository_id, package)
);

-- Who submits for a line just now: looking for its head and submitting it are one step, so that heads keep their order.
CREATE TABLE change_turns (
  forge TEXT NOT NULL,
  repository_id BIGINT NOT NULL,
  line TEXT NOT NULL,
  holder UUID NOT NULL,
  until TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (forge, repository_id, line)
);

-- Installations of the service's own App. One belongs to one account at most.
CREATE TABLE installations (
  forge TEXT NOT NULL,
  installation_id BIGINT NOT NULL,      -- the forge's number
  account_id UUID NOT NULL REFERENCES users (id),
  owner_id BIGINT,                      -- the forge's number of who installed it
  owner TEXT NOT NULL DEFAULT '',       -- its name, for people
  proof TEXT NOT NULL,                  -- why it is believed to be the account's
  linked_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  suspended_at TIMESTAMPTZ,             -- active -> suspended -> active, as the forge says
  removed_at TIMESTAMPTZ,               -- -> removed, for good; another account may link it then
  PRIMARY KEY (forge, installation_id)
);
-- Serves the list of an account's installations.
CREATE INDEX installations_account ON installations (account_id, linked_at);

-- Webhooks with an address and a secret of their own.
CREATE TABLE hooks (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  account_id UUID NOT NULL REFERENCES users (id),
  forge TEXT NOT NULL,
  name TEXT NOT NULL,                   -- of the repository or group, as it was added
  is_group BOOLEAN NOT NULL DEFAULT FALSE,
  place_id BIGINT,                      -- the forge's number of it; NULL until its first delivery says it
  owner_id BIGINT,                      -- the forge's number of its owner, where the forge was asked
  proof TEXT NOT NULL CHECK (proof IN ('signature', 'token')),  -- which of a delivery's proofs is looked at
  sealed BYTEA,                         -- of services.sealing.Sealer: secrets and token; NULL once removed
  token_shown TEXT,                     -- the token as people may see it; NULL without one
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  created_by TEXT NOT NULL,             -- who added it, for people
  rotated_at TIMESTAMPTZ,
  old_until TIMESTAMPTZ,                -- until then the secret before holds too
  delivered_at TIMESTAMPTZ,             -- of its latest authentic delivery, to the minute
  removed_at TIMESTAMPTZ                -- active -> removed, for good
);
-- Serves the list of an account's hooks, and keeps the same from being added twice.
CREATE UNIQUE INDEX hooks_account ON hooks (account_id, forge, LOWER(name)) WHERE removed_at IS NULL;

-- For what a hook's token was refused lately, so that its owner learns it; a row goes when the token works again for that,
-- with another token, and with the hook.
CREATE TABLE hook_refusals (
  hook_id UUID NOT NULL REFERENCES hooks (id),
  doing TEXT NOT NULL CHECK (doing IN ('read', 'report')),
  reason TEXT NOT NULL,                 -- a sentence for people
  at TIMESTAMPTZ NOT NULL DEFAULT NOW(),  -- of the latest refusal, to the minute
  PRIMARY KEY (hook_id, doing)
);

-- Repositories that are an account's by proof. A number belongs to one account at most.
CREATE TABLE linked_repositories (
  forge TEXT NOT NULL,
  repository_id BIGINT NOT NULL,        -- the forge's number
  account_id UUID NOT NULL REFERENCES users (id),
  installation_id BIGINT,               -- by the App; else by a hook; else by the service's own settings
  hook_id UUID REFERENCES hooks (id),
  owner_id BIGINT,
  name TEXT NOT NULL,                   -- the latest that the forge said
  default_branch TEXT NOT NULL DEFAULT '',
  reports BOOLEAN NOT NULL,             -- the service may write there
  linked_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  ended_at TIMESTAMPTZ,                 -- linked -> ended; -> linked, by a proof of then
  ended_reason TEXT,                    -- a sentence for people
  caught_up_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),  -- without an App: what was missed before was looked for; -infinity: it is to be
  PRIMARY KEY (forge, repository_id),
  FOREIGN KEY (forge, installation_id) REFERENCES installations (forge, installation_id),
  CHECK (installation_id IS NULL OR hook_id IS NULL),
  CHECK ((ended_at IS NULL) = (ended_reason IS NULL))
);
-- Serves the end of an installation's links.
CREATE INDEX linked_repositories_installation ON linked_repositories (forge, installation_id)
WHERE installation_id IS NOT NULL;
-- Serves the end of a hook's links.
CREATE INDEX linked_repositories_hook ON linked_repositories (hook_id) WHERE hook_id IS NOT NULL;
-- Serves the list of an account's links.
CREATE INDEX linked_repositories_account ON linked_repositories (account_id, forge, name);
-- Serves who looks for what was missed: links without an App, the one that was looked at longest ago first.
CREATE INDEX linked_repositories_catch_up ON linked_repositories (forge, caught_up_at)
WHERE ended_at IS NULL AND installation_id IS NULL AND reports;

-- Apps that were made on the set-up page. Settings of the same name win.
CREATE TABLE forge_apps (
  forge TEXT PRIMARY KEY,
  app_id TEXT NOT NULL,
  slug TEXT NOT NULL,                   -- its name in addresses
  client_id TEXT NOT NULL,
  page_url TEXT NOT NULL,               -- for people
  sealed BYTEA NOT NULL,                -- of services.sealing.Sealer: its keys and secrets
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- What opens a step of a set-up once: an operator's token, or the state that a forge brings back.
CREATE TABLE setup_tickets (
  ticket_hash VARCHAR(64) PRIMARY KEY,  -- hex SHA-256
  purpose TEXT NOT NULL,
  holder TEXT NOT NULL,                 -- whose browser it is for: the hash of its cookie, '' for whoever has it
  facts JSONB NOT NULL DEFAULT '{}',    -- what the step before it said
  expires_at TIMESTAMPTZ NOT NULL
);
-- Serves the clean-up.
CREATE INDEX setup_tickets_end ON setup_tickets (expires_at);

-- How far what a forge says that it sent was looked through, by whoever holds the lease.
CREATE TABLE delivery_looks (
  source TEXT PRIMARY KEY,
  looked_until TIMESTAMPTZ NOT NULL,    -- by the forge's clock: all that was sent before was seen
  walk_until TIMESTAMPTZ,               -- what a walk that is under way will have seen when it ends
  cursor TEXT NOT NULL DEFAULT '',      -- where that walk goes on
  next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  lease_until TIMESTAMPTZ,              -- one process looks until then
  fence BIGINT NOT NULL                 -- of the latest one; an older one may not write
);

-- One row: when deliveries could be kept.
CREATE TABLE door_watch (
  id BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (id),
  open_at TIMESTAMPTZ NOT NULL,         -- the latest moment that an API process noted
  closed_until TIMESTAMPTZ              -- the end of the last time in which none did; NULL: there was none
);

-- What a forge sent and nobody took. A row goes when the delivery is here, or nobody can have it any more.
CREATE TABLE missed_deliveries (
  source TEXT NOT NULL,
  delivery_id TEXT NOT NULL,            -- which stays when it is sent again
  attempt_id BIGINT NOT NULL,           -- the forge's number of its latest try, by which it is asked for again
  event TEXT NOT NULL,
  trouble TEXT NOT NULL,                -- what the forge says of that try
  sent_at TIMESTAMPTZ NOT NULL,         -- of the first try that was seen
  asked SMALLINT NOT NULL DEFAULT 0,    -- how often it was asked for
  next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (source, delivery_id)
);
-- Serves who asks again: what is due of a source, the oldest first.
CREATE INDEX missed_deliveries_due ON missed_deliveries (source, sent_at);
