"""A service without processes whose kept answers and outcomes are looked at."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec

from evals.catalogue import load_catalogue
from evals.outcome import Outcome
from evals.pool import ModelPool
from server.domain.accounts import Caller, Credential
from server.domain.jobs import JobView
from server.services.accounts import create_account, set_caps
from server.services.admission import Admission
from server.services.caching import announce_models
from server.services.reading import read_job, read_outcome
from server.services.running import Pace, run_job
from server.services.submitting import RunRequest, submit
from server.store import jobs
from server.store.accounts import read_caller_by_id
from tests.standins.model_server import ModelServer

CATALOGUE = """
default: right
models:
  right:
    context_tokens: 100000
    deployments:
      - {{backend: openai_compatible, model: mock-a, base_url: "{url}", price: {{input: 1000, output: 2000}}}}
      - {{backend: openai_compatible, model: mock-spare, base_url: "{url}", price: {{input: 1000, output: 2000}}}}
  other:
    context_tokens: 100000
    deployments: [{{backend: openai_compatible, model: mock-b, base_url: "{url}", price: {{input: 1, output: 2}}}}]
  judge:
    context_tokens: 100000
    deployments: [{{backend: openai_compatible, model: judge-a, base_url: "{url}", price: {{input: 1, output: 2}}}}]
"""


def a_case(number: int, *extra: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A case that the mock answers rightly."""
    right = {"type": "contains", "value": f"ANSWER-{number}"}
    return {"description": f"case {number}", "input": f"case {number}", "assert": [right, *extra], **fields}


def a_suite(*numbers: int, **fields: Any) -> dict[str, Any]:
    return {"tests": [a_case(number) for number in numbers], **fields}


class NoWakeups:
    async def wake(self) -> None:
        """The tests run jobs by themselves."""


@dataclass
class House:
    """A service without processes: submits, and runs what was submitted, on a mock of the models' server."""

    db: asyncpg.Pool
    server: ModelServer
    days: int = 14
    models: ModelPool = field(init=False)

    def __post_init__(self) -> None:
        self.models = ModelPool(load_catalogue(CATALOGUE.format(url=self.server.base_url), environ={}))

    async def an_account(self, *, tier: str = "plus") -> Caller:
        account = await create_account(self.db, f"user-{uuid.uuid4().hex[:8]}", tier=tier)
        await set_caps(self.db, account.username, per_job_usd=1000, per_month_usd=1000)  # at steep prices
        caller = await read_caller_by_id(self.db, account.id)
        assert caller is not None
        return caller

    async def submit(self, caller: Caller, **request: Any) -> JobView:
        """The job just after its submit."""
        request.setdefault("models", ["right"])
        submission = await submit(
            self.db,
            Admission(self.db),
            NoWakeups(),
            Credential(account_id=caller.id),
            RunRequest(**request),
            models=announce_models(self.models.catalogue),
            cache_days=self.days,
            idempotency_key=uuid.uuid4().hex,
        )
        return await read_job(self.db, caller, submission.job_id)

    async def run(self, caller: Caller, **request: Any) -> Outcome:
        """The outcome of a job that is submitted now, and of nothing else that waits."""
        job = await self.submit(caller, **request)
        if job.status == "queued":
            await self.work()
        return await self.outcome(caller, job.id)

    async def work(self) -> None:
        """Run the next job to its end."""
        job = await jobs.claim_job(self.db, "w", lease_seconds=15, job_seconds=3600)
        assert job is not None
        await run_job(self.db, self.models, job, pace=Pace(), concurrency=5, stop=asyncio.Event(), cache_days=self.days)

    async def outcome(self, caller: Caller, job_id: uuid.UUID) -> Outcome:
        return msgspec.json.decode(await read_outcome(self.db, caller, job_id), type=Outcome)

    @property
    def calls(self) -> int:
        """How often a model was asked since this was last looked at."""
        calls = self.server.mock.requests
        self.server.mock.requests = 0
        return calls


def said(outcome: Outcome) -> list[tuple[str, str]]:
    """State and reason of each row's cache."""
    return [(row.cache.state, row.cache.reason) if row.cache else ("", "") for row in outcome.test_cases]


def states(outcome: Outcome) -> list[str]:
    return [state for state, _ in said(outcome)]
