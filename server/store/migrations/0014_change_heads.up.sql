-- Heads of changes as forges told of them, who approved which, and what a repository says of its notifications.

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
  PRIMARY KEY (forge, repository_id, line, head_sha),
  CHECK ((approval IS NULL) = (approved_by IS NULL) AND (approval IS NULL) = (approved_at IS NULL))
);
-- Serves what asks for a commit once more: of which changes is it a head?
CREATE INDEX change_heads_commit ON change_heads (forge, repository_id, head_sha);
-- Serves the clean-up.
CREATE INDEX change_heads_age ON change_heads (seen_at);

-- Who submits for a line just now: looking for its head and submitting it are one step, so that heads keep their order.
CREATE TABLE change_turns (
  forge TEXT NOT NULL,
  repository_id BIGINT NOT NULL,
  line TEXT NOT NULL,
  holder UUID NOT NULL,
  until TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (forge, repository_id, line)
);
