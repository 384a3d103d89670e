"""What is thrown at the service. To add a fault, add a function and its line in FAULTS; the seed decides the order."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from uuid import UUID

import asyncpg

from chaos.programs import Program
from chaos.proxy import WRITES
from chaos.site import Site

MOST_TRIES = 5  # to find a worker in the middle of a job
SKEWS = (-3600, -20, 20, 3600)  # seconds


class Storm:
    """Faults on one site, side by side unless they hit the same part. `counts` says what was done."""

    def __init__(self, site: Site, random: Random) -> None:
        self.site = site
        self.random = random
        self.counts: Counter[str] = Counter()
        self._parts: dict[str, asyncio.Lock] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def rage(self, faults: list[str], *, most_gap_seconds: float) -> None:
        """Every fault in turn, up to `most_gap_seconds` apart, and all of them over."""
        for name in faults:
            task = asyncio.create_task(self._one(name), name=name)
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            await asyncio.sleep(self.random.uniform(0.2, most_gap_seconds))
        await asyncio.gather(*self._under_way)

    async def _one(self, name: str) -> None:
        await FAULTS[name](self)
        self.counts[name] += 1

    def part(self, name: str) -> asyncio.Lock:
        """Held while that part is away."""
        return self._parts.setdefault(name, asyncio.Lock())

    def a_worker(self) -> Program:
        """Any of them."""
        return self.random.choice(self.site.workers)


async def kill_worker(storm: Storm) -> None:
    """kill -9; another one starts a little later."""
    await _kill(storm, storm.a_worker(), skew_seconds=0)


async def kill_api(storm: Storm) -> None:
    """kill -9, also between a COMMIT and its answer."""
    await _kill(storm, storm.site.api, skew_seconds=0)


async def skew_clock(storm: Storm) -> None:
    """A process comes back with a clock that is wrong by up to an hour."""
    await _kill(storm, storm.random.choice(storm.site.programs), skew_seconds=storm.random.choice(SKEWS))


async def _kill(storm: Storm, program: Program, *, skew_seconds: int) -> None:
    pause = storm.random.uniform(0.0, 1.0)
    async with storm.part(program.name):
        program.kill()
        await asyncio.sleep(pause)
        program.start(skew_seconds=skew_seconds)
        # Time to get to work before it is hit again.
        await asyncio.sleep(1.5)


async def stop_worker(storm: Storm) -> None:
    """SIGTERM, and a new one when it has ended: a deployment."""
    program = storm.a_worker()
    async with storm.part(program.name):
        program.send(signal.SIGTERM)
        for _ in range(1000):
            if not program.is_running:
                break
            await asyncio.sleep(0.01)
        program.kill()
        program.start()
        await asyncio.sleep(1.5)


async def pause_worker(storm: Storm) -> None:
    """SIGSTOP for longer than a lease, then SIGCONT: it wakes up and believes to hold what others have."""
    program = storm.a_worker()
    seconds = storm.site.options.lease_seconds * storm.random.uniform(1.2, 2.0)
    async with storm.part(program.name):
        program.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        program.send(signal.SIGCONT)


async def wake_beside_heir(storm: Storm) -> None:
    """SIGSTOP for a worker in the middle of a job, until another one is in the middle of it; then SIGCONT.

    Where luck alone decides when a paused worker wakes up, most find the job ended, and nothing to break.
    """
    for _ in range(MOST_TRIES):
        holder = await _a_holder(storm)
        if holder is not None and await _wake_beside_heir(storm, *holder):
            return
        await asyncio.sleep(0.3)


async def _wake_beside_heir(storm: Storm, program: Program, job_id: UUID, fence: int) -> bool:
    if storm.part(program.name).locked():
        return False  # another fault has it just now
    async with storm.part(program.name):
        program.send(signal.SIGSTOP)
        heir = await _until_row(storm, HEIR, job_id, fence)
        if heir is not None:
            await asyncio.sleep(0.2)
        program.send(signal.SIGCONT)
        return heir is not None


# A job with much left to do, and who has it.
HOLDER = """
SELECT j.id, j.fence, SPLIT_PART(REVERSE(j.lease_owner), '-', 2) AS reversed_pid FROM test_jobs j
WHERE j.status = 'running' AND j.lease_until > CLOCK_TIMESTAMP() AND j.cancel_requested_at IS NULL
  AND j.trials_total - (SELECT COUNT(*) FROM trials t WHERE t.job_id = j.id) >= 5
ORDER BY j.started_at DESC LIMIT 1
"""
HEIR = "SELECT id FROM test_jobs WHERE id = $1 AND fence > $2 AND status = 'running' AND lease_owner IS NOT NULL"


async def _a_holder(storm: Storm) -> tuple[Program, UUID, int] | None:
    row = await _until_row(storm, HOLDER)
    if row is None:
        return None
    pid = row["reversed_pid"][::-1]
    program = next((worker for worker in storm.site.workers if str(worker.pid) == pid), None)
    return (program, row["id"], row["fence"]) if program else None


async def _until_row(storm: Storm, statement: str, *values: object) -> asyncpg.Record | None:
    """The first row that there is, within three leases. None: there was none, or the database is away."""
    ends_at = time.monotonic() + 3 * storm.site.options.lease_seconds
    try:
        connection = await asyncpg.connect(storm.site.dsn, timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return None
    try:
        while (row := await connection.fetchrow(statement, *values)) is None and time.monotonic() < ends_at:
            await asyncio.sleep(0.02)
        return row
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    finally:
        connection.terminate()


async def cut_off_worker(storm: Storm) -> None:
    """Nothing passes between a worker and PostgreSQL for longer than a lease; then all that waited arrives late."""
    program = storm.a_worker()
    seconds = storm.site.options.lease_seconds * storm.random.uniform(1.2, 2.0)
    async with storm.part(program.name):
        storm.site.proxy.stall(program.name)
        await asyncio.sleep(seconds)
        storm.site.proxy.resume(program.name)


async def flush_redis(storm: Storm) -> None:
    """FLUSHALL: every wake-up is lost."""
    async with storm.part("valkey"):
        await storm.site.flush_redis()


async def kill_valkey(storm: Storm) -> None:
    """kill -9, away for a while, then back."""
    async with storm.part("valkey"):
        storm.site.kill_valkey()
        await asyncio.sleep(storm.random.uniform(0.2, 4.0))
        await storm.site.start_valkey()


async def freeze_valkey(storm: Storm) -> None:
    """SIGSTOP: connections stay, answers do not come."""
    async with storm.part("valkey"):
        storm.site.freeze_valkey()
        await asyncio.sleep(storm.random.uniform(2.0, 7.0))
        storm.site.wake_valkey()


async def crash_postgres(storm: Storm) -> None:
    """Immediate stop, away for a while, then crash recovery."""
    async with storm.part("postgres"):
        await storm.site.crash_postgres()
        await asyncio.sleep(storm.random.uniform(0.0, 2.0))
        await storm.site.start_postgres()


async def drop_commit(storm: Storm) -> None:
    """A statement is carried out, and its answer is lost with the connection."""
    storm.site.proxy.swallow(storm.random.choice(list(WRITES)))


async def replay_ledger(storm: Storm) -> None:
    """Somebody writes an entry of the ledger again, as a careless repetition would."""
    try:
        connection = await asyncpg.connect(storm.site.dsn, timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return  # away just now
    try:
        await connection.execute(
            "INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason) "
            "SELECT job_id, user_id, month, kind, runs, 'replayed' FROM usage_ledger ORDER BY RANDOM() LIMIT 1"
        )
    except asyncpg.UniqueViolationError:
        pass  # refused, as it must be
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return
    finally:
        connection.terminate()


FAULTS: Mapping[str, Callable[[Storm], Awaitable[None]]] = {
    "worker kill -9": kill_worker,
    "API kill -9": kill_api,
    "worker SIGTERM": stop_worker,
    "worker SIGSTOP past its lease": pause_worker,
    "worker woken up beside its heir": wake_beside_heir,
    "worker cut off from PostgreSQL": cut_off_worker,
    "clock skew": skew_clock,
    "FLUSHALL": flush_redis,
    "Valkey kill -9": kill_valkey,
    "Valkey frozen": freeze_valkey,
    "PostgreSQL immediate stop": crash_postgres,
    "COMMIT answer dropped": drop_commit,
    "ledger entry written again": replay_ledger,
}

# So many of each for a hundred kill -9 (three of four hit a worker); at least one of each.
PER_HUNDRED = {
    "worker kill -9": 75,
    "API kill -9": 25,
    "worker SIGTERM": 10,
    "worker SIGSTOP past its lease": 20,
    "worker woken up beside its heir": 10,
    "worker cut off from PostgreSQL": 12,
    "clock skew": 10,
    "FLUSHALL": 12,
    "Valkey kill -9": 6,
    "Valkey frozen": 5,
    "PostgreSQL immediate stop": 6,
    "COMMIT answer dropped": 24,
    "ledger entry written again": 10,
}


def deck(kills: int, random: Random) -> list[str]:
    """All faults of a storm with so many kill -9, shuffled."""
    least = {"worker SIGSTOP past its lease": 5, "COMMIT answer dropped": 8, "ledger entry written again": 3}
    counts = {name: max(least.get(name, 2), round(share * kills / 100)) for name, share in PER_HUNDRED.items()}
    return shuffled(counts, random)


def shuffled(counts: Mapping[str, int], random: Random) -> list[str]:
    """So many of each, in the seed's order."""
    cards = [name for name, count in counts.items() for _ in range(count)]
    random.shuffle(cards)
    return cards
