"""Statuses and notes on GitLab, and notes in place of checks."""

from __future__ import annotations

import asyncpg
from msgspec import UNSET

from server.services.delivering import Outgoing
from server.store import jobs
from tests.outbox import an_end, deliver_due, rows
from tests.reporting import (
    CHECK,
    PULL,
    a_gitlab_account,
    claimed,
    finished,
    said,
    submitted,
    the_change,
)
from tests.standins.gitlab_forge import GitLabForge
from tests.standins.web import Answer, Fault


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
