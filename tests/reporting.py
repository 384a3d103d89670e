"""Repositories in which the service reports, at stand-ins of forges: linked, with access, and a pull request."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from typing import Any

import asyncpg

from evals.models import Secret
from server.domain.changes import Change
from server.domain.events import Repository
from server.domain.jobs import ClaimedJob
from server.domain.links import Link, NewLink
from server.services.delivering import Outgoing
from server.services.forge_access import ForgeAccess
from server.services.forge_reports import ForgeReports
from server.services.linking import link_of_job
from server.services.reporting import report_state
from server.store import jobs, links
from tests.outbox import a_job, an_end, deliver_due, outgoing
from tests.queue import an_account
from tests.standins.github_app import APP_ID, PRIVATE_KEY
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge

PULL = 12
CHECK = "prpm / p / default"

Forge = GitHubForge | GitLabForge


async def a_github_account(db: asyncpg.Pool, forge: GitHubForge) -> uuid.UUID:
    """An account to which the App's installation in the stand-in's repository is linked, with a pull request."""
    account = await an_account(db)
    await links.link_installation(
        db, forge="github", installation_id=forge.installation_id, account_id=account, owner_id=501, owner="acme",
        proof="operator", is_suspended=False,
    )  # fmt: skip
    assert await links.link_repository(
        db, NewLink(repository=_repository("github", forge), account_id=account, installation_id=forge.installation_id)
    )
    a_pull_request(forge)
    return account


async def a_gitlab_account(db: asyncpg.Pool, forge: GitLabForge) -> uuid.UUID:
    """An account whose the stand-in's project is, by the service's own token."""
    account = await an_account(db)
    assert await links.link_repository(db, NewLink(repository=_repository("gitlab", forge), account_id=account))
    a_pull_request(forge)
    return account


def _repository(name: str, forge: GitHubForge | GitLabForge) -> Repository:
    return Repository(forge=name, id=forge.id, name=forge.name, default_branch="main")


def a_pull_request(forge: GitHubForge | GitLabForge, files: Mapping[str, bytes] | None = None) -> str:
    """The head of pull request 12, on top of the one before."""
    base = forge.repository.branches.get("main") or forge.repository.commit({"prpm.json": b"{}"}, branch="main")
    count = str(len(forge.repository.commits)).encode()
    head = forge.repository.commit({"SKILL.md": count, **(files or {})}, parent=base, branch="feature")
    forge.propose(PULL, head, base)
    return head


def the_change(forge: GitHubForge | GitLabForge, **changes: Any) -> Change:
    """The pull request's newest head."""
    usual: dict[str, Any] = {
        "forge": "github" if isinstance(forge, GitHubForge) else "gitlab", "repository": forge.name,
        "repository_id": forge.id, "ref": "feature", "head_sha": forge.repository.branches["feature"],
        "pull_request": PULL,
    }  # fmt: skip
    return Change(**usual | changes)


def access_to(db: asyncpg.Pool, forge: GitHubForge | GitLabForge, **settings: str) -> ForgeAccess:
    """As the stand-in's App, or with its token."""
    if isinstance(forge, GitHubForge):
        named = {"GITHUB_API_URL": forge.url, "GITHUB_APP_ID": APP_ID, "GITHUB_APP_PRIVATE_KEY": PRIVATE_KEY}
    else:
        named = {"GITLAB_URL": forge.url, "GITLAB_TOKEN": forge.token}
    known = {name: Secret(value) for name, value in (named | settings).items() if value}
    return ForgeAccess(db, settings=known, sealer=None)


def reporting(db: asyncpg.Pool, access: ForgeAccess, *urls: str, **changes: Any) -> Outgoing:
    """A worker's notifications, with access to forges."""
    return outgoing(*urls, forges=ForgeReports(db, access), **changes)


async def submitted(db: asyncpg.Pool, account: uuid.UUID, forge: Forge, **changes: Any) -> uuid.UUID:
    return await a_job(db, account, **{"key": None, "change": the_change(forge), **changes})


async def claimed(db: asyncpg.Pool) -> ClaimedJob:
    job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert job is not None
    return job


async def finished(
    db: asyncpg.Pool, account: uuid.UUID, forge: Forge, conclusion: str = "failed", **changes: Any
) -> uuid.UUID:
    await submitted(db, account, forge, **changes)
    job = await claimed(db)
    assert await jobs.finish_job(db, job, an_end(conclusion))
    return job.id


def the_check(forge: GitHubForge, sha: str | None = None) -> dict[str, Any]:
    """The one check run of the head."""
    [check] = forge.checks(sha or the_change(forge).head_sha).values()
    return check


async def the_link(db: asyncpg.Pool, account: uuid.UUID, forge: Forge) -> Link:
    change = the_change(forge)
    link = await link_of_job(db, forge=change.forge, repository_id=forge.id, account_id=account)
    assert link is not None
    return link


class Gate:
    """The first such request is held at the forge's door until `go_on`."""

    def __init__(self, forge: GitHubForge, method: str, path: str) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()
        forge.before_answer = lambda seen: self._hold() if seen.method == method and path in seen.path else None

    def _hold(self) -> None:
        if not self.arrived.is_set():
            self.arrived.set()
            self.go_on.wait(10)


async def claimed_and_told(db: asyncpg.Pool, out: Outgoing) -> None:
    """The job runs, which is told; it has ended, which is not."""
    job = await claimed(db)
    await deliver_due(db, out)
    assert await jobs.finish_job(db, job, an_end("failed"))


async def said(
    db: asyncpg.Pool, account: uuid.UUID, forge: Forge, state: Any, title: str = "This waits", **changes: Any
) -> None:
    values: dict[str, Any] = {
        "change": the_change(forge), "package": "p", "suite_name": "default", "summary": "Somebody has to say so.",
    }  # fmt: skip
    await report_state(db, await the_link(db, account, forge), state=state, title=title, **values | changes)
