"""Stories of forges: a service, a forge that it reads and reports to, and an account whose repository it is."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from server.services.installations import link_for_account
from server.store.migrations import migrate
from tests.links import access_to
from tests.service import Account, Service, in_loop, start_service
from tests.standins.github_app import APP_ID, PRIVATE_KEY
from tests.standins.github_forge import GitHubForge
from tests.standins.repository import Content, Repository
from tests.webhooks import a_payload, encoded, github_headers

SECRET = "a github secret of these stories"
SUITE = "tests:\n- description: greets\n  input: hello\n  assert: [{type: contains, value: hello}]\n"
# Takes some seconds on the model `slow`.
LONG_SUITE = SUITE.replace("input: hello", "input: hello\n  repeat: 100") + "".join(
    f"- description: more {n}\n  input: hello {n}\n  repeat: 100\n  assert: [{{type: contains, value: hello}}]\n"
    for n in range(3)
)
ZERO = "0" * 40
ANN, BOB, EVE = ("ann", 5), ("bob", 6), ("eve", 66)  # may write, may triage, may nothing
RECORDED = {"Codertocat": (21031067, "admin"), "octocat": (5346, "write")}  # who did what was recorded


def a_package(name: str, *, folder: str = "", text: str = "Greet politely.", suite: str = SUITE) -> dict[str, Content]:
    """The files of a package in a folder of a repository."""
    manifest = {"name": name, "version": "1.0.0", "description": "d", "format": "generic", "files": ["prompt.md"]}
    start = f"{folder}/" if folder else ""
    return {
        f"{start}prpm.json": json.dumps(manifest).encode(),
        f"{start}prompt.md": text.encode(),
        f"{start}prpm.test.yaml": suite.encode(),
    }


@dataclass(kw_only=True)
class Story:
    """A repository of its own on the forge, linked to an account of its own. Pull requests have numbers from 12 on."""

    service: Service
    forge: GitHubForge
    account: Account
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: itertools.count = field(default_factory=lambda: itertools.count(0))

    def commit(self, files: dict[str, Content | None], *, on: str | None = None, branch: str | None = None) -> str:
        with self.forge.lock:
            return self.forge.repository.commit(files, parent=on, branch=branch)

    def propose(self, head: str, base: str, *, number: int = 12, fork: bool = False, **changes: Any) -> None:
        """The pull request has this head now."""
        pull = self.forge.propose(number, head, base, **changes)
        if fork:
            pull["head"]["repo"] = {"id": 991, "full_name": "eve/prompts"}

    def send(self, event: str, payload: dict[str, Any], *, delivery: str | None = None) -> str:
        """Delivered as GitHub does; the delivery's id."""
        name, body = delivery or str(uuid.uuid4()), encoded(payload)
        headers = github_headers(body, secret=SECRET, event=event, delivery=name)
        assert self.service.visitor().post("/webhooks/github", content=body, headers=headers).status_code == 202
        return name

    def now(self) -> str:
        """The forge's clock, which goes on by a second with each look."""
        return f"{self.began_at + timedelta(seconds=next(self.clock)):%Y-%m-%dT%H:%M:%SZ}"

    def tell_of(self, head: str, *, number: int = 12, action: str = "synchronize", **more: Any) -> str:
        """The delivery of a pull request's event, with the head that it names."""
        pull = self.forge.pulls[number]
        payload = a_payload("github/pull_request.opened", action=action, **self.about())
        payload["pull_request"] |= {
            "number": number, "head": {**pull["head"], "sha": head}, "base": pull["base"], "draft": pull["draft"],
            "updated_at": self.now(),
        }  # fmt: skip
        return self.send("pull_request", payload | more)

    def label(self, head: str, label: str = "prpm-test", *, number: int = 12, by: tuple[str, int] = ANN) -> str:
        sender = {"login": by[0], "id": by[1]}
        return self.tell_of(head, number=number, action="labeled", label={"name": label}, sender=sender)

    def comment(self, text: str, *, by: tuple[str, int] = ANN, number: int = 12, comment_id: int | None = None) -> str:
        payload = a_payload("github/issue_comment.created", **self.about())
        payload["issue"] |= {"number": number, "pull_request": {"url": "x"}}
        payload["comment"] |= {
            "id": comment_id or uuid.uuid4().int % 10**9, "body": text, "created_at": self.now(),
            "user": {"login": by[0], "id": by[1]},
        }  # fmt: skip
        return self.send("issue_comment", payload)

    def push(
        self, after: str, *, before: str = ZERO, ref: str = "refs/heads/main", tag_object: str | None = None
    ) -> str:
        """`tag_object`: of an annotated tag, which has a name of its own."""
        if ref.startswith("refs/tags/"):
            with self.forge.lock:
                self.forge.repository.tags[ref.removeprefix("refs/tags/")] = tag_object or after
        payload = a_payload("github/push.new_branch", ref=ref, before=before, after=tag_object or after, **self.about())
        payload["head_commit"] |= {"id": after}
        return self.send("push", payload)

    def queue(self, head: str, *, number: int = 12, base_ref: str = "main", ahead: str | None = None) -> str:
        """The merge queue has a group with this head, on top of the one `ahead` or of the branch; its own branch."""
        with self.forge.lock:
            under = ahead or self.forge.repository.branches[base_ref]
            branch = f"gh-readonly-queue/{base_ref}/pr-{number}-{under}"
            self.forge.repository.branches[branch] = head
        return branch

    def tell_of_group(self, branch: str, *, head: str, action: str = "checks_requested", **changes: Any) -> str:
        """The delivery of a merge queue; `changes` of what it says of the group."""
        payload = a_payload("github/merge_group.checks_requested", action=action, **self.about())
        base, _, under = branch.removeprefix("gh-readonly-queue/").rpartition("/pr-")
        payload["merge_group"] |= {
            "head_sha": head, "head_ref": f"refs/heads/{branch}", "base_ref": f"refs/heads/{base}",
            "base_sha": under.partition("-")[2], **changes,
        }  # fmt: skip
        payload["merge_group"]["head_commit"] |= {"id": payload["merge_group"]["head_sha"]}
        return self.send("merge_group", payload | ({"reason": "dequeued"} if action == "destroyed" else {}))

    def dissolve(self, branch: str, *, head: str) -> str:
        """The merge queue lets the group go, and its delivery."""
        with self.forge.lock:
            self.forge.repository.branches.pop(branch)
        return self.tell_of_group(branch, head=head, action="destroyed")

    def retarget(self, to: str, *, number: int = 12) -> str:
        """The pull request is for another branch now, and its delivery."""
        pull = self.forge.pulls[number]
        was, sha = pull["base"]["ref"], self.forge.repository.branches[to]
        pull["base"] = {**pull["base"], "ref": to, "sha": sha}
        changes = {"base": {"ref": {"from": was}, "sha": {"from": sha}}}
        return self.tell_of(pull["head"]["sha"], number=number, action="edited", changes=changes)

    def ask_again(self, head: str, *, check_id: int = 5, key: str = "", by: tuple[str, int] = ANN) -> str:
        payload = a_payload("github/check_run.rerequested", **self.about())
        payload["check_run"] |= {"id": check_id, "head_sha": head, "external_id": key}
        payload["sender"] = {"login": by[0], "id": by[1]}
        return self.send("check_run", payload)

    def about(self) -> dict[str, Any]:
        repository = {"id": self.forge.id, "full_name": self.forge.name, "default_branch": "main"}
        return {"repository": repository, "installation": {"id": self.forge.installation_id}}

    def ended(self, delivery: str, *, seconds: float = 20) -> tuple[str, str]:
        """State and reason of the delivery once it was handled; one that is to be tried again is, at once."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            (row,) = self.service.fetch(
                "SELECT state, reason, attempts, lease_until, next_at FROM deliveries WHERE delivery_id = $1", delivery
            )
            if row["state"] != "received":
                return row["state"], row["reason"]
            if row["attempts"] and row["lease_until"] is None:
                self.service.fetch("UPDATE deliveries SET next_at = NOW() WHERE delivery_id = $1", delivery)
            time.sleep(0.05)
        raise AssertionError(row)

    def put_off(self, delivery: str, *, seconds: float = 20) -> dict[str, Any]:
        """The delivery once it was tried, and is to be tried again in `due_in` seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            (row,) = self.service.fetch(
                "SELECT *, EXTRACT(EPOCH FROM next_at - NOW())::FLOAT8 AS due_in FROM deliveries "
                "WHERE delivery_id = $1",
                delivery,
            )
            if row["attempts"] and row["lease_until"] is None:
                return dict(row)
            time.sleep(0.05)
        raise AssertionError(row)

    def jobs(self) -> list[dict[str, Any]]:
        """The account's jobs, the first first."""
        rows = self.service.fetch(
            "SELECT j.*, p.name AS package FROM test_jobs j JOIN packages p ON p.id = j.package_id "
            "WHERE j.user_id = $1 AND (j.change ->> 'repository_id')::BIGINT = $2 ORDER BY j.created_at, j.id",
            self.account.id,
            self.forge.id,
        )
        return [dict(row) | {"change": json.loads(row["change"])} for row in rows]

    def jobs_ended(self, count: int, *, seconds: float = 30) -> list[dict[str, Any]]:
        """The jobs once so many have ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            jobs = self.jobs()
            if sum(job["status"] in ("completed", "failed") for job in jobs) >= count:
                return jobs
            time.sleep(0.05)
        raise AssertionError([(job["package"], job["status"]) for job in jobs])

    def outcome(self, job: dict[str, Any]) -> dict[str, Any]:
        answer = self.account.client.get(f"/api/v1/test-jobs/{job['id']}/results")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def settle(self, *, seconds: float = 20) -> None:
        """Until nothing waits to be told."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.service.fetch(
                "SELECT id FROM outbox WHERE account_id = $1 AND state = 'pending' UNION ALL SELECT id FROM head_news",
                self.account.id,
            ):
                return
            time.sleep(0.05)
        raise AssertionError(
            self.service.fetch("SELECT * FROM outbox WHERE account_id = $1 AND state = 'pending'", self.account.id)
        )

    def check(self, head: str, name: str = "prpm") -> tuple[str, str, str]:
        """Conclusion, title and summary of the check, once everything was told."""
        self.settle()
        with self.forge.lock:
            found = self.forge.checks(head)
        assert name in found, sorted(found)
        return found[name].get("conclusion"), found[name]["output"]["title"], found[name]["output"]["summary"]

    def charges(self) -> int:
        (row,) = self.service.fetch(
            "SELECT COALESCE(SUM(test_runs_count), 0)::INT AS runs FROM user_test_usage WHERE user_id = $1",
            self.account.id,
        )
        return int(row["runs"])


def make_database(admin_dsn: str) -> str:
    """An empty database of its own."""
    name = f"prpm_test_forge_{uuid.uuid4().hex[:8]}"

    async def make() -> None:
        connection = await asyncpg.connect(admin_dsn)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    in_loop(make())
    return urlunsplit(urlsplit(admin_dsn)._replace(path=f"/{name}"))


def forge_service(
    admin_dsn: str, redis_url: str, folder: Path, **settings: str
) -> Iterator[tuple[Service, GitHubForge]]:
    """A service whose App is installed on a stand-in of GitHub."""
    dsn = make_database(admin_dsn)
    in_loop(migrate(dsn))
    with GitHubForge().running() as forge:
        for service in start_service(
            dsn=dsn,
            redis_url=redis_url,
            folder=folder,
            **{
                "PRPM_GITHUB_WEBHOOK_SECRET": SECRET,
                "PRPM_GITHUB_API_URL": forge.url,
                "PRPM_GITHUB_APP_ID": APP_ID,
                "PRPM_GITHUB_APP_PRIVATE_KEY": PRIVATE_KEY,
                "PRPM_NOTIFY_ALLOWED_ORIGINS": forge.url,
                **settings,
            },
        ):
            yield service, forge


def a_story(service: Service, forge: GitHubForge, *, tier: str = "plus") -> Story:
    """The forge is a new repository of a new installation, linked to a new account."""
    account = service.an_account(tier=tier)
    number = uuid.uuid4().int % 10**9
    with forge.lock:
        forge.id, forge.installation_id, forge.name = number, number + 1, f"acme/prompts-{number}"
        forge.repository, forge.pulls, forge.faults = Repository(), {}, []
        forge.forget_reports()
        forge.rights = {ANN[0]: (ANN[1], "write"), BOB[0]: (BOB[1], "read"), **RECORDED}
        forge.log.clear()
        forge.violations.clear()

    async def link() -> None:
        pool = await asyncpg.create_pool(service.dsn, min_size=0, max_size=2)
        access = access_to(pool, forge)
        try:
            await link_for_account(
                pool, access, forge="github", installation_id=forge.installation_id, account=account.username,
                proof="operator",
            )  # fmt: skip
        finally:
            await access.aclose()
            await pool.close()

    in_loop(link())
    return Story(service=service, forge=forge, account=account)
