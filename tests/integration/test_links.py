"""Whose a repository is: nobody's without proof, one account's with it, by the forge's word and never a body's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from server.domain.links import NotLinked
from server.forges import CannotRead
from server.services.forge_access import ForgeAccess
from server.services.handling import TryLater
from server.services.installations import link_for_account, unlink_installation
from server.services.linking import find_link, link_of_job
from tests.links import access_to, an_account, the_repository
from tests.standins.github_app import GitHubApp
from tests.standins.web import Answer, Fault


@pytest.fixture
def app() -> Iterator[GitHubApp]:
    with GitHubApp().running() as running:
        yield running


@pytest.fixture
async def access(db: asyncpg.Pool, app: GitHubApp) -> AsyncIterator[ForgeAccess]:
    made = access_to(db, app)
    yield made
    await made.aclose()


async def find(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, *, installation_id: int | None = 4001, **named):
    return await find_link(db, access, the_repository(app, **named), installation_id=installation_id, hook_id=None)


async def link(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp, *, account: str = "acme"):
    return await link_for_account(
        db, access, forge="github", installation_id=app.installation_id, account=account, proof="operator"
    )


async def test_link__a_repository_of_a_linked_installation_is_its_accounts(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    acme = await an_account(db)
    await link(db, access, app)

    found = await find(db, access, app)

    assert (found.account_id, found.account, found.installation_id, found.hook_id) == (acme, "acme", 4001, None)
    assert (found.repository.id, found.repository.name, found.reports) == (app.id, app.name, True)
    assert await link_of_job(db, forge="github", repository_id=app.id, account_id=acme) == found
    assert app.violations == []


async def test_link__is_found_without_asking_again(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp):
    await an_account(db)
    await link(db, access, app)
    await find(db, access, app)
    asked = len(app.log)

    await find(db, access, app)

    assert len(app.log) == asked


async def test_link__nobody_is_billed_for_an_installation_that_nobody_linked(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    await an_account(db)

    with pytest.raises(NotLinked, match="No account is linked to this installation"):
        await find(db, access, app)

    assert await db.fetchval("SELECT COUNT(*) FROM linked_repositories") == 0


async def test_link__W18_an_installation_of_another_account_in_a_body_is_not_believed(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    await an_account(db)
    victim = await an_account(db, "victim")
    await link(db, access, app)
    await db.execute(
        "INSERT INTO installations (forge, installation_id, account_id, proof) VALUES ('github', 5005, $1, 'operator')",
        victim,
    )

    assert (await find(db, access, app, installation_id=5005)).account == "acme"
    assert (await find(db, access, app, installation_id=5005)).account == "acme"
    assert (await find(db, access, app, installation_id=None)).account == "acme"


async def test_link__W18_a_number_that_the_installation_has_not_is_nobodys(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    await an_account(db)
    await link(db, access, app)

    with pytest.raises(NotLinked, match="not installed"):
        await find(db, access, app, number=666)

    assert await db.fetchval("SELECT COUNT(*) FROM linked_repositories WHERE repository_id = 666") == 0


async def test_link__a_forge_that_is_away_is_asked_later(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp):
    await an_account(db)
    app.faults = [Fault(Answer(status=503, headers={"Retry-After": "77"}), times=10)]

    with pytest.raises(TryLater) as raised:
        await find(db, access, app)

    assert raised.value.seconds == 77
    assert await db.fetchval("SELECT COUNT(*) FROM linked_repositories") == 0


async def test_link__an_installation_stays_with_the_account_that_has_it(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    await an_account(db)
    await an_account(db, "other")
    await link(db, access, app)

    with pytest.raises(NotLinked, match="another account"):
        await link(db, access, app, account="other")
    assert (await link(db, access, app)).account == "acme"

    await find(db, access, app)
    assert await unlink_installation(db, forge="github", installation_id=4001, reason="Over.")
    await link(db, access, app, account="other")
    assert (await find(db, access, app)).account == "other"


async def test_link__with_it_the_service_reports_and_without_it_does_not(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    acme = await an_account(db)
    await link(db, access, app)
    await find(db, access, app)
    reported = "SELECT account_id FROM reported_repositories WHERE forge = 'github' AND repository_id = 77"
    assert await db.fetchval(reported) == acme

    await unlink_installation(db, forge="github", installation_id=4001, reason="Over.")

    assert await db.fetchval(reported) is None
    assert await link_of_job(db, forge="github", repository_id=77, account_id=acme) is None
    with pytest.raises(NotLinked):
        await find(db, access, app)


async def test_link__another_accounts_job_is_not_reported_by_it(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp):
    await an_account(db)
    other = await an_account(db, "other")
    await link(db, access, app)
    await find(db, access, app)

    assert await link_of_job(db, forge="github", repository_id=app.id, account_id=other) is None


async def test_place__has_a_token_for_this_repository_and_what_is_done_there(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    await an_account(db)
    await link(db, access, app)
    found = await find(db, access, app)

    reading, reporting, again = [await access.place(found, right=right) for right in ("read", "report", "read")]

    assert app.tokens[reading.token.reveal()] == {"contents": "read", "metadata": "read", "pull_requests": "read"}
    assert "contents" not in app.tokens[reporting.token.reveal()]
    assert again == reading
    narrow = [rights for rights in app.tokens.values() if rights != {"metadata": "read"}]  # as when all were listed
    assert len(narrow) == 2


async def test_place__tokens_are_in_no_row_and_no_text(db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp):
    await an_account(db)
    await link(db, access, app)
    place = await access.place(await find(db, access, app), right="read")

    tables = [row[0] for row in await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    kept = [str(row) for table in tables for row in await db.fetch(f"SELECT t::TEXT FROM {table} t")]

    assert not [row for row in kept if place.token.reveal() in row]
    assert place.token.reveal() not in repr(place)


async def test_place__W19_of_a_suspended_installation_is_refused_with_a_reason(
    db: asyncpg.Pool, access: ForgeAccess, app: GitHubApp
):
    await an_account(db)
    await link(db, access, app)
    found = await find(db, access, app)
    access.forget_installation("github", 4001)
    app.suspended = True

    with pytest.raises(CannotRead, match="HTTP 403"):
        await access.place(found, right="read")


async def test_settings__a_service_for_one_account_links_what_nobody_linked(db: asyncpg.Pool, app: GitHubApp):
    acme = await an_account(db)
    access = access_to(db, app, WEBHOOK_ACCOUNT="acme")

    found = await find(db, access, app)

    assert (found.account_id, found.installation_id) == (acme, 4001)
    await access.aclose()


async def test_settings__without_an_app_the_own_token_reports(db: asyncpg.Pool, app: GitHubApp):
    acme = await an_account(db)
    access = access_to(
        db, app, GITHUB_APP_ID="", GITHUB_APP_PRIVATE_KEY="", GITHUB_TOKEN="ghp_own", WEBHOOK_ACCOUNT="acme"
    )

    found = await find(db, access, app, installation_id=None)

    assert (found.account_id, found.installation_id, found.hook_id, found.reports) == (acme, None, None, True)
    assert (await access.place(found, right="report")).token.reveal() == "ghp_own"
    await access.aclose()


@pytest.mark.parametrize(("named", "words"), [("", "No account is linked"), ("nobody", "names no account")])
async def test_settings__without_a_good_account_nobody_is_billed(
    db: asyncpg.Pool, app: GitHubApp, named: str, words: str
):
    access = access_to(db, app, GITHUB_APP_ID="", WEBHOOK_ACCOUNT=named)

    with pytest.raises(NotLinked, match=words):
        await find(db, access, app, installation_id=None)
    await access.aclose()
