"""Brings a database's schema up to date: numbered plain SQL files, one transaction each, safe to run side by side."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

import asyncpg
from msgspec import Struct

from server.domain.tiers import TIERS

FOLDER = Path(__file__).parent
FILE_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.(up|down)\.sql$")
# Any number does, as long as nothing else in the database takes the same lock.
LOCK = 0x7072706D74657374


class CannotMigrate(Exception):
    """The database and the files do not fit; the message says what to do."""


class Migration(Struct, frozen=True, kw_only=True):
    version: int
    name: str
    up: str
    down: str | None

    @property
    def checksum(self) -> str:
        """Hex SHA-256 of the `up` file."""
        return hashlib.sha256(self.up.encode()).hexdigest()

    @property
    def in_transaction(self) -> bool:
        """False for a file that says so in its first line (a concurrent index); it holds one statement."""
        return not self.up.startswith("-- no-transaction")


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """Every migration, in order."""
    texts: dict[tuple[int, str], dict[str, str]] = {}
    for path in sorted(folder.iterdir()):
        if match := FILE_NAME.match(path.name):
            texts.setdefault((int(match[1]), match[2]), {})[match[3]] = path.read_text()
    return [
        Migration(version=version, name=name, up=files["up"], down=files.get("down"))
        for (version, name), files in sorted(texts.items())
    ]


async def migrate(dsn: str, *, folder: Path = FOLDER, target: int | None = None) -> list[str]:
    """Bring the schema to `target` (the newest by default), and say what was done. Safe to call twice and at once.

    Raises CannotMigrate when an applied file was edited, or the database is ahead of this code.
    `dsn` must reach PostgreSQL directly: a session lock does not hold behind a pooler.
    """
    migrations = read_migrations(folder)
    connection = await asyncpg.connect(dsn)
    try:
        # Polled, not waited for: a waiter holds a snapshot, on which CREATE INDEX CONCURRENTLY would wait in turn.
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            await asyncio.sleep(0.1)
        applied = await _applied(connection)
        _check(migrations, applied)
        newest = max((m.version for m in migrations), default=0) if target is None else target
        done = [await _up(connection, m) for m in migrations if m.version not in applied and m.version <= newest]
        done += [
            await _down(connection, m) for m in reversed(migrations) if m.version in applied and m.version > newest
        ]
        if newest:
            await _copy_tiers(connection)
        return done
    finally:
        await connection.close()


async def is_current(connection: asyncpg.Connection) -> bool:
    """Whether the database has the newest migration of this code."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return False
    version = await connection.fetchval("SELECT MAX(version) FROM schema_migrations")
    return bool(version is not None and version >= read_migrations()[-1].version)


async def _applied(connection: asyncpg.Connection) -> dict[int, str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version INT PRIMARY KEY, name TEXT NOT NULL,"
        " checksum TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT NOW())"
    )
    rows = await connection.fetch("SELECT version, checksum FROM schema_migrations")
    return {row["version"]: row["checksum"] for row in rows}


def _check(migrations: list[Migration], applied: dict[int, str]) -> None:
    known = {m.version: m for m in migrations}
    if ahead := sorted(set(applied) - set(known)):
        raise CannotMigrate(f"The database has migrations that this version lacks: {ahead}. Run the newer version.")
    if edited := [v for v in sorted(applied) if known[v].checksum != applied[v]]:
        raise CannotMigrate(f"These migrations were edited after they were applied: {edited}. Restore the files.")


async def _up(connection: asyncpg.Connection, migration: Migration) -> str:
    async def mark() -> None:
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )

    if migration.in_transaction:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            await connection.execute(migration.up)
            await mark()
    else:
        await connection.execute(migration.up)
        await mark()
    return f"{migration.version:04d}_{migration.name} up"


async def _down(connection: asyncpg.Connection, migration: Migration) -> str:
    if migration.down is None:
        raise CannotMigrate(f"Migration {migration.version:04d}_{migration.name} cannot be undone.")
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        await connection.execute(migration.down)
        await connection.execute("DELETE FROM schema_migrations WHERE version = $1", migration.version)
    return f"{migration.version:04d}_{migration.name} down"


async def _copy_tiers(connection: asyncpg.Connection) -> None:
    """Every column of `tiers` is a field of Tier, but for the bonus, which has a type of its own there."""
    columns = [name for name in await _columns(connection, "tiers") if name != "start_bonus"]
    values = ", ".join(f"${position}" for position in range(2, len(columns) + 2))
    updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in (*columns, "start_bonus"))
    await connection.executemany(
        f"INSERT INTO tiers (start_bonus, {', '.join(columns)})"  # noqa: S608 - names of our own columns
        f" VALUES (make_interval(secs => $1::INT), {values}) ON CONFLICT (name) DO UPDATE SET {updates}",
        [(tier.start_bonus_seconds, *(getattr(tier, name) for name in columns)) for tier in TIERS.values()],
    )


async def _columns(connection: asyncpg.Connection, table: str) -> list[str]:
    """As they are now: an older schema has fewer."""
    rows = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::REGCLASS AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        table,
    )
    return [row["attname"] for row in rows]
