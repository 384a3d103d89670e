-- A workflow's token speaks for the branch that its workflow runs for.

ALTER TABLE access_tokens ADD COLUMN ref TEXT;
