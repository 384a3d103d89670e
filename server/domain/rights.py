"""Who may do what: the one table of roles in an organisation, and that of what a token is for.

A right is asked for where something is done: by a route (`opt=allows("follow")`), by the submit's statement, or by a
service for an organisation that a request names. What no token of limited scope may do is not listed anywhere: a
route that says nothing is closed to such tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Right = Literal["follow", "run", "see", "publish", "administer", "own"]
Role = Literal["owner", "admin", "maintainer", "member"]
Scope = Literal["read", "run", "publish", "administer"]

# What each right lets somebody do:
#   follow      look at a job by its id, and read public packages
#   run         upload working folders, submit, cancel and repeat jobs
#   see         lists of jobs, usage, ledger, members
#   publish     publish packages, store suites, upload and verify results
#   administer  members up to admin, the organisation's tokens, its trusted repositories, webhooks, installations
#   own         owners
ROLE_RIGHTS: dict[str, frozenset[Right]] = {
    "member": frozenset({"follow", "run", "see"}),
    "maintainer": frozenset({"follow", "run", "see", "publish"}),
    "admin": frozenset({"follow", "run", "see", "publish", "administer"}),
    "owner": frozenset({"follow", "run", "see", "publish", "administer", "own"}),
}
ROLES = tuple(ROLE_RIGHTS)

EVERYTHING = ROLE_RIGHTS["owner"]

# What a token may do for its own account, by its scopes. Those with a colon are the registry's words, which the tokens
# of people carry: they are for whoever holds them, and so for everything.
SCOPE_RIGHTS: dict[str, frozenset[Right]] = {
    "read": frozenset({"follow", "see"}),
    "run": frozenset({"follow", "run"}),
    "publish": frozenset({"follow", "publish"}),
    "administer": frozenset({"follow", "see", "administer"}),
    "read:packages": frozenset({"follow", "see"}),
    "write:packages": EVERYTHING,
}
SCOPES = ("read", "run", "publish", "administer")  # that an organisation's token may be given


def rights_of_role(role: str | None) -> frozenset[Right]:
    """What a member may do in the organisation; nothing without a role."""
    return ROLE_RIGHTS.get(role or "", frozenset())


def rights_of_scopes(scopes: Iterable[str]) -> frozenset[Right]:
    """What a token with these scopes may do."""
    return frozenset[Right]().union(*(SCOPE_RIGHTS.get(scope, frozenset()) for scope in scopes))


def roles_with(right: Right) -> list[str]:
    """Roles that have the right."""
    return [role for role, rights in ROLE_RIGHTS.items() if right in rights]


def scopes_with(right: Right) -> list[str]:
    """Scopes that have the right."""
    return [scope for scope, rights in SCOPE_RIGHTS.items() if right in rights]


def may_change_role(rights: frozenset[Right], *, before: str | None, after: str | None) -> bool:
    """Whether somebody with these rights may turn a role into another (None: not a member)."""
    needed: Right = "own" if "owner" in (before, after) else "administer"
    return needed in rights
