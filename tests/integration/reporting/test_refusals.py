"""What a forge refuses or is too busy for, while a job is reported there."""

from __future__ import annotations

import asyncpg

from server.domain.reporting import ReportSettings
from server.services.delivering import Outgoing
from server.store import jobs
from tests.outbox import an_end, deliver_due, let_time_pass, rows
from tests.reporting import (
    PULL,
    a_github_account,
    claimed,
    claimed_and_told,
    finished,
    submitted,
    the_check,
)
from tests.standins.github_forge import GitHubForge
from tests.standins.web import Answer, Fault


async def test_report__a_token_that_ended_before_its_time_is_replaced(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    await deliver_due(db, out)
    github.end_tokens()
    job = await claimed(db)
    assert await jobs.finish_job(db, job, an_end("failed"))

    await deliver_due(db, out)
    assert (await rows(db))[0][1] == "pending"
    await let_time_pass(db, 6)
    await deliver_due(db, out)

    assert the_check(github)["conclusion"] == "failure"
    assert len(github.tokens) == 1


async def test_report__a_rate_limit_of_an_installation_holds_all_its_reports(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    for suite in ("default", "strict"):
        await finished(db, account, github, "failed", suite_name=suite)
    github.faults = [Fault(answer=Answer(status=403, headers={"Retry-After": "900"}), path="/comments")]

    await deliver_due(db, out)
    asked = len(github.log)
    await db.execute("UPDATE outbox SET next_at = NOW()")
    await deliver_due(db, out)

    assert len(github.log) == asked
    assert [state for _, state, _ in await rows(db)] == ["pending", "pending"]
    due = await db.fetch("SELECT EXTRACT(EPOCH FROM next_at - NOW())::FLOAT8 AS s FROM outbox")
    assert all(800 < row["s"] < 1000 for row in due)


async def test_report__what_the_end_adds_does_not_shorten_the_pause_that_the_forge_asked_for(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    github.faults = [Fault(answer=Answer(status=429, headers={"Retry-After": "900"}), path="/check-runs")]
    await deliver_due(db, out)

    job = await claimed(db)
    assert await jobs.finish_job(db, job, an_end("failed"))

    assert await db.fetchval("SELECT next_at > NOW() + INTERVAL '800 s' FROM outbox")


async def test_report__a_forge_in_trouble_is_tried_again_until_the_check_has_ended(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github, "failed")
    github.faults = [Fault(answer=Answer(status=502), methods=("PATCH", "POST"), path="/repos/", times=2)]

    for _ in range(3):
        await deliver_due(db, out)
        await let_time_pass(db, 400)

    assert the_check(github)["conclusion"] == "failure"
    assert len(github.reported.check_runs) == 1
    assert len(github.reported.ours(pull=PULL)) == 1


async def test_report__a_check_that_a_lost_comment_holds_up_is_written_all_the_same(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github, "failed")
    github.faults = [Fault(answer=Answer(status=502), path="/comments", times=20)]

    await deliver_due(db, out)

    assert the_check(github)["conclusion"] == "failure"
    assert (await rows(db))[0][1] == "pending"


async def test_report__what_the_token_may_not_do_is_said_and_the_rest_is_done(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github, "failed")
    github.reported.read_only = ("/issues/",)

    await deliver_due(db, out)

    assert the_check(github)["conclusion"] == "failure"
    assert await rows(db) == [("job", "dead", 1)]
    assert "could not comment on the pull request (HTTP 403)" in await db.fetchval("SELECT last_error FROM outbox")


async def test_report__an_annotation_that_is_refused_does_not_leave_the_check_open(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github, report=ReportSettings(suite_path="prpm.test.yaml"))
    await claimed_and_told(db, out)
    github.faults = [Fault(answer=Answer(status=422), methods=("PATCH",), path="/check-runs")]
    await db.execute("UPDATE outbox SET next_at = NOW()")

    await deliver_due(db, out)

    assert the_check(github)["conclusion"] == "failure"
    assert the_check(github)["annotations"] == []
