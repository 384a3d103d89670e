"""Targets through the public doors: the API, the command, the operator, and a worker that delivers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from evals.models import Secret
from server.domain.errors import InvalidRequest
from server.services.notifying import Notifying, Wanted, add_target, reseal
from server.services.sealing import CannotOpen, Sealer
from server.settings import InvalidSettings, read_settings
from server.store import outbox
from server.store.migrations import migrate
from tests.changes import a_change
from tests.conftest import _execute, with_database
from tests.integration.test_api_jobs import a_snapshot, submit
from tests.outbox import SEALER, a_target, an_ended_job, deliver_due, outgoing, rows
from tests.packages import PASSING_SUITE
from tests.queue import an_account
from tests.service import SECRET_KEY, Account, Service, finished_job, in_loop, start_service
from tests.standins.notifiers.webhook import PATH, SECRET, Receiver
from tests.standins.slack import PATH as SLACK_PATH
from tests.standins.slack import Slack
from tests.standins.web import Answer, Fault

FAILING_SUITE = {"tests": [{"input": "hello", "assert": [{"type": "contains", "value": "no such word"}]}]}
TARGETS = "/api/v1/notify-targets"
TAIL = SLACK_PATH[-24:]


@pytest.fixture(scope="module")
def slack() -> Iterator[Slack]:
    with Slack().running() as running:
        yield running


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver().running() as running:
        yield running


@pytest.fixture(scope="module")
def telling(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, slack: Slack, receiver: Receiver
) -> Iterator[Service]:
    """A service that may reach the stand-ins."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=tmp_path_factory.mktemp("telling"),
        PRPM_NOTIFY_ALLOWED_ORIGINS=f"{slack.url},{receiver.url}",
        PRPM_PUBLIC_URL="https://testing.example",
    )


def add(account: Account, url: str, *, kind: str = "slack", **fields: object):
    return account.client.post(TARGETS, json={"kind": kind, "url": url, **fields})


def prpm(account: Account, service: Service, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The command as a user of this account runs it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PRPM_")},
        "PRPM_TOKEN": account.token,
        "PRPM_REGISTRY_URL": service.url,
    }
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip


def operator(service: Service, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.operator.main", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env={**service.environment, **settings},
    )  # fmt: skip


def settled(account: Account, target_id: str, *, seconds: float = 10) -> dict:
    """The target's newest notification once it does not wait any more."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = account.client.get(f"{TARGETS}/{target_id}/notifications").json()["notifications"]
        if found and found[0]["state"] != "pending":
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"still {found}")


def test_targets__a_failed_test_is_told_in_slack_within_seconds_and_shown_masked(telling: Service, slack: Slack):
    alice = telling.an_account()
    added = add(alice, slack.url + SLACK_PATH)
    assert added.status_code == 201
    target = added.json()
    slack.messages.clear()

    job_id = submit(alice, snapshot_id=a_snapshot(alice), suite=FAILING_SUITE).json()["job_id"]
    finished_job(alice, job_id)

    notification = settled(alice, target["id"])
    assert (notification["state"], notification["job_id"], notification["attempts"]) == ("sent", job_id, 1)
    assert len(slack.messages) == 1
    assert f"https://testing.example/jobs/{job_id}" in json.dumps(slack.messages)
    [shown] = alice.client.get(TARGETS).json()["targets"]
    assert shown["address"] == f"{slack.url}/…{SLACK_PATH[-4:]}"
    assert (shown["on"], shown["package"], shown["state"]) == ("changes", "*", "active")
    assert shown["last_notification"]["state"] == "sent"


def test_targets__a_webhook_gets_a_secret_that_is_shown_once(telling: Service, receiver: Receiver):
    alice = telling.an_account()

    target = add(alice, receiver.url + PATH, kind="webhook").json()

    assert target["secret"].startswith("whsec_")
    assert target["on"] == "always"
    [shown] = alice.client.get(TARGETS).json()["targets"]
    assert "secret" not in shown


def test_targets__L6_the_address_is_in_no_answer_log_or_row(telling: Service, slack: Slack, receiver: Receiver):
    alice = telling.an_account()
    answers = [add(alice, slack.url + SLACK_PATH), add(alice, receiver.url + PATH, kind="webhook", secret=SECRET)]
    ids = [answer.json()["id"] for answer in answers]
    slack.faults = [Fault(answer=Answer(status=400, body=b"invalid_payload"))]
    for target_id in ids:
        alice.client.post(f"{TARGETS}/{target_id}/test")
        settled(alice, target_id)
    answers += [
        add(alice, slack.url + SLACK_PATH),  # again
        add(alice, "https://evil.example" + SLACK_PATH),
        add(alice, slack.url + SLACK_PATH, kind="nonsense"),
        alice.client.get(TARGETS),
        *(alice.client.get(f"{TARGETS}/{target_id}/notifications") for target_id in ids),
    ]

    told = [answer.text.replace(SECRET, "", int("secret" in answer.json())) for answer in answers]
    told += [log.read_text() for log in telling.folder.glob("*.log")]
    told += [operator(telling, "outbox", *more).stdout for more in ((), ("list",), ("list", "--state", "pending"))]
    told += [
        str(list(row.values()))
        for table in ("notify_targets", "outbox", "told_states")
        for row in telling.fetch(f"SELECT * FROM {table}")
    ]
    for text in told:
        for secret in (TAIL, PATH, SECRET):
            assert secret not in text


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"kind": "slack", "url": "http://hooks.slack.com/services/T0/B0/xxxxxxxxxxxx"}, "https://"),
        ({"kind": "slack", "url": "https://receiver.example/x"}, "of another form than"),
        ({"kind": "telegraph", "url": "https://receiver.example/x"}, "Choose one of: discord, slack, webhook"),
        ({"kind": "github", "url": "https://api.github.com/"}, "Choose one of"),
        ({"kind": "webhook", "url": "https://169.254.169.254/x"}, "public host name"),
        ({"kind": "webhook", "url": "https://localhost/x"}, "public host name"),
        ({"kind": "webhook", "url": "https://receiver.example/x", "on": "sometimes"}, "changes, failures, always"),
        ({"kind": "webhook", "url": "https://receiver.example/x", "package": "a b'"}, "package:"),
        ({"kind": "webhook", "url": "https://receiver.example/x", "secret": "short"}, "whsec_"),
        ({"kind": "webhook", "url": "https://receiver.example/x", "tier": "pro"}, "tier"),
        ({"kind": "webhook"}, "url"),
    ],
)
def test_targets__what_cannot_be_used_is_refused_with_what_to_do_and_nothing_is_kept(
    telling: Service, body: dict[str, str], says: str
):
    alice = telling.an_account()

    answer = alice.client.post(TARGETS, json=body)

    assert answer.status_code == 400
    assert says in answer.text
    assert alice.client.get(TARGETS).json() == {"targets": []}


def test_targets__slack_signs_nothing(telling: Service, slack: Slack):
    alice = telling.an_account()

    assert "signs nothing" in add(alice, slack.url + SLACK_PATH, secret=SECRET).json()["error"]


def test_targets__the_same_twice_is_one(telling: Service, slack: Slack):
    alice = telling.an_account()
    first = add(alice, slack.url + SLACK_PATH).json()

    again = add(alice, slack.url + SLACK_PATH)

    assert (again.status_code, again.json()["code"]) == (409, "target_exists")
    assert first["id"] in again.json()["error"]
    assert add(alice, slack.url + SLACK_PATH, package="@acme/*").status_code == 201
    assert add(telling.an_account(), slack.url + SLACK_PATH).status_code == 201


def test_targets__A12_anothers_are_not_there(telling: Service, slack: Slack):
    alice, bob = telling.an_account(), telling.an_account()
    target_id = add(alice, slack.url + SLACK_PATH).json()["id"]

    for asked in (target_id, str(uuid.uuid4()), "nonsense", "%00"):
        answers = [
            bob.client.delete(f"{TARGETS}/{asked}"),
            bob.client.post(f"{TARGETS}/{asked}/test"),
            bob.client.post(f"{TARGETS}/{asked}/resume"),
            bob.client.get(f"{TARGETS}/{asked}/notifications"),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert {answer.json()["code"] for answer in answers} == {"target_not_found"}
    assert bob.client.get(TARGETS).json() == {"targets": []}
    assert telling.visitor().get(TARGETS).status_code == 401
    assert len(alice.client.get(TARGETS).json()["targets"]) == 1


def test_targets__removed_is_told_nothing_more(telling: Service, slack: Slack):
    alice = telling.an_account()
    target_id = add(alice, slack.url + SLACK_PATH, on="always").json()["id"]
    slack.messages.clear()

    assert alice.client.delete(f"{TARGETS}/{target_id}").status_code == 204

    job_id = submit(alice, snapshot_id=a_snapshot(alice), suite=PASSING_SUITE).json()["job_id"]
    finished_job(alice, job_id)
    assert telling.fetch("SELECT 1 FROM outbox WHERE job_id = $1", uuid.UUID(job_id)) == []
    assert slack.messages == []
    assert alice.client.delete(f"{TARGETS}/{target_id}").status_code == 404


def test_targets__of_an_organisation_are_its_admins(telling: Service, slack: Slack):
    owner, member, stranger = (telling.an_account() for _ in range(3))
    org = f"org-{uuid.uuid4().hex[:8]}"
    made = operator(telling, "org", "create", org, "--owner", owner.username, "--tier", "plus")
    assert made.returncode == 0, made.stderr
    joined = operator(telling, "org", "member", "add", org, member.username, "--role", "member")
    assert joined.returncode == 0, joined.stderr
    body = {"kind": "slack", "url": slack.url + SLACK_PATH}

    added = owner.client.post(TARGETS, json=body, params={"account": org})

    assert added.status_code == 201
    assert member.client.post(TARGETS, json=body, params={"account": org}).status_code == 403
    assert stranger.client.post(TARGETS, json=body, params={"account": org}).status_code == 404
    assert stranger.client.get(TARGETS, params={"account": org}).status_code == 404
    assert len(member.client.get(TARGETS, params={"account": org}).json()["targets"]) == 1
    assert owner.client.get(TARGETS).json() == {"targets": []}
    listed = prpm(owner, telling, "notify", "list", "--org", org)
    assert added.json()["id"] in listed.stdout


def test_targets__have_an_end(telling: Service, receiver: Receiver):
    alice = telling.an_account()

    codes = [add(alice, f"{receiver.url}/{n}", kind="webhook").status_code for n in range(51)]

    assert codes == [201] * 50 + [429]


def test_job__names_who_comments_and_marks_it(telling: Service):
    alice = telling.an_account()
    change = {
        "forge": "github", "repository": "acme/prompts", "repository_id": 4711, "ref": "feature", "pull_request": 12,
    }  # fmt: skip
    package = a_snapshot(alice)
    jobs = [
        submit(alice, snapshot_id=package, suite=PASSING_SUITE, change={**change, "head_sha": sha * 40, **more}).json()
        for sha, more in (("a", {}), ("b", {}), ("c", {"pull_request": 13}))
    ]

    reports = [alice.client.get(f"/api/v1/test-jobs/{job['job_id']}").json()["report"] for job in jobs]

    assert [report["reporter"] for report in reports] == ["action"] * 3
    assert len(reports[0]["marker"]) == 64
    # What came before may stand there already, as jobs end while others are submitted.
    markers = [report["marker"] for report in reports]
    assert markers[0] == markers[1] != markers[2]
    plain = submit(alice, snapshot_id=package, suite=PASSING_SUITE, force=True).json()["job_id"]
    assert "report" not in alice.client.get(f"/api/v1/test-jobs/{plain}").json()

    telling.fetch("INSERT INTO reported_repositories VALUES ('github', 4711, $1)", alice.id)
    shown = alice.client.get(f"/api/v1/test-jobs/{jobs[0]['job_id']}").json()["report"]
    assert shown == {"marker": reports[0]["marker"], "reporter": "app"}


def test_notifications__leave_from_the_api_where_workers_may_not(
    admin_dsn: str, redis_url: str, tmp_path: Path, slack: Slack
):
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    service = start_service(
        dsn=dsn, redis_url=redis_url, folder=tmp_path, PRPM_NOTIFY_ALLOWED_ORIGINS=slack.url, PRPM_NOTIFY_FROM="api"
    )
    with contextlib.contextmanager(lambda: service)() as running:
        alice = running.an_account()
        target_id = add(alice, slack.url + SLACK_PATH).json()["id"]
        alice.client.post(f"{TARGETS}/{target_id}/test")

        assert settled(alice, target_id)["state"] == "sent"
        assert "notification settled" in (tmp_path / "api.log").read_text()
        assert "notification settled" not in (tmp_path / "worker.log").read_text()


# The command.


def test_command__adds_tests_lists_and_removes(telling: Service, slack: Slack):
    alice = telling.an_account()

    added = prpm(alice, telling, "notify", "add", "slack", "-", "--package", "@acme/*", stdin=slack.url + SLACK_PATH)
    assert (added.returncode, added.stderr) == (0, "")
    assert f"🔔 {slack.url}/…{SLACK_PATH[-4:]} is told of @acme/*, changes." in added.stdout
    [target] = json.loads(prpm(alice, telling, "notify", "list", "--json").stdout)["targets"]

    tested = prpm(alice, telling, "notify", "test", target["id"])
    assert (tested.returncode, tested.stdout.strip()) == (0, "✅ The message arrived.")
    assert slack.messages[-1]["text"] == "✅ This target works"

    listed = prpm(alice, telling, "notify", "list").stdout
    assert target["id"] in listed
    assert "last message: sent" in listed
    assert prpm(alice, telling, "notify", "remove", target["id"]).returncode == 0
    assert "nobody yet" in prpm(alice, telling, "notify", "list").stdout
    missing = prpm(alice, telling, "notify", "remove", target["id"])
    assert missing.returncode == 2
    assert "There is no such target" in missing.stderr


def test_command__says_why_a_message_did_not_arrive_and_how_to_go_on(telling: Service, slack: Slack):
    alice = telling.an_account()
    target_id = json.loads(prpm(alice, telling, "notify", "add", "slack", slack.url + SLACK_PATH, "--json").stdout)[
        "id"
    ]
    slack.faults = [Fault(answer=Answer(status=404, body=b"no_service"))]

    tested = prpm(alice, telling, "notify", "test", target_id)

    assert tested.returncode == 1
    assert "Slack does not know this webhook any more (no_service). Make a new one." in tested.stderr
    listed = prpm(alice, telling, "notify", "list").stdout
    assert "⛔ stopped: Slack does not know this webhook any more" in listed
    stopped = prpm(alice, telling, "notify", "test", target_id)
    assert (stopped.returncode, "Resume it first" in stopped.stderr) == (2, True)
    assert prpm(alice, telling, "notify", "resume", target_id).returncode == 0
    assert prpm(alice, telling, "notify", "test", target_id).returncode == 0


# The operator.


def test_operator__sees_what_is_dead_and_tells_it_again(telling: Service, receiver: Receiver):
    alice = telling.an_account()
    target_id = add(alice, receiver.url + PATH, kind="webhook", secret=SECRET).json()["id"]
    receiver.faults = [Fault(answer=Answer(status=400))]
    alice.client.post(f"{TARGETS}/{target_id}/test")
    dead = settled(alice, target_id)
    assert (dead["state"], dead["http_status"]) == ("dead", 400)

    shown = operator(telling, "outbox", "list").stdout
    assert f"{dead['id']}  {alice.username}  webhook" in shown
    assert "webhook    dead" in operator(telling, "outbox").stdout

    replayed = operator(telling, "outbox", "replay", "--target", target_id)
    assert replayed.stdout.strip() == "1 notification will be tried again."
    assert settled(alice, target_id)["state"] == "sent"
    assert operator(telling, "outbox", "replay").returncode == 2


# Keys.


async def test_keys__are_rotated_without_losing_a_target(db: asyncpg.Pool):
    alice = await an_account(db)
    old, new = "the old key of sixteen", "the new key of sixteen"
    with Receiver().running() as receiver:
        allowed = frozenset({receiver.url})
        first = Notifying(db=db, sealer=Sealer(Secret(old)), allowed_origins=allowed)
        await add_target(first, alice, Wanted(kind="webhook", url=receiver.url + PATH, secret=SECRET))

        both = Sealer(Secret(f"{new},{old}"))
        assert await reseal(Notifying(db=db, sealer=both)) == (1, 0)
        assert await reseal(Notifying(db=db, sealer=both)) == (1, 0)

        await an_ended_job(db, alice)
        await deliver_due(db, outgoing(receiver.url, sealer=Sealer(Secret(new))))
        assert await rows(db) == [("job", "sent", 1)]
        assert await reseal(Notifying(db=db, sealer=Sealer(Secret(old)))) == (0, 1)


def test_keys__markers_stay_while_a_key_is_replaced():
    old, both = Sealer(Secret("old key old key")), Sealer(Secret("new key new key, old key old key"))

    def marker(sealer: Sealer, **changes: object) -> str:
        return sealer.marker(a_change(**changes), package="p", suite_name="default")

    assert marker(old) == marker(both) != marker(old, pull_request=13)
    assert marker(old) != marker(old, repository_id=8) != marker(old, forge="gitlab")
    assert marker(old) == marker(old, head_sha="2" * 40)


async def test_keys__a_row_cannot_show_anothers_address(db: asyncpg.Pool):
    alice = await an_account(db)
    ids = [await a_target(db, alice, f"https://receiver.example/{n}") for n in range(2)]

    sealed = await db.fetchval("SELECT sealed FROM notify_targets WHERE id = $1", ids[0])

    assert SEALER.open(ids[0], sealed).url == "https://receiver.example/0"
    with pytest.raises(CannotOpen):
        SEALER.open(ids[1], sealed)
    with pytest.raises(CannotOpen):
        Sealer(Secret("another key for tests")).open(ids[0], sealed)


async def test_keys__without_one_nothing_secret_is_kept_and_jobs_go_on(db: asyncpg.Pool):
    alice = await an_account(db)
    await a_target(db, alice, "https://receiver.example/x")
    await an_ended_job(db, alice)

    await deliver_due(db, outgoing(sealer=None))

    assert await rows(db) == [("job", "pending", 1)]
    reason = await db.fetchval("SELECT last_error FROM outbox")
    assert reason == "The operator has to set PRPM_SECRET_KEY: addresses cannot be opened."


async def test_target__S2_whose_name_leads_inside_is_refused_when_it_is_added(db: asyncpg.Pool):
    alice = await an_account(db)
    site = Notifying(db=db, sealer=SEALER)

    with pytest.raises(InvalidRequest, match="not on the public internet"):
        await add_target(site, alice, Wanted(kind="webhook", url="https://inner.example/x"), look_up=inside)

    assert await outbox.count_outbox(db) == []


async def inside(host: str) -> list[str]:
    return ["10.0.0.1"]


@pytest.mark.parametrize(
    "settings",
    [
        {"PRPM_SECRET_KEY": "short"},
        {"PRPM_SECRET_KEY": f"{SECRET_KEY},"},
        {"PRPM_NOTIFY_ALLOWED_ORIGINS": "https://chat.example/path"},
        {"PRPM_NOTIFY_ALLOWED_ORIGINS": "chat.example"},
        {"PRPM_NOTIFY_FROM": "nowhere"},
        {"PRPM_NOTIFY_ALLOWED_ORIGINS": "https://chat.example,*"},
    ],
)
def test_settings__that_cannot_hold_are_refused(settings: dict[str, str]):
    with pytest.raises(InvalidSettings, match=next(iter(settings))):
        read_settings(settings)


def test_settings__allowed_origins_are_exact_and_lower_case():
    read = read_settings({"PRPM_NOTIFY_ALLOWED_ORIGINS": "https://Chat.example:8443, http://127.0.0.1:1"})

    assert read.notify_allowed_origins == {"https://chat.example:8443", "http://127.0.0.1:1"}
