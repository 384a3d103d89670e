"""`GET /api/v1/test-jobs/{id}/events`: what happens to a job, as it happens, as server-sent events.

Each event's id is a `Place`: all that was told up to it, in stored facts. What follows a place is decided from the
stored job alone, so it does not matter which process tells it, or whether it was told by another before.
"""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec
import structlog
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter
from msgspec import UNSET, Struct, UnsetType

from server.api.context import Site, allows
from server.api.errors import refusals
from server.api.guards import Message, Receive, Scope, Send
from server.api.jobs import TAGS, Progress, job_answer, parse_job_id
from server.api.timestamps import iso_if
from server.api.waiting import EXCHANGE, LateResponse, WaitingReader
from server.domain.accounts import Caller, Credential
from server.domain.errors import InvalidRequest, Unavailable
from server.domain.jobs import JobView
from server.domain.news import ENDED, NOTHING, QUEUED, RUNNING, Place, TrialNews, WatchedCase, parse_place
from server.services import reading
from server.services.notifying import Report, report_of
from server.services.watching import Story

log = structlog.get_logger()

# Less than the half minute after which many proxies end a silent connection.
KEEP_ALIVE_SECONDS = 15.0
# A reader whose connection takes nothing for so long is dropped. What it has missed, its last id brings back.
SLOW_SECONDS = 10.0
EVENTS_A_PIECE = 64
RETRY_MILLISECONDS = 1000
ABORT = "prpm.abort"  # in the scope: ends the connection at once


class QueuedEvent(Struct, kw_only=True):
    """`queued`: it waits; told again whenever its place changes."""

    position_in_queue: int | UnsetType = UNSET


class Asking(Struct, kw_only=True):
    """The first trial in the suite's order that has not finished: it is being asked, or will be next."""

    case: str
    model: str
    repeat: int  # from 1


class StartedEvent(Struct, kw_only=True):
    """`started`: a worker has it; told again when another one takes over."""

    attempt: int
    models: list[str]
    trials_total: int
    started_at: str | UnsetType = UNSET
    asking: Asking | UnsetType = UNSET


class TrialEvent(Struct, kw_only=True):
    """`trial`: one case on one model once is finished. `score` is 0..1, for a verdict."""

    case_index: int
    case: str
    model: str
    repeat: int  # from 1
    state: str
    score: float | UnsetType = UNSET


class ProgressEvent(Progress, kw_only=True):
    """`progress`: the counts after the trials before it."""

    asking: Asking | UnsetType = UNSET


class Event(NamedTuple):
    """One event, with the place that its reader has reached by it.

    `number` tells it from others of its name where the body is the same for every reader; it is encoded once then.
    """

    name: str
    make: Callable[[], Struct]  # the body
    place: Place
    number: int | None = None


@get(
    "/api/v1/test-jobs/{job_id:str}/events",
    opt=allows("follow"),
    tags=TAGS,
    summary="Follow a job",
    responses=refusals(401, 404, 429, described={400: "Last-Event-ID is none of this job's ids."})
    | {
        200: ResponseSpec(
            str,
            media_type="text/event-stream",
            generate_examples=False,
            description="`queued` (position_in_queue), `started` (attempt, models, trials_total), `trial` (case_index, "
            "case, model, repeat, state, score), `progress` (counts, and what is being asked), and at last `completed` "
            "or `failed` with the job as `GET /api/v1/test-jobs/{id}` shows it.",
        ),
        204: ResponseSpec(None, description="All was told before: do not come back.", generate_examples=False),
    },
)
async def follow_test_job(
    job_id: str,
    site: Site,
    caller: Caller,
    credential: Credential,
    last_event_id: Annotated[
        str | None, Parameter(header="Last-Event-ID", description="Go on behind this event, on any process.")
    ] = None,
) -> Response[str]:
    """The job's events from the first, or from behind `Last-Event-ID`, until it has ended. Comments keep it alive."""
    job = await reading.read_job(site.db, caller, parse_job_id(job_id))
    place = _place(last_event_id, job)
    if place.stage == ENDED:
        return Response("", status_code=204)
    if not site.watch.has_room:
        raise Unavailable("Too many readers are connected. Try again in a few seconds, or ask with ?wait=25.")
    return LateResponse(EventStream(site, job.id, credential, place))


def _place(last_event_id: str | None, job: JobView) -> Place:
    """Where the reader stands. Raises InvalidRequest for an id that this job cannot have had."""
    if not last_event_id:
        return Place()
    try:
        place = parse_place(last_event_id)
    except ValueError:
        place = None
    if place is None or place.fence > job.fence or (place.stage == ENDED and not job.has_ended):
        raise InvalidRequest(
            "Last-Event-ID: must be the id of an event of this job. Leave it out to hear everything.",
            code="invalid_last_event_id",
        )
    return place


class EventStream:
    """Tells one reader what it does not know yet, whenever there is something, until the job's end."""

    def __init__(
        self, site: Site, job_id: UUID, credential: Credential, place: Place, *, slow_seconds: float = SLOW_SECONDS
    ) -> None:
        self._site = site
        self._job_id = job_id
        self._credential = credential
        self._place = place
        self._slow_seconds = slow_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = self._site.watch
        with self._site.streams.one_more(self._credential):
            await send(head())
            if scope["method"] == "HEAD":
                await send(piece(b"", more=False))
                return
            reader = WaitingReader(scope[EXCHANGE], known="", reads_trials=True)
            story = watch.join(self._job_id, reader)
            try:
                await self._tell(story, reader, receive, send)
            except TimeoutError:
                log.warning("slow reader dropped", job_id=str(self._job_id), last_event_id=str(self._place))
                scope[ABORT]()
            finally:
                watch.leave(self._job_id, reader)

    async def _tell(self, story: Story, reader: WaitingReader, receive: Receive, send: Send) -> None:
        """Raises TimeoutError for a reader that takes nothing."""
        await self._push(b"retry: %d\n\n" % RETRY_MILLISECONDS, send)
        while self._place.stage != ENDED:
            if (woken := await reader.wait(receive, seconds=KEEP_ALIVE_SECONDS)) == "gone":
                return
            if woken == "late":
                await self._push(b": still here\n\n", send)
            elif story.view is not None and not story.lacks_for(reader):
                reader.known = story.version
                await self._push_news(story.view, story, send)
            if self._site.watch.is_closing and self._place.stage != ENDED:
                await self._push(b": this process ends; come back with the last id\n\n", send)
                break
        await send(piece(b"", more=False))

    async def _push(self, body: bytes, send: Send) -> None:
        """The bytes are on their way. Raises TimeoutError when the connection takes nothing for too long."""
        async with asyncio.timeout(self._slow_seconds):
            await send(piece(body, more=True))

    async def _push_news(self, job: JobView, story: Story, send: Send) -> None:
        report = report_of(self._site.notifying, job) if job.has_ended else None
        events = tell(job, story.trials or [], story.cases, place=self._place, report=report)
        while some := list(itertools.islice(events, EVENTS_A_PIECE)):
            await self._push(b"".join(encode(event, story.encoded) for event in some), send)
            self._place = some[-1].place


def tell(
    job: JobView,
    trials: list[TrialNews],
    cases: tuple[WatchedCase, ...],
    *,
    place: Place,
    report: Report | None = None,
) -> Iterator[Event]:
    """What a reader at `place` does not know yet. `trials` are all there are, in the order of their `seq`.

    The end is the job as a look at it shows it, with who reports on its change, so that nobody has to look again.
    """
    replace = msgspec.structs.replace
    count = len(trials)  # the list may grow while the reader takes what it is told
    if has_news_of_start(job, place):
        told = [trial for trial in trials if trial.seq <= place.seq]
        place = replace(place, fence=job.fence, stage=RUNNING, position=0)
        yield Event("started", partial(_started, job, cases, told), place)
    for number in range(bisect_right(trials, place.seq, key=lambda trial: trial.seq), count):
        place = replace(place, seq=trials[number].seq)
        yield Event("trial", partial(_trial, trials[number], cases), place, number)
    if count > place.counted:
        place = replace(place, counted=count)
        number = -count if job.has_ended else count  # then nothing is asked any more
        yield Event("progress", partial(_progress, job, cases, trials[:count]), place, number)
    if job.status == "queued" and (place.fence, place.stage, place.position) != (job.fence, QUEUED, job.position or 0):
        place = replace(place, fence=job.fence, stage=QUEUED, position=job.position or 0)
        yield Event("queued", partial(QueuedEvent, position_in_queue=job.position or UNSET), place)
    if job.has_ended and place.stage != ENDED:
        place = replace(place, fence=job.fence, stage=ENDED, position=0)
        yield Event(job.status, partial(job_answer, job, report=report), place, 0)


def has_news_of_start(job: JobView, place: Place) -> bool:
    """Whether the reader was not told of the start that the job stands on."""
    if job.started_at is None or place.stage == ENDED:
        return False
    if job.status == "running":
        return place.stage != RUNNING or place.fence != job.fence
    if job.status == "queued":  # it ran before, and was given back
        return place.stage == NOTHING
    return place.stage != RUNNING


def _started(job: JobView, cases: tuple[WatchedCase, ...], told: list[TrialNews]) -> StartedEvent:
    return StartedEvent(
        attempt=job.attempt,
        models=job.models,
        trials_total=job.trials_total,
        started_at=iso_if(job.started_at),
        asking=first_unfinished(cases, job.models, told) or UNSET,
    )


def _trial(trial: TrialNews, cases: tuple[WatchedCase, ...]) -> TrialEvent:
    has_verdict = trial.state in ("passed", "failed") and trial.score is not None
    return TrialEvent(
        case_index=trial.case_index,
        case=cases[trial.case_index].title if trial.case_index < len(cases) else "",
        model=trial.model,
        repeat=trial.repeat_index + 1,
        state=trial.state,
        score=trial.score if has_verdict and trial.score is not None else UNSET,
    )


def _progress(job: JobView, cases: tuple[WatchedCase, ...], trials: list[TrialNews]) -> ProgressEvent:
    counts = Counter(trial.state for trial in trials)
    asking = None if job.has_ended else first_unfinished(cases, job.models, trials)
    return ProgressEvent(
        trials_total=job.trials_total,
        trials_finished=len(trials),
        passed=counts["passed"],
        failed=counts["failed"],
        errored=counts["error"],
        asking=asking or UNSET,
    )


def first_unfinished(cases: tuple[WatchedCase, ...], models: list[str], trials: list[TrialNews]) -> Asking | None:
    """The first trial, in the order in which the engine begins them, that is not among `trials`."""
    finished = {(trial.case_index, trial.repeat_index, trial.model) for trial in trials}
    for case_index, case in enumerate(cases):
        for repeat_index, model in itertools.product(range(case.repeat), models):
            if (case_index, repeat_index, model) not in finished:
                return Asking(case=case.title, model=model, repeat=repeat_index + 1)
    return None


def encode(event: Event, encoded: dict[tuple[str, int], bytes]) -> bytes:
    """The event on the wire; `encoded` keeps bodies for other readers. JSON holds no line break, so one line does."""
    body = encoded.get((event.name, event.number)) if event.number is not None else None
    if body is None:
        body = msgspec.json.encode(event.make())
        if event.number is not None:
            encoded[event.name, event.number] = body
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(event.place).encode(), event.name.encode(), body)


def head() -> Message:
    """The answer's beginning. The last header keeps nginx from gathering events."""
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store, no-transform"),
        (b"x-accel-buffering", b"no"),
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def piece(body: bytes, *, more: bool) -> Message:
    """A part of the answer's body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


handlers = [follow_test_job]
