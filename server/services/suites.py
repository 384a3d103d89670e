"""Suites that an owner stores for a package, beside its files."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from evals.errors import EngineError
from evals.suites import parse_suite_value, suite_digest
from evals.types import Suite
from server.domain.accounts import Caller
from server.domain.errors import InvalidRequest, NotAllowed, NotFound
from server.domain.packages import PackageRef
from server.services.on_behalf import acting_for
from server.services.publishing import KeptSnapshot, encode_canonical, trials_a_model
from server.services.reading import no_package
from server.store import packages, subjects


class StoredSuite(Struct, frozen=True, kw_only=True):
    suite_id: str
    cases: int
    stored_at: datetime


async def store_suite(db: asyncpg.Pool, caller: Caller, ref: PackageRef, value: dict[str, Any]) -> StoredSuite:
    """Make this the package's suite, where its files bring none. Raises InvalidRequest, NotFound, NotAllowed."""
    package = await packages.read_package(db, ref, seen_by=caller.id)
    if package is None:
        raise no_package()
    if package.owner_id != caller.id and not caller.is_admin:
        await _need_right(db, caller, package.owner)
    try:
        suite = await asyncio.to_thread(parse_suite_value, value, path="suite")
    except EngineError as error:
        raise InvalidRequest(error.message, code="invalid_suite", details=error.details) from None
    digest = suite_digest(suite)
    stored_at = await packages.store_package_suite(
        db,
        package.id,
        suite_id=digest,
        body=encode_canonical(suite).decode(),
        trials=trials_a_model(suite),
        stored_by=caller.id,
    )
    return StoredSuite(suite_id=digest, cases=len(suite.cases), stored_at=stored_at)


async def read_titles(db: asyncpg.Pool, account_id: UUID, kept: KeptSnapshot) -> tuple[str, ...]:
    """Of the cases that the package's own suite has; none without one that can be read."""
    subject = await subjects.read_subject(
        db, account_id, PackageRef(id=kept.package_id), version=kept.version, snapshot_id=None
    )
    if subject is None or subject.suite_body is None or subject.suite_source != "package":
        return ()
    suite = await asyncio.to_thread(msgspec.json.decode, subject.suite_body, type=Suite)
    return tuple(case.title for case in suite.cases)


async def _need_right(db: asyncpg.Pool, caller: Caller, owner: str) -> None:
    try:
        await acting_for(db, caller, owner, "publish")
    except (NotFound, NotAllowed):
        raise NotAllowed(
            "Only the package's owner may store a suite for it. Send yours with `prpm test --suite FILE`."
        ) from None
