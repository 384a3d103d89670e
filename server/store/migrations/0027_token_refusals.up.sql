-- A webhook's owner learns that the forge refuses the token that was given with it.

CREATE TABLE hook_refusals (
  hook_id UUID NOT NULL REFERENCES hooks (id),
  doing TEXT NOT NULL CHECK (doing IN ('read', 'report')),
  reason TEXT NOT NULL,
  at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  PRIMARY KEY (hook_id, doing)
);
