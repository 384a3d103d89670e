-- Whose a repository on a forge is, and how it is reached.

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
