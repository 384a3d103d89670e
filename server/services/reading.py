"""What readers of jobs and packages get: theirs and public things; anything else does not exist for them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from evals.models import Secret
from evals.outcome import Outcome, outcome_as_cached
from server.domain.accounts import Caller
from server.domain.errors import Conflict, NotFound
from server.domain.jobs import JobView
from server.domain.packages import Package, PackageRef, Version
from server.services.outcome_signing import signed_text
from server.store import jobs, packages, signing_keys, workers


class PackageWithVersions(NamedTuple):
    package: Package
    versions: list[Version]


async def read_job(db: asyncpg.Pool, caller: Caller, job_id: UUID) -> JobView:
    """Raises NotFound, also for another account's job."""
    job = await jobs.read_job(db, job_id, seen_by=caller.sees)
    if job is None:
        raise _no_job()
    return job


async def read_outcome(db: asyncpg.Pool, caller: Caller, job_id: UUID, *, key: Secret | None = None) -> str:
    """JSON of evals.outcome.Outcome. Raises NotFound, or Conflict while the job has none.

    An outcome that an identical job came to says so in every row, and is signed anew with `key`.
    """
    row = await jobs.read_outcome(db, job_id, seen_by=caller.sees)
    if row is None:
        raise _no_job()
    if row["outcome"] is not None and row["cached_at"] is not None:
        return await asyncio.to_thread(_as_cached, row["outcome"], row["cached_at"], key)
    if row["outcome"] is not None:
        return str(row["outcome"])
    if row["status"] == "failed":
        raise Conflict(f"This job has no results, as it failed: {row['error_message']}", code="job_failed")
    if row["status"] == "completed":
        raise NotFound(
            "The answers of this job are no longer kept; its summary stays with the job.", code="results_removed"
        )
    raise Conflict(
        f"This job is {row['status']}; its results are there when its status is completed.",
        code="job_not_finished",
    )


def _as_cached(outcome: str, ended_at: datetime, key: Secret | None) -> str:
    whole = msgspec.json.decode(outcome, type=Outcome)
    text = msgspec.json.encode(outcome_as_cached(whole, ended_at=ended_at)).decode()
    return signed_text(text, key) if key is not None else text


def _no_job() -> NotFound:
    return NotFound("There is no such job, or it is not yours.", code="job_not_found")


async def read_package(db: asyncpg.Pool, seen_by: Caller | None, ref: PackageRef) -> PackageWithVersions:
    """Raises NotFound, also for another account's private package."""
    package = await packages.read_package(db, ref, seen_by=seen_by.id if seen_by else None)
    if package is None:
        raise no_package()
    return PackageWithVersions(package, await packages.list_versions(db, package.id))


async def read_version_archive(
    db: asyncpg.Pool, seen_by: Caller | None, ref: PackageRef, version: str
) -> packages.Archive:
    """A version's .tar.gz. Raises NotFound."""
    archive = await packages.read_version_archive(db, ref, version, seen_by=seen_by.id if seen_by else None)
    if archive is None:
        raise no_package()
    return archive


async def list_results(
    db: asyncpg.Pool, seen_by: Caller | None, ref: PackageRef, *, limit: int, offset: int
) -> tuple[Package, packages.ResultPage]:
    """A package's uploaded results. Raises NotFound."""
    package = await packages.read_package(db, ref, seen_by=seen_by.id if seen_by else None)
    if package is None:
        raise no_package()
    return package, await packages.list_results(db, package.id, limit=limit, offset=offset)


def no_package() -> NotFound:
    """One answer for what is not there and what is not theirs."""
    return NotFound("Package not found.", code="package_not_found")


list_models = workers.read_models
list_signing_keys = signing_keys.list_keys
is_any_worker_live = workers.is_any_worker_live
