"""Kept answers and outcomes: what is used again, by whom, for how long, and what it costs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec
import pytest

from evals.catalogue import load_catalogue
from evals.models import CompletionRequest
from evals.outcome import Outcome
from evals.pool import ModelPool
from evals.suites import parse_suite_value, suite_digest
from server.domain.accounts import Caller, Credential
from server.domain.errors import QuotaExceeded
from server.domain.jobs import Cause, JobView, SentSuite
from server.domain.packages import PackageRef
from server.services.accounts import create_account, set_caps
from server.services.admission import Admission
from server.services.caching import announce_models, outcome_settings
from server.services.publishing import encode_canonical, keep_snapshot, publish_package
from server.services.reading import read_job, read_outcome
from server.services.retention import Keep, clean_up
from server.services.running import Pace, run_job
from server.services.submitting import RunRequest, submit
from server.services.usage import read_ledger
from server.store import jobs
from server.store.accounts import read_caller_by_id
from tests.packages import an_archive
from tests.queue import a_new_job
from tests.standins.model_server import ModelServer, model_server

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


@pytest.fixture
async def house(db: asyncpg.Pool) -> AsyncIterator[House]:
    async with model_server() as server:
        house = House(db, server)
        yield house
        await house.models.aclose()


@pytest.fixture
async def alice(house: House) -> Caller:
    return await house.an_account()


@pytest.fixture
async def snapshot(house: House, alice: Caller) -> str:
    """Of a working folder of alice's."""
    return (await keep_snapshot(house.db, alice, archive=an_archive())).snapshot_id


def said(outcome: Outcome) -> list[tuple[str, str]]:
    """State and reason of each row's cache."""
    return [(row.cache.state, row.cache.reason) if row.cache else ("", "") for row in outcome.test_cases]


def states(outcome: Outcome) -> list[str]:
    return [state for state, _ in said(outcome)]


# --- single answers


async def test_cache__a_changed_suite_only_pays_for_what_changed(house: House, alice: Caller, snapshot: str):
    first = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2, 3))
    assert said(first) == [("miss", "not asked before")] * 3
    assert house.calls == 3

    second = await house.run(alice, snapshot_id=snapshot, suite=a_suite(9, 1, 3))

    assert house.calls == 1
    assert states(second) == ["miss", "hit", "hit"]
    assert said(second)[1][1].startswith("answered on 20")
    assert second.summary.conclusion == "passed"
    assert second.summary.trials_cached == 2


async def test_cache__a_hit_keeps_its_tokens_and_costs_nothing(house: House, alice: Caller, snapshot: str):
    first = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    second = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, description="another suite"))

    [paid], [free] = first.test_cases, second.test_cases
    assert (free.response, free.input_tokens, free.output_tokens) == (
        paid.response,
        paid.input_tokens,
        paid.output_tokens,
    )
    assert second.summary.total_tokens == first.summary.total_tokens > 0
    assert first.summary.total_cost_usd > 0
    assert (free.cost_usd, second.summary.total_cost_usd) == (0.0, 0.0)
    assert free.cache.saved_usd == paid.cost_usd
    month = await house.db.fetchrow("SELECT cost_usd, test_runs_count FROM user_test_usage")
    assert float(month["cost_usd"]) == pytest.approx(first.summary.total_cost_usd)
    assert month["test_runs_count"] == 2  # the second was run, if on kept answers


async def test_cache__each_repeat_has_an_answer_of_its_own(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, repeat=3)]})
    assert house.calls == 3

    more = await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, repeat=5)]})

    assert house.calls == 2
    [row] = more.test_cases
    assert sorted(trial.cache.state for trial in row.trials) == ["hit"] * 3 + ["miss"] * 2


async def test_cache__two_cases_that_ask_the_same_never_share_an_answer(house: House, alice: Caller, snapshot: str):
    twice = {"tests": [a_case(1), {**a_case(1), "description": "again"}]}

    house.server.mock.answers = ["ANSWER-1, one", "ANSWER-1, another"]
    first = await house.run(alice, snapshot_id=snapshot, suite=twice)

    assert (house.calls, states(first)) == (2, ["miss", "miss"])
    again = await house.run(alice, snapshot_id=snapshot, suite={**twice, "description": "another"})
    assert (house.calls, states(again)) == (0, ["hit", "hit"])
    assert [row.response for row in again.test_cases] == [row.response for row in first.test_cases]
    assert len({row.response for row in again.test_cases}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": 77},
        {"temperature": 0},
        {
            "tests": [
                {**a_case(1), "messages": [{"role": "system", "content": "."}, {"role": "user", "content": "case 1"}]}
            ]
        },
    ],
)
async def test_cache__whatever_decides_the_answer_is_part_of_the_key(
    house: House, alice: Caller, snapshot: str, change: dict[str, Any]
):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    changed = {**a_suite(1), **change}
    for case in changed["tests"]:
        if "messages" in case:
            case.pop("input", None)

    assert states(await house.run(alice, snapshot_id=snapshot, suite=changed)) == ["miss"]


async def test_cache__another_model_and_another_package_are_asked(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    other = (await keep_snapshot(house.db, alice, archive=an_archive(text="You answer at length."))).snapshot_id

    assert states(await house.run(alice, snapshot_id=snapshot, suite=a_suite(1), models=["other"])) == ["miss"]
    assert states(await house.run(alice, snapshot_id=other, suite=a_suite(1))) == ["miss"]


async def test_cache__a_model_that_became_another_is_asked_again(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    await house.db.execute("UPDATE model_versions SET version = 'mock-a-2' WHERE version = 'mock-a'")

    again = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))

    assert said(again)[0] == ("miss", "asked before of mock-a, now it is mock-a-2")


async def test_cache__an_answer_of_a_fallback_is_not_kept(house: House, alice: Caller, snapshot: str):
    house.server.mock.fail_next = 1
    house.server.mock.fail_status = 401
    first = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    assert first.test_cases[0].answered_by == "mock-spare"

    second = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))

    assert second.test_cases[0].answered_by == "mock-a"
    assert states(second) == ["miss"]


async def test_cache__judges_are_not_paid_twice_though_their_fence_is_new_each_time(
    house: House, alice: Caller, snapshot: str
):
    rubric = {"type": "llm-rubric", "value": "names the answer", "model": "judge"}
    await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, rubric, repeat=2)]})
    assert house.calls == 5  # two answers, two opinions, and one opinion asked for again

    again = await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, rubric, repeat=2), a_case(2)]})

    assert house.calls == 1
    assert again.summary.conclusion == "passed"
    stricter = {**rubric, "value": "names the answer, and nothing else"}
    await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, stricter, repeat=2)]})
    assert house.calls == 3


# --- what asks anew


async def test_cache__false_in_the_request_asks_anew_and_keeps_the_new_answer(
    house: House, alice: Caller, snapshot: str
):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    house.server.mock.answers = ["ANSWER-1, told anew"]

    fresh = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1), cache=False)

    assert said(fresh) == [("bypass", "the run asks every model anew")]
    assert fresh.test_cases[0].response == "ANSWER-1, told anew"
    later = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))
    assert (states(later)[0], later.test_cases[0].response) == ("hit", "ANSWER-1, told anew")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"cache": False}, ("bypass", "the suite says `cache: false`")),
        ({"temperature": 0.7}, ("bypass", "temperature 0.7 asks for a new answer each time")),
        ({"temperature": 0.7, "cache": True}, ("hit", "")),
        ({"temperature": 0}, ("hit", "")),
    ],
)
async def test_cache__the_suite_says_whether_answers_are_kept(
    house: House, alice: Caller, snapshot: str, fields: dict[str, Any], expected: tuple[str, str]
):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, **fields))

    again = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, **fields))

    state, reason = said(again)[0]
    assert state == expected[0]
    assert reason.startswith(expected[1])


async def test_cache__latency_is_measured_anew_and_the_other_cases_are_not(house: House, alice: Caller, snapshot: str):
    timed = {"tests": [a_case(1, {"type": "latency", "threshold": 60_000}), a_case(2)]}
    await house.run(alice, snapshot_id=snapshot, suite=timed)

    again = await house.run(alice, snapshot_id=snapshot, suite=timed)

    assert said(again)[0] == ("bypass", "latency needs an answer of its own")
    assert states(again)[1] == "hit"
    assert again.summary.conclusion == "passed"


async def test_cache__a_cost_limit_is_held_against_what_the_answer_once_cost(
    house: House, alice: Caller, snapshot: str
):
    limited = {"tests": [a_case(1, {"type": "cost", "threshold": 0.000001})]}
    assert (await house.run(alice, snapshot_id=snapshot, suite=limited)).summary.conclusion == "failed"

    again = await house.run(alice, snapshot_id=snapshot, suite={**limited, "description": "another"})

    assert states(again) == ["hit"]
    assert again.summary.conclusion == "failed"


async def test_cache__answers_that_are_too_old_are_asked_again(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    await house.db.execute("UPDATE completions SET created_at = created_at - INTERVAL '15 days'")

    again = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))

    assert said(again)[0] == ("miss", "asked more than 14 days ago")


async def test_cache__0_days_switch_it_off(house: House, alice: Caller, snapshot: str):
    house.days = 0

    for _ in range(2):
        outcome = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
        assert said(outcome) == [("", "")]
        assert house.calls == 1
    assert await house.db.fetchval("SELECT COUNT(*) FROM completions") == 0
    assert await house.db.fetchval("SELECT COUNT(*) FROM cached_outcomes") == 0


async def test_cache__one_that_cannot_be_reached_ends_no_job(house: House, alice: Caller, snapshot: str):
    await house.db.execute("ALTER TABLE completions RENAME TO away")

    outcome = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))

    assert outcome.summary.conclusion == "passed"
    assert said(outcome) == [("miss", "the cache could not be read")] * 2
    await house.db.execute("ALTER TABLE away RENAME TO completions")


# --- whole outcomes


async def test_outcome_cache__an_identical_job_is_answered_at_once_and_costs_no_run(
    house: House, alice: Caller, snapshot: str
):
    ran = await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1, 2))
    await house.work()
    ran = await read_job(house.db, alice, ran.id)
    assert house.calls == 2

    cached = await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1, 2))

    assert (cached.status, cached.conclusion, cached.cached_at) == ("completed", "passed", ran.completed_at)
    assert house.calls == 0
    ledger = await read_ledger(house.db, alice, month=None, cursor=None, limit=10)
    assert [(entry.kind, entry.runs, entry.job_id) for entry in ledger.entries] == [
        ("cached", 0, cached.id),
        ("charge", 1, ran.id),
    ]
    assert await house.db.fetchval("SELECT test_runs_count FROM user_test_usage") == 1
    outcome = await house.outcome(alice, cached.id)
    assert outcome.summary.cached is True
    assert outcome.summary.cached_at == ran.completed_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert (outcome.summary.total_cost_usd, outcome.summary.trials_cached) == (0.0, 2)
    assert said(outcome) == [("hit", f"an identical job ended at {outcome.summary.cached_at}")] * 2
    assert [row.response for row in outcome.test_cases] == [
        row.response for row in (await house.outcome(alice, ran.id)).test_cases
    ]


async def test_outcome_cache__answers_also_when_the_month_is_used_up(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    await house.db.execute("UPDATE user_test_usage SET test_runs_count = 100")

    cached = await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1))

    assert cached.status == "completed"
    assert await house.db.fetchval("SELECT test_runs_count FROM user_test_usage") == 100
    with pytest.raises(QuotaExceeded):
        await house.submit(alice, snapshot_id=snapshot, suite=a_suite(2))


@pytest.mark.parametrize(
    "request_",
    [
        {"force": True},
        {"cache": False},
        {"models": ["other"]},
        {"models": ["right", "other"]},
        {"upload_results": True},
    ],
)
async def test_outcome_cache__does_not_answer_for(house: House, alice: Caller, snapshot: str, request_: dict[str, Any]):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))

    job = await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1), **request_)

    assert (job.status, job.cached_at) == ("queued", None)


async def test_outcome_cache__what_is_verified_asks_every_model_anew(house: House, alice: Caller):
    name = f"@{alice.username}/verified"
    await publish_package(house.db, alice, archive=an_archive(name, suite=a_suite(1)))
    await house.run(alice, package_id=name)

    verified = await house.run(alice, package_id=name, verify_results=True)

    assert said(verified) == [("bypass", "the run asks every model anew")]


@pytest.mark.parametrize("fields", [{"cache": False}, {"temperature": 0.7}])
async def test_outcome_cache__keeps_nothing_that_the_suite_wants_anew(
    house: House, alice: Caller, snapshot: str, fields: dict[str, Any]
):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, **fields))

    assert (await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1, **fields))).status == "queued"


async def test_outcome_cache__keeps_none_with_a_row_without_a_verdict(house: House, alice: Caller, snapshot: str):
    house.server.mock.fail_status = 400
    house.server.mock.fail_next = 1
    outcome = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2), models=["other"])
    assert outcome.summary.tests_errored == 1

    again = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2), models=["other"])

    assert again.summary.conclusion == "passed"
    assert again.summary.cached is not True


async def test_outcome_cache__keeps_none_in_which_a_fallback_answered(house: House, alice: Caller, snapshot: str):
    house.server.mock.fail_next = 1
    house.server.mock.fail_status = 401
    outcome = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))
    assert {row.answered_by for row in outcome.test_cases} == {"mock-a", "mock-spare"}

    assert (await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1, 2))).status == "queued"


async def test_outcome_cache__keeps_failures_of_tests_as_it_keeps_passes(house: House, alice: Caller, snapshot: str):
    wrong = {"tests": [{"input": "case 1", "assert": [{"type": "contains", "value": "never said"}]}]}
    await house.run(alice, snapshot_id=snapshot, suite=wrong)

    cached = await house.submit(alice, snapshot_id=snapshot, suite=wrong)

    assert (cached.status, cached.conclusion) == ("completed", "failed")


async def test_outcome_cache__of_a_cancelled_or_failed_job_there_is_none(house: House, alice: Caller, snapshot: str):
    await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1))
    job = await jobs.claim_job(house.db, "w", lease_seconds=15, job_seconds=3600)
    stop = asyncio.Event()
    stop.set()
    await run_job(house.db, house.models, job, pace=Pace(), concurrency=5, stop=stop, cache_days=14)

    assert (await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1))).status == "queued"


async def test_outcome_cache__a_model_that_became_another_is_run_again(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    await house.db.execute("UPDATE model_versions SET version = 'mock-a-2' WHERE version = 'mock-a'")

    assert (await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1))).status == "queued"


async def test_outcome_cache__a_judge_that_became_another_judges_again(house: House, alice: Caller, snapshot: str):
    rubric = {"type": "llm-rubric", "value": "names the answer", "model": "judge"}
    suite = {"tests": [a_case(1, rubric)]}
    await house.run(alice, snapshot_id=snapshot, suite=suite)
    assert (await house.submit(alice, snapshot_id=snapshot, suite=suite)).status == "completed"
    await house.db.execute("UPDATE model_versions SET version = 'judge-b' WHERE version = 'judge-a'")

    assert (await house.submit(alice, snapshot_id=snapshot, suite=suite)).status == "queued"


async def test_outcome_cache__a_changed_catalogue_is_run_again(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    text = CATALOGUE.format(url=house.server.base_url).replace("mock-a", "mock-c")
    await house.models.aclose()
    house.models = ModelPool(load_catalogue(text, environ={}))

    assert (await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1))).status == "queued"


async def test_outcome_cache__is_as_old_as_its_oldest_answer(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    await house.db.execute("UPDATE completions SET created_at = created_at - INTERVAL '13 days'")
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))
    assert (await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1, 2))).status == "completed"

    await house.db.execute("UPDATE cached_outcomes SET created_at = created_at - INTERVAL '25 hours'")

    assert (await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1, 2))).status == "queued"


async def test_outcome_cache__a_cached_job_cannot_be_cancelled_and_gives_nothing_back(
    house: House, alice: Caller, snapshot: str
):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    cached = await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1))

    assert not await jobs.cancel_job(house.db, cached.id, seen_by=alice.id, code="cancelled", message="")

    kinds = await house.db.fetch("SELECT kind FROM usage_ledger WHERE job_id = $1", cached.id)
    assert [row["kind"] for row in kinds] == ["cached"]


@pytest.mark.parametrize("cause", ["schedule", "baseline", "rerun"])
async def test_outcome_cache__what_looks_for_drift_is_run_and_asks_every_model_anew(
    house: House, alice: Caller, snapshot: str, cause: Cause
):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    known = announce_models(house.models.catalogue)
    suite = parse_suite_value(a_suite(1), path="suite")
    drift = a_new_job(
        alice.id,
        package=PackageRef(),
        snapshot_id=snapshot,
        suite=SentSuite(id=suite_digest(suite), body=encode_canonical(suite).decode(), trials=1),
        models=["right"],
        outcome_settings=outcome_settings(known, ["right"], framework="litellm"),
        outcome_days=14,
    )

    [submitted, answered] = [
        (await jobs.submit_jobs(house.db, [msgspec.structs.replace(drift, id=job_id, key=str(job_id), cause=which)]))[0]
        for job_id, which in ((uuid.uuid4(), cause), (uuid.uuid4(), "submit"))
    ]

    assert (await read_job(house.db, alice, answered.job_id)).status == "completed"
    assert (await read_job(house.db, alice, submitted.job_id)).status == "queued"
    house.calls  # noqa: B018 - what was asked before does not count
    await house.work()
    outcome = await house.outcome(alice, submitted.job_id)
    assert said(outcome) == [("bypass", "the run asks every model anew")]
    assert house.calls == 1
    kinds = await house.db.fetch("SELECT kind, runs FROM usage_ledger WHERE job_id = $1", submitted.job_id)
    assert [tuple(row) for row in kinds] == [("charge", 1)]


async def test_outcome_cache__no_row_of_the_table_can_break_the_rule_of_causes(
    house: House, alice: Caller, snapshot: str
):
    job = await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1))

    with pytest.raises(asyncpg.CheckViolationError, match="test_jobs_fresh"):
        await house.db.execute("UPDATE test_jobs SET cause = 'schedule' WHERE id = $1", job.id)


# --- who may have it


async def test_sharing__another_account_has_nothing_of_a_private_folder(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    bob = await house.an_account()
    same = (await keep_snapshot(house.db, bob, archive=an_archive())).snapshot_id
    assert same == snapshot
    house.calls  # noqa: B018 - what alice asked does not count

    outcome = await house.run(bob, snapshot_id=same, suite=a_suite(1))

    assert said(outcome) == [("miss", "not asked before")]
    assert house.calls == 1


async def test_sharing__a_public_package_s_own_suite_is_answered_for_everybody(house: House, alice: Caller):
    name = f"@{alice.username}/shared"
    await publish_package(house.db, alice, archive=an_archive(name, suite=a_suite(1)))
    await house.run(alice, package_id=name)
    bob = await house.an_account()
    assert house.calls == 1

    cached = await house.submit(bob, package_id=name)

    assert cached.status == "completed"
    assert states(await house.outcome(bob, cached.id)) == ["hit"]
    forced = await house.run(bob, package_id=name, force=True)
    assert (states(forced), house.calls) == (["hit"], 0)


async def test_sharing__a_suite_of_one_s_own_is_one_s_own_also_on_a_public_package(house: House, alice: Caller):
    name = f"@{alice.username}/shared"
    await publish_package(house.db, alice, archive=an_archive(name, suite=a_suite(1)))
    await house.run(alice, package_id=name, suite=a_suite(2))
    bob = await house.an_account()

    outcome = await house.run(bob, package_id=name, suite=a_suite(2))

    assert said(outcome) == [("miss", "not asked before")]


async def test_sharing__a_private_test_gets_nothing_of_what_is_shared(house: House, alice: Caller):
    name = f"@{alice.username}/shared"
    await publish_package(house.db, alice, archive=an_archive(name, suite=a_suite(1)))
    await house.run(alice, package_id=name)
    bob = await house.an_account()
    private = (await keep_snapshot(house.db, bob, archive=an_archive(name, suite=a_suite(1)))).snapshot_id

    assert said(await house.run(bob, snapshot_id=private)) == [("miss", "not asked before")]


# --- clean-up


async def test_retention__D8_kept_answers_and_outcomes_go_after_their_days(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    await house.db.execute("UPDATE completions SET created_at = NOW() - INTERVAL '15 days'")
    await house.db.execute("UPDATE cached_outcomes SET created_at = NOW() - INTERVAL '15 days'")
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(2))

    removed = await clean_up(house.db, Keep(cache_days=14))

    assert removed is not None
    assert (removed["completions"], removed["cached_outcomes"]) == (1, 1)
    assert (await house.submit(alice, snapshot_id=snapshot, suite=a_suite(2))).status == "completed"


@pytest.mark.parametrize("statement", ["delete_completions", "delete_cached_outcomes"])
async def test_retention__D8_finds_old_answers_by_an_index(house: House, alice: Caller, statement: str, snapshot: str):
    from server.store.retention import SQL

    job = await house.submit(alice, snapshot_id=snapshot, suite=a_suite(1))
    await house.db.execute(
        "INSERT INTO completions (key, account_id, is_shared, deployment, version, body)"
        " SELECT SHA256(n::TEXT::BYTEA), $1, FALSE, 'd', 'v', '{}' FROM GENERATE_SERIES(1, 5000) n",
        alice.id,
    )
    await house.db.execute(
        "INSERT INTO cached_outcomes (key, account_id, is_shared, job_id, conclusion, results, deployments, versions,"
        " created_at) SELECT SHA256(n::TEXT::BYTEA), $1, FALSE, $2, 'passed', '{}', '{}', '{}', NOW()"
        " FROM GENERATE_SERIES(1, 5000) n",
        alice.id,
        job.id,
    )
    await house.db.execute("ANALYZE")

    async with house.db.acquire() as connection:
        plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN " + SQL[statement], 14, 1000))

    assert f"{statement.removeprefix('delete_')}_age" in plan, plan


# --- the caches' own manners


async def test_cache__a_gathered_statement_that_fails_fails_those_in_it_alone():
    from server.services.caching import Gathered

    async def act(asked: list[int]) -> list[int]:
        if 1 in asked:
            raise OSError("away")
        return [number * 10 for number in asked]

    gathered: Gathered[int, int] = Gathered(act)

    with pytest.raises(OSError, match="away"):
        await asyncio.gather(gathered.ask(1), gathered.ask(2))
    assert await asyncio.gather(gathered.ask(3), gathered.ask(4)) == [30, 40]


async def test_cache__an_answer_that_says_the_fence_changes_no_key():
    from evals.models import Deployment
    from evals.types import Message
    from server.services.caching import completion_key

    def key(text: str, nonce: str) -> bytes:
        return completion_key(
            Deployment(id="d", backend="echo", model="m", price=None),
            CompletionRequest(messages=(Message("user", text),), nonce=nonce),
        )

    assert key("DATA-1 a DATA-1", "DATA-1") == key("DATA-2 a DATA-2", "DATA-2")
    assert key("DATA-1 a DATA-1", "DATA-1") != key("DATA-2 a b DATA-2", "DATA-2")
    assert key("DATA-1 a DATA-1", "DATA-1") != key(" a ", "")
