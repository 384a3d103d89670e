"""The life of a check on a forge: from a job's acceptance to its end, whatever comes between (invariant 5)."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import unicodedata
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import cmarkgfm
import msgspec
import pytest
from cmarkgfm.cmark import Options
from msgspec import UNSET

from evals.archives import pack
from evals.baselines import RowHistory
from evals.types import Trial
from server.domain.events import Repository
from server.domain.jobs import ClaimedJob, JobEnd
from server.domain.links import Link, NewLink
from server.domain.reporting import ReportSettings
from server.operator.outbox import row_lines
from server.services import delivering
from server.services.delivering import OutboxLoop, Outgoing, deliver
from server.services.forge_access import ForgeAccess
from server.services.linking import link_of_job
from server.services.reporting import report_state
from server.services.superseding import supersede
from server.store import jobs, links, outbox
from server.store.trials import store_trials
from tests.notices import HOSTILE
from tests.outbox import SEALER, a_job, a_running_job, a_target, an_end, deliver_due, let_time_pass, rows
from tests.queue import an_account
from tests.reporting import PULL, a_github_account, a_gitlab_account, a_pull_request, access_to, reporting, the_change
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge
from tests.standins.web import Answer, Fault

CHECK = "prpm / p / default"


@pytest.fixture
def github() -> Iterator[GitHubForge]:
    with GitHubForge().running() as running:
        yield running


@pytest.fixture
def gitlab() -> Iterator[GitLabForge]:
    with GitLabForge().running() as running:
        yield running


@pytest.fixture
async def access(db: asyncpg.Pool, github: GitHubForge) -> AsyncIterator[ForgeAccess]:
    made = access_to(db, github)
    yield made
    await made.aclose()


@pytest.fixture
def out(db: asyncpg.Pool, access: ForgeAccess) -> Outgoing:
    return reporting(db, access)


@pytest.fixture
async def gitlab_out(db: asyncpg.Pool, gitlab: GitLabForge) -> AsyncIterator[Outgoing]:
    access = access_to(db, gitlab)
    yield reporting(db, access)
    await access.aclose()


Forge = GitHubForge | GitLabForge


async def submitted(db: asyncpg.Pool, account: uuid.UUID, forge: Forge, **changes: Any) -> uuid.UUID:
    return await a_job(db, account, **{"key": None, "change": the_change(forge), **changes})


async def claimed(db: asyncpg.Pool) -> ClaimedJob:
    job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert job is not None
    return job


async def finished(
    db: asyncpg.Pool, account: uuid.UUID, forge: Forge, conclusion: str = "failed", **changes: Any
) -> uuid.UUID:
    await submitted(db, account, forge, **changes)
    job = await claimed(db)
    assert await jobs.finish_job(db, job, an_end(conclusion))
    return job.id


def the_check(forge: GitHubForge, sha: str | None = None) -> dict[str, Any]:
    """The one check run of the head."""
    [check] = forge.checks(sha or the_change(forge).head_sha).values()
    return check


async def the_link(db: asyncpg.Pool, account: uuid.UUID, forge: Forge) -> Link:
    change = the_change(forge)
    link = await link_of_job(db, forge=change.forge, repository_id=forge.id, account_id=account)
    assert link is not None
    return link


class Gate:
    """The first such request is held at the forge's door until `go_on`."""

    def __init__(self, forge: GitHubForge, method: str, path: str) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()
        forge.before_answer = lambda seen: self._hold() if seen.method == method and path in seen.path else None

    def _hold(self) -> None:
        if not self.arrived.is_set():
            self.arrived.set()
            self.go_on.wait(10)


# From the first to the last.


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


# The forge refuses.


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


async def claimed_and_told(db: asyncpg.Pool, out: Outgoing) -> None:
    """The job runs, which is told; it has ended, which is not."""
    job = await claimed(db)
    await deliver_due(db, out)
    assert await jobs.finish_job(db, job, an_end("failed"))


# Who may.


async def test_report__where_the_link_ended_nothing_is_asked_and_the_reason_stands_there(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github)
    await links.end_links(db, forge="github", repository_ids=[github.id], reason="It was removed.")

    await deliver_due(db, out)

    assert github.log == []
    assert await rows(db) == [("job", "dead", 1)]
    assert (await db.fetchval("SELECT last_error FROM outbox")).startswith("The repository is not linked any more")


async def test_report__a_check_that_was_left_open_is_ended_once_the_service_may_write_again(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    await claimed_and_told(db, out)
    await links.suspend_installation(db, forge="github", installation_id=github.installation_id)
    await deliver_due(db, out)
    assert the_check(github)["status"] == "in_progress"
    await links.resume_installation(db, forge="github", installation_id=github.installation_id)

    assert await outbox.look_again(db, most=10) == 0
    await db.execute("UPDATE outbox SET again_at = again_at - INTERVAL '6 hours'")
    assert await outbox.look_again(db, most=10) == 1
    await deliver_due(db, out)

    assert the_check(github)["conclusion"] == "failure"


async def test_report__with_a_persons_token_a_commits_status_stands_for_the_check(
    db: asyncpg.Pool, github: GitHubForge
):
    account = await an_account(db)
    repository = Repository(forge="github", id=github.id, name=github.name)
    assert await links.link_repository(db, NewLink(repository=repository, account_id=account))
    a_pull_request(github)
    github.fine_grained["github_pat_x"] = "ann"
    access = access_to(db, github, GITHUB_APP_ID="", GITHUB_APP_PRIVATE_KEY="", GITHUB_TOKEN="github_pat_x")

    await submitted(db, account, github)
    job = await claimed(db)
    await deliver_due(db, reporting(db, access))
    assert await jobs.finish_job(db, job, an_end("failed"))
    await deliver_due(db, reporting(db, access))
    await access.aclose()

    assert [(status["context"], status["state"]) for status in github.reported.statuses] == [
        (CHECK, "pending"), (CHECK, "failure"),
    ]  # fmt: skip
    [comment] = [one for one in github.reported.comments.values() if one["user"]["login"] == "ann"]
    assert "Prompt tests: 1 failure" in comment["body"]
    assert github.reported.check_runs == {}
    assert github.violations == []


async def test_state__with_a_persons_token_what_needs_words_is_a_comment_that_is_kept_true(
    db: asyncpg.Pool, github: GitHubForge
):
    """Whoever has to approve a stranger's commit has to read how; a status has 140 characters."""
    account = await an_account(db)
    repository = Repository(forge="github", id=github.id, name=github.name)
    assert await links.link_repository(db, NewLink(repository=repository, account_id=account))
    a_pull_request(github)
    github.fine_grained["github_pat_x"] = "ann"
    access = access_to(db, github, GITHUB_APP_ID="", GITHUB_APP_PRIVATE_KEY="", GITHUB_TOKEN="github_pat_x")
    out = reporting(db, access)
    ours = github.reported.comments

    await said(db, account, github, "neutral", "Nothing to test")
    await deliver_due(db, out)
    assert ours == {}
    await said(db, account, github, "action_required", "Waits for approval", summary="Comment `/prpm test`.")
    await deliver_due(db, out)
    [asks] = [one["body"] for one in ours.values()]
    await finished(db, account, github, "passed")
    await deliver_due(db, out)
    await access.aclose()

    [result] = [one["body"] for one in ours.values()]
    assert "Comment `/prpm test`." in asks
    assert "### ✅ Prompt tests: the one row passed" in result
    assert [status["state"] for status in github.reported.statuses] == ["success", "pending", "success"]
    assert github.violations == []


# As the repository wants it.


async def test_report__comment_and_check_are_as_the_configuration_says(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github, report=ReportSettings(comment="never", check=False, commit_status=True))

    await deliver_due(db, out)

    assert github.reported.comments == github.reported.check_runs == {}
    assert [status["state"] for status in github.reported.statuses] == ["failure"]


async def test_report__failures_stand_beside_the_suites_lines(db: asyncpg.Pool, github: GitHubForge, out: Outgoing):
    account = await a_github_account(db, github)
    suite = b"tests:\n  - description: Says nothing\n  - description: Says hello\n"
    await db.execute("UPDATE snapshots SET archive = $1", pack({"prpm.test.yaml": suite, "SKILL.md": b"# x"}))
    await finished(db, account, github, report=ReportSettings(suite_path="skills/greeter/prpm.test.yaml"))

    await deliver_due(db, out)

    [annotation] = the_check(github)["annotations"]
    assert (annotation["path"], annotation["start_line"]) == ("skills/greeter/prpm.test.yaml", 3)
    assert annotation["title"] == "Failed: Says hello on echo"


async def test_notify__a_configuration_chooses_among_the_targets_that_the_account_has(db: asyncpg.Pool):
    account, other = await an_account(db), await an_account(db)
    wanted = await a_target(db, account, "https://receiver.example/one")
    await a_target(db, account, "https://receiver.example/two")
    foreign = await a_target(db, other, "https://receiver.example/three")

    for chosen in ((wanted, foreign), (), None):
        job = await a_running_job(db, account, report=ReportSettings(notify=chosen))
        assert await jobs.finish_job(db, job, an_end("failed"))

    told = [row["target_id"] for row in await db.fetch("SELECT target_id FROM outbox ORDER BY id")]
    assert told.count(wanted) == 2
    assert len(told) == 3  # both, where nothing was chosen
    assert foreign not in told


async def test_report__shows_the_baseline_its_age_and_what_it_came_to(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    main = the_change(github, pull_request=UNSET, ref="main", head_sha=github.repository.branches["main"])
    await submitted(db, account, github, change=main)
    job = await claimed(db)
    past = (RowHistory(case_index=0, model="echo", title="Says hello", case_digest="d", passed=1, failed=0),)
    assert await jobs.finish_job(db, job, msgspec.structs.replace(an_end("passed"), history=past))
    await submitted(db, account, github)
    job = await claimed(db)
    made_at = (datetime.now(UTC) - timedelta(days=3, hours=1)).isoformat()
    comparison = {
        "rule": "regressions", "baseline_trials": 20, "rerun_trials": 0,
        "rows": {"regressed": 0, "fixed": 0, "flaky": 0, "stable": 1, "not_enough_data": 0},
        "source": {"kind": "branch", "name": "main", "jobs": 4, "newest_at": made_at},
    }  # fmt: skip
    end = an_end("failed")
    outcome = json.dumps(json.loads(end.outcome or "") | {"comparison": comparison})
    assert await jobs.finish_job(db, job, msgspec.structs.replace(end, outcome=outcome))

    await deliver_due(db, out)

    [comment] = github.reported.ours(pull=PULL)
    assert "baseline `main`, 20 trials, 3 days old" in comment
    assert "**score 0 % (−100 points)**" in comment


# What is no job.


async def said(
    db: asyncpg.Pool, account: uuid.UUID, forge: Forge, state: Any, title: str = "This waits", **changes: Any
) -> None:
    values: dict[str, Any] = {
        "change": the_change(forge), "package": "p", "suite_name": "default", "summary": "Somebody has to say so.",
    }  # fmt: skip
    await report_state(db, await the_link(db, account, forge), state=state, title=title, **values | changes)


async def test_outbox__says_of_what_could_not_be_told_on_a_forge_where_that_was(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    refused = Answer(status=403, body={"message": "Resource not accessible by integration"})
    github.faults = [Fault(refused, times=100, methods=("POST", "PATCH"))]
    await finished(db, account, github)
    await said(db, account, github, "failure", package="other")
    await said(db, account, github, "action_required", package=None)

    await deliver_due(db, out)

    dead = await outbox.list_outbox(db, state="dead", most=10)
    assert len(dead) == 3
    place = f"{github.name} #{PULL} {the_change(github).head_sha[:7]}"
    for row in dead:
        first, reason, *_ = row_lines(row)
        assert f"  forge  {place}  " in first
        assert "HTTP 403" in reason


async def test_state__is_shown_once_and_replaced_by_the_next_one(db: asyncpg.Pool, github: GitHubForge, out: Outgoing):
    account = await a_github_account(db, github)
    for state in ("action_required", "action_required", "queued", "neutral", "neutral", "failure"):
        await said(db, account, github, state)
        await deliver_due(db, out)

    # GitHub opens no check run again that was completed: what is waited for again is another one of the same name.
    assert list(github.reported.check_history.values()) == [
        [("completed", "action_required")],
        [("queued", None), ("completed", "neutral"), ("completed", "failure")],
    ]
    assert await rows(db) == [("state", "sent", 1)]
    assert github.violations == []


async def test_state__of_which_only_the_last_was_told_shows_that_one(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    for state in ("queued", "neutral", "action_required"):
        await said(db, account, github, state)

    assert await deliver_due(db, out) == 1

    assert the_check(github)["history"] == [("completed", "action_required")]


async def test_state__said_while_the_one_before_is_being_told_is_told_after_it(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await said(db, account, github, "queued")
    gate = Gate(github, "POST", "/check-runs")
    telling = asyncio.create_task(deliver_due(db, out))
    await asyncio.to_thread(gate.arrived.wait, 5)
    await said(db, account, github, "failure")
    gate.go_on.set()
    await telling

    assert the_check(github)["history"] == [("queued", None), ("completed", "failure")]


async def test_state__a_job_takes_its_place_in_the_same_check(db: asyncpg.Pool, github: GitHubForge, out: Outgoing):
    account = await a_github_account(db, github)
    await said(db, account, github, "action_required")
    await deliver_due(db, out)

    job_id = await finished(db, account, github, "passed")
    await deliver_due(db, out)

    check = the_check(github)
    assert check["history"] == [("completed", "action_required"), ("completed", "success")]
    assert check["external_id"] == str(job_id)


async def test_state__that_comes_late_does_not_hide_the_job(db: asyncpg.Pool, github: GitHubForge, out: Outgoing):
    account = await a_github_account(db, github)
    await said(db, account, github, "queued")
    github.faults = [Fault(answer=Answer(status=503), path="/check-runs", times=50)]
    for _ in range(4):
        await deliver_due(db, out)
        await let_time_pass(db, 310)
    github.faults = []
    await finished(db, account, github, "passed")

    await let_time_pass(db, 2000)
    await deliver_due(db, out)

    assert the_check(github)["conclusion"] == "success"
    assert len(github.reported.check_runs) == 1
    assert await rows(db) == [("state", "quiet", 5), ("job", "sent", 1)]


async def test_state__that_promised_a_job_which_never_came_ends_after_two_days(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await said(db, account, github, "queued")
    await deliver_due(db, out)
    assert the_check(github)["status"] == "queued"

    assert await outbox.look_again(db, most=10) == 0
    await db.execute("UPDATE outbox SET again_at = again_at - INTERVAL '48 hours 2 seconds'")
    assert await outbox.look_again(db, most=10) == 1
    later = datetime.now(UTC) + timedelta(hours=48, seconds=2)
    await deliver_due(db, msgspec.structs.replace(out, now=lambda: later))

    check = the_check(github)
    assert (check["conclusion"], check["output"]["title"]) == ("neutral", "The test did not start")


async def test_state__of_all_packages_is_a_check_without_a_name_of_one(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await said(db, account, github, "failure", "prpm-testing.yml cannot be read", package=None)

    await deliver_due(db, out)

    assert the_check(github)["name"] == "prpm"


async def test_state__O1_to_O7_other_peoples_text_in_a_check_is_inert(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    for text in HOSTILE:
        await said(db, account, github, "failure", text, summary=f"{text}\n{text}")
        await deliver_due(db, out)

        output = the_check(github)["output"]
        require_inert(output["summary"])
        assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in output["title"])
    assert github.violations == []


async def test_state__O1_to_O7_other_peoples_text_in_a_note_is_inert(
    db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing
):
    account = await a_gitlab_account(db, gitlab)
    for text in HOSTILE:
        await said(db, account, gitlab, "failure", text, summary=f"{text}\n{text}")
        await deliver_due(db, gitlab_out)

        [note] = gitlab.reported.ours(request=PULL)
        require_inert(note.partition("\n")[2])
    assert gitlab.violations == []


def require_inert(markdown: str) -> None:
    """No link, image, mention, command or tag of others': all their text is code."""
    html = cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE)
    outside = re.sub(r"<code>.*?</code>", "", html, flags=re.DOTALL)
    assert set(re.findall(r"</?(\w+)", outside)) <= {"h3", "p"}
    assert not re.search(r"@\w|#\d|https?:|!\[|\bmailto:", outside)
    assert all(line[:1] in ("", "`", "#", "–") for line in markdown.split("\n"))


# GitLab.


async def test_gitlab__a_status_lives_with_the_job_and_a_note_says_what_changed(
    db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing
):
    account = await a_gitlab_account(db, gitlab)
    await submitted(db, account, gitlab)
    await deliver_due(db, gitlab_out)
    job = await claimed(db)
    await deliver_due(db, gitlab_out)
    assert await jobs.finish_job(db, job, an_end("failed"))
    await deliver_due(db, gitlab_out)

    assert [(one["name"], one["state"]) for one in gitlab.reported.statuses] == [
        (CHECK, "pending"), (CHECK, "running"), (CHECK, "failed"),
    ]  # fmt: skip
    [note] = gitlab.reported.ours(request=PULL)
    assert "### ❌ Prompt tests: 1 failure" in note
    assert gitlab.violations == []


async def test_gitlab__what_needs_a_persons_doing_is_a_note_that_is_kept_true(
    db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing
):
    account = await a_gitlab_account(db, gitlab)
    await said(db, account, gitlab, "neutral", "Nothing to test")
    await deliver_due(db, gitlab_out)
    assert gitlab.reported.notes == {}
    await said(db, account, gitlab, "action_required", "Waits for approval")
    await deliver_due(db, gitlab_out)
    await said(db, account, gitlab, "queued", "Approved")
    await deliver_due(db, gitlab_out)
    [note] = gitlab.reported.ours(request=PULL)
    assert "`Approved`" in note

    await finished(db, account, gitlab, "passed")
    await deliver_due(db, gitlab_out)

    [note] = gitlab.reported.ours(request=PULL)
    assert "### ✅ Prompt tests: the one row passed" in note
    # What is pending cannot become so again; that the status stands as it did is no failure.
    assert [one["state"] for one in gitlab.reported.statuses] == ["skipped", "pending", "success"]
    assert await rows(db) == [("state", "sent", 1), ("job", "sent", 1)]


async def test_gitlab__a_status_that_ran_ends_though_nothing_was_found(
    db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing
):
    """What runs cannot be skipped any more at GitLab: it would run for ever, and hold the merge request up."""
    account = await a_gitlab_account(db, gitlab)
    await submitted(db, account, gitlab)
    job = await claimed(db)
    await deliver_due(db, gitlab_out)
    assert await jobs.finish_job(db, job, an_end("inconclusive"))

    await deliver_due(db, gitlab_out)

    assert [one["state"] for one in gitlab.reported.statuses] == ["running", "canceled"]


async def test_gitlab__a_server_that_knows_no_skipped_has_a_status_that_ends(
    db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing
):
    account = await a_gitlab_account(db, gitlab)
    gitlab.reported.knows_skipped = False

    await said(db, account, gitlab, "neutral", "Nothing to test")
    await deliver_due(db, gitlab_out)

    assert [one["state"] for one in gitlab.reported.statuses] == ["canceled"]


async def test_gitlab__another_writer_of_the_same_commit_is_waited_for(
    db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing
):
    account = await a_gitlab_account(db, gitlab)
    busy = Answer(status=409, body={"message": "Another update to this commit status is in progress"})
    gitlab.faults = [Fault(busy, path="/statuses/", methods=("POST",))]

    await finished(db, account, gitlab, "failed")
    await deliver_due(db, gitlab_out)
    assert await rows(db) == [("job", "pending", 1)]
    await db.execute("UPDATE outbox SET next_at = NOW()")
    await deliver_due(db, gitlab_out)

    assert [one["state"] for one in gitlab.reported.statuses] == ["failed"]
    assert len(gitlab.reported.ours(request=PULL)) == 1


async def test_gitlab__a_tags_commit_that_is_on_no_branch_has_its_status(
    db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing
):
    """GitLab looks for the branches of a commit, and refuses one that is on none unless the tag is named."""
    account = await a_gitlab_account(db, gitlab)
    alone = gitlab.repository.commit({"prpm.json": b"{ }"})
    change = the_change(gitlab, head_sha=alone, ref="refs/tags/v1.0.0", pull_request=UNSET)

    await finished(db, account, gitlab, "passed", change=change)
    await deliver_due(db, gitlab_out)

    [status] = gitlab.statuses(alone).values()
    assert (status["state"], status["ref"]) == ("success", "v1.0.0")


async def test_answer__to_a_comment_is_read_where_there_are_no_checks(
    db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing
):
    """A status has no room for a list of commands, or of models."""
    account = await a_gitlab_account(db, gitlab)
    asked = the_change(gitlab, cause="comment:7")
    for _ in range(2):
        await said(db, account, gitlab, "neutral", "What can be said", summary="/prpm test", change=asked)
        await deliver_due(db, gitlab_out)

    [note] = gitlab.reported.ours(request=PULL)
    assert "`/prpm test`" in note
    assert gitlab.violations == []


async def test_gitlab__a_forks_commit_that_is_not_in_the_project_has_a_note_and_no_status(
    db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing
):
    account = await a_gitlab_account(db, gitlab)

    await finished(db, account, gitlab, "failed", change=the_change(gitlab, head_sha="9" * 40))
    await deliver_due(db, gitlab_out)

    assert len(gitlab.reported.ours(request=PULL)) == 1
    assert gitlab.reported.statuses == []
    assert await rows(db) == [("job", "sent", 1)]


async def test_gitlab__a_token_that_may_only_read_is_said(db: asyncpg.Pool, gitlab: GitLabForge, gitlab_out: Outgoing):
    account = await a_gitlab_account(db, gitlab)
    gitlab.read_only = True

    await finished(db, account, gitlab, "failed")
    await deliver_due(db, gitlab_out)

    assert await rows(db) == [("job", "dead", 1)]
    assert "(HTTP 403)" in await db.fetchval("SELECT last_error FROM outbox")
