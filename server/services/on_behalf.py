"""For whom somebody acts: their own account, or an organisation that they are a member of."""

from __future__ import annotations

import asyncpg
import msgspec

from server.domain.accounts import Caller, Credential
from server.domain.errors import NotAllowed, NotFound
from server.domain.rights import Right, rights_of_role
from server.services.identity import read_caller
from server.store import accounts


async def acting_for(db: asyncpg.Pool, caller: Caller, account: str | None, right: Right) -> Caller:
    """The caller on behalf of the account of this name; as they are for None or their own.

    Raises NotFound for an account that they may not know of, NotAllowed where the role or the token lacks the right.
    """
    if right not in caller.rights:
        raise token_lacks_right(right)
    if account is None or account == caller.username:
        return caller
    row = await accounts.read_account_for(db, account, asker_id=caller.asker_id)
    if row is None or (row["role"] is None and caller.sees is not None):
        raise no_such_account(account)
    # An administrator of the service sees every account, and acts for none.
    if right not in rights_of_role(row["role"]) and not (right == "see" and caller.sees is None):
        raise role_lacks_right(account)
    return msgspec.structs.replace(
        caller,
        id=row["id"],
        kind=row["kind"],
        username=row["username"],
        email=row["email"],
        tier=row["subscription_tier"],
    )


async def read_billed(db: asyncpg.Pool, credential: Credential, account: str | None) -> Caller:
    """Whoever shows this credential, on behalf of the account that a run names. Raises as `acting_for`, and
    NotAuthenticated."""
    return await acting_for(db, await read_caller(db, credential), account, "run")


def no_such_account(name: str) -> NotFound:
    """The same words for what is not there and what is not theirs."""
    shown = "".join(c if c.isprintable() else "�" for c in name[:100])
    return NotFound(
        f"There is no organisation named {shown} that you are a member of. `prpm whoami` lists yours.",
        code="account_not_found",
    )


def role_lacks_right(account: str) -> NotAllowed:
    """What a member is told whose role is too small."""
    return NotAllowed(
        f"Your role in {account} does not allow this. Ask one of its owners or admins.", code="role_too_small"
    )


def token_lacks_right(right: Right) -> NotAllowed:
    """What the holder of a token of limited scope is told."""
    return NotAllowed(
        f"This token may not do this: it is for less, and lacks the right `{right}`. Use another one.",
        code="token_too_small",
    )
