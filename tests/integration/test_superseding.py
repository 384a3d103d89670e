"""Jobs of a forge's changes: one for each event, and a newer head ends what is under way for older ones (Q15, V9)."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import Any

import asyncpg
import pytest

from server.domain.changes import Change
from server.domain.errors import QuotaExceeded
from server.domain.jobs import ClaimedJob, EqualSubmit, JobEnd, JobView, Submission
from server.services.superseding import supersede
from server.store import jobs
from tests.changes import FIRST, SECOND, THIRD, a_change
from tests.queue import a_new_job, an_account

DONE = JobEnd(status="completed", conclusion="passed", summary="{}", outcome="{}")


async def submit(db: asyncpg.Pool, account: uuid.UUID, **changes: Any) -> Submission | EqualSubmit:
    [kept] = await jobs.submit_jobs(db, [a_new_job(account, **{"key": None} | changes)])
    assert isinstance(kept, Submission | EqualSubmit)
    return kept


async def accepted(db: asyncpg.Pool, account: uuid.UUID, **changes: Any) -> uuid.UUID:
    kept = await submit(db, account, **changes)
    assert isinstance(kept, Submission)
    return kept.job_id


async def claimed(db: asyncpg.Pool) -> ClaimedJob:
    job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert job is not None
    return job


async def a_verdict(db: asyncpg.Pool, job: ClaimedJob, state: str = "passed") -> None:
    await db.execute(
        "INSERT INTO trials (job_id, case_index, model, repeat_index, state, body, fence)"
        " VALUES ($1, 0, 'echo', 0, $2, '{}', $3)",
        job.id,
        state,
        job.fence,
    )


async def view(db: asyncpg.Pool, job_id: uuid.UUID) -> JobView:
    job = await jobs.read_job(db, job_id, seen_by=None)
    assert job is not None
    return job


async def entries(db: asyncpg.Pool, job_id: uuid.UUID) -> list[str]:
    return [r["kind"] for r in await db.fetch("SELECT kind FROM usage_ledger WHERE job_id = $1 ORDER BY id", job_id)]


async def used(db: asyncpg.Pool, account: uuid.UUID) -> int:
    return await db.fetchval("SELECT test_runs_count FROM user_test_usage WHERE user_id = $1", account)


async def test_submit__V9_fifty_at_once_that_tell_of_one_event_are_one_job_and_one_charge(db: asyncpg.Pool):
    account = await an_account(db)

    answers = await asyncio.gather(
        # Each in its own words: an app and an action ask for the same event in different requests.
        *(submit(db, account, change=a_change(), request_sha256=f"{n:064x}") for n in range(50))
    )

    kept = [answer for answer in answers if isinstance(answer, Submission)]
    equal = {answer.key for answer in answers if isinstance(answer, EqualSubmit)}
    assert (len(kept), len(equal)) == (1, 1)
    told = await jobs.read_submission(db, account, equal.pop())
    assert told is not None
    assert told.job_id == kept[0].job_id
    assert await entries(db, kept[0].job_id) == ["charge"]
    assert await used(db, account) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"forge": "gitlab"},
        {"repository_id": 8},
        {"pull_request": 13},
        {"head_sha": SECOND},
        {"cause": "check-run:99"},
    ],
)
async def test_submit__V9_another_event_is_another_job(db: asyncpg.Pool, other: dict[str, Any]):
    account = await an_account(db)
    first = await accepted(db, account, change=a_change())

    assert await accepted(db, account, change=a_change(**other)) != first

    assert await used(db, account) == 2


async def test_submit__V9_another_suite_or_account_is_another_job_and_another_name_is_not(db: asyncpg.Pool):
    account, other = await an_account(db), await an_account(db)
    first = await accepted(db, account, change=a_change())

    assert await accepted(db, account, change=a_change(), suite_name="slow") != first
    assert await accepted(db, other, change=a_change()) != first
    # A repository that was renamed, and a pull request's branch, are no new event.
    assert isinstance(await submit(db, account, change=a_change(repository="new/name", ref="other")), EqualSubmit)


async def test_submit__V9_an_event_that_was_told_is_told_again_after_its_job_ended(db: asyncpg.Pool):
    account = await an_account(db)
    first = await accepted(db, account, change=a_change())
    await jobs.cancel_job(db, first, seen_by=account, code="cancelled", message="x")
    await db.execute("UPDATE submissions SET created_at = NOW() - INTERVAL '1 hour'")

    again = await submit(db, account, change=a_change(), force=True)

    assert isinstance(again, EqualSubmit)
    assert again.is_event


async def test_submit__V9_Q7_a_key_and_an_event_stand_for_the_same_job(db: asyncpg.Pool):
    account = await an_account(db)
    first = await accepted(db, account, change=a_change(), key="key:mine")

    same = await submit(db, account, change=a_change(), key="key:other")
    other = await submit(db, account, change=a_change(head_sha=SECOND), key="key:mine")

    assert isinstance(same, EqualSubmit)
    assert same.is_event
    # The key was used for another request: whoever sent it is told.
    assert other == EqualSubmit(account_id=account, key="key:mine")
    told = await jobs.read_submission(db, account, "key:mine")
    assert told is not None
    assert told.job_id == first


async def test_supersede__Q15_a_waiting_older_head_is_over_and_given_back(db: asyncpg.Pool):
    account = await an_account(db)
    old = await accepted(db, account, change=a_change())
    new = await accepted(db, account, change=a_change(head_sha=SECOND))

    assert await supersede(db) == 1

    ended = await view(db, old)
    assert (ended.status, ended.error_code, ended.superseded_by) == ("failed", "superseded", new)
    assert ended.error_message is not None
    assert await entries(db, old) == ["charge", "refund"]
    assert await used(db, account) == 1
    assert (await view(db, new)).status == "queued"
    assert await supersede(db) == 0


@pytest.mark.parametrize(
    "other",
    [
        {"change": a_change(head_sha=SECOND, pull_request=13)},
        {"change": a_change(head_sha=SECOND, repository_id=8)},
        {"change": a_change(head_sha=SECOND), "suite_name": "slow"},
        {"change": a_change(cause="check-run:99")},  # the same head once more
        {"change": a_change(head_sha=SECOND, cause="check-run:99")},  # an old commit's check, run again
        {},
    ],
)
async def test_supersede__Q15_what_is_no_newer_head_of_the_line_ends_nothing(db: asyncpg.Pool, other: dict[str, Any]):
    account = await an_account(db)
    first = await accepted(db, account, change=a_change())
    await accepted(db, account, **other)

    assert await supersede(db) == 0

    assert (await view(db, first)).status == "queued"


async def test_supersede__Q15_a_head_ends_no_other_run_of_itself(db: asyncpg.Pool):
    account = await an_account(db)
    asked = await accepted(db, account, change=a_change(cause="comment:5"))
    await accepted(db, account, change=a_change())

    assert await supersede(db) == 0

    assert (await view(db, asked)).status == "queued"


async def test_supersede__Q15_another_accounts_jobs_are_not_touched(db: asyncpg.Pool):
    account, other = await an_account(db), await an_account(db)
    theirs = await accepted(db, other, change=a_change())
    await accepted(db, account, change=a_change(head_sha=SECOND))

    assert await supersede(db) == 0

    assert (await view(db, theirs)).status == "queued"


async def test_supersede__Q15_a_push_to_a_branch_ends_the_older_push(db: asyncpg.Pool):
    account = await an_account(db)
    push = {"forge": "github", "repository": "a/b", "repository_id": 7}
    old = await accepted(db, account, change=Change(**push, ref="main", head_sha=FIRST))
    elsewhere = await accepted(db, account, change=Change(**push, ref="next", head_sha=FIRST))
    await accepted(db, account, change=Change(**push, ref="main", head_sha=SECOND))

    assert await supersede(db) == 1

    assert ((await view(db, old)).status, (await view(db, elsewhere)).status) == ("failed", "queued")


async def test_supersede__Q15_a_running_older_head_is_marked_and_its_worker_ends_it(db: asyncpg.Pool):
    account = await an_account(db)
    await accepted(db, account, change=a_change())
    held = await claimed(db)
    await accepted(db, account, change=a_change(head_sha=SECOND))

    assert await supersede(db) == 1

    assert await jobs.list_cancelled(db, [held.id]) == {held.id}
    assert await jobs.is_superseded(db, held.id)
    assert (await view(db, held.id)).status == "running"
    # The newer one does not wait for the older one's end.
    assert (await claimed(db)).id != held.id


@pytest.mark.parametrize(("state", "kinds"), [("passed", ["charge"]), ("error", ["charge", "refund"])])
async def test_supersede__Q15_of_a_lost_worker_is_given_back_unless_a_trial_had_a_verdict(
    db: asyncpg.Pool, state: str, kinds: list[str]
):
    account = await an_account(db)
    old = await accepted(db, account, change=a_change())
    await a_verdict(db, await claimed(db), state)
    await accepted(db, account, change=a_change(head_sha=SECOND))
    await supersede(db)
    await db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 s' WHERE id = $1", old)

    assert await jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="x") == 1

    ended = await view(db, old)
    assert (ended.status, ended.error_code) == ("failed", "superseded")
    assert await entries(db, old) == kinds


@pytest.mark.parametrize(("state", "kinds"), [("failed", ["charge"]), ("error", ["charge", "refund"])])
async def test_supersede__Q15_of_a_job_that_waits_again_is_given_back_unless_a_trial_had_a_verdict(
    db: asyncpg.Pool, state: str, kinds: list[str]
):
    account = await an_account(db)
    old = await accepted(db, account, change=a_change())
    held = await claimed(db)
    await a_verdict(db, held, state)
    await jobs.release_job(db, held)
    await accepted(db, account, change=a_change(head_sha=SECOND))

    assert await supersede(db) == 1

    assert (await view(db, old)).status == "failed"
    assert await entries(db, old) == kinds


async def test_supersede__Q15_a_thousand_pushes_leave_one_job_and_one_run(db: asyncpg.Pool):
    account = await an_account(db, tier="enterprise")
    heads = [f"{number:040x}" for number in range(1000)]

    async def push(head: str) -> None:
        assert isinstance(await submit(db, account, change=a_change(head_sha=head)), Submission)
        await supersede(db)

    for start in range(0, len(heads), 20):
        await asyncio.gather(*(push(head) for head in heads[start : start + 20]))

    states = Counter(tuple(row) for row in await db.fetch("SELECT status, COALESCE(error_code, '') FROM test_jobs"))
    assert states == {("failed", "superseded"): 999, ("queued", ""): 1}
    last = await db.fetchval("SELECT id FROM test_jobs ORDER BY created_at DESC, id DESC LIMIT 1")
    assert (await view(db, last)).status == "queued"
    assert await used(db, account) == 1
    assert await db.fetchval("SELECT COUNT(*) FROM new_heads") == 0
    assert tuple(await db.fetchrow("SELECT jobs, trials FROM waiting_accounts")) == (1, 1)


async def test_supersede__Q15_races_with_claim_and_end_and_never_leaves_result_and_refund(db: asyncpg.Pool):
    account = await an_account(db, tier="enterprise")
    for number in range(40):
        line = {"pull_request": number + 1}
        await accepted(db, account, change=a_change(**line))

        async def run() -> None:
            if job := await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60):
                await jobs.finish_job(db, job, DONE)

        async def push(head: str, line=line) -> None:
            await submit(db, account, change=a_change(head_sha=head, **line))
            await supersede(db)

        await asyncio.gather(push(SECOND), run(), push(THIRD), run(), supersede(db))
    while job := await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60):
        await jobs.finish_job(db, job, DONE)

    wrong = await db.fetch(
        "SELECT j.id FROM test_jobs j LEFT JOIN usage_ledger l ON l.job_id = j.id AND l.kind = 'refund'"
        " WHERE j.status NOT IN ('completed', 'failed') OR (l.id IS NOT NULL) <> (j.status = 'failed')"
    )
    assert wrong == []
    runs = await db.fetchval("SELECT SUM(runs)::INT FROM usage_ledger")
    assert await used(db, account) == runs
    # The newest head of each line was tested.
    assert await db.fetch(
        "SELECT DISTINCT ON (change_line) id FROM test_jobs ORDER BY change_line, created_at DESC, id DESC"
    ) == await db.fetch(
        "SELECT id FROM (SELECT DISTINCT ON (change_line) id, status, change_line FROM test_jobs"
        " ORDER BY change_line, created_at DESC, id DESC) newest WHERE status = 'completed' ORDER BY change_line"
    )


async def test_submit__Q15_a_month_that_is_used_up_refuses_new_heads_and_knows_old_ones(db: asyncpg.Pool):
    account = await an_account(db)
    await accepted(db, account, change=a_change())
    await db.execute("UPDATE user_test_usage SET test_runs_count = 100")

    assert isinstance(await submit(db, account, change=a_change()), EqualSubmit)
    with pytest.raises((AssertionError, QuotaExceeded)):
        await submit(db, account, change=a_change(head_sha=SECOND))

    assert await db.fetchval("SELECT COUNT(*) FROM new_heads") == 1
