"""A job's way to its end: by its events, else by waiting with the service, else by looking."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from action_entry.errors import NotNow
from action_entry.service import Job, Service, read_job
from action_entry.wire import Clock, Event
from notifiers import NoResponse

SILENCE_SECONDS = 25.0  # the service gives a sign of life every 15 s
BREAKS = 3  # connections in a row that say nothing new; then events are no use here
WAIT_SECONDS = 20
LOOK_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One case on one model once, just finished. Case and model are words of others."""

    case: str
    model: str
    state: str
    score: float | None = None


def follow(service: Service, job_id: str, *, clock: Clock, heard: Callable[[Trial], None]) -> Job:
    """The ended job. Raises NotNow at the clock's deadline, or when the service stays away."""
    last_id = ""
    breaks = 0
    while breaks < BREAKS:
        before = last_id
        try:
            with service.events(job_id, after=last_id, silence_seconds=SILENCE_SECONDS) as events:
                for event in events:
                    clock.left()
                    last_id = event.id or last_id
                    if (job := _take(event, heard)) is not None:
                        return job
        except NoResponse:
            pass
        breaks = 0 if last_id != before else breaks + 1
        job = service.look(job_id)
        if job.has_ended:
            return job
        clock.pause(0.2 + clock.chance() * 0.3)
    return _wait(service, job_id, clock=clock)


def _take(event: Event, heard: Callable[[Trial], None]) -> Job | None:
    """The job, if this event is its end."""
    said = _fields(event.data)
    if event.name in ("completed", "failed"):
        return read_job(said)
    if event.name == "trial":
        score = said.get("score")
        heard(
            Trial(
                case=str(said.get("case", "")),
                model=str(said.get("model", "")),
                state=str(said.get("state", "")),
                score=float(score) if isinstance(score, (int, float)) and not isinstance(score, bool) else None,
            )
        )
    return None


def _fields(data: str) -> Mapping[str, object]:
    try:
        value = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        value = {}
    return value if isinstance(value, dict) else {}


def _wait(service: Service, job_id: str, *, clock: Clock) -> Job:
    """Each request waits with the service; one that does not wait is asked every two seconds."""
    while True:
        asked_at = clock.now()
        job = service.look(job_id, wait_seconds=max(min(WAIT_SECONDS, int(clock.left())), 1))
        if job.has_ended:
            return job
        clock.pause(max(LOOK_SECONDS - (clock.now() - asked_at), 0.05))


def require_completed(job: Job) -> None:
    """Raises NotNow for a job that ended without results, with what the service says about it."""
    if job.status == "completed":
        return
    reasons = {
        "superseded": "A newer commit of this change is tested in its place, or nobody waits for this one any more.",
        "cancelled": "The job was cancelled.",
    }
    why = reasons.get(job.code) or job.error or "The job ended without results."
    raise NotNow(why, code=job.code)
