"""Say what this machine has and lacks for running the service."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from msgspec import Struct

from server.embedded.folders import FolderLock, make_folder
from server.embedded.postgres import find_programs
from server.embedded.processes import CannotStart, FolderInUse, unprivileged_identity
from server.embedded.valkey import find_program
from server.operator.errors import OperatorError
from server.operator.model_source import choose_model
from server.operator.stack import default_data_dir, usable_port

OLDEST_POSTGRES = 15
TROUBLE = 1


class Finding(Struct, frozen=True):
    """`ok` False: `up` will fail. None: it works, and something is worth knowing."""

    ok: bool | None
    sentence: str


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="The data folder to look at.")
def command(*, data_dir: Path | None) -> None:
    """Check programs, user, data folder, servers and models. Exit 0 when `up` can work, 1 otherwise."""
    folder = (data_dir or default_data_dir(os.environ)).absolute()
    findings = list(examine(folder))
    for finding in findings:
        print(f"{ {True: '✅', None: '⚠️ ', False: '❌'}[finding.ok] } {finding.sentence}")
    if any(finding.ok is False for finding in findings):
        sys.exit(TROUBLE)


def examine(folder: Path) -> Iterator[Finding]:
    """Every finding, in the order in which `up` would meet them."""
    yield Finding(True, f"Python {sys.version.partition(' ')[0]}.")
    yield check_folder(folder)
    if dsn := os.environ.get("PRPM_DATABASE_URL", "").strip():
        yield asyncio.run(check_database(dsn))
    else:
        yield attempt(lambda: f"Embedded PostgreSQL: {find_programs()}.")
        yield attempt(lambda: describe_user(folder))
    if url := os.environ.get("PRPM_REDIS_URL", "").strip():
        yield asyncio.run(check_redis(url))
    else:
        yield attempt(lambda: f"Embedded Valkey: {find_program()}.")
    yield attempt(lambda: f"Port {usable_port('127.0.0.1', 0)} and others are free.")
    yield check_models()
    yield check_agents()


def attempt(describe: Callable[[], str]) -> Finding:
    """The sentence, or why there is none."""
    try:
        return Finding(True, describe())
    except (CannotStart, OperatorError) as error:
        return Finding(False, str(error))


def check_folder(folder: Path) -> Finding:
    """Whether the data folder can be written, and whether a running `up` holds it."""
    try:
        lock = FolderLock(make_folder(folder))
    except FolderInUse as error:
        return Finding(None, str(error))
    except CannotStart as error:
        return Finding(False, str(error))
    lock.release()
    return Finding(True, f"Data folder: {folder}.")


def describe_user(folder: Path) -> str:
    """Who PostgreSQL would run as."""
    cluster = folder / "postgres" / "cluster"
    identity = unprivileged_identity(owned=cluster if cluster.exists() else folder, read=[find_programs() / "postgres"])
    how = {"same": "the current user", "user": f"uid {identity.uid}", "namespace": "a user namespace"}
    return f"PostgreSQL runs as {how[identity.kind]}."


async def check_database(dsn: str) -> Finding:
    """Whether the external PostgreSQL answers and is new enough."""
    import asyncpg

    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Finding(False, f"PRPM_DATABASE_URL cannot be reached: {error or type(error).__name__}.")
    try:
        version = connection.get_server_version()
    finally:
        await connection.close()
    if version.major < OLDEST_POSTGRES:
        return Finding(False, f"PRPM_DATABASE_URL is PostgreSQL {version.major}; {OLDEST_POSTGRES} or newer is needed.")
    return Finding(True, f"PRPM_DATABASE_URL: PostgreSQL {version.major}.{version.minor}.")


async def check_redis(url: str) -> Finding:
    """Whether the external Redis answers."""
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    try:
        client = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
        async with client:
            await client.ping()
    except (OSError, ValueError, RedisError) as error:
        return Finding(False, f"PRPM_REDIS_URL cannot be reached: {error}.")
    return Finding(True, "PRPM_REDIS_URL answers.")


def check_agents() -> Finding:
    """Whether Claude agents can be run; without, everything else works."""
    from evals.agents.sandbox import why_no_agents

    why = why_no_agents()
    return Finding(None, f"Agents are not run: {why}.") if why else Finding(True, "Agents run in a sandbox.")


def check_models() -> Finding:
    """What can answer. None of it is needed to start, but all of it to test."""
    from evals.errors import InvalidCatalogue

    try:
        source = choose_model(os.environ, free_port=lambda: 1)
    except (InvalidCatalogue, OperatorError) as error:
        return Finding(False, str(error))
    return Finding(None if source.kind == "none" else True, source.sentence)
