"""Jobs of tests, straight in the database: an account, a package of its own with one case, a job to claim."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg

from server.domain.accounts import Credential
from server.domain.jobs import NewJob
from server.domain.packages import PackageRef
from server.services.accounts import create_account

SNAPSHOT, SUITE = "a" * 64, "5" * 64


async def an_account(db: asyncpg.Pool, *, tier: str = "plus") -> uuid.UUID:
    """An account; its package has its id."""
    account = await create_account(db, f"user-{uuid.uuid4().hex[:8]}", tier=tier)
    await a_package_of(db, account.id)
    return account.id


async def a_package_of(db: asyncpg.Pool, account: uuid.UUID) -> None:
    """A private package with the account's id, one version and a suite of one case."""
    await db.execute(
        "INSERT INTO snapshots (id, archive, archive_sha256, file_count) VALUES ($1, '', $1, 0) ON CONFLICT DO NOTHING",
        SNAPSHOT,
    )
    await db.execute("INSERT INTO suites (id, body) VALUES ($1, '{}') ON CONFLICT DO NOTHING", SUITE)
    await db.execute(
        "INSERT INTO packages (id, owner_id, name, format, is_published) VALUES ($1, $1, 'p', 'cursor', FALSE)"
        " ON CONFLICT DO NOTHING",
        account,
    )
    await db.execute(
        "INSERT INTO package_versions (package_id, version, snapshot_id, manifest, suite_id, published_by)"
        " VALUES ($1, '1.0.0', $2, '{}', $3, $1) ON CONFLICT DO NOTHING",
        account,
        SNAPSHOT,
        SUITE,
    )


def a_new_job(account: uuid.UUID, **changes: Any) -> NewJob:
    """A submit of the account's own package under a key of its own."""
    job_id = changes.pop("id", None) or uuid.uuid4()
    usual: dict[str, Any] = {
        "id": job_id,
        "credential": Credential(account_id=account),
        "key": f"key:{job_id}",
        "request_sha256": "c" * 64,
        "force": False,
        "package": PackageRef(id=account),
        "package_version": None,
        "snapshot_id": None,
        "suite": None,
        "models": ["echo"],
        "framework": "litellm",
        "upload_results": False,
        "verify_results": False,
    }
    return NewJob(**usual | changes)
