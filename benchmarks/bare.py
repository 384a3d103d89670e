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

# What a first version of the job table would be, with its two lists.
TABLE = """
CREATE TABLE IF NOT EXISTS bare_jobs (
  id UUID PRIMARY KEY,
  user_id UUID NOT NULL,
  package TEXT NOT NULL,
  models TEXT[] NOT NULL,
  status VARCHAR(50) NOT NULL DEFAULT 'queued',
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);
CREATE INDEX ON bare_jobs (status, created_at);
CREATE INDEX ON bare_jobs (user_id, created_at);
"""
INSERT = "INSERT INTO bare_jobs (id, user_id, package, models) VALUES ($1, $2, $3, $4)"
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
    await state.db.execute(INSERT, job_id, uuid4(), data.package_id, data.models)
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
