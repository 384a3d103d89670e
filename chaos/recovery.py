"""How long each part is missed: one fault at a time, on a service with idle capacity and the shipped leases.

A figure is taken several times; its bound must hold for the largest, not for the median.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from uuid import UUID

import aiohttp
import asyncpg
from msgspec import Struct

from chaos.checks import Finding, judge, load, read_ends, read_faults
from chaos.programs import Program
from chaos.site import Account, Site, SiteOptions, open_site
from chaos.submitters import Answer, AnswerLog, Ended, Intent, post

LEASE_SECONDS = 15
PATIENCE_SECONDS = 60.0
RACERS = 200


class Effort(Struct, frozen=True, kw_only=True):
    """How much is done: the figures of the page want the long one."""

    repeats: int = 3
    valkey_away_seconds: float = 20.0
    postgres_away_seconds: float = 3.0
    races: int = 5


LONG = Effort(repeats=5, valkey_away_seconds=60.0, postgres_away_seconds=10.0, races=100)


class Figure(Struct, frozen=True, kw_only=True):
    """Something measured several times, in seconds unless `unit` says otherwise; `most` is the bound for each."""

    what: str
    values: tuple[float, ...]
    most: float
    unit: str = "s"

    @property
    def holds(self) -> bool:
        """Whether the worst is within the bound."""
        return bool(self.values) and max(self.values) <= self.most

    @property
    def median(self) -> float:
        """Of the values."""
        return statistics.median(self.values)


class Recovery(Struct, frozen=True, kw_only=True):
    """All figures, and the invariants that broke on the way."""

    figures: tuple[Figure, ...]
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Every bound and every invariant."""
        return not self.findings and all(figure.holds for figure in self.figures)


async def measure_recovery(
    *, seed: int, effort: Effort, measures: Sequence[Callable[[Bench], Awaitable[list[Figure]]]] | None = None
) -> Recovery:
    """Each fault in turn, all by default; then the invariants."""
    options = SiteOptions(
        workers=2, lease_seconds=LEASE_SECONDS, worker_jobs=10, job_concurrency=2, has_proxy=False, runs_per_month=1
    )
    async with open_site(options) as site:
        [account] = await site.add_accounts("enterprise")
        bench = Bench(site, account, effort, Random(seed))
        figures = []
        for measure in MEASURES if measures is None else measures:
            figures += await measure(bench)
        return Recovery(figures=tuple(figures), findings=await bench.judge())


class Bench:
    """The site, and what is asked of it."""

    def __init__(self, site: Site, account: Account, effort: Effort, random: Random) -> None:
        self.site = site
        self.effort = effort
        self.log = AnswerLog(site.folder / "answers.jsonl")
        self.account = account
        self._random = random

    def session(self, account: Account) -> aiohttp.ClientSession:
        """The account's connections."""
        headers = {"Authorization": f"Bearer {account.token}"}
        return aiohttp.ClientSession(self.site.url, headers=headers, timeout=aiohttp.ClientTimeout(total=60))

    async def submit(
        self,
        *,
        cases: int = 1,
        milliseconds: int = 50,
        account: Account | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> Answer:
        """One submit, not repeated; the answer is kept. `session` of the same account saves a connection."""
        intent_id = f"{self._random.getrandbits(48):012x}"
        intent = Intent(
            id=intent_id, account=account or self.account, key=f"key-{intent_id}", copies=1, cases=cases,
            milliseconds=milliseconds,
        )  # fmt: skip
        began = time.monotonic()
        if session is None:
            async with self.session(intent.account) as own:
                answer = await post(intent, session=own)
        else:
            answer = await post(intent, session=session)
        self.log.add(answer)
        self.log.ended.append(Ended(intent=intent, seconds=time.monotonic() - began, unsure=False))
        return answer

    async def accepted(self, *, cases: int = 1, milliseconds: int = 50) -> UUID:
        """The job of a submit that must be accepted."""
        answer = await self.submit(cases=cases, milliseconds=milliseconds)
        assert answer.job_id is not None, answer.body
        return answer.job_id

    async def row(self, statement: str, *values: object) -> asyncpg.Record:
        """One row of the database, asked directly."""
        connection = await asyncpg.connect(self.site.dsn)
        try:
            return await connection.fetchrow(statement, *values)
        finally:
            connection.terminate()

    async def job(self, job_id: UUID) -> asyncpg.Record:
        """Where the job stands."""
        return await self.row("SELECT status, fence, attempt, lease_owner FROM test_jobs WHERE id = $1", job_id)

    async def until(self, is_true: Callable[[], Awaitable[bool]]) -> float:
        """Seconds until it is. Raises TimeoutError after a minute."""
        began = time.monotonic()
        while not await is_true():
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise TimeoutError("It never happened.")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def until_drained(self) -> float:
        """Seconds until no job waits or runs."""

        async def is_drained() -> bool:
            return bool(await self.row("SELECT 1 WHERE NOT EXISTS (SELECT FROM test_jobs WHERE completed_at IS NULL)"))

        return await self.until(is_drained)

    async def until_started(self, job_id: UUID) -> float:
        """Seconds until a worker has claimed it."""

        async def is_started() -> bool:
            return bool((await self.job(job_id))["status"] != "queued")

        return await self.until(is_started)

    async def until_elsewhere(self, job_id: UUID, *, fence: int) -> float:
        """Seconds until a worker runs it under a newer fence."""

        async def is_elsewhere() -> bool:
            job = await self.job(job_id)
            return bool(job["status"] == "running" and job["fence"] > fence)

        return await self.until(is_elsewhere)

    async def running_job(self) -> tuple[UUID, asyncpg.Record, Program]:
        """A job of about 4 s with some of its trials stored, and the worker that holds it."""
        job_id = await self.accepted(cases=16, milliseconds=500)

        async def has_trials() -> bool:
            return bool((await self.row("SELECT COUNT(*) AS n FROM trials WHERE job_id = $1", job_id))["n"] >= 3)

        await self.until(has_trials)
        job = await self.job(job_id)
        pid = job["lease_owner"].split("-")[-2]
        return job_id, job, next(worker for worker in self.site.workers if str(worker.pid) == pid)

    async def judge(self) -> tuple[Finding, ...]:
        """The invariants, at the end."""
        await self.until_drained()
        connection = await asyncpg.connect(self.site.dsn)
        try:
            ends = read_ends(path for worker in self.site.workers for path in worker.logs())
            faults = read_faults(path for program in self.site.programs for path in program.logs())
            await load(connection, log=self.log, calls=self.site.model.calls, ends=ends, faults=faults)
            return tuple(await judge(connection))
        finally:
            connection.terminate()


async def worker_killed(bench: Bench) -> list[Figure]:
    """kill -9 of the worker that holds a job; the other one is idle."""
    seconds = []
    for _ in range(bench.effort.repeats):
        job_id, job, holder = await bench.running_job()
        holder.kill()
        seconds.append(await bench.until_elsewhere(job_id, fence=job["fence"]))
        holder.start()
        await bench.until_drained()
    return [Figure(what="worker kill -9: its job runs elsewhere", values=tuple(seconds), most=20.0)]


async def worker_stopped(bench: Bench) -> list[Figure]:
    """SIGTERM to the worker that holds a job, as at a deployment."""
    seconds, attempts, exits = [], [], []
    for _ in range(bench.effort.repeats):
        job_id, job, holder = await bench.running_job()
        holder.send(signal.SIGTERM)
        began = time.monotonic()
        seconds.append(await bench.until_elsewhere(job_id, fence=job["fence"]))
        attempts.append(float((await bench.job(job_id))["attempt"] - job["attempt"]))
        while holder.is_running:
            await asyncio.sleep(0.01)
        exits.append(time.monotonic() - began)
        holder.start()
        await bench.site.wait_until_ready()
        await bench.until_drained()
    return [
        Figure(what="worker SIGTERM: its job runs elsewhere", values=tuple(seconds), most=2.0),
        Figure(what="worker SIGTERM: attempts that it cost", values=tuple(attempts), most=0.0, unit=""),
        Figure(what="worker SIGTERM: it has ended", values=tuple(exits), most=30.0),
    ]


async def redis_flushed(bench: Bench) -> list[Figure]:
    """FLUSHALL right after a submit was accepted: its wake-up may be lost."""
    seconds = []
    for _ in range(bench.effort.repeats * 3):
        job_id, _ = await asyncio.gather(bench.accepted(), bench.site.flush_redis())
        await bench.site.flush_redis()
        seconds.append(await bench.until_started(job_id))
    await bench.until_drained()
    return [Figure(what="FLUSHALL: a job that was just accepted starts", values=tuple(seconds), most=5.0)]


async def redis_away(bench: Bench) -> list[Figure]:
    """Valkey is killed and stays away; a submit a second; then it is back."""
    site, away = bench.site, bench.effort.valkey_away_seconds
    pids = [program.pid for program in site.programs]
    site.kill_valkey()
    refused, began, starts = 0, time.monotonic(), []
    while time.monotonic() - began < away:
        answer = await bench.submit()
        refused += answer.status != 202
        if answer.job_id is not None:
            starts.append(await bench.until_started(answer.job_id))
        await asyncio.sleep(0.5)
    await site.start_valkey()
    drained = await bench.until_drained()
    taken = await _until_wakeups_flow(bench)
    ended = sum(program.pid != pid or not program.is_running for program, pid in zip(site.programs, pids, strict=True))
    what = f"Valkey away for {away:.0f} s"
    return [
        Figure(what=f"{what}: submits that were refused", values=(float(refused),), most=0.0, unit=""),
        Figure(what=f"{what}: a job starts meanwhile", values=tuple(starts), most=5.0),
        Figure(what=f"{what}: drained after its return", values=(drained,), most=10.0),
        Figure(what=f"{what}: wake-ups are taken again", values=(taken,), most=10.0),
        Figure(what=f"{what}: processes that ended", values=(float(ended),), most=0.0, unit=""),
    ]


async def _until_wakeups_flow(bench: Bench) -> float:
    """Seconds until a new submit's wake-up has been taken from the queue."""
    began = time.monotonic()
    while True:
        await bench.accepted()
        await asyncio.sleep(0.2)
        if await bench.site.count_wakeups() == 0:
            return time.monotonic() - began
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise TimeoutError("No worker takes wake-ups.")


async def postgres_away(bench: Bench) -> list[Figure]:
    """PostgreSQL stops at once and stays away; submits and reads go on; then it is back."""
    seconds, wrong = [], []
    for _ in range(bench.effort.repeats):
        known = await bench.accepted()
        await bench.site.crash_postgres()
        statuses: Counter[str] = Counter()
        began = time.monotonic()
        while time.monotonic() - began < bench.effort.postgres_away_seconds:
            for answer in await asyncio.gather(bench.submit(), _read(bench, known)):
                statuses["503" if answer.status == 503 and answer.retry_after else f"{answer.status}"] += 1
            await asyncio.sleep(0.1)
        wrong.append(float(statuses.total() - statuses["503"]))
        await bench.site.start_postgres()
        seconds.append(await _until_accepted(bench))
        await bench.until_drained()
    away = f"PostgreSQL away for {bench.effort.postgres_away_seconds:.0f} s"
    return [
        Figure(what=f"{away}: answers other than 503 with Retry-After", values=tuple(wrong), most=0.0, unit=""),
        Figure(what=f"{away}: a submit is accepted after its return", values=tuple(seconds), most=3.0),
    ]


async def _read(bench: Bench, job_id: UUID) -> Answer:
    headers = {"Authorization": f"Bearer {bench.account.token}"}
    async with (
        aiohttp.ClientSession(bench.site.url, headers=headers) as session,
        session.get(f"/api/v1/test-jobs/{job_id}") as response,
    ):
        return Answer(
            intent="",
            status=response.status,
            body=await response.text(),
            retry_after=response.headers.get("Retry-After"),
        )


async def _until_accepted(bench: Bench) -> float:
    async def is_accepted() -> bool:
        return (await bench.submit()).status == 202

    return await bench.until(is_accepted)


async def quota_race(bench: Bench) -> list[Figure]:
    """So many submits at once with one run left in the month (Q1)."""
    accepted = []
    for _ in range(bench.effort.races):
        [account] = await bench.site.add_accounts("plus")
        async with bench.session(account) as session:
            answers = await asyncio.gather(*(bench.submit(account=account, session=session) for _ in range(RACERS)))
        statuses = Counter(answer.status for answer in answers)
        assert set(statuses) <= {202, 402}, statuses
        accepted.append(abs(float(statuses[202] - 1)))
    what = f"{RACERS} submits at once with one run left: accepted too many or too few"
    return [Figure(what=what, values=tuple(accepted), most=0.0, unit="")]


MEASURES: tuple[Callable[[Bench], Awaitable[list[Figure]]], ...] = (
    worker_killed,
    worker_stopped,
    redis_flushed,
    redis_away,
    postgres_away,
    quota_race,
)
