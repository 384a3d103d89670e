"""Brings what was seen from outside into the database, then lets `checks.sql` judge."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from chaos.model import Call
from chaos.submitters import AnswerLog
from server.tasks.wakeups import decode_task

FILE = Path(__file__).with_name("checks.sql")
NAME = re.compile(r"^-- name: (.+)\n", re.MULTILINE)
MOST_ROWS = 5  # of a finding are shown

OVERRUNS = """
SELECT a.id, COUNT(*)::INT AS leases, GREATEST(t.concurrent_jobs, 1) AS allowed
FROM test_jobs j JOIN users a ON a.id = j.user_id JOIN tiers t ON t.name = a.subscription_tier
WHERE j.status = 'running' AND j.lease_until > CLOCK_TIMESTAMP()
GROUP BY a.id, t.concurrent_jobs HAVING COUNT(*) > GREATEST(t.concurrent_jobs, 1)
"""


class Finding(Struct, frozen=True, kw_only=True):
    """A broken invariant: which, how often, and some of the rows that show it."""

    check: str
    count: int
    rows: tuple[str, ...]


class Overrun(Struct, frozen=True):
    """An account with more live leases than it may have, at one moment."""

    account_id: UUID
    leases: int
    allowed: int
    at: datetime


class End(Struct, frozen=True):
    """A worker's log says that it ended the job under this fence."""

    job_id: UUID
    fence: int
    worker: str


class Fault(Struct, frozen=True):
    """A line of level error or worse in the log of one of our processes."""

    process: str
    event: str
    line: str


class LeaseSampler:
    """Counts live leases ten times a second, for as long as it runs."""

    def __init__(self, dsn: str) -> None:
        self.samples = 0
        self.overruns: list[Overrun] = []
        self._dsn = dsn

    async def run(self) -> None:
        """Until cancelled. While the database is away nothing is counted."""
        while True:
            try:
                connection = await asyncpg.connect(self._dsn, timeout=5)
                try:
                    await self._sample(connection)
                finally:
                    connection.terminate()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.1)

    async def _sample(self, connection: asyncpg.Connection) -> None:
        while True:
            rows = await connection.fetch(OVERRUNS)
            now = datetime.now(UTC)
            self.overruns += [Overrun(row["id"], row["leases"], row["allowed"], now) for row in rows]
            self.samples += 1
            await asyncio.sleep(0.1)


def read_checks() -> Mapping[str, str]:
    """Name -> statement."""
    parts = NAME.split(FILE.read_text())[1:]
    return {name: statement.strip() for name, statement in zip(parts[::2], parts[1::2], strict=True)}


def read_ends(logs: Iterable[Path]) -> list[End]:
    """The ends that workers wrote down. A log is one process': a line may be cut short by its death."""
    ends = []
    for log in logs:
        fences: dict[str, int] = {}
        for line in log.read_bytes().splitlines():
            try:
                event = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue
            if event.get("event") == "job started":
                fences[event["job_id"]] = event["fence"]
            elif event.get("event") == "job ended":
                ends.append(End(UUID(event["job_id"]), fences[event["job_id"]], log.stem))
    return ends


def read_faults(logs: Iterable[Path]) -> list[Fault]:
    """Every line that says that something of ours is wrong; a part that is away is a warning."""
    faults = []
    for log in logs:
        for line in log.read_text(errors="replace").splitlines():
            try:
                event = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue
            if event.get("level") in ("error", "critical"):
                faults.append(Fault(log.stem, str(event.get("event")), line))
    return faults


async def judge(connection: asyncpg.Connection) -> list[Finding]:
    """Every invariant that does not hold."""
    await connection.execute("REFRESH MATERIALIZED VIEW chaos.jobs; ANALYZE")
    findings = []
    for check, statement in read_checks().items():
        rows = await connection.fetch(statement)
        if rows:
            shown = tuple(", ".join(f"{name}={value}" for name, value in row.items()) for row in rows[:MOST_ROWS])
            findings.append(Finding(check=check, count=len(rows), rows=shown))
    return findings


async def load(
    connection: asyncpg.Connection,
    *,
    log: AnswerLog,
    calls: Iterable[Call] = (),
    ends: Iterable[End] = (),
    faults: Iterable[Fault] = (),
    overruns: Iterable[Overrun] = (),
    messages: Iterable[bytes] = (),
) -> None:
    """What was seen from outside is in the tables of `audit.sql`."""
    tasks = [decode_task(message) for message in messages]
    rows: dict[str, list[tuple[object, ...]]] = {
        "intents": [
            (e.intent.id, e.intent.account.id, e.intent.key is not None, e.seconds, e.unsure, e.intent.line)
            for e in log.ended
        ],
        "answers": [(a.intent, a.status, a.retry_after, a.code, a.job_id, a.body) for a in log.answers],
        "cancels": [(a.job_id, a.status, a.retry_after, a.body) for a in log.cancels],
        "followed": [(f.job_id, f.ended, f.trials, f.repeated, f.until) for f in log.followed],
        "calls": [(c.intent, c.case_index, c.began_at) for c in calls],
        "ends": [(e.job_id, e.fence, e.worker) for e in ends],
        "faults": [(f.process, f.event, f.line) for f in faults],
        "overruns": [(o.account_id, o.leases, o.allowed, o.at) for o in overruns],
        "messages": [("arq:job", str(t["f"]), msgspec.json.encode(t["a"]).decode()) for t in tasks],
    }
    for table, values in rows.items():
        await connection.copy_records_to_table(table, schema_name="chaos", records=values)
