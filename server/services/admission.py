"""Submits that arrive while others are being kept leave together: one statement and one commit for all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from server.domain.accounts import Credential
from server.domain.jobs import NewJob, Submitted
from server.services.forecasting import QueueBook
from server.store import jobs
from server.store.jobs import NotTogether

# A second statement works while the first one waits for the disk; more of them only make the batches smaller.
MOST_STATEMENTS = 2
MOST_TOGETHER = 32


class Waiting(NamedTuple):
    """A submit, and who waits for its answer."""

    job: NewJob
    answer: asyncio.Future[Submitted]


class Admission:
    """Where submits of one process are kept. A lone one leaves at once, so nobody waits for company.

    PostgreSQL's work for a statement of 16 submits is a quarter of that for 16 statements. A caller, or an organisation
    that is billed, is only once in a batch: its submits wait for each other's charge anyway.
    """

    def __init__(self, db: asyncpg.Pool, queue: QueueBook | None = None) -> None:
        """`queue` says how long new jobs will wait; None: nobody does."""
        self._db = db
        self._queue = queue
        self._waiting: deque[Waiting] = deque()
        self._statements: set[asyncio.Task[None]] = set()

    async def submit(self, job: NewJob) -> Submitted:
        """What became of the job. Raises QuotaExceeded, Unavailable, or the database's trouble."""
        waiting = Waiting(job, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if len(self._statements) < MOST_STATEMENTS:
            task = asyncio.create_task(self._keep_all(), name="admission")
            self._statements.add(task)
            task.add_done_callback(self._statements.discard)
        return await waiting.answer

    async def _keep_all(self) -> None:
        while batch := self._next_batch():
            await self._keep(batch)

    def _next_batch(self) -> list[Waiting]:
        batch: dict[Credential | str, Waiting] = {}
        later: list[Waiting] = []
        while self._waiting and len(batch) < MOST_TOGETHER:
            waiting = self._waiting.popleft()
            if waiting.answer.done():  # nobody waits any more
                continue
            billed = waiting.job.account or waiting.job.credential
            if billed in batch:
                later.append(waiting)
            else:
                batch[billed] = waiting
        self._waiting.extendleft(reversed(later))
        return list(batch.values())

    async def _keep(self, batch: Sequence[Waiting]) -> None:
        try:
            forecast = await self._queue.forecast() if self._queue else None
            answers = await jobs.submit_jobs(
                self._db, [waiting.job for waiting in batch], outlook=forecast.outlook if forecast else None
            )
        except NotTogether:
            await asyncio.gather(*(self._keep([waiting]) for waiting in batch))
        except BaseException as error:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error if isinstance(error, Exception) else ConnectionError())
            if not isinstance(error, Exception):
                raise
        else:
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)
