"""A claimed job while PostgreSQL comes and goes."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from chaos.proxy import DatabaseProxy
from evals.archives import pack
from evals.catalogue import load_catalogue
from evals.pool import ModelPool
from server.domain.accounts import Credential
from server.services.accounts import create_account
from server.services.admission import Admission
from server.services.publishing import publish_package
from server.services.running import Pace, run_job
from server.services.submitting import RunRequest, submit
from server.store import jobs
from server.store.accounts import read_caller_by_id

CATALOGUE = """
default: echo
models:
  echo:
    context_tokens: 1000
    deployments: [{backend: echo, model: echo-1, free: true}]
"""
PACKAGE = {
    "prpm.json": b'{"name": "p", "version": "1.0.0", "description": "A rule.", "format": "claude", '
    b'"subtype": "rule", "files": ["rule.md"]}',
    "rule.md": b"Answer.\n",
}
SUITE = {"tests": [{"input": "hello", "assert": [{"type": "contains", "value": "hello"}]}]}


class NoWakeups:
    async def wake(self) -> None:
        """Nobody sleeps."""


async def test_running__goes_on_when_the_database_is_away_at_the_start(db: asyncpg.Pool, dsn: str, server_folder: Path):
    host = parse_qs(urlsplit(dsn).query).get("host")
    if not host:
        pytest.skip("an external database has no socket of ours")
    account = await create_account(db, "someone", tier="plus")
    caller = await read_caller_by_id(db, account.id)
    assert caller is not None
    await publish_package(db, caller, archive=pack(PACKAGE), publish_as="@someone/p")
    models = ModelPool(load_catalogue(CATALOGUE, environ={}))
    request = RunRequest(package_id="@someone/p", suite=SUITE)
    credential = Credential(account_id=caller.id)
    submission = await submit(db, Admission(db), NoWakeups(), credential, request, models=models.catalogue.describe())
    job = await jobs.claim_job(db, "w", lease_seconds=15, job_seconds=3600)
    assert job is not None

    folder = server_folder / uuid.uuid4().hex[:8]
    proxy = DatabaseProxy(folder, upstream=folder / "pg")  # nothing is there yet
    await proxy.open("worker")
    async with asyncpg.create_pool(
        proxy.dsn("worker"), database=urlsplit(dsn).path.lstrip("/"), min_size=0, max_size=5
    ) as away:
        running = asyncio.create_task(run_job(away, models, job, pace=Pace(), concurrency=1, stop=asyncio.Event()))
        await asyncio.sleep(0.2)
        assert not running.done()
        (folder / "pg").symlink_to(host[0])
        await running

    row = await db.fetchrow("SELECT status, conclusion, attempt FROM test_jobs WHERE id = $1", submission.job_id)
    assert tuple(row) == ("completed", "passed", 1)
    await proxy.aclose()
