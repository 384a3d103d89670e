"""Real servers for every test: embedded ones, or external ones by PRPM_TEST_DATABASE_URL and PRPM_TEST_REDIS_URL."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from server.store.migrations import migrate
from tests.databases import MEMORY, Databases, folder_for_servers, with_database
from tests.dealing import deal
from tests.forge_stories import Story, a_story, forge_service
from tests.service import Service, in_loop, start_service
from tests.standins.github_forge import GitHubForge

TEMPLATE = "prpm_test_template"
# Folders whose tests mostly need servers or processes of their own.
SLOW = {"end_to_end", "integration", "security"}
SHARED = ("forge_site", "service")  # services that go on until a process has run all its tests
STORY_SECONDS = 3.0  # of a test that waits for a forge's whole story; others that are slow take one


def pytest_configure() -> None:
    """Whoever is started in the background may ignore Ctrl-C, and so would each command that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In several processes, each gets its share of what is slow, first."""
    if given := getattr(config, "workerinput", None):
        items[:] = deal(
            items,
            shares=given["workercount"],
            seconds=_seconds,
            file=lambda item: str(item.path),
            servers=lambda item: next((name for name in SHARED if name in _fixtures(item)), ""),
        )


def _seconds(item: pytest.Item) -> float:
    if item.path.relative_to(Path(__file__).parent).parts[0] not in SLOW:
        return 0
    return STORY_SECONDS if "forge_site" in _fixtures(item) else 1


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A short folder of this run's own."""
    folder = folder_for_servers()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def admin_dsn(server_folder: Path) -> Iterator[str]:
    """A PostgreSQL where databases can be made."""
    if external := os.environ.get("PRPM_TEST_DATABASE_URL"):
        yield external
        return
    from server.embedded import start_postgres

    running = start_postgres(server_folder / "pg", durable=False)
    yield running.dsn
    running.stop()


@pytest.fixture(scope="session")
def redis_url(server_folder: Path) -> Iterator[str]:
    """A Valkey of this run's own."""
    if external := os.environ.get("PRPM_TEST_REDIS_URL"):
        yield external
        return
    from server.embedded import start_valkey

    running = start_valkey(server_folder / "valkey")
    yield running.url
    running.stop()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def template_dsn(admin_dsn: str) -> str:
    """A migrated database that others are copied from."""
    name = f"{TEMPLATE}_{uuid.uuid4().hex[:8]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    return dsn


@pytest.fixture(scope="session")
def databases(admin_dsn: str, server_folder: Path) -> Iterator[Databases]:
    """Copies of the template, for one test each."""
    # Files are copied as such where that is in memory; elsewhere it would wait for the disk twice.
    found = Databases(admin_dsn, strategy="FILE_COPY" if server_folder.is_relative_to(MEMORY) else "WAL_LOG")
    yield found
    found.close()


@pytest.fixture
def dsn(databases: Databases, template_dsn: str) -> Iterator[str]:
    """A fresh, migrated database."""
    made = databases.copy(template_dsn)
    yield made
    databases.drop(made)


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on a fresh, migrated database."""
    pool = await asyncpg.create_pool(dsn, min_size=0, max_size=25)
    yield pool
    await pool.close()


@pytest.fixture(scope="session")
def service(admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service as processes, shared by all tests: each makes accounts of its own."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    yield from start_service(dsn=dsn, redis_url=redis_url, folder=tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="session")
def forge_site(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, GitHubForge]]:
    """A service whose App is installed on a stand-in of GitHub, shared by all stories."""
    yield from forge_service(admin_dsn, redis_url, tmp_path_factory.mktemp("forge"))


@pytest.fixture
def story(forge_site: tuple[Service, GitHubForge]) -> Iterator[Story]:
    """A repository of its own; nothing that the forge would refuse was sent to it."""
    made = a_story(*forge_site)
    yield made
    made.settle()
    assert made.forge.violations == []
