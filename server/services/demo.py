"""What an empty database of the one-command mode starts with: an account, its token, and the examples."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncpg

from evals.archives import pack
from evals.folders import read_folder
from server.domain.accounts import Caller
from server.domain.errors import Conflict
from server.services.accounts import create_account
from server.services.identity import issue_token
from server.services.publishing import publish_package
from server.store import accounts

USERNAME = "demo"


async def seed(dsn: str, *, examples: Path, token_path: Path) -> str:
    """Make the demo account on the plus tier with `examples/` as `@demo/...`, if nobody is here yet. Its token.

    The token is kept at `token_path`, mode 0600. Safe to call twice: a lost token is made anew.
    """
    connection_pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
    try:
        if await accounts.is_empty(connection_pool):
            await create_account(connection_pool, USERNAME, tier="plus", email="demo@example.org")
        caller = await _demo_caller(connection_pool)
        if caller is not None:
            await _publish_examples(connection_pool, caller, examples)
        return await _token(connection_pool, token_path, wanted=caller is not None)
    finally:
        await connection_pool.close()


async def _demo_caller(db: asyncpg.Pool) -> Caller | None:
    account = await accounts.read_account(db, USERNAME)
    return await accounts.read_caller_by_id(db, account.id) if account else None


async def _publish_examples(db: asyncpg.Pool, caller: Caller, examples: Path) -> None:
    for folder in sorted(path for path in examples.iterdir() if (path / "prpm.json").is_file()):
        archive = await asyncio.to_thread(_pack, folder)
        try:
            # A skill's own name has no scope, as the registry demands; here every example is one of the demo's.
            await publish_package(db, caller, archive=archive, publish_as=f"@{USERNAME}/{folder.name}")
        except Conflict:
            continue  # this version is there from an earlier start


def _pack(folder: Path) -> bytes:
    return pack(read_folder(folder))


async def _token(db: asyncpg.Pool, path: Path, *, wanted: bool) -> str:
    if path.is_file() and (token := path.read_text().strip()):
        return token
    if not wanted:
        return ""
    issued = await issue_token(db, USERNAME, name="made by prpm-testing up")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(issued.token + "\n")
    return issued.token
