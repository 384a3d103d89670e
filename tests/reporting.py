"""Repositories in which the service reports, at stand-ins of forges: linked, with access, and a pull request."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import asyncpg

from evals.models import Secret
from server.domain.changes import Change
from server.domain.events import Repository
from server.domain.links import NewLink
from server.services.delivering import Outgoing
from server.services.forge_access import ForgeAccess
from server.services.forge_reports import ForgeReports
from server.store import links
from tests.outbox import outgoing
from tests.queue import an_account
from tests.standins.github_app import APP_ID, PRIVATE_KEY
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge

PULL = 12


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
