"""`models: ["auto"]` through the service's own verbs, on a real database."""

from __future__ import annotations

import asyncio

import asyncpg
import msgspec
import pytest

from evals.archives import pack
from evals.catalogue import load_catalogue
from evals.pool import ModelPool
from server.domain.accounts import Credential
from server.domain.errors import InvalidRequest
from server.services.accounts import create_account
from server.services.admission import Admission
from server.services.caching import announce_models
from server.services.publishing import publish_package
from server.services.running import Pace, run_job
from server.services.submitting import RunRequest, submit
from server.store import jobs
from server.store.accounts import read_caller_by_id
from tests.standins.model_server import ModelServer, model_server

CATALOGUE = """
default: dear
models:
  dear:
    context_tokens: 1000
    deployments: [{{backend: openai_compatible, model: mock-a, base_url: "{url}", price: {{input: 100, output: 100}}}}]
  as-good:
    context_tokens: 1000
    deployments: [{{backend: openai_compatible, model: mock-b, base_url: "{url}", price: {{input: 1, output: 1}}}}]
  worse:
    context_tokens: 1000
    deployments:
      - {{backend: openai_compatible, model: weak-0.3-a, base_url: "{url}", price: {{input: 0.1, output: 0.1}}}}
"""
PACKAGE = {
    "prpm.json": b'{"name": "p", "version": "1.0.0", "description": "A rule.", "format": "claude", '
    b'"subtype": "rule", "files": ["rule.md"]}',
    "rule.md": b"Answer.\n",
}
SUITE = {
    "cache": False,
    "tests": [
        {"input": f"case {n:04}", "assert": [{"type": "contains", "value": f"ANSWER-{n:04}"}]} for n in range(24)
    ],
}


class NoWakeups:
    async def wake(self) -> None:
        """Nobody sleeps."""


class Account:
    """An account with a package, on a pool of three models."""

    def __init__(self, db: asyncpg.Pool, server: ModelServer) -> None:
        self.db = db
        catalogue = load_catalogue(CATALOGUE.format(url=server.base_url), environ={})
        self.pool = ModelPool(catalogue)
        self.announced = announce_models(catalogue)

    async def open(self) -> Account:
        made = await create_account(self.db, "someone", tier="pro")
        caller = await read_caller_by_id(self.db, made.id)
        assert caller is not None
        await publish_package(self.db, caller, archive=pack(PACKAGE), publish_as="@someone/p")
        self.credential = Credential(account_id=caller.id)
        return self

    async def run(self, *models: str) -> dict:
        """The outcome of a job with these models."""
        request = RunRequest(package_id="@someone/p", suite=SUITE, models=list(models), force=True)
        await submit(self.db, Admission(self.db), NoWakeups(), self.credential, request, models=self.announced)
        job = await jobs.claim_job(self.db, "w", lease_seconds=60, job_seconds=600)
        assert job is not None
        await run_job(self.db, self.pool, job, pace=Pace(), concurrency=20, stop=asyncio.Event())
        outcome = await self.db.fetchval("SELECT outcome FROM job_outcomes WHERE job_id = $1", job.id)
        return msgspec.json.decode(outcome)


async def test_auto__runs_the_default_and_says_why_while_too_little_is_known(db: asyncpg.Pool) -> None:
    async with model_server() as server:
        account = await Account(db, server).open()
        outcome = await account.run("auto")
        await account.pool.aclose()

    assert {row["model"] for row in outcome["test_cases"]} == {"dear"}
    [note] = outcome["summary"]["notes"]
    assert note == (
        "auto: dear ran, the default model, as no model has 20 stored verdicts on this suite. "
        "Run it on two models or more, and auto can compare them."
    )


async def test_auto__runs_the_cheapest_model_that_is_as_good_by_stored_trials(db: asyncpg.Pool) -> None:
    async with model_server() as server:
        account = await Account(db, server).open()
        measured = await account.run("dear", "as-good", "worse")
        outcome = await account.run("auto")
        await account.pool.aclose()

    assert {row["model"] for row in outcome["test_cases"]} == {"as-good"}
    assert "significantly worse: worse" in outcome["summary"]["notes"][0]
    figures = measured["summary"]["by_model"]
    assert figures["dear"]["passed"] == figures["as-good"]["passed"] == 24
    assert figures["dear"]["cost_usd_per_pass"] == pytest.approx(100 * figures["as-good"]["cost_usd_per_pass"], rel=0.2)
    assert figures["worse"]["cost_usd_per_pass"] > figures["worse"]["cost_usd"] / 24


async def test_auto__stands_alone(db: asyncpg.Pool) -> None:
    async with model_server() as server:
        account = await Account(db, server).open()
        with pytest.raises(InvalidRequest, match="auto chooses one model, so it stands alone"):
            await account.run("auto", "dear")
        await account.pool.aclose()
