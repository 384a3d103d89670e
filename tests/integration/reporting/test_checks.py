"""The life of a check on a forge: from a job's acceptance to its end, whatever comes between (invariant 5)."""

from __future__ import annotations

import asyncio

import asyncpg

from evals.types import Trial
from server.domain.jobs import JobEnd
from server.services import delivering
from server.services.delivering import OutboxLoop, Outgoing, deliver
from server.services.superseding import supersede
from server.store import jobs, outbox
from server.store.trials import store_trials
from tests.outbox import SEALER, an_end, deliver_due, let_time_pass, rows
from tests.reporting import (
    CHECK,
    PULL,
    Gate,
    a_github_account,
    a_pull_request,
    claimed,
    finished,
    submitted,
    the_change,
    the_check,
)
from tests.standins.github_forge import GitHubForge


async def test_check__goes_from_queued_over_live_counts_to_its_conclusion(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    job_id = await submitted(db, account, github)
    await deliver_due(db, out)
    queued = the_check(github)
    job = await claimed(db)
    await store_trials(db, job, [Trial(case_index=0, model="echo", repeat_index=0, state="failed", score=0.0)])
    await deliver_due(db, out)
    running = the_check(github)
    assert await jobs.finish_job(db, job, an_end("failed"))
    await deliver_due(db, out)
    ended = the_check(github)

    assert (queued["status"], queued["output"]["title"]) == ("queued", "Waiting for its turn")
    assert (running["status"], running["output"]["title"]) == ("in_progress", "1 of 1 trial done, 1 failed so far")
    assert (ended["status"], ended["conclusion"]) == ("completed", "failure")
    assert ended["output"]["title"] == "❌ 1 failure, score 0 %"
    assert ended["name"] == CHECK
    assert ended["external_id"] == str(job_id)
    assert ended["details_url"] == f"https://testing.example/jobs/{job_id}"
    assert ended["actions"] == [
        {"label": "Re-run", "description": "Run these prompt tests once more", "identifier": "rerun"}
    ]
    assert ended["history"] == [("queued", None), ("in_progress", None), ("completed", "failure")]
    assert len(github.reported.ours(pull=PULL)) == 1
    assert await rows(db) == [("job", "sent", 1)]
    assert github.violations == []


async def test_check__a_short_job_is_told_in_one_request_though_three_things_happened(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github, "passed")

    await deliver_due(db, out)

    assert the_check(github)["history"] == [("completed", "success")]
    assert github.reported.comments == {}  # nothing changed, so nothing is said


async def test_check__counts_are_told_again_after_ten_seconds_and_then_ever_more_seldom(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    job = await claimed(db)
    await deliver_due(db, out)
    first = await again_in_seconds(db)
    await db.execute("UPDATE test_jobs SET started_at = started_at - INTERVAL '200 s'")
    await db.execute("UPDATE outbox SET again_at = NOW()")
    await store_trials(db, job, [Trial(case_index=0, model="echo", repeat_index=0, state="passed", score=1.0)])

    assert await outbox.look_again(db, most=10) == 1
    assert await deliver_due(db, out) == 1

    assert 9 < first <= 10
    assert 49 < await again_in_seconds(db) <= 51
    assert the_check(github)["output"]["title"] == "1 of 1 trial done"
    assert await outbox.look_again(db, most=10) == 0


async def again_in_seconds(db: asyncpg.Pool) -> float:
    seconds = await db.fetchval("SELECT EXTRACT(EPOCH FROM again_at - CLOCK_TIMESTAMP())::FLOAT8 FROM outbox")
    assert seconds is not None
    return float(seconds)


async def test_check__counts_that_did_not_change_are_not_written_again(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    await claimed(db)
    await deliver_due(db, out)
    await db.execute("UPDATE outbox SET again_at = NOW()")
    await outbox.look_again(db, most=10)

    await deliver_due(db, out)

    assert the_check(github)["history"] == [("in_progress", None)]


async def test_check__is_never_open_again_once_its_job_has_ended(db: asyncpg.Pool, github: GitHubForge, out: Outgoing):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    await claimed(db)
    frozen = await outbox.claim_notification(db, lease_seconds=60)  # it read that the job runs, and then slept
    assert frozen is not None
    first = Gate(github, "POST", "/check-runs")
    late = asyncio.create_task(deliver(db, frozen, out))
    await asyncio.to_thread(first.arrived.wait, 5)
    await let_time_pass(db, 61)
    await db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 s', attempt = 3")
    await jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="Lost.", tell=lambda _: None)
    assert await deliver_due(db, out) == 1
    first.go_on.set()
    await late
    assert the_check(github)["status"] == "in_progress"  # what came late stands in front

    await deliver_due(db, out)

    newest = the_check(github)
    assert (newest["status"], newest["conclusion"]) == ("completed", "neutral")
    open_ones = [run for run in github.reported.check_runs.values() if run["status"] != "completed"]
    assert open_ones == []
    assert await rows(db) == [("job", "sent", 1)]


async def test_check__Q15_of_an_older_head_says_that_a_newer_commit_took_its_place(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github, "failed")
    await deliver_due(db, out)
    told = github.reported.ours(pull=PULL)
    older = a_pull_request(github)
    await submitted(db, account, github)
    await deliver_due(db, out)
    a_pull_request(github)
    await submitted(db, account, github)
    await supersede(db)

    await deliver_due(db, out)

    check = the_check(github, older)
    assert (check["status"], check["conclusion"]) == ("completed", "neutral")
    assert check["output"]["title"] == "⚠️ superseded by a newer commit"
    assert "A newer commit of this change was submitted" in check["output"]["summary"]
    assert the_check(github)["status"] == "queued"
    assert github.reported.ours(pull=PULL) == told


async def test_check__of_a_cancelled_job_is_cancelled(db: asyncpg.Pool, github: GitHubForge, out: Outgoing):
    account = await a_github_account(db, github)
    job_id = await submitted(db, account, github)
    await deliver_due(db, out)

    await jobs.cancel_job(db, job_id, seen_by=None, code="cancelled", message="Cancelled.")
    await deliver_due(db, out)

    assert the_check(github)["conclusion"] == "cancelled"
    assert the_check(github)["output"]["title"] == "⚠️ cancelled"


async def test_check__of_a_run_that_was_given_back_is_neutral_and_says_why(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    job = await claimed(db)
    why = "No test has a verdict: the provider is away. The run was given back."
    end = JobEnd(status="failed", error_code="no_verdict", error_message=why, refund_reason="no_verdict")
    assert await jobs.finish_job(db, job, end)

    await deliver_due(db, out)

    check = the_check(github)
    assert (check["conclusion"], check["output"]["title"]) == ("neutral", "⚠️ could not be run")
    assert f"`{why}`" in check["output"]["summary"]


async def test_check__another_run_of_the_same_head_has_a_check_of_its_own_and_the_same_comment(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github, "failed")
    await deliver_due(db, out)
    first = the_check(github)

    await finished(db, account, github, "passed", change=the_change(github, cause=f"check_run:{first['id']}"))
    await deliver_due(db, out)

    assert the_check(github)["id"] != first["id"]
    assert the_check(github)["conclusion"] == "success"
    [comment] = github.reported.ours(pull=PULL)
    assert "✅ Prompt tests: the one row passed" in comment


# At least once, shown once (invariant 5).


async def test_report__of_a_worker_that_died_before_it_could_note_it_is_shown_once(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github, "failed")
    dying = await outbox.claim_notification(db, lease_seconds=60)
    assert dying is not None
    told = await delivering._prepare(db, dying, out)
    await delivering._carry_out(told, out)  # and here it is killed

    await let_time_pass(db, 61)
    assert await deliver_due(db, out) == 1

    assert len(github.reported.ours(pull=PULL)) == 1
    assert len(github.reported.check_runs) == 1
    assert await rows(db) == [("job", "quiet", 2)]


async def test_report__two_jobs_of_a_pull_request_and_two_workers_leave_one_comment_each_suite(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    for number in range(300):
        github.reported.add_comment(f"person-{number % 7}", "looks good", pull=PULL)
    for suite in ("default", "strict"):
        for _ in range(3):
            await finished(db, account, github, "failed", suite_name=suite)
            a_pull_request(github)
    loops = [OutboxLoop(db, out) for _ in range(3)]
    tasks = [asyncio.create_task(loop.run()) for loop in loops]

    async with asyncio.timeout(30):
        while any(state == "pending" for _, state, _ in await rows(db)):
            await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert len(github.reported.ours(pull=PULL)) == 2
    assert len(github.reported.check_runs) == 6
    assert {run["status"] for run in github.reported.check_runs.values()} == {"completed"}
    assert github.violations == []


async def test_report__O9_a_stranger_with_our_marker_and_a_foreign_check_with_our_id_are_left_alone(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    job_id = await submitted(db, account, github)
    marker = SEALER.marker(the_change(github), package="p", suite_name="default")
    spoofed = f"<!-- prpm-testing:v1 mac={marker} accepted=2099-01-01T00:00:00.000000Z -->\nall is well"
    stranger = github.reported.add_comment("mallory", spoofed, pull=PULL)
    foreign = github.reported.add_check_run(CHECK, the_change(github).head_sha, external_id=str(job_id), app_id=666)
    job = await claimed(db)
    assert await jobs.finish_job(db, job, an_end("failed"))

    await deliver_due(db, out)

    assert github.reported.comments[stranger]["body"] == spoofed
    assert github.reported.check_runs[foreign]["status"] == "queued"
    assert len(github.reported.ours(pull=PULL)) == 1
    assert the_check(github)["conclusion"] == "failure"
    assert github.violations == []
