"""The life of the check `prpm` of a commit: it says the sum of its packages, and always ends (invariant 5)."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import msgspec
import pytest

from server.domain.change_heads import pull_line
from server.domain.changes import Change
from server.domain.events import Repository
from server.domain.heads import Said, TouchedPart, with_rerun, with_run
from server.domain.links import NewLink
from server.services.delivering import Outgoing, deliver
from server.services.linking import link_of_job
from server.services.reporting import report_head
from server.store import change_heads, jobs, links, outbox
from tests.outbox import a_job, an_end, deliver_due, let_time_pass, rows
from tests.queue import an_account
from tests.reporting import PULL, a_github_account, a_gitlab_account, a_pull_request, access_to, reporting, the_change
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge
from tests.standins.web import Answer, Fault

Forge = GitHubForge | GitLabForge


@pytest.fixture
def github() -> Iterator[GitHubForge]:
    with GitHubForge().running() as running:
        yield running
    assert running.violations == []


@pytest.fixture
def gitlab() -> Iterator[GitLabForge]:
    with GitLabForge().running() as running:
        yield running
    assert running.violations == []


@pytest.fixture
async def out(db: asyncpg.Pool, github: GitHubForge) -> AsyncIterator[Outgoing]:
    access = access_to(db, github)
    yield reporting(db, access)
    await access.aclose()


async def touched(
    db: asyncpg.Pool, account: uuid.UUID, forge: Forge, *suites: str, change: Change | None = None, **said: Said
) -> None:
    """The change was found to touch these suites of the package `p`; of some something is said in place of a job."""
    found, at = change or the_change(forge), datetime.now(UTC)
    parts = [TouchedPart(package="p", suite_name=suite, at=at, said=said.get(suite)) for suite in suites]
    link = await link_of_job(db, forge=found.forge, repository_id=forge.id, account_id=account)
    assert link is not None
    await report_head(
        db, link, found, changed=lambda head: with_run(head, found, parts, said=None, nothing="Nothing.", at=at)
    )


async def submitted(
    db: asyncpg.Pool, account: uuid.UUID, forge: Forge, *suites: str, change: Change | None = None, **changes: Any
) -> None:
    """Each by the service itself, and part of the sum if that is known."""
    found, at = change or the_change(forge), datetime.now(UTC)
    link = await link_of_job(db, forge=found.forge, repository_id=forge.id, account_id=account)
    for suite in suites:
        job_id = await a_job(db, account, key=None, change=found, suite_name=suite, **changes)
        part = TouchedPart(package="p", suite_name=suite, at=at, job_id=job_id)
        if link is not None:
            await report_head(db, link, found, changed=partial(with_rerun, change=found, parts=[part], at=at))


async def ended(db: asyncpg.Pool, *conclusions: str) -> None:
    """The jobs that wait run one after the other and come to this."""
    for conclusion in conclusions:
        job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
        assert job is not None
        assert await jobs.finish_job(db, job, an_end(conclusion))


class Gate:
    """The first check run that is made is held at the forge's door until `go_on`; it says what was read before."""

    def __init__(self, forge: GitHubForge) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()
        forge.before_answer = lambda seen: (
            self._hold() if seen.method == "POST" and "/check-runs" in seen.path else None
        )

    def _hold(self) -> None:
        if not self.arrived.is_set():
            self.arrived.set()
            self.go_on.wait(10)


def shown(forge: GitHubForge) -> list[tuple[str, str | None, str]]:
    """Status, conclusion and title of each check run `prpm`, oldest first."""
    return [
        (run["status"], run.get("conclusion"), run["output"]["title"])
        for _, run in sorted(forge.reported.check_runs.items())
        if run["name"] == "prpm"
    ]


def newest(forge: GitHubForge) -> dict[str, Any]:
    return forge.checks(the_change(forge).head_sha)["prpm"]


async def test_check__of_two_packages_one_of_which_fails(db: asyncpg.Pool, github: GitHubForge, out: Outgoing):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one", "two")
    await submitted(db, account, github, "one", "two")
    await deliver_due(db, out)
    await ended(db, "failed")
    await deliver_due(db, out)
    halfway = shown(github)
    await ended(db, "passed")

    await deliver_due(db, out)

    assert halfway == [("in_progress", None, "1 of 2 packages done, 1 failed so far")]
    assert shown(github) == [("completed", "failure", "1 of 2 packages failed")]
    assert newest(github)["history"] == [("queued", None), ("in_progress", None), ("completed", "failure")]
    summary = newest(github)["output"]["summary"]
    failed, passed = await db.fetch("SELECT id FROM test_jobs ORDER BY conclusion")
    assert summary.splitlines()[3:] == [
        f"- ❌ `p` · `one`: `0 of 1 test passed` · [details](https://testing.example/jobs/{failed['id']})",
        "",
        f"- ✅ `p` · `two`: `1 of 1 test passed` · [details](https://testing.example/jobs/{passed['id']})",
    ]


@pytest.mark.parametrize(
    ("conclusion", "expected"),
    [
        ("passed", ("success", "2 packages passed")),
        ("failed", ("failure", "1 of 2 packages failed")),
        ("inconclusive", ("neutral", "1 of 2 packages without a verdict")),
    ],
)
async def test_check__ends_by_the_rule_of_its_packages_own_checks(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing, conclusion: str, expected: tuple[str, str]
):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one", "two")
    await submitted(db, account, github, "one", "two")
    await ended(db, "passed", conclusion)

    await deliver_due(db, out)

    own = [run["conclusion"] for name, run in github.checks(the_change(github).head_sha).items() if name != "prpm"]
    assert sorted(own) == sorted(["success", expected[0]])
    assert shown(github) == [("completed", *expected)]


async def test_check__of_a_commit_that_nobody_looked_at_is_not_there(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github, "one")
    await ended(db, "passed")

    await deliver_due(db, out)

    assert list(github.checks(the_change(github).head_sha)) == ["prpm / p / one"]
    assert await db.fetchval("SELECT COUNT(*) FROM head_news") == 0


async def test_check__of_a_repository_that_is_not_linked_leaves_no_trace(db: asyncpg.Pool, github: GitHubForge):
    account = await an_account(db)
    a_pull_request(github)
    await submitted(db, account, github, "one")
    await ended(db, "passed")

    assert await rows(db) == []
    assert await db.fetchval("SELECT COUNT(*) FROM head_news") == 0


async def test_check__a_run_of_one_package_again_is_waited_for_in_a_check_of_its_own(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one", "two")
    await submitted(db, account, github, "one", "two")
    await ended(db, "failed", "passed")
    await deliver_due(db, out)
    await submitted(db, account, github, "one", change=the_change(github, cause="check_run:7"))
    await deliver_due(db, out)
    meanwhile = shown(github)
    await ended(db, "passed")

    await deliver_due(db, out)

    failed = ("completed", "failure", "1 of 2 packages failed")
    assert meanwhile == [failed, ("in_progress", None, "1 of 2 packages done")]
    assert shown(github) == [failed, ("completed", "success", "2 packages passed")]


async def test_check__a_run_again_that_comes_to_the_same_leads_to_the_new_page(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one")
    await submitted(db, account, github, "one")
    await ended(db, "failed")
    await deliver_due(db, out)
    await submitted(db, account, github, "one", change=the_change(github, cause="check_run:7"))
    await ended(db, "failed")  # before anybody was told that it waits

    await deliver_due(db, out)

    job_id = await db.fetchval("SELECT id FROM test_jobs ORDER BY created_at DESC LIMIT 1")
    assert shown(github) == [("completed", "failure", "1 of 1 package failed")]
    assert f"/jobs/{job_id}" in newest(github)["output"]["summary"]


async def test_check__Q15_of_an_older_head_ends_when_a_newer_one_comes(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    line = pull_line("github", github.id, PULL)
    old = the_change(github)
    await change_heads.record_head(db, line, old.head_sha, made_at=datetime.now(UTC) - timedelta(minutes=1))
    await touched(db, account, github, "one", "two")
    await submitted(db, account, github, "one")  # and whoever was about to submit the other one was killed
    await deliver_due(db, out)
    a_pull_request(github)
    new = the_change(github)
    await change_heads.record_head(db, line, new.head_sha, made_at=datetime.now(UTC))
    await submitted(db, account, github, "one", change=new)
    await jobs.supersede_jobs(db, most=10, message="A newer commit came.")

    await deliver_due(db, out)

    check = github.checks(old.head_sha)["prpm"]
    assert (check["status"], check["conclusion"], check["output"]["title"]) == (
        "completed", "neutral", "A newer commit came",
    )  # fmt: skip


async def test_check__V5_ends_when_a_worker_was_killed_and_its_job_was_given_up(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one")
    await submitted(db, account, github, "one")
    assert await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60) is not None
    await deliver_due(db, out)
    await db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 s', attempt = 3")
    await jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="Lost.", tell=lambda _: None)

    await deliver_due(db, out)

    assert newest(github)["history"] == [("in_progress", None), ("completed", "neutral")]


async def test_check__that_its_teller_died_with_is_told_by_another_one_and_stands_there_once(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one")
    await submitted(db, account, github, "one")
    await ended(db, "passed")
    await outbox.wake_heads(db, most=10)
    for _ in range(2):  # the sum's row, and the job's
        assert await outbox.claim_notification(db, lease_seconds=60) is not None

    assert await deliver_due(db, out) == 0
    await let_time_pass(db, 61)
    assert await deliver_due(db, out) == 2

    assert shown(github) == [("completed", "success", "1 package passed")]


async def test_check__an_end_while_the_sum_is_told_is_told_after_it(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one")
    await submitted(db, account, github, "one")
    await outbox.wake_heads(db, most=10)
    claimed = [await outbox.claim_notification(db, lease_seconds=60) for _ in range(2)]
    [head] = [one for one in claimed if one is not None and one.event == "head"]
    gate = Gate(github)
    telling = asyncio.create_task(deliver(db, head, out))
    await asyncio.to_thread(gate.arrived.wait, 5)
    await ended(db, "passed")
    await outbox.wake_heads(db, most=10)
    gate.go_on.set()
    await telling
    queued = shown(github)

    await deliver_due(db, out)

    assert queued == [("queued", None, "0 of 1 package done")]

    assert shown(github) == [("completed", "success", "1 package passed")]


async def test_check__of_a_forge_that_was_away_ends_at_once_when_there_is_news(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one")
    await submitted(db, account, github, "one")
    github.faults = [Fault(answer=Answer(status=503), path="/check-runs", times=50)]
    for _ in range(2):
        await deliver_due(db, out)
        await let_time_pass(db, 2000)
    github.faults = []
    await ended(db, "passed")

    await deliver_due(db, out)

    assert shown(github) == [("completed", "success", "1 package passed")]


async def test_check__a_job_that_never_came_ends_it_after_two_days(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one")
    await deliver_due(db, out)
    assert shown(github) == [("queued", None, "0 of 1 package done")]
    await db.execute("UPDATE outbox SET again_at = NOW()")
    assert await outbox.look_again(db, most=10) == 1
    later = datetime.now(UTC) + timedelta(hours=48, seconds=2)

    await deliver_due(db, msgspec.structs.replace(out, now=lambda: later))

    assert shown(github) == [("completed", "neutral", "1 of 1 package without a verdict")]
    assert await db.fetchval("SELECT again_at FROM outbox WHERE event = 'head'") is None


async def test_check__a_run_for_another_branch_does_not_count(db: asyncpg.Pool, github: GitHubForge, out: Outgoing):
    account = await a_github_account(db, github)
    main, loose = (the_change(github, base_ref=ref) for ref in ("main", "loose"))
    await touched(db, account, github, "one", change=main)
    await submitted(db, account, github, "one", change=main)
    await ended(db, "failed")
    await touched(db, account, github, change=loose)
    await submitted(db, account, github, "one", change=msgspec.structs.replace(loose, cause="base:loose"))
    await ended(db, "passed")

    await deliver_due(db, out)

    assert shown(github) == [("completed", "failure", "1 of 1 package failed")]


async def test_check__a_run_that_somebody_elses_workflow_sent_does_not_count(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await touched(db, account, github, "one")
    await submitted(db, account, github, "one")
    await ended(db, "failed")
    await a_job(db, account, key=None, change=the_change(github, cause="attempt:2"), suite_name="one")
    await ended(db, "passed")

    await deliver_due(db, out)

    assert shown(github) == [("completed", "failure", "1 of 1 package failed")]


async def test_check__of_a_person_who_may_write_no_checks_is_a_commits_status(db: asyncpg.Pool, github: GitHubForge):
    account = await an_account(db)
    repository = Repository(forge="github", id=github.id, name=github.name)
    assert await links.link_repository(db, NewLink(repository=repository, account_id=account))
    a_pull_request(github)
    github.fine_grained["github_pat_x"] = "ann"
    access = access_to(db, github, GITHUB_APP_ID="", GITHUB_APP_PRIVATE_KEY="", GITHUB_TOKEN="github_pat_x")
    await touched(db, account, github, "one", "two")
    await submitted(db, account, github, "one", "two")
    await deliver_due(db, reporting(db, access))
    await ended(db, "passed", "inconclusive")
    await deliver_due(db, reporting(db, access))
    await access.aclose()

    said = [status["state"] for status in github.reported.statuses if status["context"] == "prpm"]
    own = {status["context"]: status["state"] for status in github.reported.statuses}
    assert said == ["pending", "error"]
    assert own == {"prpm": "error", "prpm / p / one": "success", "prpm / p / two": "error"}


async def test_check__on_gitlab_is_a_status_and_its_packages_alone_have_notes(db: asyncpg.Pool, gitlab: GitLabForge):
    account = await a_gitlab_account(db, gitlab)
    access = access_to(db, gitlab)
    await touched(db, account, gitlab, "one", "two")
    await submitted(db, account, gitlab, "one", "two")
    await deliver_due(db, reporting(db, access))
    await ended(db, "passed", "failed")
    await deliver_due(db, reporting(db, access))
    await access.aclose()

    said = [(one["state"], one["description"]) for one in gitlab.reported.statuses if one["name"] == "prpm"]
    assert said == [("pending", "0 of 2 packages done"), ("failed", "1 of 2 packages failed")]
    assert [note for note in gitlab.reported.ours(request=PULL) if "packages" in note] == []


async def test_news__of_jobs_of_many_heads_that_change_at_once_never_wait_in_a_circle(db: asyncpg.Pool):
    """Each of the two holds jobs of both heads, and ends them in the other order."""
    account = await an_account(db)
    await links.link_repository(
        db, NewLink(repository=Repository(forge="github", id=7, name="acme/prompts"), account_id=account)
    )
    changes = [
        Change(forge="github", repository="acme/prompts", repository_id=7, ref="feature", head_sha=sha * 40)
        for sha in "ab"
    ]
    for change in changes:
        link = await link_of_job(db, forge="github", repository_id=7, account_id=account)
        assert link is not None
        parts = [TouchedPart(package="p", suite_name=str(n), at=datetime.now(UTC)) for n in range(2)]
        await report_head(
            db, link, change,
            changed=lambda head, change=change, parts=parts: with_run(
                head, change, parts, said=None, nothing="", at=parts[0].at
            ),
        )  # fmt: skip
    ids = {
        (change.head_sha[0], n): await a_job(db, account, key=None, change=change, suite_name=str(n))
        for change in changes
        for n in range(2)
    }
    await db.execute("UPDATE test_jobs SET status = 'running', lease_until = NOW() + INTERVAL '1 h'")
    both_hold = asyncio.Barrier(2)

    async def end(first: uuid.UUID, second: uuid.UUID) -> None:
        async with db.acquire() as connection, connection.transaction():
            ending = "UPDATE test_jobs SET status = 'failed', lease_until = NULL WHERE id = $1"
            await connection.execute(ending, first)
            async with asyncio.timeout(10):
                await both_hold.wait()
            await connection.execute(ending, second)

    await asyncio.gather(end(ids["a", 0], ids["b", 0]), end(ids["b", 1], ids["a", 1]))

    assert await outbox.wake_heads(db, most=100) == 2
