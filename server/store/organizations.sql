-- Organisations: their members and tokens. The organisations themselves are accounts.

-- name: lock_organization
-- An organisation of this name, locked: whoever changes its members comes one after the other.
-- NO KEY, as a submit's foreign key must not wait for it.
-- $1 username
SELECT id FROM users WHERE username = $1 AND kind = 'organization' FOR NO KEY UPDATE;

-- name: read_member
-- A person of this name, with their role in an organisation, if they have one.
-- $1 organisation, $2 username
SELECT a.id, m.role FROM users a LEFT JOIN organization_members m ON m.org_id = $1 AND m.user_id = a.id
WHERE a.username = $2 AND a.kind = 'user' AND a.is_active;

-- name: read_role
-- The role of an account in an organisation.
-- $1 organisation, $2 account
SELECT role FROM organization_members WHERE org_id = $1 AND user_id = $2;

-- name: count_owners
-- How many owners an organisation has that can still log in.
-- $1 organisation
SELECT COUNT(*)::INT FROM organization_members m JOIN users a ON a.id = m.user_id
WHERE m.org_id = $1 AND m.role = 'owner' AND a.is_active;

-- name: set_role
-- Makes somebody a member, or gives a member another role.
-- $1 organisation, $2 account, $3 role
INSERT INTO organization_members AS m (org_id, user_id, role) VALUES ($1, $2, $3)
ON CONFLICT (org_id, user_id) DO UPDATE SET role = EXCLUDED.role
RETURNING joined_at;

-- name: remove_member
-- Ends a membership.
-- $1 organisation, $2 account
DELETE FROM organization_members WHERE org_id = $1 AND user_id = $2;

-- name: list_members
-- Members by role, then by name. By the members' primary key.
-- $1 organisation
SELECT a.username, m.role, m.joined_at FROM organization_members m JOIN users a ON a.id = m.user_id
WHERE m.org_id = $1
ORDER BY ARRAY_POSITION('{owner,admin,maintainer,member}'::TEXT[], m.role), a.username;

-- name: list_organizations
-- The organisations that a person is a member of, by name. By organization_members_user.
-- $1 account
SELECT o.id, o.username, o.subscription_tier, m.role FROM organization_members m JOIN users o ON o.id = m.org_id
WHERE m.user_id = $1 AND o.is_active
ORDER BY o.username;

-- name: list_all_organizations
-- Every organisation, for the operator.
SELECT o.id, o.username, o.subscription_tier, COUNT(m.user_id)::INT AS members
FROM users o LEFT JOIN organization_members m ON m.org_id = o.id
WHERE o.kind = 'organization'
GROUP BY o.id ORDER BY o.username;

-- name: list_tokens
-- An account's live tokens for programs, newest first. By access_tokens_user.
-- $1 account
SELECT id, name, scopes, created_at, expires_at FROM access_tokens
WHERE user_id = $1 AND is_active AND kind IN ('api', 'jwt') AND (expires_at IS NULL OR expires_at > NOW())
ORDER BY created_at DESC, id;

-- name: revoke_account_token
-- Ends one of an account's tokens. No row: it has no such live token.
-- $1 account, $2 token
UPDATE access_tokens SET is_active = FALSE WHERE user_id = $1 AND id = $2 AND is_active
RETURNING id;
