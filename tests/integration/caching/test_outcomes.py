"""Kept outcomes: what is answered at once, for whom and how long, and what it costs."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import asyncpg
import msgspec
import pytest

from evals.catalogue import load_catalogue
from evals.pool import ModelPool
from evals.suites import parse_suite_value, suite_digest
from server.domain.accounts import Caller
from server.domain.errors import QuotaExceeded
from server.domain.jobs import Cause, SentSuite
from server.domain.packages import PackageRef
from server.services.caching import announce_models, outcome_settings
from server.services.publishing import encode_canonical, keep_snapshot, publish_package
from server.services.reading import read_job
from server.services.retention import Keep, clean_up
from server.services.running import Pace, run_job
from server.services.usage import read_ledger
from server.store import jobs
from tests.caching import CATALOGUE, House, a_case, a_suite, said, states
from tests.packages import an_archive
from tests.queue import a_new_job


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
