"""What is reported as whom, and as the repository's configuration wants it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
from msgspec import UNSET

from evals.archives import pack
from evals.baselines import RowHistory
from server.domain.events import Repository
from server.domain.links import NewLink
from server.domain.reporting import ReportSettings
from server.services.delivering import Outgoing
from server.store import jobs, links, outbox
from tests.outbox import a_running_job, a_target, an_end, deliver_due, rows
from tests.queue import an_account
from tests.reporting import (
    CHECK,
    PULL,
    a_github_account,
    a_pull_request,
    access_to,
    claimed,
    claimed_and_told,
    finished,
    reporting,
    said,
    submitted,
    the_change,
    the_check,
)
from tests.standins.github_forge import GitHubForge


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
