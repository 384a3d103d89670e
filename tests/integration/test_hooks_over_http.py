"""Webhooks of their own, from `prpm hook add` to the delivery: addresses, secrets, rotation, who may do what."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.service import Account, Service, in_loop, start_service
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge
from tests.webhooks import a_payload, encoded, github_headers, gitlab_headers

HOOKS = "/api/v1/hooks"
TOKEN = "github_pat_" + "b" * 40
BODY = encoded(a_payload("github/pull_request.opened"))


@pytest.fixture(scope="module")
def github() -> Iterator[GitHubForge]:
    forge = GitHubForge()
    forge.fine_grained = {TOKEN: "ann"}
    forge.administrators = {"ann"}
    with forge.running() as running:
        yield running


@pytest.fixture(scope="module")
def gitlab() -> Iterator[GitLabForge]:
    with GitLabForge().running() as running:
        yield running


@pytest.fixture(scope="module")
def door(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, github: GitHubForge, gitlab: GitLabForge
) -> Iterator[Service]:
    """A service whose forges are the stand-ins, and that has no secret for a source's own address."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=tmp_path_factory.mktemp("hooks"),
        PRPM_GITHUB_API_URL=github.url,
        PRPM_GITLAB_URL=gitlab.url,
        PRPM_PUBLIC_URL="https://testing.example",
    )


def a_name() -> str:
    return f"acme/r{uuid.uuid4().hex[:10]}"


def add(account: Account, *, forge: str = "github", name: str | None = None, query: str = "", **fields: object) -> dict:
    answer = account.client.post(HOOKS + query, json={"forge": forge, "name": name or a_name(), **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def deliver(service: Service, hook: dict, *, secret: str | None = None, body: bytes = BODY, **headers: str):
    path = hook["url"].removeprefix("https://testing.example")
    signed = github_headers(body, secret=secret or hook["secret"]) | headers
    return service.visitor().post(path, content=body, headers=signed)


def kept(service: Service, hook: dict) -> list[dict]:
    return [dict(row) for row in service.fetch("SELECT * FROM deliveries WHERE hook_id = $1", uuid.UUID(hook["id"]))]


def prpm(account: Account, service: Service, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PRPM_")},
        "PRPM_TOKEN": account.token,
        "PRPM_REGISTRY_URL": service.url,
    }
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip


def test_hook__its_deliveries_are_kept_under_its_own_name(door: Service):
    hook = add(door.an_account())

    answer = deliver(door, hook)

    assert (answer.status_code, answer.json()) == (202, {"accepted": True})
    [row] = kept(door, hook)
    assert (row["source"], row["body"]) == ("github", BODY)


def test_hook__W6_equal_ids_of_two_hooks_are_two_deliveries(door: Service):
    """Whoever has a hook chooses its deliveries' ids: they must not keep out another hook's."""
    one, other = add(door.an_account()), add(door.an_account())

    for hook in (one, other, one):
        assert deliver(door, hook, **{"X-GitHub-Delivery": "the same"}).status_code == 202

    assert (len(kept(door, one)), len(kept(door, other))) == (1, 1)


def test_attack__the_secret_of_one_hook_opens_no_other(door: Service):
    victim, attacker = add(door.an_account()), add(door.an_account())

    answer = deliver(door, victim, secret=attacker["secret"])

    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert kept(door, victim) == []


def test_W5_unknown_and_removed_hooks_answer_as_an_address_that_is_not_set_up(door: Service):
    alice = door.an_account()
    removed, live = add(alice), add(alice)
    assert alice.client.delete(f"{HOOKS}/{removed['id']}").status_code == 204
    never = {**removed, "url": f"https://testing.example/webhooks/github/{uuid.uuid4()}"}
    no_id = {**removed, "url": "https://testing.example/webhooks/github/nothing"}
    other_source = {**live, "url": live["url"].replace("/github/", "/gitlab/")}
    not_set_up = {**removed, "url": "https://testing.example/webhooks/github"}

    answers = [deliver(door, hook) for hook in (removed, never, no_id, other_source, not_set_up)]

    assert {(answer.status_code, answer.text) for answer in answers} == {
        (404, '{"error":"No webhook is set up at this address.","code":"not_configured"}')
    }


def test_W5_unknown_and_removed_hooks_take_the_same_time(door: Service):
    alice = door.an_account()
    removed = add(alice)
    alice.client.delete(f"{HOOKS}/{removed['id']}")
    never = {**removed, "url": f"https://testing.example/webhooks/github/{uuid.uuid4()}"}
    took: dict[str, list[float]] = {"removed": [], "never": []}

    for _ in range(20):
        for name, hook in (("removed", removed), ("never", never)):
            began = time.perf_counter()
            deliver(door, hook)
            took[name].append(time.perf_counter() - began)

    fastest = {name: min(seconds) for name, seconds in took.items()}
    assert abs(fastest["removed"] - fastest["never"]) < 0.02


def test_W9_rotation__both_secrets_hold_for_a_day_and_then_the_new_one(door: Service):
    alice = door.an_account()
    hook = add(alice)

    rotated = alice.client.post(f"{HOOKS}/{hook['id']}/rotate").json()

    assert rotated["secret"] != hook["secret"]
    assert deliver(door, hook).status_code == deliver(door, rotated).status_code == 202
    [listed] = alice.client.get(HOOKS).json()["hooks"]
    assert listed["old_secret_until"] == rotated["old_secret_until"]
    door.fetch("UPDATE hooks SET old_until = NOW() WHERE id = $1", uuid.UUID(hook["id"]))
    assert deliver(door, hook).status_code == 401
    assert deliver(door, rotated).status_code == 202
    assert "old_secret_until" not in alice.client.get(HOOKS).json()["hooks"][0]


def test_W9_rotation__twice_leaves_the_last_two(door: Service):
    alice = door.an_account()
    first = add(alice)
    second = alice.client.post(f"{HOOKS}/{first['id']}/rotate").json()
    third = alice.client.post(f"{HOOKS}/{first['id']}/rotate").json()

    assert [deliver(door, hook).status_code for hook in (first, second, third)] == [401, 202, 202]


def test_W21_gitlab__a_hook_is_held_to_its_signature_and_never_goes_down_to_a_token(door: Service):
    alice = door.an_account()
    signing = add(alice, forge="gitlab")
    body = encoded(a_payload("gitlab/merge_request"))
    path = signing["url"].removeprefix("https://testing.example")

    def send(path: str, **headers: str | None) -> int:
        return door.visitor().post(path, content=body, headers=gitlab_headers(body, **headers)).status_code

    assert signing["secret"].startswith("whsec_")
    assert send(path, signing=signing["secret"]) == 202
    assert send(path, token=signing["secret"]) == 401
    other = add(alice, forge="gitlab")
    assert send(path, signing=other["secret"], token=signing["secret"]) == 401

    plain = add(alice, forge="gitlab", plain_token=True)
    path = plain["url"].removeprefix("https://testing.example")
    assert not plain["secret"].startswith("whsec_")
    assert send(path, token=plain["secret"]) == 202
    assert send(path, token="x" * len(plain["secret"])) == 401


def test_W10_W12_the_same_is_refused_as_at_the_sources_address(door: Service):
    hook = add(door.an_account())

    assert deliver(door, hook, **{"Content-Type": "text/plain"}).status_code == 415
    assert deliver(door, hook, **{"Content-Encoding": "gzip"}).status_code == 415
    assert deliver(door, hook, **{"X-Hub-Signature-256": ""}).status_code == 401
    assert kept(door, hook) == []


def test_hook__its_last_delivery_is_shown(door: Service):
    alice = door.an_account()
    hook = add(alice)
    assert "last_delivery_at" not in alice.client.get(HOOKS).json()["hooks"][0]
    deliver(door, hook, secret="wrong")
    assert "last_delivery_at" not in alice.client.get(HOOKS).json()["hooks"][0]

    deliver(door, hook, **{"X-GitHub-Event": "ping"})

    assert "last_delivery_at" in alice.client.get(HOOKS).json()["hooks"][0]


def test_api__shows_a_secret_once_and_a_token_never(door: Service):
    alice = door.an_account()
    hook = add(alice, name="acme/prompts", token=TOKEN)

    listed = alice.client.get(HOOKS).text

    assert hook["token"] == "github_pat_…bbbb"
    assert hook["repository_id"] == 77
    assert hook["events"] == ["Pull requests", "Pushes", "Issue comments", "Repositories"]
    assert hook["secret"] not in listed
    assert TOKEN not in listed + str(hook)
    alice.client.delete(f"{HOOKS}/{hook['id']}")


def test_api__another_accounts_hook_is_not_there(door: Service):
    alice, mallory = door.an_account(), door.an_account()
    hook = add(alice)

    refusals = [
        mallory.client.post(f"{HOOKS}/{hook['id']}/rotate"),
        mallory.client.delete(f"{HOOKS}/{hook['id']}"),
        mallory.client.delete(f"{HOOKS}/{uuid.uuid4()}"),
        mallory.client.delete(f"{HOOKS}/nothing"),
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in refusals} == {(404, "hook_not_found")}
    assert mallory.client.get(HOOKS).json() == {"hooks": []}
    assert deliver(door, hook).status_code == 202


def test_api__a_token_that_is_for_less_changes_nothing(door: Service):
    import asyncpg

    from server.services.identity import issue_token

    alice = door.an_account()

    async def make(scope: str) -> str:
        pool = await asyncpg.create_pool(door.dsn, min_size=0, max_size=1)
        try:
            return (await issue_token(pool, alice.username, name="small", scopes=[scope])).token
        finally:
            await pool.close()

    for scope, may_list, may_add in (("run", 403, 403), ("read", 200, 403), ("administer", 200, 201)):
        headers = {"Authorization": f"Bearer {in_loop(make(scope))}"}
        visitor = door.visitor()
        assert visitor.get(HOOKS, headers=headers).status_code == may_list, scope
        asked = {"forge": "github", "name": a_name()}
        assert visitor.post(HOOKS, json=asked, headers=headers).status_code == may_add, scope
    assert door.visitor().get(HOOKS).status_code == 401


def test_api__a_forge_that_is_away_is_a_503_and_nothing_is_kept(door: Service, gitlab: GitLabForge):
    from tests.standins.web import Answer, Fault

    alice = door.an_account()
    gitlab.faults = [Fault(Answer(status=502), times=10)]

    answer = alice.client.post(HOOKS, json={"forge": "gitlab", "name": a_name(), "token": gitlab.token})

    gitlab.faults = []
    assert (answer.status_code, answer.json()["code"]) == (503, "forge_away")
    assert alice.client.get(HOOKS).json() == {"hooks": []}


def test_command__adds_lists_rotates_and_removes(door: Service):
    alice = door.an_account()

    added = prpm(alice, door, "hook", "add", "github", "acme/prompts", "--token-stdin", stdin=f"{TOKEN}\n")
    listed = prpm(alice, door, "hook", "list")
    [hook] = alice.client.get(HOOKS).json()["hooks"]
    rotated = prpm(alice, door, "hook", "rotate", hook["id"])
    removed = prpm(alice, door, "hook", "remove", hook["id"])
    empty = prpm(alice, door, "hook", "list")

    assert (added.returncode, listed.returncode, rotated.returncode, removed.returncode) == (0, 0, 0, 0), added.stderr
    said = [line.strip() for line in (added.stdout + added.stderr).splitlines()]
    assert "🪝 acme/prompts is tested from its first delivery on." in said
    assert f"URL:           https://testing.example/webhooks/github/{hook['id']}" in said
    assert "Content type:  application/json" in said
    everything = "".join(run.stdout + run.stderr for run in (added, listed, rotated, removed))
    assert TOKEN not in everything
    assert "github_pat_…bbbb, no delivery yet" in listed.stdout + listed.stderr
    assert "holds until" in rotated.stdout + rotated.stderr
    assert "No webhooks" in empty.stdout + empty.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        ((), "", "Say --token-stdin"),
        (("--token-stdin",), "", "Nothing came on stdin"),
        (("--token-stdin", "--no-token"), "x", "Choose one"),
        (("--token-stdin",), "wrong\n", "HTTP 401"),
    ],
)
def test_command__says_what_to_do(door: Service, arguments: tuple[str, ...], stdin: str, words: str):
    run = prpm(door.an_account(), door, "hook", "add", "github", "acme/prompts", *arguments, stdin=stdin)

    assert run.returncode == 2
    assert words in run.stderr


def test_logs__hold_neither_secrets_nor_tokens(door: Service):
    alice = door.an_account()
    hook = add(alice, name="acme/prompts", token=TOKEN)
    deliver(door, hook)
    alice.client.delete(f"{HOOKS}/{hook['id']}")

    logs = "".join(path.read_text() for path in door.folder.glob("*.log"))
    assert "hook added" in logs
    assert "hook removed" in logs
    assert hook["secret"] not in logs
    assert TOKEN not in logs
