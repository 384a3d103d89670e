"""Watches jobs for whoever waits for them: one listener, one look at what changed, however many wait.

PostgreSQL's notifications only say where to look. Every answer is made of stored facts, so a lost notification costs
time, never news: each reconnect looks at everything, and so does a slow look now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import structlog

from server.domain.errors import Unavailable
from server.domain.jobs import JobView
from server.domain.news import Mark, TrialNews, WatchedCase, WatchedSuite
from server.store import jobs, news
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

# A burst of changes is read together: a pause is as long as reading and waking took, within these bounds.
LEAST_PAUSE_SECONDS = 0.005
MOST_PAUSE_SECONDS = 0.5
POLL_SECONDS = 5.0
DEAF_POLL_SECONDS = 1.0  # while nothing tells us what changed
PING_SECONDS = 5.0
JOBS_A_READ = 500
# Woken readers answer at once: between so many, whatever else the process does has its turn.
READERS_A_TURN = 50

Item = TypeVar("Item")


class Reader(Protocol):
    """Whoever waits for a change of one job."""

    known: str | None  # the version that it has seen; None: only the job's end matters
    reads_trials: bool

    def wake(self) -> None:
        """There is what it waited for. Called at most once a turn; must not raise."""


class Story:
    """One watched job as it was last read. `trials` are kept only while somebody reads them."""

    __slots__ = (
        "answer",
        "cases",
        "encoded",
        "fresh",
        "job_id",
        "mark",
        "readers",
        "streams",
        "trials",
        "version",
        "view",
    )

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.readers: set[Reader] = set()
        self.streams = 0
        self.view: JobView | None = None
        self.version = ""
        self.mark: Mark | None = None
        self.trials: list[TrialNews] | None = None
        self.cases: tuple[WatchedCase, ...] = ()
        self.fresh: asyncio.Future[None] | None = None  # done when it was read anew
        # Made by the first who needs them, for all: the view as an answer, and the bodies of events.
        self.answer: bytes | None = None
        self.encoded: dict[tuple[str, int], bytes] = {}

    @property
    def has_ended(self) -> bool:
        return self.view is not None and self.view.has_ended

    def concerns(self, reader: Reader) -> bool:
        """Whether there is something that the reader waits for."""
        if self.lacks_for(reader):
            return False
        return self.has_ended or (reader.known is not None and reader.known != self.version)

    def lacks_for(self, reader: Reader) -> bool:
        """Whether what the reader needs was not read yet."""
        return self.view is None or (reader.reads_trials and self.trials is None)


def version_of(view: JobView) -> str:
    """Text that changes with everything that a reader of the job is shown."""
    return f"{view.status}.{view.fence}.{view.trials_finished}.{view.position or 0}"


class JobWatch:
    """All watched jobs of a process. `connect` opens the listener's own connection, past any pooler."""

    def __init__(
        self, db: asyncpg.Pool, *, connect: Callable[[], Awaitable[asyncpg.Connection]], most_readers: int
    ) -> None:
        self._db = db
        self._connect = connect
        self._most_readers = most_readers
        self._stories: dict[UUID, Story] = {}
        self._readers = 0
        self._dirty: set[UUID] = set()
        self._work = asyncio.Event()
        self._hears = False
        self.is_closing = False

    @property
    def has_room(self) -> bool:
        """Whether one more may wait."""
        return self._readers < self._most_readers and not self.is_closing

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits, and so nothing is kept."""
        return not self._stories and not self._readers

    def join(self, job_id: UUID, reader: Reader) -> Story:
        """From now on the reader is woken. It is woken at once for what it has missed since it looked itself."""
        story = self._stories.get(job_id)
        if story is None:
            story = self._stories[job_id] = Story(job_id)
        story.readers.add(reader)
        story.streams += reader.reads_trials
        self._readers += 1
        if story.concerns(reader) or self.is_closing:
            reader.wake()
        elif story.lacks_for(reader):
            self._look_at(job_id)
        return story

    def leave(self, job_id: UUID, reader: Reader) -> None:
        """The reader is forgotten, and the job with its last one."""
        story = self._stories[job_id]
        story.readers.discard(reader)
        story.streams -= reader.reads_trials
        self._readers -= 1
        if not story.streams:
            story.trials = None
            story.encoded.clear()
        if not story.readers:
            del self._stories[job_id]

    async def refresh(self, story: Story, *, seconds: float = 2.0) -> None:
        """The story is as it stands now. Raises Unavailable while the database is away."""
        if story.fresh is None or story.fresh.done():
            story.fresh = asyncio.get_running_loop().create_future()
        self._look_at(story.job_id)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(story.fresh)
        except TimeoutError:
            raise Unavailable("The service is briefly unavailable. Try again in a few seconds.") from None

    def close(self) -> None:
        """Wake everybody for good: the process ends."""
        self.is_closing = True
        for story in self._stories.values():
            for reader in story.readers:
                reader.wake()

    async def run(self) -> None:
        """Listen, look and tell until cancelled."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._listen())
                    group.create_task(self._read())
                    group.create_task(self._poll())
            except* Exception as errors:  # whatever it is, thousands may wait for us
                log.error("watch broke", exc_info=errors)
            await asyncio.sleep(1.0)
            for job_id in self._stories:
                self._look_at(job_id)

    def _look_at(self, job_id: UUID) -> None:
        self._dirty.add(job_id)
        self._work.set()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        with contextlib.suppress(ValueError):
            job_id = UUID(str(payload))
            if job_id in self._stories:
                self._look_at(job_id)

    async def _listen(self) -> None:
        """Keep the one connection that hears notifications. Whatever was lost without it is looked for after."""
        pause = 0.1
        while True:
            try:
                await self._hear_until_lost()
            except DATABASE_TROUBLE as error:
                if self._hears or pause == 0.1:
                    log.warning("listener lost", reason=type(error).__name__)
            pause = 0.1 if self._hears else min(pause * 2, 2.0)
            self._hears = False
            await asyncio.sleep(pause)

    async def _hear_until_lost(self) -> None:
        lost = asyncio.Event()
        connection = await self._connect()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(news.CHANNEL, self._heard)
            self._hears = True
            for job_id in self._stories:
                self._look_at(job_id)
            while not lost.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_SECONDS):
                        await lost.wait()
                # A network that is cut says nothing by itself.
                await news.ping(connection, seconds=PING_SECONDS)
        finally:
            connection.terminate()

    async def _poll(self) -> None:
        """Find what no notification told, and how the queue moves, which none tells."""
        while True:
            await asyncio.sleep(POLL_SECONDS if self._hears else DEAF_POLL_SECONDS)
            try:
                for job_ids in _portions(list(self._stories), JOBS_A_READ):
                    for job_id, mark in (await news.list_marks(self._db, job_ids)).items():
                        self._compare(job_id, mark)
            except DATABASE_TROUBLE as error:
                log.info("watched jobs not looked at", reason=type(error).__name__)

    def _compare(self, job_id: UUID, mark: Mark) -> None:
        story = self._stories.get(job_id)
        if story is None:
            return
        moves = mark.status == "queued" and any(reader.known is not None for reader in story.readers)
        if mark != story.mark or moves:
            story.mark = mark
            self._look_at(job_id)

    async def _read(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            dirty, self._dirty = self._dirty, set()
            began = time.monotonic()
            try:
                for job_ids in _portions([job_id for job_id in dirty if job_id in self._stories], JOBS_A_READ):
                    await self._read_some(job_ids)
            except DATABASE_TROUBLE as error:
                log.info("changed jobs not read", reason=type(error).__name__)
                self._dirty |= dirty
                self._work.set()
                await asyncio.sleep(0.3)
            took = time.monotonic() - began
            await asyncio.sleep(min(max(took, LEAST_PAUSE_SECONDS), MOST_PAUSE_SECONDS))

    async def _read_some(self, job_ids: list[UUID]) -> None:
        views = await jobs.read_jobs(self._db, job_ids, seen_by=None)
        # After the jobs: a job that has ended has all its trials by then.
        await self._read_trials(job_ids)
        for view in views:
            if story := self._stories.get(view.id):
                story.view, story.version, story.answer = view, version_of(view), None
                if story.fresh is not None and not story.fresh.done():
                    story.fresh.set_result(None)
                await self._wake(story)

    async def _read_trials(self, job_ids: list[UUID]) -> None:
        watched = [story for job_id in job_ids if (story := self._stories.get(job_id)) and story.streams]
        known = {story.job_id: story.trials[-1].seq if story.trials else -1 for story in watched}
        if not known:
            return
        await self._read_cases([story for story in watched if not story.cases])
        found = await news.list_trial_news(self._db, known)
        for story in watched:
            # Unless its streams went meanwhile, and came back: then what was found is not all.
            if story.streams and (story.trials[-1].seq if story.trials else -1) == known[story.job_id]:
                story.trials = story.trials or []
                story.trials += found.get(story.job_id, ())

    async def _read_cases(self, stories: list[Story]) -> None:
        for some in _portions(stories, 20):  # suites may be large
            bodies = await news.list_suite_bodies(self._db, [story.job_id for story in some])
            for story in some:
                if body := bodies.get(story.job_id):
                    with contextlib.suppress(msgspec.DecodeError):
                        story.cases = msgspec.json.decode(body, type=WatchedSuite).cases

    async def _wake(self, story: Story) -> None:
        concerned = [reader for reader in story.readers if story.concerns(reader)]
        for some in _portions(concerned, READERS_A_TURN):
            for reader in some:
                if reader in story.readers:
                    reader.wake()
            await asyncio.sleep(0)


def _portions(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
