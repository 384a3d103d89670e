"""What the forge sent while nobody answered comes after all, and nothing is asked for without end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from server.forges import FORGES
from server.services.forge_access import ForgeAccess
from server.services.missing import MissedLoop, Pace
from server.store import deliveries, missed
from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.links import access_to
from tests.service import Service, free_port, in_loop, start_service
from tests.standins.github_app import APP_ID, PRIVATE_KEY
from tests.standins.github_sender import SECRET, GitHubSender
from tests.standins.web import Answer, Fault
from tests.webhooks import a_payload

HOUR = 3600.0
GITHUB = FORGES["github"].app.sending  # type: ignore[union-attr] -- GitHub knows Apps, and sends once


@pytest.fixture
def github() -> Iterator[GitHubSender]:
    with GitHubSender().running() as sender:
        sender.is_sending_again = False
        yield sender
        assert sender.violations == []


@pytest.fixture
async def access(db: asyncpg.Pool, github: GitHubSender) -> AsyncIterator[ForgeAccess]:
    access = access_to(db, github)
    yield access
    await access.aclose()


def a_loop(db: asyncpg.Pool, access: ForgeAccess, **pace: object) -> MissedLoop:
    return MissedLoop(db, access, pace=Pace(**pace))  # type: ignore[arg-type]


async def arrive(db: asyncpg.Pool, guid: str) -> None:
    await deliveries.keep_delivery(db, source="github", hook_id=None, delivery_id=guid, event="push", body=b"{}")


async def make_due(db: asyncpg.Pool) -> None:
    """As if the pauses were over."""
    await db.execute("UPDATE delivery_looks SET next_at = NOW()")
    await db.execute("UPDATE missed_deliveries SET next_at = NOW()")


async def test_missed__what_failed_and_is_not_here_is_asked_for(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    github.note(status=202, guid="came")
    github.note(status=502, guid="failed")
    github.note(status=0, guid="nobody there")
    github.note(status=401, guid="refused")
    github.note(status=502, guid="here all the same")  # the answer was lost on its way
    await arrive(db, "here all the same")

    done = await a_loop(db, access).one_round("github")

    assert sorted(github.asked_again) == ["failed", "nobody there", "refused"]
    assert done is not None
    assert (done.failed, done.asked, done.has_more) == (4, 3, False)


async def test_missed__one_that_arrived_is_not_asked_for_again_and_one_that_did_not_is_later(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    github.note(status=502, guid="comes")
    github.note(status=502, guid="fails again")
    loop = a_loop(db, access)
    await loop.one_round("github")
    await arrive(db, "comes")
    github.note(status=502, guid="fails again")

    await db.execute("UPDATE delivery_looks SET next_at = NOW()")
    await loop.one_round("github")
    too_early = list(github.asked_again)
    await make_due(db)
    await loop.one_round("github")

    assert sorted(too_early) == ["comes", "fails again"]
    assert Counter(github.asked_again) == {"comes": 1, "fails again": 2}
    assert [one.delivery_id for one in await missed.list_missed(db, most=10)] == ["fails again"]


async def test_missed__one_that_came_is_not_noted_again_however_often_its_failure_is_listed(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    """A walk may end in the middle, before anything that arrived is forgotten: it is never on the list at all."""
    github.note(status=502, guid="one")
    loop = a_loop(db, access)
    await loop.one_round("github")
    await arrive(db, "one")
    github.note(status=502, guid="one")  # it was asked for twice, and the second answer was lost
    github.note(status=502, guid="other")
    await make_due(db)
    await missed.forget_settled(db, "github")

    page = await access.ask(GITHUB.page(github.url, (await access.proof("github"))[1], ""))
    await missed.note_missed(db, "github", [one for one in page.sent if not one.has_arrived])

    assert [one.delivery_id for one in await missed.list_missed(db, most=10)] == ["other"]
    await loop.one_round("github")
    assert github.asked_again == ["one", "other"]


async def test_missed__a_hooks_delivery_of_the_same_name_is_not_the_apps(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    """Whoever has a hook chooses its deliveries' ids: they hide nothing that was sent to the App."""
    github.note(status=502, guid="the same")
    await deliveries.keep_delivery(
        db, source="github", hook_id=uuid.uuid4(), delivery_id="the same", event="push", body=b"{}"
    )
    await deliveries.keep_delivery(db, source="gitlab", hook_id=None, delivery_id="the same", event="push", body=b"{}")

    await a_loop(db, access).one_round("github")

    assert github.asked_again == ["the same"]


async def test_missed__what_never_comes_is_asked_for_five_times_with_growing_pauses(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    github.note(status=413, guid="too large")
    loop = a_loop(db, access)

    pauses = []
    for _ in range(8):
        await loop.one_round("github")
        pauses.append(await db.fetchval("SELECT EXTRACT(EPOCH FROM next_at - NOW())::FLOAT8 FROM missed_deliveries"))
        github.note(status=413, guid="too large")
        await make_due(db)

    assert github.asked_again == ["too large"] * 5
    assert pauses[:5] == pytest.approx([600, 3600, 21_600, 43_200, 86_400], abs=30)


async def test_missed__an_old_success_and_a_later_failure_of_another_are_told_apart(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    """Of a delivery that failed and came when it was sent again, nothing is wanted."""
    github.note(status=502, guid="one", ago_seconds=60)
    github.note(status=202, guid="one", ago_seconds=30)
    await arrive(db, "one")

    await a_loop(db, access).one_round("github")

    assert github.asked_again == []


async def test_walk__goes_on_where_another_process_left_it_and_sees_each_page_once(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    for number in range(950):
        github.note(status=500 if number % 50 == 0 else 202, guid=f"{number}", ago_seconds=HOUR - number)

    rounds = [await a_loop(db, access, pages=3).one_round("github") for _ in range(4)]

    assert [one and one.pages for one in rounds] == [3, 3, 3, 1]
    assert [one and one.has_more for one in rounds] == [True, True, True, False]
    assert sorted(github.asked_again, key=int) == [f"{number}" for number in range(0, 950, 50)]
    assert len([seen for seen in github.log if seen.path == "/app/hook/deliveries"]) == 10


async def test_walk__the_next_one_reads_only_what_is_new(db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess):
    for number in range(500):
        github.note(status=202, guid=f"{number}", ago_seconds=2 * HOUR - 10 * number)
    loop = a_loop(db, access)
    await loop.one_round("github")
    github.note(status=500, guid="new")
    await make_due(db)

    done = await loop.one_round("github")

    assert done is not None
    assert (done.pages, done.failed) == (1, 1)
    assert github.asked_again == ["new"]


async def test_walk__what_comes_while_it_goes_on_is_seen_by_the_next(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    for number in range(250):
        github.note(status=202, guid=f"{number}", ago_seconds=HOUR - number)
    loop = a_loop(db, access, pages=1)
    await loop.one_round("github")
    github.note(status=500, guid="meanwhile")

    for _ in range(3):
        await make_due(db)
        await loop.one_round("github")

    assert github.asked_again == ["meanwhile"]


async def test_walk__a_place_that_the_forge_knows_no_more_begins_it_anew(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    for number in range(250):
        github.note(status=500, guid=f"{number}", ago_seconds=HOUR - number)
    loop = a_loop(db, access, pages=1)
    await loop.one_round("github")
    github.faults = [Fault(Answer(status=422, body={"message": "no such cursor"}), methods=("GET",))]
    await db.execute("UPDATE delivery_looks SET next_at = NOW()")

    refused = await loop.one_round("github")
    for _ in range(3):
        await db.execute("UPDATE delivery_looks SET next_at = NOW()")
        await loop.one_round("github")

    assert refused is None
    assert sorted(github.asked_again, key=int) == [f"{number}" for number in range(250)]


async def test_look__one_process_at_a_time(db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess):
    github.note(status=500, guid="one")

    rounds = await asyncio.gather(*(a_loop(db, access).one_round("github") for _ in range(5)))

    assert sum(one is not None for one in rounds) == 1
    assert github.asked_again == ["one"]


async def test_look__of_a_process_that_died_goes_to_another_and_the_first_may_not_write(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    github.note(status=500, guid="one")
    first = await missed.claim_look(db, "github", lease_seconds=60)
    assert first is not None
    assert await a_loop(db, access).one_round("github") is None
    await db.execute("UPDATE delivery_looks SET lease_until = NOW() - INTERVAL '1 second'")

    assert await a_loop(db, access).one_round("github") is not None

    assert not await missed.walk_on(db, first, walk_until=None, cursor="late")
    assert not await missed.end_walk(db, first, until=None)
    assert github.asked_again == ["one"]


async def test_look__is_due_again_in_five_minutes_and_after_trouble_in_one(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    async def due_in() -> float:
        return await db.fetchval("SELECT EXTRACT(EPOCH FROM next_at - NOW())::FLOAT8 FROM delivery_looks")

    loop = a_loop(db, access)
    await loop.one_round("github")
    after_a_look = await due_in()
    await make_due(db)
    github.faults = [Fault(Answer(status=502), times=10)]
    assert await loop.one_round("github") is None
    after_trouble = await due_in()
    await make_due(db)
    hint = {"Retry-After": "900"}
    github.faults = [Fault(Answer(status=403, headers=hint, body={"message": "secondary rate limit"}), times=10)]
    assert await loop.one_round("github") is None

    assert after_a_look == pytest.approx(300, abs=10)
    assert after_trouble == pytest.approx(60, abs=10)
    assert await due_in() == pytest.approx(900, abs=10)


async def test_round__asks_for_so_many_and_the_oldest_first(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    for number in range(12):
        github.note(status=500, guid=f"{number}", ago_seconds=HOUR - number)
    loop = a_loop(db, access, asked=8)

    done = await loop.one_round("github")

    assert done is not None
    assert (done.asked, done.has_more) == (8, True)
    assert sorted(github.asked_again, key=int) == [f"{number}" for number in range(8)]


async def test_missed__older_than_three_days_is_left(db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess):
    github.note(status=500, guid="old", ago_seconds=71 * HOUR)
    loop = a_loop(db, access)
    await loop.one_round("github")
    await db.execute("UPDATE missed_deliveries SET sent_at = NOW() - INTERVAL '73 hours'")
    await make_due(db)

    await loop.one_round("github")

    assert github.asked_again == ["old"]
    assert await missed.list_missed(db, most=10) == []


async def test_missed__one_that_the_forge_has_no_more_is_no_trouble(
    db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess
):
    for guid in ("gone", "there"):
        github.note(status=500, guid=guid)
    github.faults = [Fault(Answer(status=404, body={"message": "Not Found"}), methods=("POST",))]

    done = await a_loop(db, access).one_round("github")

    assert done is not None
    assert len(github.asked_again) == 1


async def test_loop__without_an_app_asks_nobody(db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess):
    without_app = access_to(db, github, GITHUB_APP_ID="")

    assert [await MissedLoop(db, without_app).one_round(name) for name in FORGES] == [None] * len(FORGES)

    await without_app.aclose()
    assert github.log == []
    assert await db.fetchval("SELECT COUNT(*) FROM delivery_looks") == 0


async def test_loop__looks_at_once_when_it_starts(db: asyncpg.Pool, github: GitHubSender, access: ForgeAccess):
    guid = str(uuid.uuid4())
    github.note(status=500, guid=guid)
    running = asyncio.create_task(a_loop(db, access).run())
    try:
        async with asyncio.timeout(5):
            while github.asked_again != [guid]:
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_service__has_what_was_sent_while_it_was_down(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, github: GitHubSender
):
    """W23's other half: two deliveries fail, one of them is sent again by hand, and the service starts."""
    dsn = with_database(admin_dsn, f"prpm_test_{uuid.uuid4().hex[:12]}")
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{urlsplit(dsn).path[1:]}"'))
    in_loop(migrate(dsn))
    github.hook_url = f"http://127.0.0.1:{free_port()}/webhooks/github"
    failed = [github.send("push", a_payload("github/push.new_branch", ref=f"refs/heads/{n}")) for n in range(2)]
    is_up = threading.Event()
    github.before_answer = lambda _: is_up.wait(20)

    for service in start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=tmp_path_factory.mktemp("missed"),
        PRPM_GITHUB_WEBHOOK_SECRET=SECRET,
        PRPM_GITHUB_API_URL=github.url,
        PRPM_GITHUB_APP_ID=APP_ID,
        PRPM_GITHUB_APP_PRIVATE_KEY=PRIVATE_KEY,
    ):
        github.hook_url, github.is_sending_again = f"{service.url}/webhooks/github", True
        by_hand = github.send("push", failed[0].body, guid=failed[0].guid)
        is_up.set()
        deadline = time.monotonic() + 15
        while len(service.fetch("SELECT 1 FROM deliveries WHERE state <> 'received'")) < 2:
            assert time.monotonic() < deadline, service.fetch("SELECT * FROM missed_deliveries")
            time.sleep(0.05)
        listed = operate(service, "deliveries", "missed")

    assert [one.status for one in failed] == [0, 0]
    assert by_hand.status == 202
    assert github.asked_again == [failed[1].guid]
    # What arrived goes from the list with the next look.
    assert listed.returncode == 0
    assert [line.split()[4] for line in listed.stdout.splitlines()] == [failed[1].guid]


def operate(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.operator.main", *arguments],
        env={**os.environ, **service.environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def test_store__what_is_due_is_found_by_an_index(db: asyncpg.Pool):
    await db.execute(
        "INSERT INTO missed_deliveries (source, delivery_id, attempt_id, event, trouble, sent_at, asked)"
        " SELECT 'github', n::TEXT, n, 'push', '', NOW() - n * INTERVAL '1 s', 0 FROM generate_series(1, 20000) n"
    )
    await db.execute("ANALYZE missed_deliveries")

    plan = "\n".join(row[0] for row in await db.fetch("EXPLAIN " + missed.SQL["due_missed"], "github", 5, 200))

    assert "missed_deliveries_due" in plan
    assert "Sort" not in plan
