"""Packages, versions, snapshots and stored suites in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from server.domain.errors import Conflict, NotAllowed
from server.domain.packages import NewVersion, Package, PackageRef, UploadedResult, Version
from server.store.queries import read_queries

SQL = read_queries("packages")


class Archive(NamedTuple):
    """A version's .tar.gz and the hex SHA-256 of it."""

    data: bytes
    sha256: str


class ResultPage(NamedTuple):
    """A page of uploaded results, and how many there are in all."""

    results: list[UploadedResult]
    total: int


async def publish(db: asyncpg.Pool, owner_id: UUID, new: NewVersion) -> UUID:
    """The package's id, with the version added.

    Raises NotAllowed when the name is another account's, Conflict when the version exists; nothing is kept then.
    """
    async with db.acquire() as connection, connection.transaction():
        package_id: UUID | None = await connection.fetchval(
            SQL["publish_package"],
            owner_id, new.name, new.description, new.format, new.subtype, new.visibility,
        )  # fmt: skip
        if package_id is None:
            raise NotAllowed(f"The name {new.name} belongs to another account. Publish under a name of your own.")
        if not await _add_version(connection, package_id, owner_id, new):
            raise Conflict(
                f"Version already exists: {new.name}@{new.version}. Raise `version` in prpm.json.",
                code="version_exists",
            )
        return package_id


class KeptSnapshot(NamedTuple):
    package_id: UUID
    created: bool


async def keep_snapshot(db: asyncpg.Pool, owner_id: UUID, new: NewVersion) -> KeptSnapshot:
    """The account's private package for this working folder. Safe to call twice."""
    async with db.acquire() as connection, connection.transaction():
        package_id: UUID = await connection.fetchval(
            SQL["keep_snapshot_package"], owner_id, new.name, new.description, new.format, new.subtype
        )
        created = await _add_version(connection, package_id, owner_id, new)
        if not created:
            await connection.execute(SQL["renew_upload"], package_id, new.version)
        return KeptSnapshot(package_id, created)


async def _add_version(connection: asyncpg.Connection, package_id: UUID, owner_id: UUID, new: NewVersion) -> bool:
    await connection.execute(SQL["store_snapshot"], new.snapshot_id, new.archive, new.archive_sha256, new.file_count)
    if new.suite_id is not None:
        await connection.execute(SQL["store_suite"], new.suite_id, new.suite_body, new.suite_trials)
    added = await connection.fetchval(
        SQL["add_version"],
        package_id, new.version, new.snapshot_id, new.manifest, new.suite_id, new.suite_path, new.suite_error,
        owner_id,
    )  # fmt: skip
    return added is not None


async def read_package(db: asyncpg.Pool, ref: PackageRef, *, seen_by: UUID | None) -> Package | None:
    """The package, if `seen_by` (None: a visitor) may see it."""
    row = await db.fetchrow(SQL["read_package"], ref.id, ref.name, seen_by)
    return msgspec.convert(dict(row), Package) if row else None


async def list_versions(db: asyncpg.Pool, package_id: UUID) -> list[Version]:
    """Newest first, at most 100."""
    rows = await db.fetch(SQL["list_versions"], package_id)
    return [msgspec.convert(dict(row), Version) for row in rows]


async def read_archive(db: asyncpg.Pool, snapshot_id: str) -> bytes | None:
    """A snapshot's .tar.gz. For workers: asks nobody's rights."""
    data: bytes | None = await db.fetchval(SQL["read_archive"], snapshot_id)
    return data


async def read_version_archive(
    db: asyncpg.Pool, ref: PackageRef, version: str, *, seen_by: UUID | None
) -> Archive | None:
    row = await db.fetchrow(SQL["read_version_archive"], ref.id, ref.name, version, seen_by)
    return Archive(row["archive"], row["archive_sha256"]) if row else None


async def store_package_suite(
    db: asyncpg.Pool, package_id: UUID, *, suite_id: str, body: str, trials: int, stored_by: UUID
) -> datetime:
    """Make this the package's stored suite. When that was."""
    async with db.acquire() as connection, connection.transaction():
        await connection.execute(SQL["store_suite"], suite_id, body, trials)
        stored: datetime = await connection.fetchval(SQL["store_package_suite"], package_id, suite_id, stored_by)
        return stored


async def list_results(db: asyncpg.Pool, package_id: UUID, *, limit: int, offset: int) -> ResultPage:
    """Uploaded results, newest first."""
    rows = await db.fetch(SQL["list_results"], package_id, limit, offset)
    results = [
        UploadedResult(
            id=row["id"],
            package_version=row["package_version"],
            job_id=row["job_id"],
            models=row["models"],
            conclusion=row["conclusion"],
            summary=row["summary"],
            is_verified=row["is_verified"],
            uploaded_by=row["uploaded_by"],
            created_at=row["created_at"],
        )
        for row in rows
    ]
    return ResultPage(results, rows[0]["total"] if rows else 0)
