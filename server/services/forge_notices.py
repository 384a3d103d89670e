"""What a forge's report says beside the outcome: where the suite's cases stand, and the baseline with its age."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime

import asyncpg

from evals.archives import read_archive
from evals.errors import EngineError
from notifiers import Baseline, Notice
from notifiers._case_lines import case_lines
from notifiers._outcome import BaselineSource
from server.domain.notifications import ToldJob
from server.store import outbox, packages

WORDS = {"branch": "", "version": "version ", "job": "job "}


async def with_lines(db: asyncpg.Pool, job: ToldJob, notice: Notice) -> Notice:
    """With the lines of the suite's cases, where the suite is a file of the snapshot and something is shown there."""
    if notice.suite_path is None or all(row.state == "passed" for row in notice.outcome.test_cases):
        return notice
    archive = await packages.read_archive(db, job.snapshot_id)
    if archive is None:
        return notice
    lines = await asyncio.to_thread(_lines, archive, notice.suite_path)
    return dataclasses.replace(notice, case_lines=lines)


def _lines(archive: bytes, suite_path: str) -> dict[str, int]:
    """Of the file whose path is the end of the suite's path in the repository, as a package may be in any folder."""
    try:
        files = read_archive(archive)
    except EngineError:
        return {}  # it could be read when it was tested; a report without lines is one all the same
    within = [path for path in files if f"/{suite_path}".endswith(f"/{path}")]
    return case_lines(files[max(within, key=len)]) if within else {}


async def with_baseline(db: asyncpg.Pool, job: ToldJob, notice: Notice) -> Notice:
    """With what the outcome was compared with, how old it is, and what it came to."""
    comparison = notice.outcome.comparison
    if comparison is None or comparison.source is None:
        return notice
    source = comparison.source
    baseline = Baseline(
        label=f"{WORDS.get(source.kind, '')}{source.name}",
        made_at=_moment(source),
        score=await outbox.read_baseline_score(db, job, kind=source.kind, name=source.name),
    )
    return dataclasses.replace(notice, baseline=baseline)


def _moment(source: BaselineSource) -> datetime | None:
    try:
        made_at = datetime.fromisoformat(source.newest_at) if source.newest_at else None
    except ValueError:
        return None
    return made_at if made_at is not None and made_at.tzinfo is not None else None
