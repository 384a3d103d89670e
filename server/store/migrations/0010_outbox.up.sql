-- Ends of jobs are told: where to, what, and what became of it.

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
  event TEXT NOT NULL CHECK (event IN ('job', 'warning', 'check')),
  job_id UUID REFERENCES test_jobs (id),
  facts JSONB,                          -- of a warning: domain.notifications.Warned
  state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'quiet', 'dead')),
  attempts INT NOT NULL DEFAULT 0,
  next_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  lease_until TIMESTAMPTZ,
  fence BIGINT,
  last_status INT,                      -- of HTTP, if there was an answer
  last_error TEXT,                      -- in words of ours
  created_at TIMESTAMPTZ NOT NULL DEFAULT CLOCK_TIMESTAMP(),
  settled_at TIMESTAMPTZ,
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

-- A job has ended, whichever statement ended it: what is to be told is written with that. Few targets an account, found
-- by the unique index that begins with it; repositories by their primary key.
CREATE FUNCTION tell_of_job() RETURNS TRIGGER AS $$
BEGIN
  INSERT INTO outbox (dedupe_key, lane, account_id, target_id, event, job_id)
  SELECT 'job:' || NEW.id || ':' || t.id, t.id::TEXT, t.account_id, t.id, 'job', NEW.id
  FROM notify_targets t
  WHERE t.account_id = NEW.user_id AND t.stopped_at IS NULL
    AND (SELECT p.name FROM packages p WHERE p.id = NEW.package_id) LIKE TRANSLATE(t.package_glob, '*?', '%_')
  ORDER BY t.id
  ON CONFLICT (dedupe_key) DO NOTHING;
  IF NEW.change IS NOT NULL THEN
    INSERT INTO outbox (dedupe_key, lane, account_id, event, job_id)
    SELECT 'job:' || NEW.id || ':forge', 'forge:' || NEW.change_line, NEW.user_id, 'job', NEW.id
    FROM reported_repositories r
    WHERE r.forge = NEW.change ->> 'forge' AND r.repository_id = (NEW.change ->> 'repository_id')::BIGINT
      AND r.account_id = NEW.user_id
    ON CONFLICT (dedupe_key) DO NOTHING;
  END IF;
  RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER test_jobs_tell AFTER UPDATE OF status ON test_jobs FOR EACH ROW
WHEN (OLD.status IN ('queued', 'running') AND NEW.status IN ('completed', 'failed'))
EXECUTE FUNCTION tell_of_job();

-- A job that an identical one answered is completed from the start.
CREATE TRIGGER test_jobs_tell_at_once AFTER INSERT ON test_jobs FOR EACH ROW
WHEN (NEW.status IN ('completed', 'failed'))
EXECUTE FUNCTION tell_of_job();
