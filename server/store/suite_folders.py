"""Which folder's package has the default suite, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

from server.domain.links import Link
from server.store.queries import read_queries

SQL = read_queries("suite_folders")


async def read_suite_folders(db: asyncpg.Pool, link: Link) -> dict[str, str]:
    """Package -> folder, of those names that several folders of the repository have or had."""
    rows = await db.fetch(SQL["read_suite_folders"], link.account_id, link.forge, link.repository.id)
    return {row["package"]: row["folder"] for row in rows}


async def keep_suite_folders(db: asyncpg.Pool, link: Link, folders: Mapping[str, str], *, replaces: bool) -> None:
    """Package -> folder is known from now on; `replaces`: also where another one is known. Safe to call twice."""
    if folders:
        await db.execute(
            SQL["keep_suite_folders"],
            link.account_id, link.forge, link.repository.id, list(folders), list(folders.values()), replaces,
        )  # fmt: skip
