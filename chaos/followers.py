"""Followers: each hears a job's events to its end, through every break, and writes down what it has heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from uuid import UUID

import aiohttp
from msgspec import Struct

PATIENCE_SECONDS = 90.0  # more than a storm and its healing keep a job from its end
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=20)


class Followed(Struct, frozen=True, kw_only=True):
    """What one follower heard. `ended` is its last event's name; None: it gave up at `until`."""

    job_id: UUID
    ended: str | None
    trials: int  # distinct places that a trial was told for
    repeated: int  # events that came again, but for places in the queue: a place is a state, and may be had twice
    connections: int
    until: datetime


async def follow(job_id: UUID, *, session: aiohttp.ClientSession) -> Followed:
    """The job's events, each connection going on behind the last event of the one before."""
    heard: dict[str, str] = {}  # id -> name
    repeated = connections = 0
    last_id, ended = "", None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while ended is None:
                connections += 1
                try:
                    async for event_id, name in _events(job_id, last_id, session=session):
                        repeated += event_id in heard and name != "queued"
                        heard[event_id] = name
                        last_id = event_id
                        ended = name if name in ("completed", "failed") else None
                except (aiohttp.ClientError, TimeoutError, OSError):
                    pass
                if ended is None:
                    await asyncio.sleep(0.3)
    except TimeoutError:
        pass
    return Followed(
        job_id=job_id,
        ended=ended,
        trials=sum(name == "trial" for name in heard.values()),
        repeated=repeated,
        connections=connections,
        until=datetime.now(UTC),
    )


async def _events(
    job_id: UUID, last_id: str, *, session: aiohttp.ClientSession
) -> AsyncGenerator[tuple[str, str], None]:
    """Id and name of each event of one connection; none where it is refused for now."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with session.get(f"/api/v1/test-jobs/{job_id}/events", headers=headers, timeout=TIMEOUT) as response:
        if response.status != 200:
            return
        fields: dict[str, str] = {}
        async for line in response.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "event" in fields:
                yield fields["id"], fields["event"]
                fields = {}
