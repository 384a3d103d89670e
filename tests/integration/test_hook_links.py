"""What a webhook of its own may speak for. Whoever has one can make any delivery for it: none reaches further."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from msgspec import structs

from evals.models import Secret
from server.domain.errors import Conflict, InvalidRequest, Unavailable
from server.domain.events import LinkChanged, Repository
from server.domain.links import NotLinked
from server.forges import CannotRead
from server.services.apps import AppBook
from server.services.forge_access import ForgeAccess
from server.services.handling import TryLater
from server.services.hooks import Hooks, Issued, add_hook, remove_hook
from server.services.installations import link_for_account
from server.services.linking import change_links, find_link, link_of_job
from server.services.resealing import reseal_secrets
from server.services.retention import Keep, clean_up
from server.services.sealing import Sealer
from server.services.tickets import issue_ticket
from server.services.webhook_secrets import SecretBook
from tests.links import a_delivery, access_to, an_account
from tests.service import SECRET_KEY
from tests.standins.forge_people import ForgePeople
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge
from tests.standins.web import Answer, Fault

TOKEN = "github_pat_" + "a" * 40
NUMBER = 77


@pytest.fixture
def github() -> Iterator[GitHubForge]:
    forge = GitHubForge()
    forge.fine_grained = {TOKEN: "ann"}
    forge.administrators = {"ann"}
    with forge.running() as running:
        yield running


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
def site(db: asyncpg.Pool, access: ForgeAccess) -> Hooks:
    return Hooks(db=db, reach=lambda: access, sealer=Sealer(Secret(SECRET_KEY)), public_url="https://testing.example")


async def a_hook(
    site: Hooks, account: UUID, *, forge: str = "github", name: str = "acme/prompts", token: str | None = TOKEN, **more
) -> Issued:
    return await add_hook(
        site, account, by="ann", forge=forge, name=name, token=Secret(token) if token else None, **more
    )


async def found_by(
    db: asyncpg.Pool, access: ForgeAccess, issued: Issued, *, number=NUMBER, name="acme/prompts", **more
):
    repository = Repository(forge=issued.hook.forge, id=number, name=name, default_branch="main")
    return await find_link(db, access, repository, hook_id=issued.hook.id, **{"installation_id": None} | more)


async def test_hook__with_a_token_its_repository_is_the_accounts(db: asyncpg.Pool, site: Hooks, access: ForgeAccess):
    acme = await an_account(db)

    issued = await a_hook(site, acme)

    assert issued.url == f"https://testing.example/webhooks/github/{issued.hook.id}"
    assert (issued.hook.place_id, issued.hook.token_shown) == (NUMBER, "github_pat_…aaaa")
    link = await found_by(db, access, issued)
    assert (link.account_id, link.hook_id, link.installation_id, link.reports) == (acme, issued.hook.id, None, True)
    assert await link_of_job(db, forge="github", repository_id=NUMBER, account_id=acme) == link
    assert (await access.place(link, right="report")).token.reveal() == TOKEN
    # Whoever may administer a repository by a token says nothing about its workflows.
    assert await db.fetchval("SELECT COUNT(*) FROM trusted_repositories") == 0


async def test_hook__secrets_and_tokens_are_in_no_row_in_clear(db: asyncpg.Pool, site: Hooks):
    issued = await a_hook(site, await an_account(db))

    kept = str([dict(row) for row in await db.fetch("SELECT * FROM hooks")])

    assert issued.secret not in kept
    assert TOKEN not in kept


async def test_hook__a_sealed_row_that_was_copied_to_another_opens_for_nobody(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess
):
    acme, other = await an_account(db), await an_account(db, "other")
    victim, attacker = await a_hook(site, acme), await a_hook(site, other, name="evil/public", token=None)

    await db.execute(
        "UPDATE hooks SET sealed = (SELECT sealed FROM hooks WHERE id = $1), token_shown = 'x' WHERE id = $2",
        victim.hook.id,
        attacker.hook.id,
    )

    with pytest.raises(CannotRead, match="another row"):
        await access.hook_token(attacker.hook.id)


@pytest.mark.parametrize("number", [NUMBER, 1, 2**62])
async def test_attack__another_tenants_hook_can_forge_nothing(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, github: GitHubForge, number: int
):
    """It says that it is about the victim's repository, by name, by number, and through the victim's installation."""
    await an_account(db, "victim")
    mallory = await an_account(db, "mallory")
    await link_for_account(db, access, forge="github", installation_id=4001, account="victim", proof="operator")
    own = await a_hook(site, mallory, name="mallory/own", token=None)
    await found_by(db, access, own, number=666, name="mallory/own")

    for name in ("acme/prompts", "mallory/own", "Mallory/own"):
        with pytest.raises(NotLinked):
            await found_by(db, access, own, number=number, name=name, installation_id=4001)

    for word in ("renamed", "transferred", "deleted", "uninstalled", "suspended", "removed"):
        changed = LinkChanged(
            word=word,
            installation_id=4001,
            repositories=(Repository(forge="github", id=number, name="acme/prompts"),),
        )
        ended = await change_links(db, access, changed, a_delivery(hook_id=own.hook.id))
        assert ended.state == "ignored"
    live = await db.fetch("SELECT a.username FROM linked_repositories r JOIN users a ON a.id = r.account_id"
                          " WHERE ended_at IS NULL")  # fmt: skip
    assert [row["username"] for row in live] == ["victim"]


async def test_attack__a_hook_whose_first_delivery_names_anothers_repository_spends_its_own_money_alone(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess
):
    """Anybody may test a public repository at their own cost; nothing is claimed, and nobody is written to."""
    victim, mallory = await an_account(db, "victim"), await an_account(db, "mallory")
    await link_for_account(db, access, forge="github", installation_id=4001, account="victim", proof="operator")
    own = await a_hook(site, mallory, token=None)

    link = await found_by(db, access, own, installation_id=4001)

    assert (link.account_id, link.reports, link.installation_id) == (mallory, False, None)
    assert (await access.place(link, right="read")).token.reveal() == ""
    with pytest.raises(CannotRead, match="No token was given"):
        await access.place(link, right="report")
    assert await link_of_job(db, forge="github", repository_id=NUMBER, account_id=mallory) is None
    assert await db.fetchval("SELECT account_id FROM reported_repositories") == victim


async def test_attack__a_token_of_somebody_who_may_not_administer_claims_nothing(
    db: asyncpg.Pool, site: Hooks, github: GitHubForge
):
    github.administrators = set()

    with pytest.raises(InvalidRequest, match="may not administer"):
        await a_hook(site, await an_account(db))

    assert await db.fetchval("SELECT COUNT(*) FROM hooks") == 0
    assert await db.fetchval("SELECT COUNT(*) FROM linked_repositories") == 0


async def test_attack__an_apps_token_is_nobodys_and_claims_nothing(db: asyncpg.Pool):
    """Somebody else's App with the right to administer may say so of every repository of its customers."""
    with ForgePeople().running() as people:
        people.repo("acme/prompts", NUMBER, 501, ann="admin")
        access = access_to(db, people)
        site = Hooks(
            db=db, reach=lambda: access, sealer=Sealer(Secret(SECRET_KEY)), public_url="https://testing.example"
        )
        acme = await an_account(db)

        with pytest.raises(InvalidRequest, match="make an access token of your own") as refused:
            await a_hook(site, acme, token=people.installation())
        assert refused.value.error_code == "token_of_nobody"
        assert await db.fetchval("SELECT COUNT(*) FROM hooks") == 0
        assert await db.fetchval("SELECT COUNT(*) FROM linked_repositories") == 0

        assert (await a_hook(site, acme, token=people.person("ann"))).hook.place_id == NUMBER
        await access.aclose()
        assert people.violations == []


async def test_claim__a_repository_is_one_accounts_and_the_owners_app_wins(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess
):
    acme, other = await an_account(db), await an_account(db, "other")
    first = await a_hook(site, acme)

    with pytest.raises(Conflict, match="another account"):
        await a_hook(site, other)
    assert await db.fetchval("SELECT COUNT(*) FROM hooks WHERE removed_at IS NULL") == 1

    await link_for_account(db, access, forge="github", installation_id=4001, account="other", proof="operator")
    with pytest.raises(NotLinked, match="another account"):
        await found_by(db, access, first)
    app = Repository(forge="github", id=NUMBER, name="acme/prompts")
    assert (await find_link(db, access, app, installation_id=4001, hook_id=None)).account_id == other


async def trusted_for(db: asyncpg.Pool, account: UUID, *, forge: str, issuer: str, owner_id: int) -> None:
    await db.execute(
        "INSERT INTO trusted_repositories"
        " (account_id, issuer, forge, repository_id, owner_id, repository, scopes, proof)"
        " VALUES ($1, $2, $3, $4, $5, 'acme/prompts', '{run}', 'ann')",
        account, issuer, forge, NUMBER, owner_id,
    )  # fmt: skip


async def test_claim__not_of_a_repository_whose_workflows_run_for_another_account(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, github: GitHubForge
):
    issuer = f"{github.url}/_services/token"
    trusting = access_to(db, github, issuers=[("github", issuer)])
    site = structs.replace(site, reach=lambda: trusting)
    acme, other = await an_account(db), await an_account(db, "other")
    await trusted_for(db, other, forge="github", issuer=issuer, owner_id=501)

    with pytest.raises(Conflict, match="prpm trust add --replace"):
        await a_hook(site, acme)
    assert await db.fetchval("SELECT COUNT(*) FROM hooks") == 0
    assert (await a_hook(site, other)).hook.place_id == NUMBER

    # One of an owner who has it no longer, and one of another server, are nobody's word on it.
    await db.execute("DELETE FROM linked_repositories")
    await db.execute("UPDATE trusted_repositories SET owner_id = 900")
    await trusted_for(db, other, forge="github", issuer="https://elsewhere.example", owner_id=501)
    assert (await a_hook(site, acme)).hook.place_id == NUMBER
    await trusting.aclose()


async def test_gitlab__a_groups_hook_leaves_a_project_whose_workflows_run_for_another_account(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, github: GitHubForge, gitlab: GitLabForge
):
    trusting = access_to(db, github, GITLAB_URL=gitlab.url, issuers=[("gitlab", gitlab.url)])
    issued = await a_hook(site, await an_account(db), forge="gitlab", name="acme", token=gitlab.token)
    await trusted_for(db, await an_account(db, "other"), forge="gitlab", issuer=gitlab.url, owner_id=800)

    with pytest.raises(NotLinked, match="another account"):
        await found_by(db, trusting, issued)

    assert await db.fetchval("SELECT COUNT(*) FROM linked_repositories") == 0
    await trusting.aclose()


async def test_W19_given_to_another_owner__the_hook_that_moved_along_spends_nothing(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, github: GitHubForge
):
    """GitHub moves a webhook with its repository: the new owner would test at the old one's cost."""
    issued = await a_hook(site, await an_account(db))
    await found_by(db, access, issued)
    github.name, github.owner_id = "umbrella/prompts", 900

    with pytest.raises(NotLinked, match="given to another owner"):
        await found_by(db, access, issued, name="umbrella/prompts")

    assert await db.fetchval("SELECT COUNT(*) FROM linked_repositories WHERE ended_at IS NULL") == 0


async def test_W19_given_to_another_owner__a_hook_without_a_token_goes_by_the_name(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess
):
    issued = await a_hook(site, await an_account(db), token=None)
    await found_by(db, access, issued)

    assert (await found_by(db, access, issued, name="acme/renamed")).repository.name == "acme/renamed"
    with pytest.raises(NotLinked, match="given to another owner"):
        await found_by(db, access, issued, name="umbrella/renamed")


async def test_W19_renamed__is_proven_anew(db: asyncpg.Pool, site: Hooks, access: ForgeAccess, github: GitHubForge):
    issued = await a_hook(site, await an_account(db))
    github.name = "acme/renamed"

    assert (await found_by(db, access, issued, name="acme/renamed")).repository.name == "acme/renamed"

    assert await db.fetchval("SELECT name FROM hooks") == "acme/renamed"


@pytest.mark.parametrize(("word", "reason"), [("transferred", "another owner"), ("deleted", "was deleted")])
async def test_W19_the_hook_ends_with_its_repository(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, word: str, reason: str
):
    issued = await a_hook(site, await an_account(db))
    changed = LinkChanged(
        word=word, installation_id=None, repositories=(Repository(forge="github", id=NUMBER, name="acme/prompts"),)
    )

    ended = await change_links(db, access, changed, a_delivery(hook_id=issued.hook.id))

    assert (ended.state, reason in ended.reason) == ("handled", True)
    with pytest.raises(NotLinked, match="removed"):
        await found_by(db, access, issued)
    assert await db.fetchval("SELECT COUNT(*) FROM linked_repositories WHERE ended_at IS NULL") == 0


async def test_removed__nothing_is_kept_that_opens_anything(db: asyncpg.Pool, site: Hooks, access: ForgeAccess):
    acme = await an_account(db)
    issued = await a_hook(site, acme)

    await remove_hook(site, acme, issued.hook.id, by="ann")

    row = await db.fetchrow("SELECT sealed, token_shown FROM hooks")
    assert (row["sealed"], row["token_shown"]) == (None, None)
    assert await db.fetchval("SELECT COUNT(*) FROM reported_repositories") == 0
    with pytest.raises(NotLinked, match="removed"):
        await found_by(db, access, issued)


async def test_W19_a_token_that_was_taken_back_ends_with_a_reason_and_no_retries(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, github: GitHubForge
):
    issued = await a_hook(site, await an_account(db))
    github.fine_grained = {}

    with pytest.raises(NotLinked, match="HTTP 401"):
        await found_by(db, access, issued, name="acme/renamed")


async def test_forge_away__is_tried_later_and_said_so_when_a_hook_is_added(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, github: GitHubForge
):
    acme = await an_account(db)
    issued = await a_hook(site, acme)
    github.faults = [Fault(Answer(status=503, headers={"Retry-After": "60"}), times=10)]

    with pytest.raises(TryLater):
        await found_by(db, access, issued, name="acme/renamed")
    with pytest.raises(Unavailable, match="could not be tried"):
        await a_hook(site, acme, name="acme/second")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"forge": "bitbucket"}, "forge: has to be one of github, gitlab"),
        ({"name": "acme"}, "HTTP 404"),
        ({"name": "acme/../x"}, "HTTP 404"),
        ({"name": "acme prompts"}, "owner/name"),
        ({"name": "acme", "token": None}, "group"),
        ({"token": "ghp_wrong"}, "HTTP 401"),
        ({"token": "ghp_wröng"}, "no access token"),
        ({"token": "ghp_a\nX: y"}, "no access token"),
        ({"proof": "token"}, "are signed"),
    ],
)
async def test_hook__what_cannot_be_is_refused_and_nothing_is_kept(db: asyncpg.Pool, site: Hooks, changes, words: str):
    with pytest.raises(InvalidRequest, match=words):
        await a_hook(site, await an_account(db), **changes)

    assert await db.fetchval("SELECT COUNT(*) FROM hooks") == 0


async def test_hook__one_for_a_repository(db: asyncpg.Pool, site: Hooks):
    acme = await an_account(db)
    first = await a_hook(site, acme)

    with pytest.raises(Conflict, match=str(first.hook.id)):
        await a_hook(site, acme)


async def test_hook__without_a_key_nothing_secret_is_kept(db: asyncpg.Pool, access: ForgeAccess):
    bare = Hooks(db=db, reach=lambda: access, sealer=None, public_url="https://testing.example")

    with pytest.raises(Conflict, match="PRPM_SECRET_KEY"):
        await a_hook(bare, await an_account(db))


async def test_gitlab__a_project_is_linked_by_its_token(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, gitlab: GitLabForge
):
    acme = await an_account(db)

    issued = await a_hook(site, acme, forge="gitlab", token=gitlab.token)

    assert issued.secret.startswith("whsec_")
    link = await found_by(db, access, issued)
    assert (link.account_id, link.reports, link.repository.id) == (acme, True, NUMBER)
    assert (await access.place(link, right="read")).api_url == f"{gitlab.url}/api/v4"
    assert gitlab.violations == []


async def test_gitlab__a_groups_hook_speaks_for_what_lies_in_the_group_and_for_nothing_else(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, gitlab: GitLabForge
):
    acme = await an_account(db)
    gitlab.more_projects = {78: "acme/deep/second", 79: "acme-evil/third", 80: "other/fourth"}
    issued = await a_hook(site, acme, forge="gitlab", name="acme", token=gitlab.token)
    assert issued.hook.is_group

    assert (await found_by(db, access, issued)).account_id == acme
    assert (await found_by(db, access, issued, number=78, name="acme/deep/second")).account_id == acme
    for number, name in ((79, "acme-evil/third"), (79, "acme/third"), (80, "acme/fourth"), (81, "acme/none")):
        with pytest.raises(NotLinked):
            await found_by(db, access, issued, number=number, name=name)
    linked = await db.fetch("SELECT repository_id FROM linked_repositories ORDER BY repository_id")
    assert [row["repository_id"] for row in linked] == [77, 78]


async def test_gitlab__a_developers_token_claims_nothing(db: asyncpg.Pool, site: Hooks, gitlab: GitLabForge):
    gitlab.token_level = 30

    with pytest.raises(InvalidRequest, match="maintainer"):
        await a_hook(site, await an_account(db), forge="gitlab", token=gitlab.token)


async def test_gitlab__a_project_that_left_the_group_is_the_groups_no_more(
    db: asyncpg.Pool, site: Hooks, access: ForgeAccess, gitlab: GitLabForge
):
    issued = await a_hook(site, await an_account(db), forge="gitlab", name="acme", token=gitlab.token)
    await found_by(db, access, issued)
    gitlab.name = "elsewhere/prompts"

    with pytest.raises(NotLinked, match="given to another owner"):
        await found_by(db, access, issued, name="elsewhere/prompts")

    assert await db.fetchval("SELECT COUNT(*) FROM linked_repositories WHERE ended_at IS NULL") == 0


async def test_reseal__hooks_and_apps_open_under_the_new_key_alone(db: asyncpg.Pool, site: Hooks, access: ForgeAccess):
    issued = await a_hook(site, await an_account(db))
    old = Sealer(Secret(SECRET_KEY))
    app = {"private_key": "k", "client_secret": "c", "webhook_secret": "w"}
    await db.execute(
        "INSERT INTO forge_apps (forge, app_id, slug, client_id, page_url, sealed)"
        " VALUES ('github', '', '', '', '', $1)",
        old.seal_secrets("app:github", app),
    )
    new = "a new key for tests alone"

    assert await reseal_secrets(db, Sealer(Secret(f"{new}, {SECRET_KEY}"))) == (2, 0)

    fresh = Sealer(Secret(new))
    sealed = await db.fetchval("SELECT sealed FROM hooks")
    assert fresh.open_secrets(str(issued.hook.id), sealed)["token"] == TOKEN
    assert fresh.open_secrets("app:github", await db.fetchval("SELECT sealed FROM forge_apps")) == app
    assert await reseal_secrets(db, old) == (0, 2)


async def test_retention__steps_of_a_set_up_that_ended_go(db: asyncpg.Pool):
    await issue_ticket(db, "link", seconds=-1)
    await issue_ticket(db, "link", seconds=60)

    await clean_up(db, Keep())

    assert await db.fetchval("SELECT COUNT(*) FROM setup_tickets") == 1


async def test_W5_unknown_and_removed_hooks_are_looked_for_by_the_same_steps(dsn: str, db: asyncpg.Pool, site: Hooks):
    """So that the time of an answer does not tell which it was."""
    acme = await an_account(db)
    removed = (await a_hook(site, acme, token=None)).hook.id
    await remove_hook(site, acme, removed, by="ann")
    asked: list[tuple[str, object]] = []
    sealer = Sealer(Secret(SECRET_KEY))
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as one:
        book = SecretBook(one, by_settings={}, apps=AppBook(one, settings={}, sealer=sealer), sealer=sealer)
        async with one.acquire() as connection:
            raw = connection._con  # a logger on the pool's proxy ends with its turn
            raw.add_query_logger(lambda record: asked.append((record.query, record.exception)))
        for hook_id in (removed, uuid4(), None):
            assert await book.of_hook("github", hook_id) is None

    looks = [query for query, _ in asked if "FROM hooks" in query]
    assert len(looks) == 3
    assert len(set(looks)) == 1
