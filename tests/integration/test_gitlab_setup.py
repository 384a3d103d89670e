"""`/setup/gitlab` as a browser uses it: a form, the values to paste, and whether GitLab's test arrived."""

from __future__ import annotations

import html
import re
import uuid
from collections.abc import Iterator

import httpx
import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.integration.test_hooks_over_http import prpm
from tests.integration.test_pages import is_inert, log_in, session_of
from tests.service import Account, Service, in_loop, start_service
from tests.standins.gitlab_forge import GitLabForge
from tests.webhooks import a_payload, encoded, gitlab_headers

PAGE = "/setup/gitlab"


@pytest.fixture(scope="module")
def gitlab() -> Iterator[GitLabForge]:
    with GitLabForge().running() as running:
        yield running


@pytest.fixture(scope="module")
def service(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, gitlab: GitLabForge
) -> Iterator[Service]:
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    yield from start_service(
        dsn=dsn, redis_url=redis_url, folder=tmp_path_factory.mktemp("gitlab"), PRPM_GITLAB_URL=gitlab.url
    )


class Person:
    """A browser with a session."""

    def __init__(self, service: Service, account: Account) -> None:
        self.client = service.visitor()
        self.client.headers["Cookie"] = f"__Host-prpm_session={session_of(log_in(service, account.token))}"
        self.origin = service.url

    def send(self, *, origin: str | None = None, **fields: str) -> httpx.Response:
        return self.client.post(PAGE, data=fields, headers={"Origin": origin or self.origin})


def test_page__shows_the_values_to_paste_once_and_whether_they_work(service: Service, gitlab: GitLabForge):
    alice = service.an_account()
    person = Person(service, alice)
    form = person.client.get(PAGE)
    assert (form.status_code, is_inert(form.text)) == (200, True)

    values = person.send(name="acme/prompts", unverified_token=gitlab.token, account=alice.username)

    assert (values.status_code, is_inert(values.text)) == (201, True)
    assert gitlab.token not in values.text
    url, secret = re.findall(r"<td><code>([^<]+)</code></td>", html.unescape(values.text))
    look = html.unescape(re.search(r'<a href="(/setup/gitlab/[^"]+)"', values.text)[1])
    assert "Nothing has arrived yet" in person.client.get(look).text
    body = encoded(a_payload("gitlab/merge_request"))
    path = url.removeprefix(service.url)
    refused = service.visitor().post(path, content=body, headers=gitlab_headers(body, token=secret))
    assert (refused.status_code, "Nothing has arrived yet" in person.client.get(look).text) == (401, True)

    taken = service.visitor().post(path, content=body, headers=gitlab_headers(body, signing=secret))

    assert (taken.status_code, "It works" in person.client.get(look).text) == (202, True)
    assert secret not in person.client.get(look).text


def test_page__keeps_what_was_filled_in_but_the_token(service: Service):
    person = Person(service, service.an_account())

    again = person.send(name='acme/"prompts"', unverified_token="glpat-wrong", plain_token="yes").text

    assert 'value="acme/&#34;prompts&#34;"' in again
    assert 'name="plain_token" value="yes" checked' in again
    assert "glpat-wrong" not in again


def test_values__of_a_service_that_only_its_own_machine_reaches_say_so(service: Service, gitlab: GitLabForge):
    alice, bob = service.an_account(), service.an_account()

    page = Person(service, alice).send(name="some/local", account=alice.username)
    command = prpm(bob, service, "hook", "add", "gitlab", "some/local", "--no-token")

    assert ("cannot deliver there" in page.text, "SSL verification" in page.text) == (True, False)
    assert "cannot deliver there" in command.stdout + command.stderr


def test_account_page__lists_the_webhook_and_whether_it_delivered(service: Service, gitlab: GitLabForge):
    person = Person(service, alice := service.an_account())
    assert "None is tested by itself yet" in person.client.get("/account").text
    made = alice.client.post("/api/v1/hooks", json={"forge": "gitlab", "name": "some/project"}).json()
    assert "none yet" in person.client.get("/account").text

    body = encoded(a_payload("gitlab/merge_request"))
    path = made["url"].removeprefix(service.url)
    service.visitor().post(path, content=body, headers=gitlab_headers(body, signing=made["secret"]))

    page = person.client.get("/account").text
    assert re.search(r"<td>some/project</td>\s*<td>gitlab</td><td>webhook</td>\s*<td>20\d\d-", page)
    assert is_inert(page)


def test_page__is_for_people_who_are_logged_in(service: Service):
    assert service.visitor().get(PAGE).status_code == 401
    assert service.visitor().post(PAGE, data={"name": "a/b"}, headers={"Origin": service.url}).status_code == 401
    assert service.visitor().get(f"{PAGE}/{uuid.uuid4()}").status_code == 401


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"name": "acme/prompts", "unverified_token": "glpat-wrong"}, 400, "HTTP 401"),
        ({"name": "<script>", "unverified_token": "x"}, 400, "owner/name"),
        ({"name": "", "unverified_token": ""}, 400, "owner/name"),
        ({"name": "a/b", "account": "somebody-else"}, 404, "no organisation named"),
        ({"name": "a/b", "origin": "https://evil.example"}, 403, "only be sent from this site"),
    ],
)
def test_page__says_what_to_do(service: Service, fields: dict[str, str], status: int, words: str):
    person = Person(service, service.an_account())
    before = service.fetch("SELECT COUNT(*) FROM hooks")

    answer = person.send(**fields)

    assert (answer.status_code, words in html.unescape(answer.text), is_inert(answer.text)) == (status, True, True)
    assert service.fetch("SELECT COUNT(*) FROM hooks") == before


def test_page__anothers_webhook_is_not_there(service: Service):
    alice, mallory = service.an_account(), service.an_account()
    hook = alice.client.post("/api/v1/hooks", json={"forge": "gitlab", "name": "some/project"}).json()

    assert Person(service, mallory).client.get(f"{PAGE}/{hook['id']}").status_code == 404
    assert Person(service, mallory).client.get(f"{PAGE}/x").status_code == 404
    assert Person(service, alice).client.get(f"{PAGE}/{hook['id']}").status_code == 200
