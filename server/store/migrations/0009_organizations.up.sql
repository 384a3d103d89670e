-- Organisations with members, repositories whose workflows need no key, and warnings before a month's runs or money end.

CREATE TABLE organization_members (
  org_id UUID NOT NULL REFERENCES users (id),
  user_id UUID NOT NULL REFERENCES users (id),
  role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'maintainer', 'member')),
  joined_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (org_id, user_id)
);
-- Serves the list of a person's organisations.
CREATE INDEX organization_members_user ON organization_members (user_id);

CREATE TABLE trusted_repositories (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  account_id UUID NOT NULL REFERENCES users (id),
  issuer TEXT NOT NULL,
  forge TEXT NOT NULL,
  repository_id BIGINT NOT NULL,
  owner_id BIGINT NOT NULL,
  repository TEXT NOT NULL,
  workflow TEXT,
  events TEXT[] NOT NULL DEFAULT '{}',
  scopes TEXT[] NOT NULL,
  proof TEXT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  UNIQUE (issuer, repository_id)
);
-- Serves the list of an account's repositories.
CREATE INDEX trusted_repositories_account ON trusted_repositories (account_id, created_at);

ALTER TABLE access_tokens DROP CONSTRAINT access_tokens_kind_check;
ALTER TABLE access_tokens ADD CONSTRAINT access_tokens_kind_check CHECK (kind IN ('api', 'jwt', 'session', 'oidc'));
ALTER TABLE access_tokens ADD COLUMN trust_id UUID REFERENCES trusted_repositories (id) ON DELETE CASCADE;
-- Serves the end of a repository's tokens with its trust.
CREATE INDEX access_tokens_trust ON access_tokens (trust_id) WHERE trust_id IS NOT NULL;
-- Serves the clean-up of workflows' tokens that ended.
CREATE INDEX access_tokens_oidc_end ON access_tokens (expires_at) WHERE kind = 'oidc';

CREATE TABLE oidc_exchanges (
  issuer TEXT NOT NULL,
  jti TEXT NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (issuer, jti)
);
-- Serves the clean-up.
CREATE INDEX oidc_exchanges_end ON oidc_exchanges (expires_at);

CREATE TABLE account_warnings (
  account_id UUID NOT NULL REFERENCES users (id),
  month DATE NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('runs', 'money')),
  level SMALLINT NOT NULL CHECK (level IN (50, 80, 100)),
  used NUMERIC(14, 6) NOT NULL,
  most NUMERIC(14, 6) NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  told_at TIMESTAMPTZ,
  PRIMARY KEY (account_id, month, kind, level)
);
-- Serves whoever tells of them.
CREATE INDEX account_warnings_untold ON account_warnings (created_at) WHERE told_at IS NULL;

ALTER TABLE test_jobs ADD COLUMN submit_money_level SMALLINT NOT NULL DEFAULT 0;

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
