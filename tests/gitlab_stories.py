"""Stories of GitLab: as those of GitHub, for a service that is one account's and has a token of the project."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from server.services.accounts import create_account, set_caps
from server.services.identity import issue_token
from server.store.migrations import migrate
from tests.forge_stories import ANN, BOB, ZERO, Story, make_database
from tests.service import Account, Service, in_loop, start_service
from tests.standins.gitlab import GitLab
from tests.standins.gitlab_forge import GitLabForge
from tests.standins.repository import Repository
from tests.webhooks import a_payload, encoded, gitlab_headers

TOKEN = "a gitlab token of these stories"
ACCOUNT = "whole-service"


class GitLabStory(Story):
    """A project of its own. Merge requests have numbers from 12 on."""

    forge: GitLabForge  # type: ignore[assignment] -- a story of another forge

    def propose(self, head: str, base: str, *, number: int = 12, fork: bool = False, **changes: Any) -> None:
        self.forge.propose(number, head, base, **({"source_project_id": 991} if fork else {}), **changes)

    def send(self, event: str, payload: dict[str, Any], *, delivery: str | None = None) -> str:
        name, body = delivery or str(uuid.uuid4()), encoded(payload)
        headers = gitlab_headers(body, token=TOKEN, event=event, delivery=name)
        assert self.service.visitor().post("/webhooks/gitlab", content=body, headers=headers).status_code == 202
        return name

    def about(self) -> dict[str, Any]:
        return {"project": {"id": self.forge.id, "path_with_namespace": self.forge.name, "default_branch": "main"}}

    def tell_of(
        self,
        head: str,
        *,
        number: int = 12,
        action: str = "update",
        is_push: bool | None = None,
        labels: Sequence[str] = (),
        **more: Any,
    ) -> str:
        """The delivery of a merge request's event. An update is a push, unless `changes` says what else it is."""
        request = self.forge.requests[number]
        is_push = action == "update" and "changes" not in more if is_push is None else is_push
        payload = a_payload("gitlab/merge_request", **self.about())
        payload["object_attributes"] |= {
            "iid": number, "action": action, "oldrev": "1" * 40 if is_push else None,
            "source_branch": request["source_branch"], "target_branch": request["target_branch"],
            "source_project_id": request["source_project_id"], "target_project_id": self.forge.id,
            "last_commit": {"id": head}, "draft": request["draft"], "work_in_progress": request["draft"],
            "updated_at": self.gitlab_now(),
        }  # fmt: skip
        payload["object_attributes"]["labels"] = [{"title": title} for title in labels]
        payload["changes"] = {}
        return self.send("Merge Request Hook", payload | more)

    def update(self, changes: dict[str, Any], *, number: int = 12, by: tuple[str, int] = ANN) -> str:
        """Something else than its commits is different now."""
        head, more = self.forge.requests[number]["sha"], {"changes": changes, "user": {"username": by[0], "id": by[1]}}
        return self.tell_of(head, number=number, **more)

    def label(self, head: str, label: str = "prpm-test", *, number: int = 12, by: tuple[str, int] = ANN) -> str:
        changes = {"labels": {"previous": [], "current": [{"title": label}]}}
        who = {"username": by[0], "id": by[1]}
        return self.tell_of(head, number=number, changes=changes, user=who)

    def comment(self, text: str, *, by: tuple[str, int] = ANN, number: int = 12, comment_id: int | None = None) -> str:
        payload = {
            "object_kind": "note", "user": {"username": by[0], "id": by[1]},
            "object_attributes": {
                "id": comment_id or uuid.uuid4().int % 10**9, "note": text, "noteable_type": "MergeRequest",
                "action": "create", "created_at": self.gitlab_now(),
            },
            "merge_request": a_payload("gitlab/merge_request")["object_attributes"] | {"iid": number},
        }  # fmt: skip
        return self.send("Note Hook", payload | self.about())

    def push(
        self, after: str, *, before: str = ZERO, ref: str = "refs/heads/main", tag_object: str | None = None
    ) -> str:
        if ref.startswith("refs/tags/"):
            with self.forge.lock:
                self.forge.repository.tags[ref.removeprefix("refs/tags/")] = tag_object or after
        kind = "tag_push" if ref.startswith("refs/tags/") else "push"
        payload = a_payload("gitlab/push", object_kind=kind, ref=ref, before=before, **self.about())
        payload |= {"after": tag_object or after, "checkout_sha": after}
        return self.send("Tag Push Hook" if kind == "tag_push" else "Push Hook", payload)

    def gitlab_now(self) -> str:
        """As GitLab writes times in deliveries."""
        return self.now().replace("T", " ").replace("Z", " UTC")

    def notes(self, *, number: int = 12) -> list[str]:
        """Our notes on the merge request, once everything was told."""
        self.settle()
        with self.forge.lock:
            return self.forge.reported.ours(request=number)

    def check(self, head: str, name: str = "prpm") -> tuple[str, str, str]:
        """State and description of the commit's status of this name."""
        self.settle()
        with self.forge.lock:
            found = self.forge.statuses(head)
        assert name in found, sorted(found)
        return found[name]["state"], found[name].get("description", ""), ""


@dataclass(kw_only=True)
class HookStory(GitLabStory):
    """By a webhook of its own, of the project or of its group; whose it is, is a new account."""

    door: str  # the path that it delivers to
    signing: str

    def send(self, event: str, payload: dict[str, Any], *, delivery: str | None = None) -> str:
        name, body = delivery or str(uuid.uuid4()), encoded(payload)
        headers = gitlab_headers(body, signing=self.signing, event=event, delivery=name)
        assert self.service.visitor().post(self.door, content=body, headers=headers).status_code == 202
        return name

    def with_project(self, name: str) -> HookStory:
        """Of another project, which the same webhook delivers for if it lies in its group."""
        other = GitLabForge(name, number=uuid.uuid4().int % 10**9)
        other.group, other.members = self.forge.group, dict(self.forge.members)
        with self.forge.lock:
            self.forge.beside.append(other)
        return HookStory(
            service=self.service, forge=other, account=self.account, door=self.door, signing=self.signing,
        )  # type: ignore[arg-type]  # fmt: skip


def a_hook_story(service: Service, forge: GitLabForge, *, is_of_group: bool = False) -> HookStory:
    """As its account makes it: `prpm hook add gitlab PROJECT`, or with the group's path."""
    story = a_gitlab_story(service, forge)
    account = service.an_account(tier="pro")
    name = forge.group[1] if is_of_group else forge.name
    made = account.client.post("/api/v1/hooks", json={"forge": "gitlab", "name": name, "token": forge.token})
    assert made.status_code == 201, made.text
    answer = made.json()
    door = answer["url"].removeprefix(service.url)
    return HookStory(service=service, forge=story.forge, account=account, door=door, signing=answer["secret"])


def gitlab_service(admin_dsn: str, redis_url: str, folder: Path) -> Iterator[tuple[Service, GitLabForge]]:
    """A service of one account, with a GitLab that is not the public one."""
    dsn = make_database(admin_dsn)
    in_loop(migrate(dsn))
    in_loop(_make_account(dsn))
    with GitLabForge().running() as forge:
        for service in start_service(
            dsn=dsn,
            redis_url=redis_url,
            folder=folder,
            PRPM_GITLAB_URL=forge.url,
            PRPM_GITLAB_TOKEN=forge.token,
            PRPM_GITLAB_WEBHOOK_SECRET=TOKEN,
            PRPM_WEBHOOK_ACCOUNT=ACCOUNT,
            PRPM_NOTIFY_ALLOWED_ORIGINS=forge.url,
        ):
            yield service, forge


async def _make_account(dsn: str) -> None:
    pool = await asyncpg.create_pool(dsn, min_size=0, max_size=1)
    try:
        await create_account(pool, ACCOUNT, tier="enterprise")
        await set_caps(pool, ACCOUNT, per_job_usd=1000, per_month_usd=1000)
    finally:
        await pool.close()


def a_gitlab_story(service: Service, forge: GitLabForge) -> GitLabStory:
    """The forge is a new project."""

    async def token() -> tuple[uuid.UUID, str]:
        pool = await asyncpg.create_pool(service.dsn, min_size=0, max_size=1)
        try:
            (row,) = await pool.fetch("SELECT id FROM users WHERE username = $1", ACCOUNT)
            return row["id"], (await issue_token(pool, ACCOUNT, name="test")).token
        finally:
            await pool.close()

    account_id, secret = in_loop(token())
    client = service.visitor()
    client.headers["Authorization"] = f"Bearer {secret}"
    number = uuid.uuid4().int % 10**9
    with forge.lock:
        forge.id, forge.name = number, f"acme/prompts-{number}"
        forge.repository, forge.requests, forge.faults = Repository(), {}, []
        forge.beside, forge.tokens = [], {forge.token: "project_77_bot_1a2b"}
        forge.reported = GitLab()
        forge.members = {ANN[0]: (ANN[1], 30), BOB[0]: (BOB[1], 20)}
        forge.log.clear()
        forge.violations.clear()
    account = Account(username=ACCOUNT, id=account_id, token=secret, client=client)
    return GitLabStory(service=service, forge=forge, account=account)  # type: ignore[arg-type] -- see above
