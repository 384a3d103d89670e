"""Submitters: each sends what it wants until it is told yes or no, and writes down every answer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
from msgspec import Struct

from chaos.followers import Followed, follow
from chaos.model import PROMPT
from chaos.site import PACKAGE_NAME, Account

PATIENCE_SECONDS = 60.0


class Answer(Struct, frozen=True, kw_only=True):
    """What the API said to one request."""

    intent: str
    status: int
    body: str
    retry_after: str | None = None
    code: str | None = None
    job_id: UUID | None = None


class Intent(Struct, frozen=True, kw_only=True):
    """One job that somebody wants, however often it is sent."""

    id: str  # 12 hex digits, unique; in every prompt of its suite
    account: Account
    key: str | None
    copies: int  # sent in parallel
    cases: int
    milliseconds: int  # that the model takes for a case
    pull_request: int | None = None  # whose new head it is

    @property
    def line(self) -> str | None:
        """Names the heads that follow each other; None: it is no change's."""
        return f"{self.account.id} {self.pull_request}" if self.pull_request is not None else None


class Ended(Struct, frozen=True, kw_only=True):
    """An intent with every copy answered, or given up."""

    intent: Intent
    seconds: float
    unsure: bool  # some request had no answer, or 503


class AnswerLog:
    """The harness' own memory of what was promised; each line is on its way to the disk before anybody goes on."""

    def __init__(self, path: Path) -> None:
        self.answers: list[Answer] = []
        self.ended: list[Ended] = []
        self.cancels: list[Answer] = []
        self.followed: list[Followed] = []
        self.unanswered = 0
        self._path = path

    def add(self, answer: Answer) -> None:
        """An answer has arrived."""
        self.answers.append(answer)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(answer) + b"\n")


class Habits(Struct, frozen=True, kw_only=True):
    """How one submitter behaves."""

    account: Account
    most_copies: int = 5
    most_pause_seconds: float = 1.2
    keyed_share: float = 0.7
    changed_share: float = 0.0  # that are a new head of one of a few pull requests
    pull_requests: int = 2
    cancelled_share: float = 0.1
    followed_share: float = 0.0  # whose events are followed to the end
    most_cases: int = 10
    most_milliseconds: int = 500


async def submit_until(stop: asyncio.Event, habits: Habits, *, url: str, log: AnswerLog, random: Random) -> None:
    """Want one job after another until `stop`, then see the last one through."""
    headers = {"Authorization": f"Bearer {habits.account.token}"}
    async with aiohttp.ClientSession(url, headers=headers, timeout=aiohttp.ClientTimeout(total=15)) as session:
        following: list[asyncio.Task[Followed]] = []
        while not stop.is_set():
            intent = new_intent(habits, random)
            await want(intent, session=session, log=log, random=random)
            if random.random() < habits.followed_share and (job_id := promised(intent, log)):
                following.append(asyncio.create_task(follow(job_id, session=session)))
            await asyncio.sleep(random.uniform(0.0, habits.most_pause_seconds))
            if random.random() < habits.cancelled_share:
                await cancel(intent, session=session, log=log)
        log.followed += await asyncio.gather(*following)


def promised(intent: Intent, log: AnswerLog) -> UUID | None:
    """The job that the intent was last told of."""
    return next((answer.job_id for answer in reversed(log.answers) if answer.intent == intent.id), None)


def new_intent(habits: Habits, random: Random) -> Intent:
    """The next thing that the submitter wants."""
    intent_id = f"{random.getrandbits(48):012x}"
    is_change = random.random() < habits.changed_share
    return Intent(
        id=intent_id,
        account=habits.account,
        key=f"key-{intent_id}" if not is_change and random.random() < habits.keyed_share else None,
        pull_request=random.randint(1, habits.pull_requests) if is_change else None,
        copies=random.randint(1, habits.most_copies),
        cases=random.randint(1, habits.most_cases),
        milliseconds=random.randint(50, habits.most_milliseconds),
    )


async def want(intent: Intent, *, session: aiohttp.ClientSession, log: AnswerLog, random: Random) -> None:
    """Send every copy until it is answered with yes or no, or for a minute."""
    began = time.monotonic()
    sure = await asyncio.gather(
        *(_send(intent, copy, session=session, log=log, random=random) for copy in range(intent.copies))
    )
    log.ended.append(Ended(intent=intent, seconds=time.monotonic() - began, unsure=not all(sure)))


async def _send(intent: Intent, copy: int, *, session: aiohttp.ClientSession, log: AnswerLog, random: Random) -> bool:
    """Whether the first answer was final."""
    began = time.monotonic()
    tries = 0
    while time.monotonic() - began < PATIENCE_SECONDS:
        tries += 1
        try:
            answer = await post(intent, session=session, copy=copy)
        except (aiohttp.ClientError, TimeoutError, OSError):
            log.unanswered += 1
        else:
            log.add(answer)
            if answer.status < 500:
                return tries == 1
        await asyncio.sleep(random.uniform(0.2, 0.8))
    return False


async def post(intent: Intent, *, session: aiohttp.ClientSession, copy: int = 0) -> Answer:
    """One request. Raises what aiohttp does when no answer comes."""
    headers = {"Idempotency-Key": intent.key} if intent.key is not None else {}
    async with session.post("/api/v1/test-jobs/run", json=request_body(intent, copy=copy), headers=headers) as response:
        body = await response.text()
        decoded = _decode(body)
        job_id = decoded.get("job_id")
        return Answer(
            intent=intent.id,
            status=response.status,
            body=body,
            retry_after=response.headers.get("Retry-After"),
            code=decoded.get("code"),
            job_id=UUID(job_id) if job_id else None,
        )


async def cancel(intent: Intent, *, session: aiohttp.ClientSession, log: AnswerLog) -> None:
    """Ask once for the job's end, if it was ever promised."""
    job_id = promised(intent, log)
    if job_id is None:
        return
    try:
        async with session.post(f"/api/v1/test-jobs/{job_id}/cancel") as response:
            answer = Answer(
                intent=intent.id,
                status=response.status,
                body=await response.text(),
                retry_after=response.headers.get("Retry-After"),
                job_id=job_id,
            )
    except (aiohttp.ClientError, TimeoutError, OSError):
        log.unanswered += 1
    else:
        log.cancels.append(answer)


def request_body(intent: Intent, *, copy: int = 0) -> dict[str, Any]:
    """A run whose every prompt names the intent. Copies of a change's each say it in other words."""
    prompts = [
        PROMPT.format(intent=intent.id, case=case, milliseconds=intent.milliseconds) for case in range(intent.cases)
    ]
    tests = [{"input": prompt, "assert": [{"type": "contains", "value": intent.id}]} for prompt in prompts]
    body = {"package_id": PACKAGE_NAME, "suite": {"tests": tests}}
    if intent.pull_request is None:
        return body
    return body | {
        "max_cost_usd": 1000 + copy,
        "change": {
            "forge": "github",
            "repository": "chaos/package",
            "repository_id": 1,
            "ref": "feature",
            "pull_request": intent.pull_request,
            "head_sha": f"{intent.id:0>40}",
        },
    }


def _decode(body: str) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
