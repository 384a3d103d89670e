"""What is told on a change at its forge that is no job."""

from __future__ import annotations

from typing import Literal

import asyncpg
import structlog

from server.domain.changes import Change
from server.domain.links import Link

log = structlog.get_logger()

State = Literal["queued", "neutral", "failure", "action_required"]


async def report_state(
    db: asyncpg.Pool,
    link: Link,
    *,
    change: Change,
    package: str | None,
    suite_name: str,
    state: State,
    title: str,
    summary: str,
) -> None:
    """Kept to be told."""
    log.info("state", state=state, package=package, suite=suite_name)
