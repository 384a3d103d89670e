"""The outbox: what a job's end has to tell is kept with it (V7), told in order, and given up in time (V8)."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid

import asyncpg
import pytest

from notifiers import CannotNotify
from notifiers.github import GitHubTarget
from server.domain.notifications import ToldJob
from server.services.delivering import (
    LEASE_SECONDS,
    LOOK_SECONDS,
    PAUSES_SECONDS,
    ForgeAddress,
    OutboxLoop,
    deliver,
    pause_before,
)
from server.services.notifying import Notifying, list_targets, resume_target
from server.services.superseding import supersede
from server.store import jobs, outbox
from server.store.notify_targets import report_in_repository
from tests.changes import SECOND, a_change
from tests.outbox import (
    SEALER,
    a_job,
    a_running_job,
    a_target,
    an_end,
    an_ended_job,
    deliver_due,
    let_time_pass,
    outgoing,
    rows,
)
from tests.queue import an_account
from tests.standins.discord import PATH as DISCORD_PATH
from tests.standins.discord import Discord
from tests.standins.github import GitHub
from tests.standins.notifiers.webhook import PATH, SECRET, Receiver
from tests.standins.slack import PATH as SLACK_PATH
from tests.standins.slack import Slack
from tests.standins.web import Answer, Fault

SUBMITTED = (
    "user_id, submitted_by, package_id, package_version, snapshot_id, suite_id, suite_source, models_requested,"
    " framework, trials_total, start_key, submit_position, submit_wait_seconds, submit_runs_used, submit_tier"
)
ADDRESS = "https://receiver.example/hook"


@pytest.fixture
def receiver():
    with Receiver().running() as running:
        yield running


@pytest.fixture
def slack():
    with Slack().running() as running:
        yield running


async def told_jobs(db: asyncpg.Pool) -> list[uuid.UUID]:
    return [row["job_id"] for row in await db.fetch("SELECT job_id FROM outbox ORDER BY id")]


# Written with the end.


async def test_outbox__V7_a_finished_job_has_a_row_for_each_target_of_its_account(db: asyncpg.Pool):
    alice, bob = await an_account(db), await an_account(db)
    for name in ("one", "two"):
        await a_target(db, alice, f"{ADDRESS}/{name}")
    await a_target(db, bob, ADDRESS)

    job = await a_running_job(db, alice)
    assert await rows(db) == []
    assert await jobs.finish_job(db, job, an_end("passed"))

    assert await told_jobs(db) == [job.id, job.id]
    assert await rows(db) == [("job", "pending", 0)] * 2


async def test_outbox__V7_a_second_try_to_finish_writes_nothing_more(db: asyncpg.Pool):
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)
    job = await a_running_job(db, alice)

    assert [await jobs.finish_job(db, job, an_end("passed")) for _ in range(2)] == [True, False]

    assert await told_jobs(db) == [job.id]


async def test_outbox__V7_an_end_that_is_rolled_back_tells_nothing(db: asyncpg.Pool):
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)
    job = await a_running_job(db, alice)

    async with db.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE test_jobs SET status = 'completed' WHERE id = $1", job.id)
        assert await connection.fetchval("SELECT COUNT(*) FROM outbox") == 1
        await transaction.rollback()

    assert await rows(db) == []


async def test_outbox__V7_a_job_that_is_cancelled_while_it_waits_has_its_row(db: asyncpg.Pool):
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)
    job_id = await a_job(db, alice)

    await jobs.cancel_job(db, job_id, seen_by=None, code="cancelled", message="Cancelled.")

    assert await told_jobs(db) == [job_id]


async def test_outbox__V7_a_job_that_the_sweep_fails_has_its_row(db: asyncpg.Pool):
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)
    job = await a_running_job(db, alice)
    await db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 s', attempt = 3")

    await jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="Lost.", tell=lambda _: None)

    assert await told_jobs(db) == [job.id]


async def test_outbox__V7_a_job_of_an_older_head_that_is_superseded_has_its_row(db: asyncpg.Pool):
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)
    older = await a_job(db, alice, key=None, change=a_change())
    await a_job(db, alice, key=None, change=a_change(head_sha=SECOND))

    await supersede(db)

    assert await told_jobs(db) == [older]


async def test_outbox__V7_a_job_that_is_completed_from_the_start_has_its_row(db: asyncpg.Pool):
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)
    first = await an_ended_job(db, alice, "passed")

    copy = await db.fetchval(
        f"INSERT INTO test_jobs ({SUBMITTED}, status, cached_from, completed_at)"
        f" SELECT {SUBMITTED}, 'completed', id, NOW() FROM test_jobs WHERE id = $1 RETURNING id",
        first,
    )

    assert await told_jobs(db) == [first, copy]


@pytest.mark.parametrize(
    ("glob", "is_told"), [("*", True), ("p", True), ("?", True), ("p*", True), ("q*", False), ("@acme/*", False)]
)
async def test_outbox__only_packages_that_the_target_wants_are_told(db: asyncpg.Pool, glob: str, is_told: bool):
    alice = await an_account(db)  # its package is named p
    await a_target(db, alice, ADDRESS, package=glob)

    await an_ended_job(db, alice)

    assert len(await rows(db)) == int(is_told)


async def test_outbox__a_job_that_is_given_back_is_not_told(db: asyncpg.Pool):
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)
    job = await a_running_job(db, alice)

    assert await jobs.release_job(db, job)

    assert await rows(db) == []


# Told.


async def test_notification__a_signed_webhook_arrives_and_is_sent(db: asyncpg.Pool, receiver: Receiver):
    alice = await an_account(db)
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    job_id = await an_ended_job(db, alice, "failed")

    assert await deliver_due(db, outgoing(receiver.url)) == 1

    assert await rows(db) == [("job", "sent", 1)]
    body = json.loads(receiver.bodies[f"msg_{job_id}"])
    assert body["type"] == "test_job.completed"
    assert body["data"]["conclusion"] == "failed"
    assert body["data"]["url"] == f"https://testing.example/jobs/{job_id}"
    assert receiver.violations == []


async def test_notification__V8_a_receiver_in_trouble_is_tried_over_34_hours_with_one_id(
    db: asyncpg.Pool, receiver: Receiver
):
    alice = await an_account(db)
    target = await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    await an_ended_job(db, alice)
    receiver.faults = [Fault(answer=Answer(status=500), times=100)]
    out, waited = outgoing(receiver.url), 0.0

    for tries, pause in enumerate((*PAUSES_SECONDS, 0.0), 1):
        assert await deliver_due(db, out) == 1
        assert await deliver_due(db, out) == 0
        assert (await rows(db))[0][2] == tries
        await let_time_pass(db, pause)
        waited += pause

    assert waited >= 34 * 3600
    assert await rows(db) == [("job", "dead", 8)]
    assert len({seen.headers["webhook-id"] for seen in receiver.log}) == 1
    assert len(receiver.log) == 8
    [shown] = await list_targets(Notifying(db=db, sealer=SEALER), alice)
    assert shown.id == target
    assert shown.stopped_reason is not None
    assert shown.stopped_reason.startswith("Nothing could be told there for 34 hours.")


async def test_notification__V8_a_row_that_alone_fails_dies_alone(db: asyncpg.Pool, receiver: Receiver):
    alice = await an_account(db)
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    poisoned = await an_ended_job(db, alice)
    receiver.before_answer = lambda seen: setattr(
        receiver,
        "faults",
        [Fault(answer=Answer(status=500))] if seen.headers["webhook-id"].endswith(str(poisoned)) else [],
    )
    out = outgoing(receiver.url)
    for pause in PAUSES_SECONDS[:4]:
        await deliver_due(db, out)
        await let_time_pass(db, pause)
    await an_ended_job(db, alice)
    for pause in (*PAUSES_SECONDS[4:], 0.0):
        await deliver_due(db, out)
        await let_time_pass(db, pause)

    assert await rows(db) == [("job", "dead", 8), ("job", "sent", 1)]
    [shown] = await list_targets(Notifying(db=db, sealer=SEALER), alice)
    assert shown.stopped_at is None


async def test_notification__messages_of_one_target_arrive_in_order_though_the_first_is_late(
    db: asyncpg.Pool, receiver: Receiver
):
    alice = await an_account(db)
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    wanted = [await an_ended_job(db, alice) for _ in range(3)]
    receiver.faults = [Fault(answer=Answer(status=503), times=1)]
    out = outgoing(receiver.url)

    assert await deliver_due(db, out) == 1
    await let_time_pass(db, 5)
    assert await deliver_due(db, out) == 3

    assert list(receiver.bodies) == [f"msg_{job_id}" for job_id in wanted]


async def test_notification__after_some_tries_those_behind_it_pass(db: asyncpg.Pool, receiver: Receiver):
    alice = await an_account(db)
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    for _ in range(2):
        await an_ended_job(db, alice)
    receiver.faults = [Fault(answer=Answer(status=500), times=4)]
    out = outgoing(receiver.url)

    for pause in PAUSES_SECONDS[:3]:
        await deliver_due(db, out)
        assert (await rows(db))[1] == ("job", "pending", 0)
        await let_time_pass(db, pause)
    await deliver_due(db, out)

    assert await rows(db) == [("job", "pending", 4), ("job", "sent", 1)]


async def test_notification__what_the_other_side_asks_to_wait_is_waited_by_all_for_it(
    db: asyncpg.Pool, receiver: Receiver
):
    alice = await an_account(db)
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    for _ in range(2):
        await an_ended_job(db, alice)
    receiver.faults = [Fault(answer=Answer(status=429, headers={"Retry-After": "900"}))]
    out = outgoing(receiver.url)

    assert await deliver_due(db, out, rate=True) == 1
    await let_time_pass(db, 890)
    assert await deliver_due(db, out, rate=True) == 0
    await let_time_pass(db, 11)
    assert await deliver_due(db, out, rate=True) == 1


@pytest.mark.parametrize("status", [404, 410])
async def test_notification__a_target_that_is_gone_is_stopped_and_says_why(
    db: asyncpg.Pool, receiver: Receiver, status: int
):
    alice = await an_account(db)
    target = await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    for _ in range(3):
        await an_ended_job(db, alice)
    receiver.faults = [Fault(answer=Answer(status=status), times=9)]

    await deliver_due(db, outgoing(receiver.url))

    assert len(receiver.log) == 1  # never called again
    assert {state for _, state, _ in await rows(db)} == {"dead"}
    site = Notifying(db=db, sealer=SEALER)
    [shown] = await list_targets(site, alice)
    assert shown.stopped_at is not None
    assert f"(HTTP {status})" in (shown.stopped_reason or "")
    await an_ended_job(db, alice)
    assert len(await rows(db)) == 3  # a stopped target is told nothing

    receiver.faults = []
    await resume_target(site, alice, target)
    await an_ended_job(db, alice)
    await deliver_due(db, outgoing(receiver.url))
    assert (await rows(db))[-1] == ("job", "sent", 1)


@pytest.mark.parametrize("status", [400, 401, 403, 413, 301])
async def test_notification__S8_what_is_refused_for_good_is_dead_with_the_status_alone(
    db: asyncpg.Pool, receiver: Receiver, status: int
):
    alice = await an_account(db)
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    await an_ended_job(db, alice)
    receiver.faults = [
        Fault(answer=Answer(status=status, body=b"secret of theirs", headers={"Location": "http://127.0.0.1:1/"}))
    ]

    await deliver_due(db, outgoing(receiver.url))

    assert await rows(db) == [("job", "dead", 1)]
    row = await db.fetchrow("SELECT last_status, last_error FROM outbox")
    assert row["last_status"] == status
    assert f"(HTTP {status})" in row["last_error"]
    assert "secret" not in row["last_error"]
    assert len(receiver.log) == 1


async def test_notification__of_a_worker_that_died_is_told_by_another_when_its_lease_runs_out(
    db: asyncpg.Pool, receiver: Receiver
):
    alice = await an_account(db)
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    await an_ended_job(db, alice)
    out = outgoing(receiver.url)
    dead = await outbox.claim_notification(db, lease_seconds=60)
    assert dead is not None
    assert await deliver_due(db, out) == 0

    await let_time_pass(db, 61)
    assert await deliver_due(db, out) == 1

    # It only slept: what it tells now is a second message, and nothing of it is kept.
    await deliver(db, dead, out)
    assert await rows(db) == [("job", "sent", 2)]
    assert len(receiver.bodies) == 1  # one id


async def test_notification__another_ones_cannot_be_settled_or_delayed(db: asyncpg.Pool):
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)
    await an_ended_job(db, alice)
    late = await outbox.claim_notification(db, lease_seconds=60)
    await let_time_pass(db, 61)
    heir = await outbox.claim_notification(db, lease_seconds=60)
    assert late is not None
    assert heir is not None

    assert not await outbox.settle_notification(db, late, state="dead", reason="late")
    assert not await outbox.delay_notification(
        db, late, seconds=9, status=None, reason="late", lets_others_pass=False, hold_seconds=0
    )

    assert await db.fetchval("SELECT last_error FROM outbox") is None
    assert await outbox.settle_notification(db, heir, state="sent")
    assert not await outbox.settle_notification(db, heir, state="dead")


async def test_notification__many_workers_at_once_tell_each_row_once(db: asyncpg.Pool, receiver: Receiver):
    for _ in range(6):
        account = await an_account(db)
        await a_target(db, account, receiver.url + PATH, secret=SECRET)
        for _ in range(2):
            await an_ended_job(db, account)
    loops = [OutboxLoop(db, outgoing(receiver.url)) for _ in range(4)]
    tasks = [asyncio.create_task(loop.run()) for loop in loops]

    async with asyncio.timeout(15):
        while any(state == "pending" for _, state, _ in await rows(db)):
            await asyncio.sleep(0.05)

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await rows(db) == [("job", "sent", 1)] * 12
    assert len(receiver.log) == 12


# What is news.


async def test_notification__chat_is_told_when_the_state_changes_and_not_otherwise(db: asyncpg.Pool, slack: Slack):
    alice = await an_account(db)
    await a_target(db, alice, slack.url + SLACK_PATH, kind="slack")
    out = outgoing(slack.url)

    said = []
    for conclusion in ("passed", "passed", "failed", "failed", "inconclusive", "failed", "passed", "passed"):
        await an_ended_job(db, alice, conclusion)
        before = len(slack.messages)
        await deliver_due(db, out)
        said.append(len(slack.messages) - before)

    assert said == [0, 0, 1, 0, 0, 0, 1, 0]
    assert slack.violations == []


async def test_notification__branches_and_suites_have_states_of_their_own(db: asyncpg.Pool, slack: Slack):
    alice = await an_account(db)
    await a_target(db, alice, slack.url + SLACK_PATH, kind="slack")
    shas = (f"{number:040x}" for number in itertools.count())
    for change in ({"pull_request": 1}, {"pull_request": 2}, {"pull_request": 1}):
        await an_ended_job(db, alice, key=None, change=a_change(head_sha=next(shas), **change))
    await an_ended_job(db, alice)
    await an_ended_job(db, alice, suite_name="other")

    await deliver_due(db, outgoing(slack.url))

    assert len(slack.messages) == 4  # two pull requests, and two suites of no branch


async def test_notification__a_state_that_could_not_be_told_is_news_the_next_time(db: asyncpg.Pool, slack: Slack):
    alice = await an_account(db)
    await a_target(db, alice, slack.url + SLACK_PATH, kind="slack")
    out = outgoing(slack.url)
    slack.faults = [Fault(answer=Answer(status=400, body=b"invalid_payload"))]
    await an_ended_job(db, alice, "failed")
    await deliver_due(db, out)

    await an_ended_job(db, alice, "failed")
    await deliver_due(db, out)

    assert len(slack.messages) == 1


async def test_notification__a_run_that_could_not_be_done_is_told_to_programs_and_not_in_chats(
    db: asyncpg.Pool, slack: Slack, receiver: Receiver
):
    alice = await an_account(db)
    await a_target(db, alice, slack.url + SLACK_PATH, kind="slack")
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    job_id = await a_job(db, alice)
    await jobs.cancel_job(db, job_id, seen_by=None, code="cancelled", message="Cancelled.")

    await deliver_due(db, outgoing(slack.url, receiver.url))

    assert slack.messages == []
    data = json.loads(receiver.bodies[f"msg_{job_id}"])["data"]
    assert (data["conclusion"], data["error_code"]) == ("inconclusive", "cancelled")
    assert sorted(await rows(db)) == [("job", "quiet", 1), ("job", "sent", 1)]


async def test_notification__discord_has_one_message_for_a_pull_request_that_is_edited(db: asyncpg.Pool):
    alice = await an_account(db)
    with Discord().running() as discord:
        await a_target(db, alice, discord.url + DISCORD_PATH, kind="discord")
        out = outgoing(discord.url)
        for number, conclusion in enumerate(("failed", "passed", "failed")):
            await an_ended_job(db, alice, conclusion, key=None, change=a_change(head_sha=f"{number:040x}"))
            await deliver_due(db, out)

        assert len(discord.messages) == 1
        assert [seen.method for seen in discord.log] == ["POST", "PATCH", "PATCH"]
        assert discord.violations == []


# Leases.


async def a_told_receiver(db: asyncpg.Pool, receiver: Receiver, *, until: int, loops: list[OutboxLoop]) -> None:
    """The loops run until so many requests have come and the row is settled."""
    running = [asyncio.create_task(loop.run()) for loop in loops]
    try:
        async with asyncio.timeout(15):
            while len(receiver.log) < until or any(state == "pending" for _, state, _ in await rows(db)):
                await asyncio.sleep(0.02)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_lease__of_a_worker_that_lives_is_extended_while_a_slow_receiver_thinks(
    db: asyncpg.Pool, receiver: Receiver
):
    """Two workers, and an answer that takes three leases: it is told once."""
    alice = await an_account(db)
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    await an_ended_job(db, alice)
    receiver.faults = [Fault(answer=Answer(status=200), delay_seconds=1.2, after=True)]

    loops = [OutboxLoop(db, outgoing(receiver.url), lease_seconds=0.4) for _ in range(2)]
    await a_told_receiver(db, receiver, until=1, loops=loops)

    assert await rows(db) == [("job", "sent", 1)]
    assert len(receiver.log) == 1


async def test_lease__of_a_killed_worker_runs_out_and_another_tells(db: asyncpg.Pool, receiver: Receiver):
    alice = await an_account(db)
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    await an_ended_job(db, alice)
    dead = await outbox.claim_notification(db, lease_seconds=0.4)

    await a_told_receiver(db, receiver, until=1, loops=[OutboxLoop(db, outgoing(receiver.url))])

    assert await rows(db) == [("job", "sent", 2)]
    assert dead is not None
    assert not await outbox.extend_lease(db, dead, lease_seconds=20)  # it would come too late


def test_lease__a_killed_workers_message_is_told_within_a_minute():
    """Goal 13: what it held, another look, and a receiver that takes its ten seconds."""
    assert LEASE_SECONDS + LOOK_SECONDS + 10 < 60


async def test_deliver__a_network_that_is_away_is_a_try_that_failed(db: asyncpg.Pool):
    """An OSError from outside is counted as a try; taken for the database's, the row would wait for its lease."""
    alice = await an_account(db)
    await report_in_repository(db, forge="github", repository_id=7, account_id=alice)
    await an_ended_job(db, alice, change=a_change())

    class NoNetwork:
        async def address(self, job: ToldJob, *, marker: str) -> ForgeAddress:
            raise ConnectionRefusedError("no route, and a secret in its words")

    assert await deliver_due(db, outgoing(forges=NoNetwork())) == 1

    row = await db.fetchrow("SELECT state, attempts, lease_until, last_error, next_at > NOW() AS is_later FROM outbox")
    assert tuple(row) == ("pending", 1, None, "Something outside did not answer.", True)


# Warnings, forges.


async def test_warning__is_told_to_each_target_once_however_often_it_is_written(
    db: asyncpg.Pool, slack: Slack, receiver: Receiver
):
    alice = await an_account(db)
    await a_target(db, alice, slack.url + SLACK_PATH, kind="slack")
    await a_target(db, alice, receiver.url + PATH, secret=SECRET)
    for level, used in ((50, 50), (80, 80)):
        await db.execute(
            "INSERT INTO account_warnings (account_id, month, kind, level, used, most)"
            " VALUES ($1, '2026-11-01', 'runs', $2, $3, 100)",
            alice,
            level,
            used,
        )
    await a_target(db, await an_account(db), receiver.url + PATH)

    assert [await outbox.tell_warnings(db, most=100) for _ in range(2)] == [4, 0]
    await deliver_due(db, outgoing(slack.url, receiver.url))

    assert [message["text"] for message in slack.messages] == [
        "⚠️ 50 % of this month's test runs are used",
        "⚠️ 80 % of this month's test runs are used",
    ]
    bodies = [json.loads(text) for text in receiver.bodies.values()]
    assert [body["type"] for body in bodies] == ["account.warning"] * 2
    assert bodies[1]["data"]["text"] == "80 of 100 in November 2026. `prpm usage` shows the rest."
    assert slack.violations == receiver.violations == []


class OneToken:
    """Access to the stand-in's one repository."""

    def __init__(self, github: GitHub) -> None:
        self.github = github

    async def address(self, job: ToldJob, *, marker: str) -> ForgeAddress:
        assert job.change is not None
        target = GitHubTarget(
            repository=job.change.repository,
            token=self.github.token,
            author=self.github.login,
            marker=marker,
            pull_request=job.change.pull_request if isinstance(job.change.pull_request, int) else None,
            head_sha=job.change.head_sha,
            api_url=self.github.url,
        )
        return ForgeAddress(kind="github", target=target, origin=self.github.url)


async def test_forge__a_change_where_the_service_reports_has_one_comment_and_a_check(db: asyncpg.Pool):
    alice = await an_account(db)
    await report_in_repository(db, forge="github", repository_id=7, account_id=alice)
    with GitHub().running() as github:
        out = outgoing(forges=OneToken(github))
        for number in range(2):
            await an_ended_job(db, alice, "failed", key=None, change=a_change(head_sha=f"{number:040x}"))
            await deliver_due(db, out)

        assert await rows(db) == [("job", "sent", 1)] * 2
        [comment] = github.ours()
        marker = SEALER.marker(a_change(), package="p", suite_name="default")
        assert comment.startswith(f"<!-- prpm-testing:v1 mac={marker} ")
        assert len(github.check_runs) == 2
        assert github.violations == []


async def test_forge__of_another_account_or_repository_is_left_to_the_action(db: asyncpg.Pool):
    alice, bob = await an_account(db), await an_account(db)
    await report_in_repository(db, forge="github", repository_id=7, account_id=alice)

    await an_ended_job(db, bob, key=None, change=a_change())
    await an_ended_job(db, alice, key=None, change=a_change(repository_id=8))

    assert await rows(db) == []
    assert not await report_in_repository(db, forge="github", repository_id=7, account_id=bob)


async def test_job__names_what_the_changes_run_before_came_to(db: asyncpg.Pool):
    alice = await an_account(db)
    seen = []
    for number, conclusion in enumerate(("passed", "inconclusive", "failed")):
        job_id = await an_ended_job(db, alice, conclusion, key=None, change=a_change(head_sha=f"{number:040x}"))
        job = await jobs.read_job(db, job_id, seen_by=None)
        assert job is not None
        seen.append(job.previous)

    assert seen == [None, "passed", "passed"]


# Pure.


def test_pauses__add_up_to_34_hours_and_obey_what_is_asked_for():
    now, later = CannotNotify("x", retryable=True), CannotNotify("x", retryable=True, retry_after_seconds=100.0)

    planned = [pause_before(tries, now, jitter=lambda: 0.0) for tries in range(1, 10)]

    assert planned == [5, 60, 300, 1800, 7200, 28_800, 86_400, None, None]
    assert pause_before(1, later, jitter=lambda: 0.0) == 100.0
    assert pause_before(1, now, jitter=lambda: 1.0) == pytest.approx(5.5)
    assert pause_before(1, CannotNotify("x"), jitter=lambda: 0.0) is None
