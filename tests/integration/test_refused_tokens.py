"""A webhook's access token expires, is revoked, or may too little: its owner sees it, and gives another one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.forge_stories import a_package
from tests.integration.test_hooks_over_http import HOOKS, add, prpm
from tests.integration.test_pages import browser
from tests.service import Account, Service, in_loop, start_service
from tests.standins.github_forge import GitHubForge
from tests.standins.web import Answer, Fault
from tests.webhooks import a_payload, encoded, github_headers

FIRST, SECOND = "github_pat_" + "c" * 40, "github_pat_" + "d" * 40
FORBIDDEN = Answer(status=403, body={"message": "Resource not accessible by personal access token"})


@pytest.fixture(scope="module")
def github() -> Iterator[GitHubForge]:
    with GitHubForge().running() as running:
        yield running


@pytest.fixture(scope="module")
def site(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, github: GitHubForge
) -> Iterator[Service]:
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    folder = tmp_path_factory.mktemp("refused")
    yield from start_service(dsn=dsn, redis_url=redis_url, folder=folder, PRPM_GITHUB_API_URL=github.url)


@pytest.fixture
def alice(site: Service, github: GitHubForge) -> Iterator[Account]:
    """Whose the repository is as long as she has a hook for it."""
    github.fine_grained, github.administrators, github.faults, github.id = {FIRST: "ann"}, {"ann"}, [], 77
    account = site.an_account()
    yield account
    for hook in account.client.get(HOOKS).json()["hooks"]:
        account.client.delete(f"{HOOKS}/{hook['id']}")


def push(site: Service, github: GitHubForge, hook: dict[str, Any]) -> str:
    """A pull request gets a new head, which GitHub tells; the head."""
    with github.lock:
        base = github.repository.commit({"README.md": b"hi"}, branch="main")
        head = github.repository.commit(a_package("one", text=uuid.uuid4().hex), parent=base)
        github.propose(12, head, base)
    pull = github.pulls[12]
    repository = {"id": github.id, "full_name": github.name, "default_branch": "main"}
    payload = a_payload("github/pull_request.opened", repository=repository)
    payload["pull_request"] |= {"number": 12, "head": pull["head"], "base": pull["base"], "draft": False}
    payload["pull_request"] |= {"updated_at": pull["updated_at"]}
    payload.pop("installation", None)
    body = encoded(payload)
    path = hook["url"].removeprefix(site.url)
    headers = github_headers(body, secret=hook["secret"], delivery=str(uuid.uuid4()))
    assert site.visitor().post(path, content=body, headers=headers).status_code == 202
    return head


def shown(alice: Account) -> dict[str, Any]:
    [hook] = alice.client.get(HOOKS).json()["hooks"]
    return hook


def has_passed(github: GitHubForge, head: str) -> bool:
    wanted = (head, "prpm", "success")
    with github.lock:
        return any((one["sha"], one["context"], one["state"]) == wanted for one in github.reported.statuses)


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("not seen")


def test_token__that_was_revoked_is_shown_with_what_to_do_until_another_one_works(
    site: Service, github: GitHubForge, alice: Account
):
    hook = add(alice, name=github.name, token=FIRST)
    assert "token_refused_at" not in shown(alice)
    github.fine_grained = {SECOND: "ann"}

    meanwhile = push(site, github, hook)
    refused = until(lambda: shown(alice).get("token_refused"))

    assert "(HTTP 401). The token or address is not accepted; make a new one." in refused
    listed = prpm(alice, site, "hook", "list")
    said = " ".join((listed.stdout + listed.stderr).split())
    assert "token refused" in said
    assert f"Give it another one: prpm hook token {hook['id']}" in said
    operators = subprocess.run(
        [sys.executable, "-m", "server.operator.main", "hook", "list"],
        env={**os.environ, **site.environment}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "   token refused 20" in operators.stdout
    page = browser(site, alice).get("/account").text
    assert "token refused" in page
    assert f"prpm hook token {hook['id']}" in page

    given = prpm(alice, site, "hook", "token", hook["id"], "--token-stdin", stdin=f"{SECOND}\n")

    assert given.returncode == 0, given.stderr
    assert SECOND not in given.stdout + given.stderr
    assert "token_refused_at" not in shown(alice)
    assert shown(alice)["token"] == "github_pat_…dddd"
    # What came meanwhile is found, and its address and secret are as they were.
    until(lambda: has_passed(github, meanwhile))
    head = push(site, github, hook)
    until(lambda: has_passed(github, head))
    assert "token refused" not in browser(site, alice).get("/account").text


def test_token__that_may_not_report_is_shown_and_no_more_once_it_may(
    site: Service, github: GitHubForge, alice: Account
):
    hook = add(alice, name=github.name, token=FIRST)
    github.faults = [Fault(FORBIDDEN, times=1000, path="/statuses/")]

    push(site, github, hook)
    refused = until(lambda: shown(alice).get("token_refused"))

    assert refused.startswith("We could not set the commit's status (HTTP 403). The token may not do this")
    github.faults = []
    push(site, github, hook)
    until(lambda: "token_refused" not in shown(alice))


def test_hook__that_nothing_came_from_for_long_is_pointed_out(site: Service, github: GitHubForge, alice: Account):
    """GitLab pauses webhooks whose deliveries failed, and tells nobody but who looks there."""
    hook = add(alice, name=github.name, token=FIRST)
    words = ("nothing came for long", "long ago: look into its webhook settings")
    for days, is_said in ((13, False), (15, True)):
        when = "UPDATE hooks SET delivered_at = NOW() - MAKE_INTERVAL(days => $2) WHERE id = $1"
        site.fetch(when, uuid.UUID(hook["id"]), days)

        listed = prpm(alice, site, "hook", "list")

        assert (words[0] in listed.stdout + listed.stderr) == is_said
        assert (words[1] in browser(site, alice).get("/account").text) == is_said


def test_token__one_thing_that_is_gone_is_no_refusal(site: Service, github: GitHubForge, alice: Account):
    hook = add(alice, name=github.name, token=FIRST)
    github.faults = [Fault(Answer(status=404), times=1000, path="/git/trees/")]

    push(site, github, hook)

    delivered = "SELECT FROM deliveries WHERE hook_id = $1 AND state <> 'received'"
    until(lambda: site.fetch(delivered, uuid.UUID(hook["id"])))
    assert "token_refused" not in shown(alice)


@pytest.mark.parametrize(
    ("case", "status", "code"),
    [("wrong", 400, "token_refused"), ("another place", 400, "token_of_another"), ("none before", 409, None)],
)
def test_replace__keeps_the_token_before_where_the_new_one_does_not_do(
    github: GitHubForge, alice: Account, case: str, status: int, code: str | None
):
    hook = add(alice, name=github.name, **({} if case == "none before" else {"token": FIRST}))
    given = {"wrong": "nothing"}.get(case, FIRST)
    if case == "another place":
        github.id += 1

    answer = alice.client.post(f"{HOOKS}/{hook['id']}/token", json={"token": given})

    assert (answer.status_code, answer.json()["code"]) == (status, code or "hook_without_token")
    assert shown(alice).get("token") == hook.get("token")


def test_replace__another_accounts_hook_is_not_there(site: Service, github: GitHubForge, alice: Account):
    hook = add(alice, name=github.name, token=FIRST)

    answer = site.an_account().client.post(f"{HOOKS}/{hook['id']}/token", json={"token": FIRST})

    assert (answer.status_code, answer.json()["code"]) == (404, "hook_not_found")
