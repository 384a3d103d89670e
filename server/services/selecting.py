"""Some cases of a suite only: the suite that runs is a smaller one, kept like one that came with the request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import msgspec

from evals.errors import EngineError
from evals.suites import select_cases, suite_digest
from evals.types import Suite
from server.domain.errors import InvalidRequest
from server.domain.jobs import NewJob, SentSuite
from server.services.on_behalf import read_billed
from server.services.publishing import encode_canonical, trials_a_model
from server.store import subjects

MOST_TEXTS = 1000
LONGEST_TEXT = 1000  # characters


async def with_cases(db: asyncpg.Pool, new: NewJob, texts: Sequence[str]) -> NewJob:
    """The job with the cases that the texts name; the job as it is without texts.

    A package that is not there, or has no suite that can be read, is left to those who say so. Raises InvalidRequest,
    NotAuthenticated.
    """
    if not texts:
        return new
    if len(texts) > MOST_TEXTS or any(not 0 < len(text) <= LONGEST_TEXT for text in texts):
        raise InvalidRequest(
            f"cases: at most {MOST_TEXTS} texts of 1 to {LONGEST_TEXT} characters.", code="invalid_cases"
        )
    if new.upload_results:
        raise InvalidRequest(
            "cases: some cases alone say too little about a package. Leave out `upload_results` and `verify_results`.",
            code="invalid_cases",
        )
    body = new.suite.body if new.suite is not None else await _own_suite(db, new)
    if body is None:
        return new
    part = await asyncio.to_thread(_part, body, texts)
    return msgspec.structs.replace(
        new, suite=msgspec.structs.replace(part, source=new.suite.source) if new.suite else part
    )


async def _own_suite(db: asyncpg.Pool, new: NewJob) -> str | None:
    caller = await read_billed(db, new.credential, new.account)
    subject = await subjects.read_subject(
        db, caller.id, new.package, version=new.package_version, snapshot_id=new.snapshot_id
    )
    return subject.suite_body if subject is not None else None


def _part(body: str, texts: Sequence[str]) -> SentSuite:
    try:
        suite = select_cases(msgspec.json.decode(body, type=Suite), texts)
    except EngineError as error:
        raise InvalidRequest(error.message, code="invalid_cases", details=error.details) from None
    return SentSuite(id=suite_digest(suite), body=encode_canonical(suite).decode(), trials=trials_a_model(suite))
