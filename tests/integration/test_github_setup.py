"""Making the App and linking its installations over real HTTP, with every way to cheat that a browser allows."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.integration.test_pages import is_inert, log_in, session_of
from tests.service import Account, Service, in_loop, start_service
from tests.standins.github_app import PRIVATE_KEY
from tests.standins.github_setup import CLIENT_SECRET, WEBHOOK_SECRET, GitHubSetup
from tests.webhooks import a_payload, encoded, github_headers

CREATED = "SELECT created_at FROM forge_apps"
SETUP = "__Host-prpm_setup"
BODY = encoded(a_payload("github/pull_request.opened"))


@pytest.fixture(scope="module")
def running() -> Iterator[GitHubSetup]:
    with GitHubSetup().running() as github:
        yield github


@pytest.fixture
def github(running: GitHubSetup) -> Iterator[GitHubSetup]:
    """As new: Ann owns the organisation that has the installation."""
    running.__dict__.update({**GitHubSetup().__dict__, "url": running.url, "lock": running.lock})
    yield running
    assert running.violations == []


@contextmanager
def a_service(admin_dsn: str, redis_url: str, folder: Path, github: GitHubSetup, **settings: str) -> Iterator[Service]:
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    yield from start_service(dsn=dsn, redis_url=redis_url, folder=folder, PRPM_GITHUB_API_URL=github.url, **settings)


@pytest.fixture(scope="module")
def empty(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, running: GitHubSetup
) -> Iterator[Service]:
    """A service without an App; no test makes one there."""
    with a_service(admin_dsn, redis_url, tmp_path_factory.mktemp("empty"), running) as service:
        yield service


@pytest.fixture(scope="module")
def with_app(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, running: GitHubSetup
) -> Iterator[Service]:
    """A service whose App was made on its page: deliveries are taken from that moment on."""
    with a_service(admin_dsn, redis_url, tmp_path_factory.mktemp("made"), running) as service:
        assert deliver(service) == 404
        assert make_app(service, running).status_code == 200
        assert deliver(service) == 202
        yield service


@pytest.fixture
def made(with_app: Service, github: GitHubSetup) -> Service:
    """The same, with nothing linked."""
    for table in ("reported_repositories", "trusted_repositories", "linked_repositories", "installations"):
        with_app.fetch(f"DELETE FROM {table}")
    return with_app


def a_token(service: Service, *options: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "server.operator.main", "setup-token", *options],
        env={**os.environ, **service.environment}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert run.stdout.strip() not in run.stderr
    return run.stdout.strip()


def begin(service: Service, ticket: str, **more: str) -> httpx.Response:
    headers = {"Origin": service.url} | {name: more.pop(name) for name in ("Origin",) if name in more}
    return service.visitor().post("/setup/github", data={"unverified_ticket": ticket, **more}, headers=headers)


def form_of(page: str) -> tuple[str, str]:
    """Where the manifest goes, and the manifest."""
    action = html.unescape(re.search(r'<form method="post" action="([^"]+)"', page)[1])
    return action, html.unescape(re.search(r'name="manifest" value="([^"]+)"', page)[1])


def cookie_of(answer: httpx.Response, name: str) -> str:
    return re.search(rf"{name}=([^;]+)", answer.headers["set-cookie"])[1]


def follow(service: Service, url: str, **cookies: str) -> httpx.Response:
    """The browser goes where GitHub sends it."""
    assert url.startswith(service.url)
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    return service.visitor().get(url.removeprefix(service.url), headers=headers)


def make_app(service: Service, github: GitHubSetup) -> httpx.Response:
    begun = begin(service, a_token(service))
    assert begun.status_code == 200, begun.text
    return follow(service, github.confirm_manifest(*form_of(begun.text)), **{SETUP: cookie_of(begun, SETUP)})


def deliver(service: Service) -> int:
    headers = github_headers(BODY, secret=WEBHOOK_SECRET)
    return service.visitor().post("/webhooks/github", content=BODY, headers=headers).status_code


def apps(service: Service) -> int:
    return service.fetch("SELECT COUNT(*) FROM forge_apps")[0][0]


def test_app__is_made_by_a_manifest_that_the_operator_sees_before(made: Service, github: GitHubSetup):
    page = made.visitor().get("/setup/github")
    assert (page.status_code, is_inert(page.text)) == (200, True)

    begun = begin(made, a_token(made, "--replace"), organization="acme")
    action, manifest = form_of(begun.text)
    assert urlsplit(action).path == "/organizations/acme/settings/apps/new"
    assert f"form-action 'self' {github.url};" in begun.headers["content-security-policy"]
    done = follow(made, github.confirm_manifest(action, manifest), **{SETUP: cookie_of(begun, SETUP)})

    assert done.status_code == 200
    assert f"{github.url}/apps/prpm-testing-acme/installations/new" in done.text
    [asked] = github.manifests
    assert asked["hook_attributes"] == {"url": f"{made.url}/webhooks/github", "active": True}
    assert asked["public"] is False
    assert asked["default_permissions"] == {
        "checks": "write", "contents": "read", "members": "read", "merge_queues": "read", "metadata": "read",
        "pull_requests": "write", "statuses": "write",
    }  # fmt: skip
    assert "merge_group" in asked["default_events"]


def test_app__that_is_there_is_offered_to_install(made: Service, empty: Service, github: GitHubSetup):
    page, install = made.visitor().get("/setup/github"), made.visitor().get("/setup/github/install")

    assert ('<a href="/setup/github/install">' in page.text, is_inert(page.text)) == (True, True)
    assert install.status_code == 303
    assert install.headers["location"].endswith("/apps/prpm-testing-acme/installations/new")
    assert "/setup/github/install" not in empty.visitor().get("/setup/github").text
    assert empty.visitor().get("/setup/github/install").status_code == 404


def test_app__its_keys_are_sealed_and_in_no_log(made: Service):
    kept = str([dict(row) for row in made.fetch("SELECT * FROM forge_apps")])
    logs = "".join(path.read_text() for path in made.folder.glob("*.log"))

    assert "app made" in logs
    for secret in (PRIVATE_KEY.splitlines()[1], CLIENT_SECRET, WEBHOOK_SECRET):
        assert secret not in kept + logs


@pytest.mark.parametrize("ticket", ["", "x", "x" * 5000, "nothing\u00e9"])
def test_attack__without_the_operators_token_nothing_begins(empty: Service, ticket: str):
    answer = begin(empty, ticket)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_attack__the_operators_token_works_once_and_in_no_address(empty: Service):
    ticket = a_token(empty)

    assert empty.visitor().get("/setup/github", params={"unverified_ticket": ticket}).status_code == 200
    assert begin(empty, ticket).status_code == 200
    assert begin(empty, ticket).status_code == 403


def test_attack__another_sites_form_begins_nothing_and_the_token_stays_good(empty: Service):
    ticket = a_token(empty)

    assert begin(empty, ticket, Origin="https://evil.example").status_code == 403
    assert empty.visitor().post("/setup/github", data={"unverified_ticket": ticket}).status_code == 403
    assert begin(empty, ticket).status_code == 200


def test_attack__a_forged_state_makes_no_app(empty: Service, github: GitHubSetup):
    """Somebody makes an App of their own and sends the operator's browser to the last step with its code."""
    begun = begin(empty, a_token(empty))
    github.manifest_codes.add("evil")

    for state in ("", "forged", "x" * 300):
        answer = follow(
            empty, f"{empty.url}/setup/github/created?code=evil&state={state}", **{SETUP: cookie_of(begun, SETUP)}
        )
        assert answer.status_code == 403
    assert (apps(empty), deliver(empty)) == (0, 404)


def test_attack__the_state_of_another_browser_makes_no_app(made: Service, github: GitHubSetup):
    before = made.fetch(CREATED)
    ours, theirs = begin(made, a_token(made, "--replace")), begin(made, a_token(made, "--replace"))
    url = github.confirm_manifest(*form_of(theirs.text))

    assert follow(made, url).status_code == 403
    assert follow(made, url, **{SETUP: cookie_of(ours, SETUP)}).status_code == 403
    assert made.fetch(CREATED) == before
    assert follow(made, url, **{SETUP: cookie_of(theirs, SETUP)}).status_code == 200


def test_attack__a_replayed_state_does_nothing(made: Service, github: GitHubSetup):
    begun = begin(made, a_token(made, "--replace"))
    url = github.confirm_manifest(*form_of(begun.text))
    cookie = {SETUP: cookie_of(begun, SETUP)}
    assert follow(made, url, **cookie).status_code == 200
    github.manifest_codes.add("second")
    [state] = parse_qs(urlsplit(url).query)["state"]

    again = follow(made, f"{made.url}/setup/github/created?code=second&state={state}", **cookie)

    assert again.status_code == 403
    assert github.manifest_codes == {"second"}


def test_app__one_that_is_there_is_replaced_only_when_the_operator_says_so(made: Service, github: GitHubSetup):
    refusal = begin(made, a_token(made))
    assert (refusal.status_code, "--replace" in refusal.text) == (409, True)

    begun = begin(made, a_token(made, "--replace"))

    url = github.confirm_manifest(*form_of(begun.text))
    assert follow(made, url, **{SETUP: cookie_of(begun, SETUP)}).status_code == 200


def test_app__a_damaged_code_is_told_in_a_sentence(empty: Service, github: GitHubSetup):
    begun = begin(empty, a_token(empty))
    [state] = parse_qs(urlsplit(form_of(begun.text)[0]).query)["state"]

    answer = follow(
        empty, f"{empty.url}/setup/github/created?code=a/b&state={state}", **{SETUP: cookie_of(begun, SETUP)}
    )

    assert (answer.status_code, "Begin again" in answer.text) == (400, True)


def an_organization(service: Service, owner: Account, *, role: str = "owner") -> str:
    name = f"org-{uuid.uuid4().hex[:8]}"
    service.fetch("INSERT INTO users (kind, username, subscription_tier) VALUES ('organization', $1, 'plus')", name)
    service.fetch(
        "INSERT INTO organization_members (org_id, user_id, role) SELECT id, $2, $3 FROM users WHERE username = $1",
        name, owner.id, role,
    )  # fmt: skip
    return name


def choose(service: Service, session: str, account: str, *, number: str = "4001", origin: str | None = None):
    """The person chooses the account for the installation that GitHub named."""
    headers = {"Origin": origin or service.url, "Cookie": f"__Host-prpm_session={session}"}
    return service.visitor().post(
        "/setup/github/link", data={"installation_id": number, "account": account}, headers=headers
    )


def a_session(service: Service, account: Account) -> str:
    return session_of(log_in(service, account.token))


def linked(service: Service) -> list[tuple[int, str]]:
    rows = service.fetch(
        "SELECT i.installation_id, a.username FROM installations i JOIN users a ON a.id = i.account_id"
    )
    return [tuple(row) for row in rows]


def come_back(service: Service, github: GitHubSetup, going: httpx.Response, login: str, session: str):
    assert going.status_code == 303, going.text
    return follow(service, github.log_in(going.headers["location"], login), **{"__Host-prpm_session": session})


def test_link__by_somebody_who_administers_both(made: Service, github: GitHubSetup):
    alice = made.an_account()
    org = an_organization(made, alice)
    installed = "/setup/github/installed?installation_id=4001&setup_action=install"
    asked = made.visitor().get(installed)
    assert (asked.status_code, 'value="/setup/github/installed?installation_id=4001"' in asked.text) == (401, True)
    session = a_session(made, alice)
    page = made.visitor().get(installed, headers={"Cookie": f"__Host-prpm_session={session}"})
    assert (page.status_code, is_inert(page.text)) == (200, True)
    assert f'value="{org}"' in page.text
    assert f"form-action 'self' {github.url};" in page.headers["content-security-policy"]

    done = come_back(made, github, choose(made, session, org), "ann", session)

    assert done.status_code == 200
    assert linked(made) == [(4001, org)]
    [row] = made.fetch("SELECT proof FROM installations")
    assert row["proof"] == "github:ann"
    assert [tuple(one) for one in made.fetch("SELECT repository_id, name FROM linked_repositories")] == [
        (77, "acme/prompts")
    ]
    logs = "".join(path.read_text() for path in made.folder.glob("*.log"))
    assert not [token for token in github.people_tokens if token in logs]


def test_link__of_a_persons_own_installation(made: Service, github: GitHubSetup):
    github.owner_type, github.owner_id = "User", github.people["ann"]
    alice = made.an_account()
    session = a_session(made, alice)

    assert come_back(made, github, choose(made, session, alice.username), "ann", session).status_code == 200

    assert linked(made) == [(4001, alice.username)]


@pytest.mark.parametrize(
    ("login", "at_github"),  # roles in the organisation, who has the installation in their list, whose it is
    [
        ("mallory", ({}, set(), "Organization")),
        ("mallory", ({}, {"mallory"}, "Organization")),  # listed for whoever may read one of its repositories
        ("mallory", ({"mallory": "member"}, {"mallory"}, "Organization")),
        ("mallory", ({}, {"mallory"}, "User")),
        ("ann", ({"ann": "admin"}, set(), "Organization")),
    ],
)
def test_attack__anothers_installation_is_not_linked(
    made: Service, github: GitHubSetup, login: str, at_github: tuple[dict, set, str]
):
    github.roles, github.sees, github.owner_type = at_github
    mallory = made.an_account()
    session = a_session(made, mallory)

    answer = come_back(made, github, choose(made, session, mallory.username), login, session)

    assert (answer.status_code, "do not own this installation" in html.unescape(answer.text)) == (403, True)
    assert linked(made) == []


def test_attack__an_invitation_that_was_not_accepted_is_no_ownership(made: Service, github: GitHubSetup):
    github.membership_state = "pending"
    alice = made.an_account()
    session = a_session(made, alice)

    assert come_back(made, github, choose(made, session, alice.username), "ann", session).status_code == 403
    assert linked(made) == []


@pytest.mark.parametrize("role", ["member", "maintainer"])
def test_attack__an_account_that_one_does_not_administer_is_not_billed(made: Service, github: GitHubSetup, role: str):
    alice, bob = made.an_account(), made.an_account()
    org, session = an_organization(made, alice, role=role), a_session(made, alice)

    assert choose(made, session, org).status_code == 403
    assert choose(made, session, bob.username).status_code == 404
    assert linked(made) == []


def test_attack__rights_that_were_lost_meanwhile_link_nothing(made: Service, github: GitHubSetup):
    alice = made.an_account()
    org, session = an_organization(made, alice, role="admin"), a_session(made, alice)
    going = choose(made, session, org)
    made.fetch("UPDATE organization_members SET role = 'member'")

    assert come_back(made, github, going, "ann", session).status_code == 403
    assert linked(made) == []


def test_attack__the_state_of_another_session_links_nothing(made: Service, github: GitHubSetup):
    """Mallory begins, and sends Alice's browser to the last step: Alice's installation for Mallory's account."""
    alice, mallory = made.an_account(), made.an_account()
    theirs, hers = a_session(made, mallory), a_session(made, alice)
    going = choose(made, theirs, mallory.username)

    assert come_back(made, github, going, "ann", hers).status_code == 403
    assert follow(made, github.log_in(going.headers["location"], "ann")).status_code == 401
    assert linked(made) == []


def test_attack__a_replayed_or_forged_state_links_nothing(made: Service, github: GitHubSetup):
    alice = made.an_account()
    session = a_session(made, alice)
    going = choose(made, session, alice.username)
    assert come_back(made, github, going, "ann", session).status_code == 200
    made.fetch("UPDATE installations SET removed_at = NOW()")

    assert come_back(made, github, going, "ann", session).status_code == 403
    forged = f"{made.url}/setup/github/callback?code=x&state=forged"
    assert follow(made, forged, **{"__Host-prpm_session": session}).status_code == 403


def test_attack__a_step_that_took_too_long_does_nothing(made: Service, github: GitHubSetup):
    alice = made.an_account()
    session = a_session(made, alice)
    begun = begin(made, a_token(made, "--replace"))
    url, before = github.confirm_manifest(*form_of(begun.text)), made.fetch(CREATED)
    going = choose(made, session, alice.username)
    late = a_token(made, "--replace")
    made.fetch("UPDATE setup_tickets SET expires_at = NOW() - INTERVAL '1 second'")

    assert come_back(made, github, going, "ann", session).status_code == 403
    assert follow(made, url, **{SETUP: cookie_of(begun, SETUP)}).status_code == 403
    assert begin(made, late).status_code == 403
    assert (linked(made), made.fetch(CREATED)) == ([], before)


def test_attack__a_code_of_another_app_is_refused(made: Service, github: GitHubSetup):
    alice = made.an_account()
    session = a_session(made, alice)
    going = choose(made, session, alice.username)
    [state] = parse_qs(urlsplit(going.headers["location"]).query)["state"]

    answer = follow(
        made, f"{made.url}/setup/github/callback?code=stolen&state={state}", **{"__Host-prpm_session": session}
    )

    assert (answer.status_code, "Begin again" in answer.text) == (400, True)
    assert linked(made) == []


def test_attack__another_sites_form_links_nothing(made: Service):
    alice = made.an_account()

    assert choose(made, a_session(made, alice), alice.username, origin="https://evil.example").status_code == 403
    assert made.visitor().post("/setup/github/link", data={}, headers={"Origin": made.url}).status_code == 400


def test_attack__an_installation_that_is_anothers_already_stays_theirs(made: Service, github: GitHubSetup):
    alice, bob = made.an_account(), made.an_account()
    for account, status in ((alice, 200), (bob, 409)):
        session = a_session(made, account)
        answer = come_back(made, github, choose(made, session, account.username), "ann", session)
        assert answer.status_code == status

    assert linked(made) == [(4001, alice.username)]


@pytest.mark.parametrize("number", ["", "0", "-1", "x", "9" * 30, "4001'--"])
def test_link__what_is_no_installation_is_told_in_a_sentence(made: Service, number: str):
    answer = made.visitor().get("/setup/github/installed", params={"installation_id": number})

    assert (answer.status_code, "names no installation" in answer.text) == (400, True)


def test_settings__win_over_what_is_made(
    admin_dsn: str, redis_url: str, github: GitHubSetup, tmp_path_factory: pytest.TempPathFactory
):
    settings = {"PRPM_GITHUB_APP_ID": "29310", "PRPM_GITHUB_APP_PRIVATE_KEY": PRIVATE_KEY.replace("\n", "\\n")}
    folder = tmp_path_factory.mktemp("settings")
    with a_service(admin_dsn, redis_url, folder, github, **settings) as service:
        assert begin(service, a_token(service)).status_code == 409
        alice = service.an_account()
        refusal = choose(service, a_session(service, alice), alice.username)
        assert (refusal.status_code, "PRPM_GITHUB_CLIENT_ID" in refusal.text) == (409, True)
