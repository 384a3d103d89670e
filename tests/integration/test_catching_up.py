"""What was proposed while nobody answered, in repositories without an App: found after each outage, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from evals.models import Secret
from server.domain.change_heads import pull_line
from server.domain.events import ChangeProposed
from server.services.catching_up import CatchUp, CatchUpLoop
from server.services.forge_access import ForgeAccess
from server.services.hooks import Hooks, Issued
from server.services.sealing import Sealer
from server.store import catch_up, change_heads
from server.webhooks import SOURCES
from tests.integration.test_hook_links import a_hook
from tests.links import access_to, an_account
from tests.service import SECRET_KEY
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge
from tests.standins.web import Answer, Fault

TOKEN = "github_pat_" + "a" * 40
Forge = GitHubForge | GitLabForge


@pytest.fixture
def github() -> Iterator[GitHubForge]:
    forge = GitHubForge()
    forge.fine_grained, forge.administrators = {TOKEN: "ann"}, {"ann"}
    with forge.running() as running:
        yield running
        assert running.violations == []


@pytest.fixture
def gitlab() -> Iterator[GitLabForge]:
    with GitLabForge().running() as running:
        yield running


@pytest.fixture
async def access(db: asyncpg.Pool, github: GitHubForge, gitlab: GitLabForge) -> AsyncIterator[ForgeAccess]:
    made = access_to(db, github, GITLAB_URL=gitlab.url)
    yield made
    await made.aclose()


@pytest.fixture
def loop(db: asyncpg.Pool, access: ForgeAccess) -> CatchUpLoop:
    return CatchUpLoop(db, access, step_seconds=0)


@pytest.fixture
async def hook(db: asyncpg.Pool, access: ForgeAccess, gitlab: GitLabForge) -> Issued:
    """Of the project at GitLab."""
    return await a_webhook(db, access, forge="gitlab", token=gitlab.token)


async def a_webhook(db: asyncpg.Pool, access: ForgeAccess, **more: Any) -> Issued:
    site = Hooks(db=db, reach=lambda: access, sealer=Sealer(Secret(SECRET_KEY)), public_url="https://testing.example")
    return await a_hook(site, await an_account(db), **more)


async def an_outage(db: asyncpg.Pool, *, began: str = "1 hour") -> None:
    """Nobody could keep a delivery since then, until now."""
    await catch_up.note_open(db, outage_seconds=10)
    await db.execute(f"UPDATE linked_repositories SET caught_up_at = NOW() - INTERVAL '{began}'")
    await db.execute(f"UPDATE door_watch SET open_at = NOW() - INTERVAL '{began}'")
    assert await catch_up.note_open(db, outage_seconds=10)


def proposed(forge: Forge, number: int = 12, **changes: Any) -> str:
    """The head of an open pull or merge request that was touched just now."""
    base = forge.repository.branches.get("main") or forge.repository.commit({"a": b"x"}, branch="main")
    head = forge.repository.commit({"a": str(number).encode()}, parent=base)
    forge.propose(number, head, base, **changes)
    return head


async def found(db: asyncpg.Pool) -> list[tuple[str, UUID | None, ChangeProposed]]:
    """What waits to be handled."""
    rows = await db.fetch("SELECT source, hook_id, event, body FROM deliveries ORDER BY id")
    read = [(row["source"], row["hook_id"], SOURCES[row["source"]].read(row["event"], row["body"])) for row in rows]
    assert all(isinstance(meaning, ChangeProposed) for _, _, meaning in read)
    return read  # type: ignore[return-value] -- as was just looked at


async def test_outage__an_open_merge_request_becomes_a_delivery_of_its_webhook_once(
    db: asyncpg.Pool, gitlab: GitLabForge, loop: CatchUpLoop, hook: Issued
):
    head = proposed(gitlab)
    proposed(gitlab, 13, state="merged")
    await an_outage(db)

    assert await loop.one_round("gitlab") == CatchUp(links=1, found=1, has_more=False)
    assert await loop.one_round("gitlab") is None
    await an_outage(db)
    await loop.one_round("gitlab")

    [(source, hook_id, meaning)] = await found(db)
    assert (source, hook_id) == ("gitlab", hook.hook.id)
    assert (meaning.number, meaning.head_sha, meaning.action) == (12, head, "opened")
    assert (meaning.repository.id, meaning.repository.name) == (gitlab.id, gitlab.name)
    assert meaning.repository.default_branch == "main"
    assert not meaning.is_from_fork
    assert meaning.at is not None
    assert abs((datetime.now(UTC) - meaning.at).total_seconds()) < 60
    assert gitlab.violations == []


async def test_outage__a_pull_request_of_github_without_the_app_too(
    db: asyncpg.Pool, github: GitHubForge, loop: CatchUpLoop, access: ForgeAccess
):
    await a_webhook(db, access)
    head = proposed(github)
    pull = github.propose(13, proposed(github, 13), github.repository.branches["main"], draft=True)
    pull["head"]["repo"] = None
    proposed(github, 14, updated_at="2020-01-01T00:00:00Z")
    await an_outage(db)

    await loop.one_round("github")

    meanings = {meaning.number: meaning for _, _, meaning in await found(db)}
    assert sorted(meanings) == [12, 13]
    assert (meanings[12].head_sha, meanings[12].is_from_fork, meanings[12].is_draft) == (head, False, False)
    assert (meanings[13].is_from_fork, meanings[13].is_draft) == (True, True)


async def test_outage__a_head_that_was_told_of_is_left_alone(
    db: asyncpg.Pool, gitlab: GitLabForge, loop: CatchUpLoop, hook: Issued
):
    told, other = proposed(gitlab), proposed(gitlab, 13)
    await change_heads.record_head(db, pull_line("gitlab", gitlab.id, 12), told, made_at=None)
    await an_outage(db)

    await loop.one_round("gitlab")

    assert [meaning.head_sha for _, _, meaning in await found(db)] == [other]


async def test_no_outage__nothing_is_asked(db: asyncpg.Pool, gitlab: GitLabForge, loop: CatchUpLoop, hook: Issued):
    proposed(gitlab)
    gitlab.log.clear()
    for _ in range(2):
        assert not await catch_up.note_open(db, outage_seconds=10)

    assert await loop.one_round("gitlab") is None

    assert gitlab.log == []


async def test_outage__of_before_the_link_is_none(
    db: asyncpg.Pool, gitlab: GitLabForge, loop: CatchUpLoop, access: ForgeAccess
):
    """What was open when a repository was linked is not tested by itself."""
    await an_outage(db)
    await a_webhook(db, access, forge="gitlab", token=gitlab.token)
    proposed(gitlab)

    assert await loop.one_round("gitlab") is None


async def test_forge_away__is_asked_later_and_nothing_is_taken_for_looked_at(
    db: asyncpg.Pool, gitlab: GitLabForge, loop: CatchUpLoop, hook: Issued
):
    proposed(gitlab)
    await an_outage(db)
    gitlab.faults = [Fault(Answer(status=429, headers={"Retry-After": "300"}), times=100)]

    assert await loop.one_round("gitlab") is None
    gitlab.faults = []
    assert await loop.one_round("gitlab") is None  # the forge asked for a pause
    await db.execute("UPDATE delivery_looks SET next_at = NOW()")

    assert await loop.one_round("gitlab") == CatchUp(links=1, found=1)


async def test_W19_a_token_that_was_taken_back_is_asked_with_once(
    db: asyncpg.Pool, gitlab: GitLabForge, loop: CatchUpLoop, hook: Issued
):
    proposed(gitlab)
    await an_outage(db)
    gitlab.tokens.clear()
    gitlab.log.clear()

    for _ in range(3):
        await loop.one_round("gitlab")

    assert (len(gitlab.log), await found(db)) == (1, [])


async def test_processes__two_of_them_look_once(
    db: asyncpg.Pool, gitlab: GitLabForge, access: ForgeAccess, hook: Issued
):
    proposed(gitlab)
    await an_outage(db)
    gitlab.log.clear()

    done = await asyncio.gather(*(CatchUpLoop(db, access, step_seconds=0).one_round("gitlab") for _ in range(4)))

    # One that comes when another is done finds that it has nothing to look at.
    assert [one for one in done if one is not None and one.links] == [CatchUp(links=1, found=1)]
    assert len(gitlab.log) == 1
