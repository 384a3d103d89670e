-- A webhook's owner learns that the forge refuses the token that was given with it.

CREATE TABLE hook_refusals (
  hook_id UUID NOT NULL REFERENCES hooks (id),
  doing TEXT NOT NULL CHECK (doing IN ('read', 'report')),
  reason TEXT NOT NULL,
  at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (hook_id, doing)
);

-- Of several packages of one name in a repository, the one that was there first keeps the default suite.

CREATE TABLE suite_folders (
  account_id UUID NOT NULL REFERENCES users (id),
  forge TEXT NOT NULL,
  repository_id BIGINT NOT NULL,
  package TEXT NOT NULL,
  folder TEXT NOT NULL,
  PRIMARY KEY (account_id, forge, repository_id, package)
);
