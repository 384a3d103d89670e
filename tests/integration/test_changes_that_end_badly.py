"""Changes that cannot be read in time, and deliveries that fail to the end: no check is left open or missing."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import asyncpg
import pytest

from server.domain.deliveries import Ended
from server.domain.events import BranchPushed, ChangeProposed, CommentMade, Event, Repository, TagPushed
from server.domain.links import NewLink
from server.services.acting import act
from server.services.acts import Acting
from server.services.admission import Admission
from server.services.forge_access import ForgeAccess
from server.services.giving_up import TITLE, give_up
from server.services.handling import PAUSES_SECONDS, InboxLoop, TryLater
from server.store import deliveries, links
from tests.forge_stories import a_package
from tests.links import a_delivery
from tests.outbox import a_job, deliver_due, rows
from tests.queue import an_account
from tests.reporting import PULL, a_github_account, access_to, reporting, the_change
from tests.standins.github_forge import GitHubForge
from tests.webhooks import a_payload, encoded

FETCH_SECONDS = 1.0


class NoWakeups:
    async def wake(self) -> None:
        """Nobody works here."""


@pytest.fixture
def github() -> Iterator[GitHubForge]:
    with GitHubForge().running() as running:
        yield running
        assert running.violations == []


@pytest.fixture
async def access(db: asyncpg.Pool, github: GitHubForge) -> AsyncIterator[ForgeAccess]:
    made = access_to(db, github)
    yield made
    await made.aclose()


@pytest.fixture
async def account(db: asyncpg.Pool, github: GitHubForge) -> UUID:
    return await a_github_account(db, github)


def acting(db: asyncpg.Pool, access: ForgeAccess) -> Acting:
    return Acting(db=db, access=access, admission=Admission(db), wakeups=NoWakeups(), fetch_seconds=FETCH_SECONDS)


def a_large_change(github: GitHubForge) -> ChangeProposed:
    """The pull request's head has a package of many files."""
    files = {f"part-{number}.md": b"Part %d." % number for number in range(60)}
    manifest = a_package("one")["prpm.json"].replace(
        b'"prompt.md"', b", ".join(b'"%s"' % name.encode() for name in files)
    )
    base = github.repository.branches["main"]
    head = github.repository.commit(a_package("one") | {"prpm.json": manifest, **files}, parent=base, branch="feature")
    github.propose(PULL, head, base)
    return proposed(github)


def proposed(github: GitHubForge, **changes: object) -> ChangeProposed:
    usual = {
        "repository": the_repository(github), "installation_id": github.installation_id, "action": "opened",
        "number": PULL, "head_sha": github.repository.branches["feature"], "head_ref": "feature",
        "head_repository_id": github.id, "base_ref": "main",
    }  # fmt: skip
    return ChangeProposed(**usual | changes)  # type: ignore[arg-type] -- what a test changes is its own


def the_repository(github: GitHubForge) -> Repository:
    return Repository(forge="github", id=github.id, name=github.name, default_branch="main")


async def test_large__is_tried_again_and_then_the_check_says_what_to_do(
    db: asyncpg.Pool, github: GitHubForge, access: ForgeAccess, account: UUID
):
    change = a_large_change(github)
    released = threading.Event()
    github.before_answer = lambda seen: released.wait(60) if "/git/blobs/" in seen.path else None

    for attempts in (1, 2):
        with pytest.raises(TryLater, match="slow, or the change is large"):
            await act(acting(db, access), change, a_delivery(attempts=attempts))
    ended = await act(acting(db, access), change, a_delivery(attempts=3))

    assert ended.state == "handled"
    released.set()
    await deliver_due(db, reporting(db, access, github.url))
    check = github.checks(change.head_sha)["prpm"]
    assert (check["conclusion"], check["output"]["title"]) == ("failure", "The change cannot be read")
    for words in ("3 times", "Touch fewer or smaller packages", "`packages` in .prpm-testing.yml", "in a workflow"):
        assert words in check["output"]["summary"]


async def test_large__a_forge_that_answers_nothing_is_away_and_no_change_is_blamed(
    db: asyncpg.Pool, github: GitHubForge, access: ForgeAccess, account: UUID
):
    change = a_large_change(github)
    released = threading.Event()
    github.before_answer = lambda seen: released.wait(60) if "/git/trees/" in seen.path else None

    for attempts in (1, 3, 7):
        with pytest.raises(TryLater, match="does not answer"):
            await act(acting(db, access), change, a_delivery(attempts=attempts))

    released.set()
    assert await rows(db) == []


async def failed(db: asyncpg.Pool, *, body: bytes, hook_id: UUID | None = None) -> None:
    """A delivery that was tried to the end; nothing is told before that."""

    async def never(*_: object) -> Ended:
        raise TryLater("GitHub does not answer.")

    async def told(meaning, delivery, reason) -> None:
        await give_up(db, meaning, delivery, reason)

    await deliveries.keep_delivery(
        db, source="github", hook_id=hook_id, delivery_id="one", event="pull_request", body=body
    )
    loop = InboxLoop(db, never, give_up=told)
    for tried in range(len(PAUSES_SECONDS) + 1):
        assert await rows(db) == [], f"told after {tried} tries"
        await loop.handle_due()
        await db.execute("UPDATE deliveries SET next_at = NOW()")
    assert await db.fetchval("SELECT state FROM deliveries") == "failed"


def a_body(github: GitHubForge, *, installation_id: int | None = None) -> bytes:
    payload = a_payload(
        "github/pull_request.opened",
        repository={"id": github.id, "full_name": github.name, "default_branch": "main"},
        installation={"id": installation_id or github.installation_id},
    )
    payload["pull_request"] |= {"number": PULL}
    payload["pull_request"]["head"] |= {"sha": github.repository.branches["feature"]}
    return encoded(payload)


async def test_failed__the_check_is_completed_and_says_why(
    db: asyncpg.Pool, github: GitHubForge, access: ForgeAccess, account: UUID
):
    await failed(db, body=a_body(github))

    await deliver_due(db, reporting(db, access, github.url))

    check = github.checks(github.repository.branches["feature"])["prpm"]
    assert (check["status"], check["conclusion"]) == ("completed", "failure")
    assert check["output"]["title"] == TITLE
    assert "GitHub does not answer." in check["output"]["summary"]
    assert "comment `/prpm test`" in check["output"]["summary"]


async def test_failed__a_commit_that_was_tested_all_the_same_keeps_its_checks(
    db: asyncpg.Pool, github: GitHubForge, access: ForgeAccess, account: UUID
):
    await a_job(db, account, change=the_change(github))
    await db.execute("DELETE FROM outbox")

    await failed(db, body=a_body(github))

    assert await rows(db) == []


@pytest.mark.parametrize("what", ["another installation", "another account's hook", "nobody's"])
async def test_attack__what_a_body_names_is_not_written_to(
    db: asyncpg.Pool, github: GitHubForge, access: ForgeAccess, account: UUID, what: str
):
    """W18: by our own record alone, as the forge could not be asked."""
    body, hook_id = a_body(github), None
    if what == "another installation":
        body = a_body(github, installation_id=4_999)
    elif what == "another account's hook":
        hook_id = await a_hook_of(db, await an_account(db))
    else:
        await db.execute("UPDATE linked_repositories SET ended_at = NOW(), ended_reason = 'x'")

    await failed(db, body=body, hook_id=hook_id)

    assert await rows(db) == []


async def a_hook_of(db: asyncpg.Pool, account: UUID) -> UUID:
    """Of a repository of this number, as nobody proved it."""
    return await db.fetchval(
        "INSERT INTO hooks (account_id, forge, name, place_id, proof, sealed, created_by)"
        " VALUES ($1, 'github', 'mallory/own', 77, 'signature', '', 'mallory') RETURNING id",
        account,
    )


async def test_failed__a_hooks_own_repository_is_told_by_its_token(
    db: asyncpg.Pool, github: GitHubForge, access: ForgeAccess, account: UUID
):
    hook_id = await a_hook_of(db, account)
    await db.execute("DELETE FROM linked_repositories")
    assert await links.link_repository(
        db, NewLink(repository=the_repository(github), account_id=account, hook_id=hook_id, owner_id=501)
    )

    await failed(db, body=a_body(github), hook_id=hook_id)

    assert len(await rows(db)) == 1


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (lambda at: BranchPushed(repository=at, branch="main", before="", after="a" * 40), 1),
        (lambda at: BranchPushed(repository=at, branch="other", before="", after="a" * 40), 0),
        (lambda at: TagPushed(repository=at, tag="v1", sha="a" * 40, object_sha="a" * 40), 1),
        (lambda at: TagPushed(repository=at, tag="no tag at all", sha="a" * 40, object_sha="a" * 40), 0),
        # Whether who commented may write was never known: nothing is said to strangers.
        (lambda at: CommentMade(repository=at, number=1, comment_id=1, author_id=1, author="x", text="/prpm test"), 0),
    ],
    ids=["main", "a branch", "a tag", "no tag", "a comment"],
)
async def test_failed__what_names_a_commit_is_told_there(
    db: asyncpg.Pool, github: GitHubForge, account: UUID, event, told: int
):
    await db.execute("UPDATE linked_repositories SET installation_id = NULL")
    meant: Event = event(the_repository(github))

    for _ in range(2):
        await give_up(db, meant, a_delivery(), "It took too long.")

    assert len(await rows(db)) == told
