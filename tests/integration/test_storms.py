"""Q15: a thousand pushes. One job for each head that was there when somebody looked, and the newest one waits for none
of the others."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx
import pytest

from server.services.handling import AT_ONCE
from tests.forge_stories import SECRET, Story, a_package, a_story, forge_service
from tests.service import Service
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge
from tests.webhooks import a_payload, encoded, github_headers, gitlab_headers

PUSHES = 1000
SENDERS = 4
PULLS = 20
TURNS = 22  # with some three deliveries of most pull requests each
# From its push to its job: one look at the forge is good for two seconds, and this machine may be busy.
NEWEST_SECONDS = 10.0
# The forge that hangs would take a minute.
ANOTHERS_SECONDS = 10.0
GITLAB_SECRET = "a gitlab secret of storms"
WHOLE_SERVICE = "whole-service"
# Takes some time on the model `slow`, so that a newer head finds the older one's job waiting or running.
SUITE = "tests:\n- input: hello\n  assert: [{type: contains, value: hello}]\n"


@pytest.fixture(scope="module")
def stormy(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, GitHubForge]]:
    """A service of its own, as its inbox is full for a while. Its rates are the usual ones, and its GitLab hangs."""
    released = threading.Event()
    with GitLabForge().running() as gitlab:
        gitlab.before_answer = lambda _: released.wait(300)
        yield from forge_service(
            admin_dsn,
            redis_url,
            tmp_path_factory.mktemp("storm"),
            PRPM_GITLAB_URL=gitlab.url,
            PRPM_GITLAB_TOKEN=gitlab.token,
            PRPM_GITLAB_WEBHOOK_SECRET=GITLAB_SECRET,
            PRPM_WEBHOOK_ACCOUNT=WHOLE_SERVICE,
        )
        released.set()


@pytest.fixture
def story(stormy: tuple[Service, GitHubForge]) -> Iterator[Story]:
    made = a_story(*stormy)
    made.forge.forget_reports()
    made.forge.repository.commit({".prpm-testing.yml": b"models: [slow]\ncomment: always"}, branch="main")
    yield made
    assert made.forge.violations == []


class Sender:
    """Delivers what GitHub would, from several connections at once."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._clients = [httpx.Client(base_url=story.service.url, trust_env=False, timeout=30) for _ in range(SENDERS)]
        self._payload = a_payload("github/pull_request.opened", action="synchronize", **story.about())

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    def body(self, head: str, *, number: int, at: int) -> bytes:
        """`at`: seconds on the forge's clock."""
        pull = self._story.forge.pulls[number]
        shown = self._payload["pull_request"] | {
            "number": number, "head": {**pull["head"], "sha": head}, "base": pull["base"], "draft": False,
            "updated_at": moment(at),
        }  # fmt: skip
        return encoded(self._payload | {"pull_request": shown})

    def deliver(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """Each under its name, in about this order."""

        def some(which: int) -> None:
            for name, body in bodies[which::SENDERS]:
                headers = github_headers(body, secret=SECRET, delivery=name)
                answer = self._clients[which].post("/webhooks/github", content=body, headers=headers)
                assert answer.status_code == 202, answer.text

        with ThreadPoolExecutor(SENDERS) as threads:
            list(threads.map(some, range(SENDERS)))


def moment(at: int) -> str:
    return f"2026-11-23T{10 + at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}Z"


def push(story: Story, text: str, *, on: str, base: str, number: int = 12, at: int) -> str:
    """A head on top of another one, which the pull request has from now on."""
    head = story.commit({"prompt.md": text.encode()}, on=on)
    with story.forge.lock:
        story.propose(head, base, number=number, updated_at=moment(at))
    return head


def test_storm__Q15_a_thousand_pushes_to_one_pull_request(story: Story):
    """More than the rate of a minute, so that the last ones' own deliveries wait for most of another one."""
    base = story.forge.repository.branches["main"]
    heads = [story.commit(a_package("one", suite=SUITE), on=base)]
    story.propose(heads[0], base, updated_at=moment(0))
    with Sender(story) as sender:
        for start in range(0, PUSHES, 20):
            some = []
            for number in range(start, start + 20):
                heads.append(push(story, f"Text {number}.", on=heads[-1], base=base, at=number // 50))
                some.append((str(uuid.uuid4()), sender.body(heads[-1], number=12, at=number // 50)))
            last_push = time.time()
            sender.deliver(some)

    newest = job_of(story, heads[-1], seconds=30)

    assert waiting(story) > 100
    assert newest["created_at"].timestamp() - last_push < NEWEST_SECONDS
    handle_all(story)
    holds(story, heads={12: heads})
    # A head that was replaced is asked about once a while, and its files are fetched seldom.
    asked = Counter(kind_of(seen.path) for seen in story.forge.log)
    assert asked["pulls"] < PUSHES
    assert asked["trees"] < PUSHES / 4


def test_storm__Q15_a_thousand_deliveries_for_twenty_pull_requests_in_any_order(story: Story):
    """Heads are delivered up to five times, under the same name or another one, late, and in any order."""
    chance = Random(15)  # noqa: S311 -- an order, no secret
    base = story.forge.repository.branches["main"]
    heads: dict[int, list[str]] = {}
    late: list[tuple[str, bytes]] = []
    sent = 0
    with Sender(story) as sender:
        for turn in range(TURNS):
            now = late
            for number in range(12, 12 + PULLS):
                if turn and chance.random() < 0.2:
                    continue
                files = a_package(f"package-{number}", suite=SUITE) if turn == 0 else {"prompt.md": b"Turn %d." % turn}
                with story.forge.lock:
                    before = heads.setdefault(number, [base])[-1]
                    heads[number].append(story.forge.repository.commit(files, parent=before))
                    story.propose(heads[number][-1], base, number=number, updated_at=moment(turn))
                body = sender.body(heads[number][-1], number=number, at=turn)
                names = [str(uuid.uuid4()) for _ in range(chance.randint(1, 3))]
                now += [(chance.choice(names), body) for _ in range(chance.randint(1, 5))]
            chance.shuffle(now)
            keep = len(now) if turn == TURNS - 1 else len(now) * 3 // 4
            now, late = now[:keep], now[keep:]
            sender.deliver(now)
            sent += len(now)

    handle_all(story)

    assert sent >= 1000
    holds(story, heads={number: of_pull[1:] for number, of_pull in heads.items()})


def test_storm__Q15_never_passes_the_tiers_quota(story: Story):
    """Six runs are left for twenty pull requests: what is given back is run again, and the rest is told why not."""
    story.service.fetch(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count)"
        " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 94)",
        story.account.id,
    )
    base = story.forge.repository.branches["main"]
    heads: dict[int, list[str]] = {}
    with Sender(story) as sender:
        for turn in range(3):
            some = []
            for number in range(12, 12 + PULLS):
                files = a_package(f"package-{number}", suite=SUITE) if turn == 0 else {"prompt.md": b"Turn %d." % turn}
                with story.forge.lock:
                    before = heads.setdefault(number, [base])[-1]
                    heads[number].append(story.forge.repository.commit(files, parent=before))
                    story.propose(heads[number][-1], base, number=number, updated_at=moment(turn))
                some.append((str(uuid.uuid4()), sender.body(heads[number][-1], number=number, at=turn)))
            sender.deliver(some)

    handle_all(story)

    assert len(ledger(story)) >= 6
    most = 94
    for left in itertools.accumulate((entry["runs"] for entry in ledger(story)), initial=94):
        most = max(most, left)
    assert most == 100
    tested = {job["change"]["head_sha"] for job in ended_jobs(story)}
    for number, of_pull in heads.items():
        if of_pull[-1] not in tested:
            assert story.check(of_pull[-1], f"prpm / package-{number} / default")[:2] == (
                "neutral", "The tests were not run",
            )  # fmt: skip


def test_inbox__a_forge_that_accepts_and_never_answers_holds_up_no_other_forge(story: Story):
    """A hundred deliveries of GitLab projects wait for a server that hangs; then a change is proposed on GitHub."""
    story.service.fetch(
        "INSERT INTO users (username, subscription_tier) VALUES ($1, 'plus') ON CONFLICT DO NOTHING", WHOLE_SERVICE
    )
    visitor = story.service.visitor()
    for number in range(1, 101):
        project = {"id": number, "path_with_namespace": f"acme/slow-{number}", "default_branch": "main"}
        body = encoded(a_payload("gitlab/merge_request", project=project))
        headers = gitlab_headers(body, token=GITLAB_SECRET)
        assert visitor.post("/webhooks/gitlab", content=body, headers=headers).status_code == 202
    base = story.forge.repository.branches["main"]
    head = story.commit({"notes.txt": b"x"}, on=base)
    story.propose(head, base)
    began = time.monotonic()

    ended = story.ended(story.tell_of(head))

    seconds = time.monotonic() - began
    assert ended == ("handled", "No package is touched by this change, so there is nothing to test.")
    assert story.check(head)[0] == "neutral"
    (row,) = story.service.fetch(
        "SELECT COUNT(*) FILTER (WHERE lease_until > NOW()) AS held, COUNT(*) AS waiting FROM deliveries"
        " WHERE source = 'gitlab' AND state = 'received'"
    )
    assert row["waiting"] == 100
    assert 0 < row["held"] <= AT_ONCE
    assert seconds < ANOTHERS_SECONDS, seconds
    story.service.fetch("DELETE FROM deliveries WHERE source = 'gitlab'")


def holds(story: Story, *, heads: Mapping[int, Sequence[str]]) -> None:
    """What is promised, when all is quiet. `heads`: of each pull request, in their order."""
    jobs = ended_jobs(story)
    tested = Counter(job["change"]["head_sha"] for job in jobs)
    assert tested.keys() <= {head for of_pull in heads.values() for head in of_pull}
    assert set(tested.values()) == {1}
    for number, of_pull in heads.items():
        mine = [job for job in jobs if job["change"]["pull_request"] == number]
        places = [of_pull.index(job["change"]["head_sha"]) for job in mine]
        assert places == sorted(places), "a head was submitted after a newer one"
        assert (mine[-1]["change"]["head_sha"], mine[-1]["conclusion"]) == (of_pull[-1], "passed")
        assert mine[-1]["superseded_by"] is None
        for job in mine[:-1]:
            assert job["superseded_by"] is not None or job["conclusion"] == "passed"
    story.settle(seconds=60)
    with story.forge.lock:
        for number, of_pull in heads.items():
            assert len(story.forge.reported.ours(pull=number)) == 1
            checks = story.forge.checks(of_pull[-1])
            assert checks
            assert {run["status"] for run in checks.values()} == {"completed"}
    accounts_are_right(story, jobs)


def accounts_are_right(story: Story, jobs: Sequence[dict[str, Any]]) -> None:
    """One charge a job, one refund for each that was replaced before it had a verdict, and the month is their sum."""
    entries = Counter((entry["job_id"], entry["kind"]) for entry in ledger(story))
    given_back = {job["id"] for job in jobs if job["status"] == "failed" and job["error_code"] == "superseded"}
    assert entries == Counter({(job["id"], "charge"): 1 for job in jobs} | {(one, "refund"): 1 for one in given_back})
    assert story.charges() == len(jobs) - len(given_back)
    used = list(itertools.accumulate(entry["runs"] for entry in ledger(story)))
    assert 0 <= min(used) <= max(used) <= 100


def ledger(story: Story) -> list[dict[str, Any]]:
    """The account's entries in their order."""
    rows = story.service.fetch("SELECT * FROM usage_ledger WHERE user_id = $1 ORDER BY id", story.account.id)
    return [dict(row) for row in rows]


def ended_jobs(story: Story, *, seconds: float = 90) -> list[dict[str, Any]]:
    """All of them, once none waits or runs."""
    return story.jobs_ended(len(story.jobs()), seconds=seconds)


def waiting(story: Story) -> int:
    (row,) = story.service.fetch("SELECT COUNT(*) AS n FROM deliveries WHERE state = 'received'")
    return int(row["n"])


def handle_all(story: Story, *, seconds: float = 90) -> None:
    """No delivery waits. Those beyond the rate, and those that are to be tried again, are due at once."""
    deadline = time.monotonic() + seconds
    while waiting(story):
        assert time.monotonic() < deadline
        story.service.fetch(
            "UPDATE deliveries SET next_at = NOW() WHERE state = 'received' AND lease_until IS NULL AND next_at > NOW()"
        )
        time.sleep(0.2)


def job_of(story: Story, head: str, *, seconds: float) -> dict[str, Any]:
    """The head's job, once it is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = [job for job in story.jobs() if job["change"]["head_sha"] == head]
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(waiting(story))


def kind_of(path: str) -> str:
    return next((kind for kind in ("pulls", "trees", "blobs", "compare") if f"/{kind}/" in path), "other")
