"""What is said on a forge where there is no job."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from datetime import UTC, datetime, timedelta

import asyncpg
import cmarkgfm
import msgspec
from cmarkgfm.cmark import Options

from server.operator.outbox import row_lines
from server.services.delivering import Outgoing
from server.store import outbox
from tests.notices import HOSTILE
from tests.outbox import deliver_due, let_time_pass, rows
from tests.reporting import (
    PULL,
    Gate,
    a_github_account,
    a_gitlab_account,
    finished,
    said,
    the_change,
    the_check,
)
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge
from tests.standins.web import Answer, Fault


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
