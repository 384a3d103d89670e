"""Linking a repository by the forge's word: who may, and how others' repositories cannot be taken."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.organizations import Organization, an_organization
from tests.service import Account, Service, in_loop, start_service
from tests.standins.forge_people import ForgePeople
from tests.standins.issuer import StandInIssuer

PROOFS = "/api/v1/trusted-repositories/proofs"


@pytest.fixture(scope="module")
def forge() -> Iterator[ForgePeople]:
    with ForgePeople().running() as running:
        yield running
        assert running.violations == []


@pytest.fixture(scope="module")
def issuer() -> Iterator[StandInIssuer]:
    with StandInIssuer().running() as running:
        yield running


@pytest.fixture(scope="module")
def site(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, forge: ForgePeople, issuer: StandInIssuer
) -> Iterator[Service]:
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=tmp_path_factory.mktemp("proofs"),
        # GitLab's API is found by its issuer, GitHub's is set, as a stand-in's address tells nothing.
        PRPM_OIDC_ISSUERS=f"github={issuer.url}, gitlab={forge.url}",
        PRPM_GITHUB_API_URL=forge.url,
    )


@pytest.fixture
def org(site: Service) -> Organization:
    return an_organization(site)


@pytest.fixture(autouse=True)
def clean(site: Service, forge: ForgePeople) -> Iterator[None]:
    yield
    site.fetch("DELETE FROM trusted_repositories")
    forge.repos.clear()
    forge.answers_as = None
    forge.faults.clear()
    forge.log.clear()


def prove(who: Account, token: str, **changes: Any) -> httpx.Response:
    return who.client.post(PROOFS, json={"repository": "acme/prompts", "forge_token": token} | changes)


def links(site: Service) -> list[tuple[str, int, int]]:
    rows = site.fetch(
        "SELECT a.username, t.repository_id, t.owner_id FROM trusted_repositories t JOIN users a ON a.id = t.account_id"
    )
    return [tuple(row) for row in rows]


def exchanged(site: Service, issuer: StandInIssuer, **changes: Any) -> httpx.Response:
    token = issuer.token(aud=site.url, **changes)
    return site.visitor().post("/api/v1/auth/oidc/exchange", json={"token": token})


def test_proof__an_admin_links_a_repository_and_its_workflows_need_no_key(
    site: Service, forge: ForgePeople, issuer: StandInIssuer, org: Organization
) -> None:
    forge.repo("acme/prompts", 7001, 501, alice="admin")

    linked = prove(org.admin, forge.person("alice"), account=org.name)

    assert linked.status_code == 201, linked.text
    answer = linked.json()
    assert (answer["account"], answer["repository_id"], answer["owner_id"]) == (org.name, 7001, 501)
    assert answer["proof"] == "github: alice administers it"
    assert exchanged(site, issuer).json()["account"] == org.name


def test_proof__of_ones_own_account(site: Service, forge: ForgePeople) -> None:
    forge.repo("acme/prompts", 7001, 501, alice="admin")
    me = site.an_account()

    assert prove(me, forge.person("alice")).status_code == 201
    assert links(site) == [(me.username, 7001, 501)]


def test_proof__of_a_gitlab_project(site: Service, forge: ForgePeople) -> None:
    forge.repo("group/sub/prompts", 88, 9, alice="admin", bob="write")
    me = site.an_account()

    refused = prove(me, forge.person("bob"), repository="group/sub/prompts", issuer=forge.url)
    linked = prove(me, forge.person("alice"), repository="group/sub/prompts", issuer=forge.url)

    assert (refused.status_code, linked.status_code) == (403, 201)
    assert linked.json()["issuer"] == forge.url
    assert links(site) == [(me.username, 88, 9)]


@pytest.mark.parametrize("role", ["write", "read", None])
def test_proof__anothers_repository_is_a_403(site: Service, forge: ForgePeople, role: str | None) -> None:
    """A reader of a public repository, or one who may push to it, does not administer it."""
    forge.repo("acme/prompts", 7001, 501, **({"mallory": role} if role else {}))

    refused = prove(site.an_account(), forge.person("mallory"))

    assert (refused.status_code, refused.json()["code"]) == (403, "not_administrator")
    assert links(site) == []


def test_proof__an_installation_has_no_person_behind_it(site: Service, forge: ForgePeople) -> None:
    """An App that may administer its customers' repositories cannot link them to its maker's account."""
    forge.repo("acme/prompts", 7001, 501, alice="admin")

    refused = prove(site.an_account(), forge.installation())

    assert (refused.status_code, refused.json()["code"]) == (400, "forge_refused")
    assert links(site) == []


@pytest.mark.parametrize(
    "name",
    [
        "acme/prompts/../../evil/own", "../acme/prompts", "acme/..", "acme/.", "acme", "", "a/b?x=1", "a/b#c", "a b/c",
        "acme/prompts\n", "acme%2Fprompts/x", "@acme/prompts", "http://evil/x", "ácme/prompts", "a//b", "/acme/prompts",
    ],
)  # fmt: skip
def test_proof__a_name_that_leads_elsewhere_is_never_asked_for(site: Service, forge: ForgePeople, name: str) -> None:
    refused = prove(site.an_account(), forge.person("mallory"), repository=name)

    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_repository")
    assert forge.log == []


def test_proof__squatting_a_repository_of_another_account_is_a_409(
    site: Service, forge: ForgePeople, org: Organization
) -> None:
    """Two people administer it: the second takes nothing from the first by accident, and may by a word."""
    forge.repo("acme/prompts", 7001, 501, alice="admin", bob="admin")
    assert prove(org.owner, forge.person("alice"), account=org.name).status_code == 201
    other = site.an_account()

    refused = prove(other, forge.person("bob"))

    assert (refused.status_code, refused.json()["code"]) == (409, "repository_is_trusted")
    assert links(site) == [(org.name, 7001, 501)]
    assert prove(other, forge.person("bob"), replace=True).status_code == 201
    assert links(site) == [(other.username, 7001, 501)]


def test_proof__replace_helps_nobody_who_does_not_administer_it(
    site: Service, forge: ForgePeople, org: Organization
) -> None:
    forge.repo("acme/prompts", 7001, 501, alice="admin")
    prove(org.owner, forge.person("alice"), account=org.name)

    assert prove(site.an_account(), forge.person("mallory"), replace=True).status_code == 403
    assert links(site) == [(org.name, 7001, 501)]


def test_proof__what_the_app_or_a_webhook_links_to_another_account_is_not_moved(
    site: Service, forge: ForgePeople, org: Organization
) -> None:
    """One account at most, whichever way it was linked; the one that has given it away does not count."""
    forge.repo("acme/prompts", 7001, 501, alice="admin")
    link = (
        "INSERT INTO linked_repositories (forge, repository_id, account_id, owner_id, name, reports)"
        " VALUES ('github', 7001, $1, $2, 'acme/prompts', TRUE)"
    )
    site.fetch(link, org.id, 501)
    other = site.an_account()
    try:
        refused = prove(other, forge.person("alice"), replace=True)
        theirs = prove(org.owner, forge.person("alice"), account=org.name)
        site.fetch("UPDATE linked_repositories SET owner_id = 13")
        moved = prove(other, forge.person("alice"), replace=True)
    finally:
        site.fetch("DELETE FROM linked_repositories")

    assert (refused.status_code, refused.json()["code"]) == (409, "repository_is_linked")
    assert (theirs.status_code, moved.status_code) == (201, 201)


def test_proof__a_repository_that_changed_hands_is_its_new_owners(
    site: Service, forge: ForgePeople, issuer: StandInIssuer, org: Organization
) -> None:
    """A8: the old link is dead at once, the new owner needs nobody's help, and the old account's tokens end."""
    repo = forge.repo("acme/prompts", 7001, 501, alice="admin", bob="admin")
    prove(org.owner, forge.person("alice"), account=org.name)
    old = site.visitor()
    old.headers["Authorization"] = f"Bearer {exchanged(site, issuer).json()['token']}"
    repo.owner_id = 999
    assert exchanged(site, issuer, repository_owner_id="999").json()["code"] == "owner_changed"
    new = site.an_account()

    assert prove(new, forge.person("bob")).status_code == 201

    assert links(site) == [(new.username, 7001, 999)]
    assert exchanged(site, issuer, repository_owner_id="999").json()["account"] == new.username
    assert old.get(f"/api/v1/test-jobs/{uuid.uuid4()}").status_code == 401


def test_proof__a_name_that_somebody_else_registered_anew_is_another_repository(
    site: Service, forge: ForgePeople, issuer: StandInIssuer, org: Organization
) -> None:
    """The squatter gets a link to the squatter's own number, and the old repository's stays."""
    forge.repo("acme/prompts", 7001, 501, alice="admin")
    prove(org.owner, forge.person("alice"), account=org.name)
    forge.repo("acme/prompts", 6666, 13, mallory="admin")
    mallory = site.an_account()

    assert prove(mallory, forge.person("mallory")).status_code == 201

    assert sorted(links(site)) == sorted([(org.name, 7001, 501), (mallory.username, 6666, 13)])
    assert exchanged(site, issuer).json()["account"] == org.name


def test_proof__an_old_name_leads_elsewhere_and_is_not_followed(site: Service, forge: ForgePeople) -> None:
    repo = forge.repo("acme/prompts", 7001, 501, alice="admin")
    repo.moved_to = 7001

    refused = prove(site.an_account(), forge.person("alice"))

    assert (refused.status_code, links(site)) == (400, [])
    assert [seen.path for seen in forge.log] == ["/user", "/repos/acme/prompts"]


@pytest.mark.parametrize(
    "said",
    [
        {"id": 7001, "full_name": "evil/own", "owner": {"id": 1}, "permissions": {"admin": True}},
        {"id": "7001", "full_name": "acme/prompts", "owner": {"id": 501}, "permissions": {"admin": True}},
        {"id": True, "full_name": "acme/prompts", "owner": {"id": 501}, "permissions": {"admin": True}},
        {"id": 7001, "full_name": "acme/prompts", "owner": {"id": 501}, "permissions": {"admin": "true"}},
        {"id": 7001, "full_name": "acme/prompts", "owner": {"id": 501}},
        {"id": 7001, "full_name": "acme/prompts", "permissions": {"admin": True}},
        [],
    ],
)
def test_proof__an_answer_of_another_form_links_nothing(site: Service, forge: ForgePeople, said: Any) -> None:
    forge.answers_as = said

    assert prove(site.an_account(), forge.person("alice")).status_code in (400, 403, 503)
    assert links(site) == []


def test_proof__a_forge_that_is_away_is_a_503(site: Service, forge: ForgePeople) -> None:
    from tests.standins.web import Answer, Fault

    forge.repo("acme/prompts", 7001, 501, alice="admin")
    forge.faults = [Fault(answer=Answer(status=502), times=9)]

    answer = prove(site.an_account(), forge.person("alice"))

    assert (answer.status_code, links(site)) == (503, [])
    assert "retry-after" in answer.headers


def test_proof__only_who_administers_the_account_may(site: Service, forge: ForgePeople, org: Organization) -> None:
    forge.repo("acme/prompts", 7001, 501, alice="admin")
    token = forge.person("alice")

    assert [prove(org.person(role), token, account=org.name).status_code for role in ("member", "maintainer")] == [
        403,
        403,
    ]
    assert prove(site.an_account(), token, account=org.name).status_code == 404
    assert forge.log == []  # the forge is not even asked


@pytest.mark.parametrize("scope", ["administer", "run", "publish", "read"])
def test_proof__no_token_of_limited_scope_may(site: Service, forge: ForgePeople, org: Organization, scope: str) -> None:
    """It would make itself a stronger one: the link's workflows get tokens that may run."""
    forge.repo("acme/prompts", 7001, 501, alice="admin")
    made = org.owner.client.post(f"/api/v1/organizations/{org.name}/tokens", json={"name": "t", "scopes": [scope]})
    program = site.visitor()
    program.headers["Authorization"] = f"Bearer {made.json()['token']}"

    refused = program.post(PROOFS, json={"repository": "acme/prompts", "forge_token": forge.person("alice")})

    assert (refused.status_code, links(site)) == (403, [])


def test_proof__the_forges_token_is_neither_kept_nor_logged_nor_repeated(site: Service, forge: ForgePeople) -> None:
    """L2: a canary in no table, log or answer, whether the link was made or refused."""
    forge.repo("acme/prompts", 7001, 501, alice="admin")
    me, token = site.an_account(), forge.person("alice")
    answers = [
        prove(me, token), prove(me, token, repository="acme/nothing"), prove(me, f"{token}x"), prove(me, f"{token} x"),
        me.client.post(PROOFS, json={"repository": 7, "forge_token": token}),
    ]  # fmt: skip

    assert [answer.status_code for answer in answers] == [201, 400, 400, 400, 400]
    assert not any(token in answer.text for answer in answers)
    assert not any(token.encode() in log.read_bytes() for log in site.folder.glob("*.log"))
    tables = site.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for (table,) in tables:
        assert not site.fetch(f'SELECT FROM "{table}" t WHERE t::TEXT LIKE $1', f"%{token}%"), table


def prpm(site: Service, account: Account, *arguments: str, stdin: str = "", folder: Path) -> tuple[int, str]:
    """The exit code, and all that was said."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments], input=stdin, capture_output=True, text=True, timeout=60,
        env=site.environment | {"PRPM_TOKEN": account.token, "PRPM_REGISTRY_URL": site.url, "HOME": str(folder)},
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_command__adds_lists_and_removes(site: Service, forge: ForgePeople, org: Organization, tmp_path: Path) -> None:
    forge.repo("acme/prompts", 7001, 501, alice="admin")
    token = forge.person("alice")

    code, said = prpm(
        site, org.admin, "trust", "add", "acme/prompts", "--org", org.name, stdin=f"{token}\n", folder=tmp_path
    )
    assert code == 0, said
    assert f"acme/prompts test for {org.name}" in said
    assert token not in said

    code, said = prpm(site, org.admin, "trust", "list", "--org", org.name, folder=tmp_path)
    assert (code, "github: alice administers it" in said) == (0, True), said

    ((trust_id,),) = site.fetch("SELECT id::TEXT FROM trusted_repositories")
    code, said = prpm(site, org.admin, "trust", "remove", trust_id, "--org", org.name, folder=tmp_path)
    assert (code, links(site)) == (0, []), said


def test_command__without_a_token_says_how_to_get_one(site: Service, tmp_path: Path) -> None:
    code, said = prpm(site, site.an_account(), "trust", "add", "acme/prompts", folder=tmp_path)

    assert code == 2
    assert "gh auth token | prpm trust add acme/prompts" in said
