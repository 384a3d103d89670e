"""What a claim costs, however many jobs wait, in how many accounts, and behind how many that are full."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from msgspec import Struct

from benchmarks.tables import Line, Table
from server.database import connect_database
from server.domain.jobs import ClaimedJob, JobEnd
from server.embedded import start_postgres
from server.store import jobs
from server.store.migrations import migrate

ROUNDS = 40
CLAIMS = 10  # a round and queue
WARM_UP = 50
MOST_RATIO = 1.3
END = JobEnd(status="completed", conclusion="passed", summary="{}", outcome="{}")

# Straight into the tables and without their triggers, as a million submits take long. The triggers' own table is filled
# by the migration's statement; tests hold it equal to what the triggers leave.
FILL = """
SET session_replication_role = replica;
INSERT INTO snapshots (id, archive, archive_sha256, file_count) VALUES ('snapshot', '', '', 0);
INSERT INTO suites (id, body) VALUES ('suite', '{{}}');
INSERT INTO users (id, username, subscription_tier)
  SELECT LPAD(TO_HEX(n), 32, '0')::UUID, 'user-' || n, 'enterprise' FROM GENERATE_SERIES(1, {accounts} + {full}) n;
INSERT INTO packages (id, owner_id, name, format, is_published) SELECT id, id, 'p', 'claude', FALSE FROM users;
INSERT INTO test_jobs (user_id, submitted_by, package_id, package_version, snapshot_id, suite_id, suite_source,
    models_requested, framework, trials_total, start_key, submit_position, submit_wait_seconds, submit_runs_used,
    submit_tier, status, lease_until, fence)
  SELECT u.id, u.id, u.id, '1.0.0', 'snapshot', 'suite', 'package', '{{echo}}', 'litellm', 1, job.start_key, 0, 0, 1,
    'enterprise', job.status, job.lease_until, 0
  FROM (
    SELECT 1 + n % {accounts} AS account, NOW() - INTERVAL '1 hour' + n * INTERVAL '1 ms' AS start_key,
      'queued' AS status, NULL::TIMESTAMPTZ AS lease_until
    FROM GENERATE_SERIES(1, {jobs}) n
    UNION ALL
    -- Accounts at their limit, with the oldest jobs of all.
    SELECT {accounts} + f, NOW() - INTERVAL '2 hours', CASE WHEN n <= 20 THEN 'running' ELSE 'queued' END,
      CASE WHEN n <= 20 THEN NOW() + INTERVAL '1 day' END
    FROM GENERATE_SERIES(1, {full}) f, GENERATE_SERIES(1, 30) n
  ) job JOIN users u ON u.username = 'user-' || job.account;
INSERT INTO waiting_accounts (user_id, start_key, jobs, trials)
  SELECT user_id, MIN(start_key), COUNT(*), SUM(trials_total) FROM test_jobs WHERE status = 'queued' GROUP BY user_id;
SET session_replication_role = DEFAULT;
"""


class Queue(Struct, frozen=True):
    """What waits: `jobs` spread over `accounts`, behind `full` accounts that run all they may."""

    jobs: int
    accounts: int
    full: int = 0

    def __str__(self) -> str:
        where = "1 account" if self.accounts == 1 else f"{self.accounts:,} accounts"
        return f"{self.jobs:,} waiting in {where}" + (f" behind {self.full} full ones" if self.full else "")


CONTROL = Queue(1_000, 1_000)
QUEUES = (
    Queue(1_000, 1),
    Queue(100_000, 1_000),
    Queue(100_000, 1),
    Queue(100_000, 100_000),
    Queue(1_000_000, 1_000),
    Queue(1_000_000, 1),
    Queue(1_000, 1_000, full=20),
)
EXPLAINED = Queue(1_000_000, 1_000)
WITHOUT_BOUND = (Queue(1_000, 1_000, full=20),)  # grows with what runs, not with what waits


class Pair(Struct, frozen=True):
    """Milliseconds of each claim from a queue, and from the control that was asked by turns with it."""

    queue: list[float]
    control: list[float]


def measure() -> Table:
    """Each queue beside a control, on a PostgreSQL of their own: many large ones would fight for its memory."""
    pairs, plan = {}, ""
    for queue in QUEUES:
        pairs[queue], explained = asyncio.run(_measure(queue))
        plan = explained if queue == EXPLAINED else plan
    return table(pairs, plan)


async def _measure(queue: Queue) -> tuple[Pair, str]:
    with TemporaryDirectory(prefix="prpm-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the database's own user has to pass
        postgres = start_postgres(folder / "pg")
        try:
            pools = {asked: await _fill(postgres.dsn, asked) for asked in (CONTROL, queue)}
            times = await _claim_by_turns(pools)
            plan = await explain_claim(pools[queue])
            for pool in pools.values():
                await pool.close()
        finally:
            postgres.stop()
    return Pair(times[queue], times[CONTROL]), plan


async def _fill(dsn: str, queue: Queue) -> asyncpg.Pool:
    name = f"bench_{queue.jobs}_{queue.accounts}_{queue.full}"
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    own = urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
    await migrate(own)
    connection = await asyncpg.connect(own)
    await connection.execute(FILL.format(jobs=queue.jobs, accounts=queue.accounts, full=queue.full))
    await connection.execute("VACUUM ANALYZE")
    # The disk takes longer than the rest, and as long for every queue: it would hide what differs.
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await connection.execute("CHECKPOINT")
    await connection.close()
    return await connect_database(own, most_connections=1)


async def _claim_by_turns(pools: Mapping[Queue, asyncpg.Pool]) -> dict[Queue, list[float]]:
    """Milliseconds of each claim."""
    times: dict[Queue, list[float]] = {queue: [] for queue in pools}
    for pool in pools.values():
        await _claims(pool, WARM_UP)
    for _ in range(ROUNDS):
        for queue, pool in pools.items():
            times[queue] += await _claims(pool, CLAIMS)
    return times


async def _claims(pool: asyncpg.Pool, count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        job = await jobs.claim_job(pool, "bench", lease_seconds=3600, job_seconds=3600)
        times.append((time.perf_counter() - began) * 1000)
        assert isinstance(job, ClaimedJob)
        # So that the account has a free slot again; not measured.
        assert await jobs.finish_job(pool, job, END)
    return times


async def explain_claim(pool: asyncpg.Pool) -> str:
    """The plans of the claim's own statements, as PostgreSQL carried them out."""
    async with pool.acquire() as connection:
        notices: list[str] = []

        def note(_: object, message: asyncpg.PostgresLogMessage) -> None:
            notices.append(str(message.message))

        connection.add_log_listener(note)
        await connection.execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; "
            "SET auto_explain.log_analyze = on; SET auto_explain.log_buffers = on; "
            "SET auto_explain.log_level = notice; SET auto_explain.log_timing = on"
        )
        await connection.fetchrow(jobs.SQL["claim_job"], "bench", 3600.0, 3600.0)
        await connection.execute("SET auto_explain.log_min_duration = -1")
        connection.remove_log_listener(note)
    return "\n\n".join(notices)


def table(pairs: Mapping[Queue, Pair], plan: str) -> Table:
    """The figures as promised, and the plans."""
    return Table(
        title="queue",
        how=f"One claim with all that running the job needs: two round trips, one commit that waits for no disk. "
        f"{ROUNDS * CLAIMS} claims of each queue, {CLAIMS} at a time by turns with its control; each job is ended "
        "before the next one.",
        lines=tuple(_line(queue, pair) for queue, pair in pairs.items()),
        notes=(
            (
                "Plans of the claim with 1,000,000 jobs waiting in 1,000 accounts (EXPLAIN, ANALYZE, BUFFERS):\n\n"
                f"```\n{plan}\n```"
            ),
        ),
    )


def _line(queue: Queue, pair: Pair) -> Line:
    measured, control = statistics.median(pair.queue), statistics.median(pair.control)
    is_promised = queue not in WITHOUT_BOUND
    return Line(
        what=f"claim, {queue}",
        measured=measured,
        against=str(CONTROL),
        control=control,
        unit="ms",
        bound=f"ratio ≤ {MOST_RATIO:g}" if is_promised else "",
        holds=measured / control <= MOST_RATIO if is_promised else None,
    )
