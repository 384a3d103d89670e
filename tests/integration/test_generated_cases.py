"""A hosted package without tests: the registry's cases, or cases that a model writes once, inside the job."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from evals.archives import pack
from evals.catalogue import load_catalogue
from evals.pool import ModelPool
from server.domain.accounts import Credential
from server.domain.errors import InvalidRequest, NoSuite, Unavailable
from server.services.accounts import create_account, set_caps
from server.services.admission import Admission
from server.services.caching import announce_models
from server.services.estimating import estimate
from server.services.publishing import keep_snapshot, publish_package
from server.services.retrying import retry
from server.services.running import Pace, run_job
from server.services.submitting import RunRequest, submit
from server.services.upstream_registry import UpstreamRegistry
from server.store import generated_suites, jobs
from server.store.accounts import read_caller_by_id
from tests.packages import a_package
from tests.service import Service, finished_job
from tests.standins.model_server import ModelServer, model_server
from tests.standins.service import Reply
from tests.standins.service import Service as Registry

CATALOGUE = """
default: writer
models:
  writer:
    context_tokens: 1000
    deployments:
      - {{backend: openai_compatible, model: mock-a, base_url: "{url}", price: {{input: 1000, output: 1000}}}}
  toy:
    context_tokens: 1000
    can_judge: false
    deployments: [{{backend: openai_compatible, model: mock-b, base_url: "{url}", free: true}}]
  slow:
    context_tokens: 1000
    deployments: [{{backend: openai_compatible, model: slow-60000-a, base_url: "{url}", free: true}}]
"""
WRITTEN = {
    "tests": [
        {"description": "Thanks", "input": "case 0001", "assert": [{"type": "contains", "value": "ANSWER-0001"}]},
        {"description": "thanks", "input": "case  0001", "assert": [{"type": "contains", "value": "ANSWER"}]},
        {"description": "Bye", "input": "case 0002", "assert": [{"type": "contains", "value": "ANSWER-0002"}]},
    ]
}
CASES = {
    "test_cases": [
        {"id": "1", "title": "Greets", "input": "case 0003", "expected_criteria": ["Says ANSWER-0003."]},
        {"id": "2", "title": "Bows", "input": "case 0004", "expected_criteria": ["Says ANSWER-0004."]},
    ],
    "total": 2,
}
NOTE = "The 2 cases of this run were generated: writer wrote them from the package's text, and nobody has checked them."


class NoWakeups:
    async def wake(self) -> None:
        """Nobody sleeps."""


class Hosted:
    """An account whose package `@someone/sample` has no tests, and a worker's models."""

    def __init__(self, db: asyncpg.Pool, server: ModelServer, registry: UpstreamRegistry | None = None) -> None:
        self.db = db
        self.mock = server.mock
        catalogue = load_catalogue(CATALOGUE.format(url=server.base_url), environ={})
        self.pool = ModelPool(catalogue)
        self.announced = announce_models(catalogue)
        self.registry = registry

    async def open(self, name: str = "someone") -> Hosted:
        made = await create_account(self.db, name, tier="plus")
        await set_caps(self.db, name, per_job_usd=100, per_month_usd=1000)
        caller = await read_caller_by_id(self.db, made.id)
        assert caller is not None
        self.caller, self.credential = caller, Credential(account_id=caller.id)
        archive = pack(a_package("sample", suite=None))
        await publish_package(self.db, caller, archive=archive, publish_as=f"@{name}/sample")
        self.package = f"@{name}/sample"
        return self

    async def submits(self, **fields: Any) -> UUID:
        request = RunRequest(**{"package_id": self.package, "force": True} | fields)
        submission = await submit(
            self.db, Admission(self.db), NoWakeups(), self.credential, request, models=self.announced,
            registry=self.registry, cache_days=7,
        )  # fmt: skip
        return submission.job_id

    async def works(self) -> None:
        """A worker runs the next job to its end."""
        job = await jobs.claim_job(self.db, "w", lease_seconds=60, job_seconds=600)
        assert job is not None
        await run_job(self.db, self.pool, job, pace=Pace(), concurrency=5, stop=asyncio.Event(), cache_days=7)

    async def outcome(self, job_id: UUID) -> dict[str, Any]:
        body = await self.db.fetchval("SELECT outcome FROM job_outcomes WHERE job_id = $1", job_id)
        return msgspec.json.decode(body)

    async def row(self, job_id: UUID) -> asyncpg.Record:
        return await self.db.fetchrow("SELECT * FROM test_jobs WHERE id = $1", job_id)

    @property
    def times_written(self) -> int:
        """How often a model was asked for cases."""
        return sum("write test cases" in json.dumps(body) for body in self.mock.last_bodies)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as running:
        yield running


@pytest.fixture
async def hosted(db: asyncpg.Pool, server: ModelServer) -> AsyncIterator[Hosted]:
    account = await Hosted(db, server).open()
    yield account
    await account.pool.aclose()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as running:
        yield running


async def test_generate__the_worker_writes_cases_and_the_outcome_says_who_did(hosted: Hosted) -> None:
    hosted.mock.answers.append(json.dumps(WRITTEN))

    job_id = await hosted.submits(generate=True)
    await hosted.works()

    outcome, row = await hosted.outcome(job_id), await hosted.row(job_id)
    assert [(case["title"], case["state"]) for case in outcome["test_cases"]] == [
        ("Thanks", "passed"),
        ("Bye", "passed"),
    ]
    assert outcome["provenance"]["generated_by"] == "writer"
    assert outcome["summary"]["notes"] == [NOTE]
    assert (row["status"], row["conclusion"], row["suite_source"]) == ("completed", "passed", "generated")
    assert row["trials_total"] == 2
    # Beside the answers' cost, which the outcome has, the job paid for the writing.
    assert float(row["cost_usd"]) > outcome["summary"]["total_cost_usd"] > 0


async def test_generate__the_next_job_on_the_same_files_has_the_same_cases_and_pays_for_none(hosted: Hosted) -> None:
    hosted.mock.answers.append(json.dumps(WRITTEN))
    await hosted.submits(generate=True)
    await hosted.works()

    job_id = await hosted.submits(generate=True, cache=False)
    at_submit = await hosted.row(job_id)
    await hosted.works()

    assert at_submit["trials_total"] == 2
    assert [case["title"] for case in (await hosted.outcome(job_id))["test_cases"]] == ["Thanks", "Bye"]
    assert hosted.times_written == 1


async def test_generate__a_job_that_waited_meanwhile_finds_them_too(hosted: Hosted) -> None:
    hosted.mock.answers.append(json.dumps(WRITTEN))
    first, second = await hosted.submits(generate=True), await hosted.submits(generate=True)

    await hosted.works()
    await hosted.works()

    assert hosted.times_written == 1
    bodies = [(await hosted.row(job_id))["suite_id"] for job_id in (first, second)]
    assert bodies[0] == bodies[1]


async def test_generate__another_account_has_cases_of_its_own(hosted: Hosted, server: ModelServer) -> None:
    hosted.mock.answers.append(json.dumps(WRITTEN))
    await hosted.submits(generate=True)
    await hosted.works()
    other = await Hosted(hosted.db, server).open("other")

    hosted.mock.answers.append(json.dumps(WRITTEN))
    await other.submits(generate=True, package_id=hosted.package)
    await other.works()

    assert hosted.times_written == 2
    await other.pool.aclose()


async def test_generate__who_goes_on_after_a_worker_that_died_pays_for_no_second_time(hosted: Hosted) -> None:
    hosted.mock.answers.append(json.dumps(WRITTEN))
    job_id = await hosted.submits(generate=True, models=["writer", "slow"])
    job = await jobs.claim_job(hosted.db, "dies", lease_seconds=60, job_seconds=600)
    assert job is not None
    working = asyncio.create_task(
        run_job(hosted.db, hosted.pool, job, pace=Pace(), concurrency=5, stop=asyncio.Event())
    )
    async with asyncio.timeout(20):
        while not await hosted.db.fetchval("SELECT COUNT(*) FROM trials WHERE job_id = $1", job_id):
            await asyncio.sleep(0.02)
    # It dies without a word, and its lease runs out.
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await hosted.db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 second'")
    await jobs.sweep_expired(hosted.db, most_attempts=3, code="c", message="m", superseded_message="s")
    paid = (await hosted.row(job_id))["cost_usd"]

    again = await jobs.claim_job(hosted.db, "goes on", lease_seconds=60, job_seconds=600)

    assert again is not None
    assert [case["title"] for case in json.loads(again.suite_body)["cases"]] == ["Thanks", "Bye"]
    assert again.spent > 0
    assert again.spent == int(paid * 10**9)
    assert hosted.times_written == 1


async def test_generate__keeps_nothing_for_a_worker_that_lost_its_lease(hosted: Hosted) -> None:
    await hosted.submits(generate=True)
    lost = await jobs.claim_job(hosted.db, "lost", lease_seconds=60, job_seconds=600)
    assert lost is not None
    assert await jobs.release_job(hosted.db, lost)
    holder = await jobs.claim_job(hosted.db, "holder", lease_seconds=60, job_seconds=600)
    assert holder is not None
    suite = msgspec.structs.replace(a_written_suite(), trials=1)

    assert not await generated_suites.keep_suite(hosted.db, lost, suite, model="writer")
    assert await hosted.db.fetchval("SELECT COUNT(*) FROM generated_suites") == 0
    assert await generated_suites.keep_suite(hosted.db, holder, suite, model="writer")
    assert await generated_suites.keep_suite(hosted.db, holder, suite, model="writer")
    assert await generated_suites.adopt_suite(hosted.db, lost) is None


def a_written_suite():
    from server.services.missing_suites import TO_BE_WRITTEN

    return msgspec.structs.replace(TO_BE_WRITTEN, id="f" * 64)


async def test_generate__what_cannot_be_used_fails_the_job_and_gives_the_run_back(hosted: Hosted) -> None:
    hosted.mock.answers += ["no", '{"tests": []}']

    job_id = await hosted.submits(generate=True)
    await hosted.works()

    row = await hosted.row(job_id)
    assert (row["status"], row["error_code"]) == ("failed", "no_cases")
    assert row["error_message"].startswith(
        "There are no cases to run: The model writer wrote no usable cases in 2 tries"
    )
    assert row["cost_usd"] > 0
    runs = await hosted.db.fetchval("SELECT SUM(runs) FROM usage_ledger WHERE job_id = $1", job_id)
    assert runs == 0


async def test_generate__a_model_that_is_too_small_is_not_asked(hosted: Hosted) -> None:
    job_id = await hosted.submits(generate=True, models=["toy", "writer"])
    await hosted.works()

    row = await hosted.row(job_id)
    assert row["error_message"] == (
        "There are no cases to run: The model toy is too small to write cases; name another one first. "
        "The run was given back."
    )
    assert hosted.mock.requests == 0


def test_generate__over_http_says_why_there_are_no_cases(service: Service) -> None:
    account = service.an_account()
    files = {"Content-Type": "application/gzip"}
    sent = account.client.post("/api/v1/package-snapshots", content=pack(a_package(suite=None)), headers=files)

    asked = {"snapshot_id": sent.json()["snapshot_id"], "generate": True}
    job = finished_job(account, account.client.post("/api/v1/test-jobs/run", json=asked).json()["job_id"])

    # The echo says what it was told, which are no cases.
    assert (job["status"], job["code"], job["config"]["suite_source"]) == ("failed", "no_cases", "generated")
    assert "wrote no usable cases in 2 tries" in job["error"]


async def test_generate__writing_stays_within_the_money_cap(hosted: Hosted) -> None:
    job_id = await hosted.submits(generate=True, max_cost_usd=0.01)
    await hosted.works()

    row = await hosted.row(job_id)
    assert (row["status"], row["error_code"], hosted.mock.requests) == ("failed", "no_cases", 0)
    assert "The job's money cap of $0.01 leaves no room" in row["error_message"]


async def test_generate__a_retry_of_a_job_that_got_none_writes_them(hosted: Hosted) -> None:
    hosted.mock.answers += ["no", "no", json.dumps(WRITTEN)]
    job_id = await hosted.submits(generate=True)
    await hosted.works()

    again = await retry(
        hosted.db, Admission(hosted.db), NoWakeups(), hosted.credential, job_id,
        caller=hosted.caller, models=hosted.announced,
    )  # fmt: skip
    await hosted.works()

    assert [case["title"] for case in (await hosted.outcome(again.job_id))["test_cases"]] == ["Thanks", "Bye"]


async def test_generate__cannot_choose_among_cases_that_nobody_has_written(hosted: Hosted) -> None:
    with pytest.raises(NoSuite, match="not written yet, so none can be chosen"):
        await hosted.submits(generate=True, cases=["Bye"])

    with pytest.raises(NoSuite, match="nobody can tell what they take"):
        await estimate(
            hosted.db,
            hosted.credential,
            RunRequest(package_id=hosted.package, generate=True, dry_run=True),
            models=hosted.announced,
        )
    assert await hosted.db.fetchval("SELECT COUNT(*) FROM test_jobs") == 0


async def test_generate__chooses_among_cases_and_estimates_them_once_they_are_written(hosted: Hosted) -> None:
    hosted.mock.answers.append(json.dumps(WRITTEN))
    await hosted.submits(generate=True)
    await hosted.works()

    job_id = await hosted.submits(generate=True, cases=["Bye"])
    await hosted.works()

    outcome = await hosted.outcome(job_id)
    assert [case["title"] for case in outcome["test_cases"]] == ["Bye"]
    assert outcome["summary"]["notes"][0].startswith("The 1 case of this run was generated: writer wrote it")
    request = RunRequest(package_id=hosted.package, generate=True, dry_run=True)
    told = await estimate(hosted.db, hosted.credential, request, models=hosted.announced)
    assert (told.suite_source, told.cases) == ("generated", 2)
    assert hosted.times_written == 1


async def test_generate__unasked_a_package_without_tests_is_refused_with_what_to_do(hosted: Hosted) -> None:
    with pytest.raises(NoSuite, match="`prpm test --generate`"):
        await hosted.submits()


async def test_generate__cannot_be_verified(hosted: Hosted) -> None:
    with pytest.raises(InvalidRequest, match="Verified results need a published version"):
        await hosted.submits(generate=True, verify_results=True)


async def test_registry__its_cases_are_run_where_the_package_has_none(
    db: asyncpg.Pool, server: ModelServer, registry: Registry
) -> None:
    registry.set("GET /api/v1/packages/{name}/test-cases", Reply(CASES))
    hosted = await Hosted(db, server, UpstreamRegistry(registry.url)).open()
    server.mock.answers += ["hello", '{"pass": true, "score": 1, "reason": "It does."}']

    job_id = await hosted.submits(generate=True, cases=["Bows"])
    await hosted.works()

    outcome = await hosted.outcome(job_id)
    assert [(case["title"], case["state"]) for case in outcome["test_cases"]] == [("Bows", "passed")]
    assert outcome["summary"]["notes"] == ["The package has no tests of its own; the registry's 1 case is run."]
    assert (await hosted.row(job_id))["suite_source"] == "registry"
    told = await estimate(
        db, hosted.credential, RunRequest(package_id=hosted.package), models=hosted.announced, registry=hosted.registry
    )
    assert (told.suite_source, told.cases) == ("registry", 2)
    await hosted.pool.aclose()


async def test_registry__knows_nothing_of_a_folder_whatever_its_name(
    db: asyncpg.Pool, server: ModelServer, registry: Registry
) -> None:
    registry.set("GET /api/v1/packages/{name}/test-cases", Reply(CASES))
    hosted = await Hosted(db, server, UpstreamRegistry(registry.url)).open()
    snapshot = await keep_snapshot(db, hosted.caller, archive=pack(a_package("@someone/sample", suite=None)))

    with pytest.raises(NoSuite):
        await hosted.submits(package_id=None, snapshot_id=snapshot.snapshot_id)

    assert registry.requests("GET /api/v1/packages/{name}") == []
    await hosted.pool.aclose()


async def test_registry__that_is_away_refuses_for_now_and_keeps_nothing(db: asyncpg.Pool, server: ModelServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    hosted = await Hosted(db, server, UpstreamRegistry(url)).open()

    with pytest.raises(Unavailable, match="does not answer"):
        await hosted.submits(generate=True)

    assert await db.fetchval("SELECT COUNT(*) FROM usage_ledger") == 0
    await hosted.pool.aclose()


@pytest.mark.parametrize(
    "reply",
    [Reply({"error": "no"}, status=404), Reply({"test_cases": [], "total": 0})],
    ids=["unknown there", "none there"],
)
async def test_registry__without_cases_leaves_it_to_the_model(
    db: asyncpg.Pool, server: ModelServer, registry: Registry, reply: Reply
) -> None:
    registry.set("GET /api/v1/packages/{name}/test-cases", reply)
    hosted = await Hosted(db, server, UpstreamRegistry(registry.url)).open()
    server.mock.answers.append(json.dumps(WRITTEN))

    job_id = await hosted.submits(generate=True)
    await hosted.works()

    assert (await hosted.row(job_id))["suite_source"] == "generated"
    await hosted.pool.aclose()


async def test_registry__that_answers_nonsense_is_as_good_as_away(
    db: asyncpg.Pool, server: ModelServer, registry: Registry
) -> None:
    registry.set("GET /api/v1/packages/{name}/test-cases", Reply({"test_cases": "many"}))
    hosted = await Hosted(db, server, UpstreamRegistry(registry.url)).open()

    with pytest.raises(Unavailable):
        await hosted.submits(generate=True)

    await hosted.pool.aclose()
