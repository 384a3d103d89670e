"""Waits for a job's end: by the server's events, else by long polls, else by looking each second.

Each is taken where the one before is not to be had: a proxy may gather events until they are of no use, and an old
server knows neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from cli import answers
from cli.client import RegistryClient
from cli.errors import CannotReachServer, NoEvents, RequestRefused, TimedOut
from cli.event_stream import ServerEvent

ENDED = ("completed", "failed")
# The server gives a sign of life each 15 s, and the first one at once.
SILENCE_SECONDS = 20.0
RETRY_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 25


class Listener(Protocol):
    """Hears what is known about the job while it is waited for."""

    def queued(self, position: int | None) -> None: ...

    def started(self, started: answers.Started) -> None: ...

    def trial(self, trial: answers.TrialDone) -> None: ...

    def progress(self, progress: answers.Progress | None) -> None: ...


class Standstill:
    """How long nothing has moved. Raises TimedOut when that is too long."""

    def __init__(self, timeout_seconds: float, *, now: Callable[[], float]) -> None:
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._moved_at = now()

    def moved(self) -> None:
        """The time-out starts anew."""
        self._moved_at = self._now()

    def check(self) -> float:
        """Seconds that are left."""
        left = self._moved_at + self._timeout_seconds - self._now()
        if left <= 0:
            raise TimedOut("Timeout waiting for test results")
        return left


class JobFollower:
    """One wait for one job. Raises TimedOut after a standstill, and what the server refuses."""

    def __init__(
        self,
        client: RegistryClient,
        job_id: str,
        listener: Listener,
        *,
        timeout_seconds: float,
        poll_seconds: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._listener = listener
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._now = now
        self._standstill = Standstill(timeout_seconds, now=now)
        self._last_id: str | None = None

    def wait(self) -> answers.Job:
        """The finished job."""
        try:
            return self._by_events()
        except NoEvents:
            return self._by_looking()

    def _by_events(self) -> answers.Job:
        """Go on behind the last event after each break. Raises NoEvents if there is none to be had."""
        heard = False
        while True:
            silence_seconds = min(self._standstill.check(), SILENCE_SECONDS)
            try:
                with self._client.job_events(
                    self._job_id, after=self._last_id, silence_seconds=silence_seconds
                ) as events:
                    for event in events:
                        heard = True
                        if event is not None and (job := self._take(event)) is not None:
                            return job
                        if event is None and self._standstill.check() < silence_seconds:
                            break  # the next silence has to be shorter
                    else:
                        self._pause(RETRY_SECONDS)
            except CannotReachServer as error:
                if not heard:
                    raise NoEvents("Nothing comes of the server's events.") from error
                self._pause(RETRY_SECONDS)

    def _take(self, event: ServerEvent) -> answers.Job | None:
        """The job, if this is its end."""
        if event.id != self._last_id or not event.id:  # a server that says the same again has not moved
            self._standstill.moved()
        self._last_id = event.id or self._last_id
        match event.name:
            case "completed" | "failed":
                return self._client.decode_event(event, answers.Job)
            case "queued":
                self._listener.queued(self._client.decode_event(event, answers.Queued).position_in_queue)
            case "started":
                self._listener.started(self._client.decode_event(event, answers.Started))
            case "trial":
                self._listener.trial(self._client.decode_event(event, answers.TrialDone))
            case "progress":
                self._listener.progress(self._client.decode_event(event, answers.Progress))
        return None  # of another kind: a newer server's

    def _by_looking(self) -> answers.Job:
        """Look at once, then wait with the server for each change; where it does not wait, look each second."""
        seen: Any = None
        version: str | None = None
        wait_seconds = 0
        while True:
            asked_at = self._now()
            job, version = self._look(version, wait_seconds=wait_seconds)
            if job is not None and job.status in ENDED:
                return job
            if job is not None and (job.status, job.progress, job.position_in_queue) != seen:
                seen = (job.status, job.progress, job.position_in_queue)
                self._standstill.moved()
            if job is not None and job.status == "running":
                self._listener.progress(job.progress)
            left = self._standstill.check()
            if version is None or wait_seconds:
                self._sleep(max(min(asked_at + self._poll_seconds - self._now(), left), 0.0))
            wait_seconds = max(min(int(left), LONGEST_WAIT_SECONDS), 1)

    def _look(self, version: str | None, *, wait_seconds: int) -> tuple[answers.Job | None, str | None]:
        """The job now; None when the server cannot say at the moment, which ends no job and so no waiting."""
        try:
            return self._client.wait_for_test_job(self._job_id, wait_seconds=wait_seconds, version=version)
        except CannotReachServer:
            return None, None
        except RequestRefused as error:
            if error.status == 429 or error.status >= 500:
                self._sleep(min(error.retry_after_seconds or 0.0, 30.0))
                return None, None
            raise

    def _pause(self, seconds: float) -> None:
        self._sleep(min(seconds, self._standstill.check()))
