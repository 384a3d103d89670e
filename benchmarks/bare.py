"""The service's control: a Litestar handler that does one INSERT, on the server and pool settings of the API.

    python -m benchmarks.bare --port 8200 --dsn postgresql://...

It checks nothing, charges nothing and knows nobody: what it takes is the price of HTTP, framework and one commit.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncGenerator
from typing import cast
from uuid import UUID, uuid4

import asyncpg
import uvloop
from litestar import Litestar, get, post
from litestar.datastructures import State
from msgspec import Struct

from server.api.guards import ASGIApp
from server.http_server import serve

# As many as the API has.
CONNECTIONS = 40

# The job table's own columns, defaults, checks and indexes, without its foreign keys: the row costs what a job's row
# costs, and nothing is looked up, admitted, charged or explained.
TABLE = "CREATE TABLE IF NOT EXISTS bare_jobs (LIKE test_jobs INCLUDING ALL)"
INSERT = """
INSERT INTO bare_jobs (
  id, user_id, submitted_by, package_id, package_version, snapshot_id, suite_id, suite_source, models_requested,
  framework, trials_total, start_key, submit_position, submit_wait_seconds, submit_runs_used, submit_tier
) VALUES ($1, $2, $2, $2, '1.0.0', $3, $3, 'package', $4, 'litellm', 1, NOW(), 1, 0, 1, 'enterprise')
"""
SELECT = "SELECT id, status FROM bare_jobs WHERE id = $1"


class BareRequest(Struct):
    package_id: str
    models: list[str]


class BareJob(Struct):
    job_id: str
    status: str


@post("/jobs", status_code=202)
async def insert_job(data: BareRequest, state: State) -> BareJob:
    """Keep the job."""
    job_id = uuid4()
    await state.db.execute(INSERT, job_id, uuid4(), "a" * 64, data.models)
    return BareJob(str(job_id), "queued")


@get("/jobs/{job_id:uuid}")
async def read_job(job_id: UUID, state: State) -> BareJob:
    """The job that was kept."""
    row = await state.db.fetchrow(SELECT, job_id)
    return BareJob(str(row["id"]), row["status"])


def make_bare_app(dsn: str) -> ASGIApp:
    """The control's application; makes its table."""

    @contextlib.asynccontextmanager
    async def open_database(app: Litestar) -> AsyncGenerator[None, None]:
        async with asyncpg.create_pool(dsn, min_size=0, max_size=CONNECTIONS) as app.state.db:
            await app.state.db.execute(TABLE)
            yield

    litestar = Litestar(route_handlers=[insert_job, read_job], lifespan=[open_database], openapi_config=None)
    return cast(ASGIApp, litestar)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A bare Litestar handler with one INSERT.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dsn", required=True)
    wanted = parser.parse_args()
    uvloop.run(serve(make_bare_app(wanted.dsn), host="127.0.0.1", port=wanted.port))


if __name__ == "__main__":
    main()
