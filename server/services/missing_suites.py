"""A package without a suite: the registry's cases stand in for it or, where that is asked for, a model writes some.

A model writes while the job runs (services/writing.py), so that a submit waits for no model and its cost is the job's.
Until then the job has a suite without cases.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from evals.errors import EngineError
from evals.generating import MOST_CASES
from evals.suites import parse_suite_value, suite_digest
from evals.types import Suite
from server.domain.errors import InvalidRequest, NoSuite
from server.domain.jobs import NewJob, SentSuite
from server.services.on_behalf import read_billed
from server.services.publishing import encode_canonical, trials_a_model
from server.services.upstream_registry import UpstreamRegistry
from server.store import generated_suites, packages, subjects

_NO_CASES: Final = Suite(cases=())
# What a job has until its cases are written; `trials` are as many as there may be.
TO_BE_WRITTEN: Final = SentSuite(
    id=suite_digest(_NO_CASES),
    body=encode_canonical(_NO_CASES).decode(),
    trials=MOST_CASES,
    source="generated",
    awaits_cases=True,
)


async def find_instead(
    db: asyncpg.Pool, new: NewJob, *, registry: UpstreamRegistry | None, generate: bool
) -> SentSuite | None:
    """The suite of a job whose package brings none; None where nothing stands in for it.

    Raises Unavailable when the registry does not answer, and InvalidRequest for registered cases that nobody can run.
    """
    if registry is not None and (name := await _published_name(db, new)) is not None:
        value = await registry.find_suite(name)
        if value is not None:
            return await _registered(value)
    return TO_BE_WRITTEN if generate else None


async def written_before(db: asyncpg.Pool, new: NewJob) -> SentSuite | None:
    """The cases that an earlier job of the account got for the same files; None while there are none."""
    account = await read_billed(db, new.credential, new.account)
    subject = await subjects.read_subject(
        db, account.id, new.package, version=new.package_version, snapshot_id=new.snapshot_id
    )
    return await generated_suites.find_suite(db, account.id, subject.snapshot_id) if subject is not None else None


async def _published_name(db: asyncpg.Pool, new: NewJob) -> str | None:
    """Of a published package. A folder may have any name, so what is registered under it says nothing about it."""
    if new.snapshot_id is not None:
        return None
    account = await read_billed(db, new.credential, new.account)
    package = await packages.read_package(db, new.package, seen_by=account.id)
    return package.name if package is not None and package.is_published else None


async def _registered(value: dict[str, object]) -> SentSuite:
    try:
        suite = await asyncio.to_thread(parse_suite_value, value, path="the registry's cases")
    except EngineError as error:
        raise InvalidRequest(
            f"The registry's cases cannot be run: {error.message}", code="invalid_suite", details=error.details
        ) from None
    body = encode_canonical(suite).decode()
    return SentSuite(id=suite_digest(suite), body=body, trials=trials_a_model(suite), source="registry")


def refuse_choice() -> NoSuite:
    """For a request that chooses among cases which nobody has written yet."""
    return NoSuite("The package's cases are not written yet, so none can be chosen. Leave out `cases`.")
