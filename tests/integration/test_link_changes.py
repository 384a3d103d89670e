"""The App is installed and removed, repositories come and go: links follow, by the forge's word of now."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from server.domain.events import LinkChanged
from server.domain.jobs import Submission
from server.domain.links import NotLinked
from server.domain.trust import NewTrust
from server.services.forge_access import ForgeAccess
from server.services.handling import TryLater
from server.services.installations import link_for_account
from server.services.linking import change_links, find_link
from server.store import jobs
from server.store.trust import add_trust
from tests.changes import a_change
from tests.links import a_delivery, access_to, an_account, changed, the_repository
from tests.outbox import deliver_due, rows
from tests.queue import a_new_job, a_package_of
from tests.reporting import reporting
from tests.standins.github_app import GitHubApp
from tests.standins.web import Answer, Fault

ISSUER = "http://127.0.0.1:9/_services/token"


@pytest.fixture
def app() -> Iterator[GitHubApp]:
    with GitHubApp().running() as running:
        yield running
        assert running.violations == []


@pytest.fixture
async def access(db: asyncpg.Pool, app: GitHubApp) -> AsyncIterator[ForgeAccess]:
    made = access_to(db, app, issuers=[("gitlab", "https://127.0.0.1"), ("github", ISSUER)])
    yield made
    await made.aclose()


@pytest.fixture
async def acme(db: asyncpg.Pool, access: ForgeAccess):
    """An account with the stand-in's installation."""
    account = await an_account(db)
    await a_package_of(db, account)
    await link_for_account(db, access, forge="github", installation_id=4001, account="acme", proof="operator")
    return account


async def told(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, word: str, **more) -> tuple[str, str]:
    """What comes of the App's delivery."""
    ended = await change_links(db, access, changed(word, app, **more), a_delivery())
    return ended.state, ended.reason


async def linked(db: asyncpg.Pool) -> dict[int, str]:
    rows = await db.fetch("SELECT repository_id, name FROM linked_repositories WHERE ended_at IS NULL")
    return {row["repository_id"]: row["name"] for row in rows}


async def a_waiting_job(db: asyncpg.Pool, account, app: GitHubApp, *, repository_id: int | None = None):
    change = a_change(repository=app.name, repository_id=repository_id or app.id)
    [kept] = await jobs.submit_jobs(db, [a_new_job(account, key=None, change=change)])
    assert isinstance(kept, Submission)
    return kept.job_id


async def test_linking__an_installation_brings_all_its_repositories(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    acme = await an_account(db)
    app.more_repositories = {1000 + n: f"acme/more-{n}" for n in range(120)}

    await link_for_account(db, access, forge="github", installation_id=4001, account="acme", proof="operator")

    assert len(await linked(db)) == 121
    trusted = await db.fetchrow("SELECT * FROM trusted_repositories WHERE repository_id = 77")
    assert (trusted["account_id"], trusted["issuer"], trusted["owner_id"]) == (acme, ISSUER, 501)
    assert (trusted["scopes"], trusted["proof"]) == (["run"], "installation")


async def trust(db: asyncpg.Pool, account: str, *, issuer: str = ISSUER, owner_id: int = 501, number: int = 77) -> None:
    """The repository's workflows act for the account, and one of them is just running."""
    new = NewTrust(
        account=account, issuer=issuer, forge="github", repository_id=number, owner_id=owner_id,
        repository="acme/prompts", workflow=None, events=[], scopes=["run", "publish"], proof="github: ann",
    )  # fmt: skip
    added = await add_trust(db, new)
    assert added is not None
    await db.execute(
        "INSERT INTO access_tokens (user_id, kind, token_hash, name, trust_id) VALUES ($1, 'oidc', $2, 'run', $3)",
        added.account_id,
        uuid.uuid4().hex,
        added.id,
    )


async def trusts(db: asyncpg.Pool) -> list[tuple[str, int, str, list[str]]]:
    rows = await db.fetch(
        "SELECT a.username, t.repository_id, t.proof, t.scopes FROM trusted_repositories t"
        " JOIN users a ON a.id = t.account_id ORDER BY 2, 1"
    )
    return [tuple(row) for row in rows]


async def test_linking__ends_what_anothers_workflows_may(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp):
    """A repository is one account's: what it tests is not billed to one and shown to another."""
    await an_account(db)
    await an_account(db, "other")
    await trust(db, "other")
    await trust(db, "other", number=99)

    await link_for_account(db, access, forge="github", installation_id=4001, account="acme", proof="operator")

    assert await trusts(db) == [
        ("acme", 77, "installation", ["run"]),
        ("other", 99, "github: ann", ["run", "publish"]),
    ]
    # The token of the workflow that was running has ended with its trust.
    assert await db.fetchval("SELECT COUNT(*) FROM access_tokens WHERE kind = 'oidc'") == 1


async def test_linking__leaves_an_accounts_own_trust_and_those_of_another_server(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    await an_account(db)
    await an_account(db, "other")
    await trust(db, "acme")
    await trust(db, "other", issuer="https://elsewhere.example")

    for _ in range(2):
        await link_for_account(db, access, forge="github", installation_id=4001, account="acme", proof="operator")

    assert await trusts(db) == [
        ("acme", 77, "github: ann", ["run", "publish"]),
        ("other", 77, "github: ann", ["run", "publish"]),
    ]


async def test_installed__before_anybody_linked_it_nothing_is_kept(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    state, reason = await told(db, access, app, "installed")

    assert (state, "set-up page" in reason) == ("ignored", True)
    assert await linked(db) == {}
    assert await db.fetchval("SELECT COUNT(*) FROM installations") == 0


async def test_repositories__are_added_and_removed_as_the_forge_has_them_now(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme
):
    app.more_repositories = {88: "acme/second"}
    assert await told(db, access, app, "added") == ("handled", "acme has 2 repositories here.")
    assert await linked(db) == {77: app.name, 88: "acme/second"}

    # The word of an old delivery that comes late changes nothing.
    assert await told(db, access, app, "removed") == ("handled", "acme has 2 repositories here.")

    app.more_repositories = {}
    await told(db, access, app, "removed")
    assert await linked(db) == {77: app.name}
    assert await db.fetchval("SELECT COUNT(*) FROM trusted_repositories WHERE repository_id = 88") == 0


@pytest.mark.parametrize("word", ["uninstalled", "suspended", "removed"])
async def test_W18_a_word_about_an_installation_is_checked_with_the_forge(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme, word: str
):
    """Whoever could make such a delivery cannot end a link by it."""
    await told(db, access, app, word)

    found = await find_link(db, access, the_repository(app), installation_id=4001, hook_id=None)
    assert found.account_id == acme


async def test_W19_uninstalled_ends_links_and_what_waits_and_gives_runs_back(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme
):
    waiting, elsewhere = await a_waiting_job(db, acme, app), await a_waiting_job(db, acme, app, repository_id=4711)
    app.installed = False

    assert await told(db, access, app, "uninstalled") == ("handled", "The App was uninstalled.")

    job = await jobs.read_job(db, waiting, seen_by=None)
    assert job is not None
    assert (job.status, job.error_code) == ("failed", "repository_unlinked")
    assert job.error_message == "The App was uninstalled. The run was given back."
    kinds = await db.fetch("SELECT kind FROM usage_ledger WHERE job_id = $1 ORDER BY id", waiting)
    assert [row["kind"] for row in kinds] == ["charge", "refund"]
    assert await db.fetchval("SELECT test_runs_count FROM user_test_usage") == 1
    # Nothing is said there, and nobody tries for days: the check that was begun is not ours to end any more.
    asked = len(app.log)
    assert await deliver_due(db, reporting(db, access)) == 1
    assert await rows(db) == [("job", "dead", 1)]
    assert len(app.log) == asked
    other = await jobs.read_job(db, elsewhere, seen_by=None)
    assert other is not None
    assert other.status == "queued"
    with pytest.raises(NotLinked):
        await find_link(db, access, the_repository(app), installation_id=4001, hook_id=None)
    assert await told(db, access, app, "uninstalled") == ("ignored", "No account is linked to this installation.")


async def test_W19_a_members_own_run_is_not_ended_with_the_organisations_link(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme
):
    person = await an_account(db, "person")
    waiting = await a_waiting_job(db, acme, app)
    await db.execute("UPDATE users SET kind = 'organization' WHERE id = $1", acme)
    await db.execute("INSERT INTO organization_members (org_id, user_id, role) VALUES ($1, $2, 'member')", acme, person)
    await db.execute("UPDATE test_jobs SET submitted_by = $1", person)
    app.installed = False

    await told(db, access, app, "uninstalled")

    job = await jobs.read_job(db, waiting, seen_by=None)
    assert job is not None
    assert job.status == "queued"


async def test_suspended__nothing_is_spent_or_told_until_it_is_resumed(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme
):
    reported = "SELECT COUNT(*) FROM reported_repositories"
    assert await db.fetchval(reported) == 1
    app.suspended = True

    assert await told(db, access, app, "suspended") == ("handled", "The App's installation is suspended.")
    assert await db.fetchval(reported) == 0
    with pytest.raises(NotLinked, match="suspended"):
        await find_link(db, access, the_repository(app), installation_id=4001, hook_id=None)

    app.suspended = False
    await told(db, access, app, "unsuspended")
    assert await db.fetchval(reported) == 1
    assert (await find_link(db, access, the_repository(app), installation_id=4001, hook_id=None)).account == "acme"


async def test_W19_renamed__the_link_has_the_new_name(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme):
    app.name = "acme/renamed"

    assert await told(db, access, app, "renamed") == ("handled", "The repository's name is up to date.")

    assert await linked(db) == {77: "acme/renamed"}


async def test_W19_renamed__a_name_that_leads_to_another_repository_by_now_is_no_rename(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme
):
    """It was deleted, and another one with its name was made: the number counts."""
    app.id = 999

    about_the_old_one = LinkChanged(
        word="renamed", installation_id=4001, repositories=(the_repository(app, number=77),)
    )
    about_the_new_one = await told(db, access, app, "renamed")
    gone = await change_links(db, access, about_the_old_one, a_delivery())

    assert about_the_new_one == ("ignored", "No account is linked to this repository.")
    assert "deleted" in gone.reason
    assert await linked(db) == {}


async def test_W19_transferred__the_link_ends_and_nothing_is_spent_until_it_is_linked_anew(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme
):
    waiting = await a_waiting_job(db, acme, app)
    app.name, app.installation_id, app.owner_id = "umbrella/prompts", 9009, 900

    state, reason = await told(db, access, app, "transferred", installation_id=9009)

    assert (state, "another owner" in reason) == ("handled", True)
    assert await linked(db) == {}
    assert await db.fetchval("SELECT status FROM test_jobs WHERE id = $1", waiting) == "failed"
    with pytest.raises(NotLinked, match="No account is linked to this installation"):
        await find_link(db, access, the_repository(app), installation_id=9009, hook_id=None)

    await an_account(db, "umbrella")
    await link_for_account(db, access, forge="github", installation_id=9009, account="umbrella", proof="operator")
    assert (await find_link(db, access, the_repository(app), installation_id=9009, hook_id=None)).account == "umbrella"


async def test_W19_transferred__is_noticed_at_the_next_event_where_no_delivery_told_of_it(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme
):
    app.name, app.installation_id = "umbrella/prompts", 9009

    with pytest.raises(NotLinked):
        await find_link(db, access, the_repository(app), installation_id=9009, hook_id=None)
    assert await linked(db) == {}

    await an_account(db, "umbrella")
    await link_for_account(db, access, forge="github", installation_id=9009, account="umbrella", proof="operator")
    assert (await find_link(db, access, the_repository(app), installation_id=9009, hook_id=None)).account == "umbrella"


async def test_W19_deleted__the_link_ends(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme):
    app.given = False

    assert (await told(db, access, app, "deleted"))[0] == "handled"

    assert await linked(db) == {}


async def test_changes__a_forge_that_is_away_is_asked_later_and_nothing_is_ended(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, acme
):
    app.faults = [Fault(Answer(status=502), times=10)]

    with pytest.raises(TryLater):
        await told(db, access, app, "uninstalled")

    assert await linked(db) == {77: app.name}


@pytest.mark.parametrize(
    ("api", "issuer", "trusted"),
    [
        ("https://api.github.com", "https://token.actions.githubusercontent.com", True),
        ("https://api.github.com", "https://github.example/_services/token", False),
        ("https://github.example/api/v3", "https://token.actions.githubusercontent.com", False),
        ("https://github.example/api/v3", "https://github.example/_services/token", True),
    ],
)
async def test_trust__numbers_of_one_server_say_nothing_at_another(
    db: asyncpg.Pool, app: GitHubApp, api: str, issuer: str, trusted: bool
):
    access = access_to(db, app, issuers=[("github", issuer)], GITHUB_API_URL=api)

    assert (access.issuer("github") == issuer) is trusted
    await access.aclose()
