"""Forges, and workers that may write there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from server.services.delivering import Outgoing
from server.services.forge_access import ForgeAccess
from tests.reporting import (
    access_to,
    reporting,
)
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge


@pytest.fixture
def github() -> Iterator[GitHubForge]:
    with GitHubForge().running() as running:
        yield running


@pytest.fixture
def gitlab() -> Iterator[GitLabForge]:
    with GitLabForge().running() as running:
        yield running


@pytest.fixture
async def access(db: asyncpg.Pool, github: GitHubForge) -> AsyncIterator[ForgeAccess]:
    made = access_to(db, github)
    yield made
    await made.aclose()


@pytest.fixture
def out(db: asyncpg.Pool, access: ForgeAccess) -> Outgoing:
    return reporting(db, access)


@pytest.fixture
async def gitlab_out(db: asyncpg.Pool, gitlab: GitLabForge) -> AsyncIterator[Outgoing]:
    access = access_to(db, gitlab)
    yield reporting(db, access)
    await access.aclose()
