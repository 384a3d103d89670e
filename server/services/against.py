"""What a submit wants to be compared with is looked at before the job is kept: it must be there, and the caller's."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from server.domain.accounts import Caller
from server.domain.baselines import faults_of
from server.domain.errors import InvalidRequest
from server.domain.jobs import NewJob
from server.services.on_behalf import read_billed
from server.store import history, subjects


async def check_against(db: asyncpg.Pool, new: NewJob) -> None:
    """Raises InvalidRequest for a baseline or a base snapshot that the caller does not have, and NotAuthenticated.

    A branch may have no history yet. A package that is not there is left to those who say so.
    """
    against = new.against
    if against is None or (against.base_snapshot_id is None and against.baseline is None):
        return
    if faults := faults_of(against):
        raise InvalidRequest(f"{faults[0]}.", code="invalid_baseline", details=faults)
    caller = await read_billed(db, new.credential, new.account)
    if against.base_snapshot_id is not None and not await history.may_use_snapshot(
        db, against.base_snapshot_id, account_id=caller.id
    ):
        raise InvalidRequest(
            "base_snapshot_id: there is no such snapshot that you may test. Upload it first: "
            "POST /api/v1/package-snapshots.",
            code="invalid_baseline",
        )
    kind, _, name = (against.baseline or "").partition(":")
    if kind == "job":
        await _check_job(db, caller, name)
    elif kind == "version":
        await _check_version(db, caller, new, version=name)


async def _check_job(db: asyncpg.Pool, caller: Caller, name: str) -> None:
    try:
        found = await history.find_job_base(db, UUID(name), account_id=caller.id)
    except ValueError:
        found = None
    if found is None:
        raise InvalidRequest(
            "baseline: there is no such job of yours. `prpm jobs` lists them.", code="invalid_baseline"
        )


async def _check_version(db: asyncpg.Pool, caller: Caller, new: NewJob, *, version: str) -> None:
    subject = await subjects.read_subject(
        db, caller.id, new.package, version=new.package_version, snapshot_id=new.snapshot_id
    )
    if subject is None:
        return
    if await history.find_version_base(db, subject.name, account_id=caller.id, version=version) is None:
        raise InvalidRequest(
            f"baseline: {subject.name} has no published version {version}. Leave `baseline` out for the latest one.",
            code="invalid_baseline",
        )
