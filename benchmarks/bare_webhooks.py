"""The webhooks' control: a Litestar handler that verifies the HMAC and inserts the row, on the API's server and pool.

    python -m benchmarks.bare_webhooks --port 8200 --dsn postgresql://... --secret ...

It limits nobody, wakes nobody and looks at nothing else of a delivery.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
from collections.abc import AsyncGenerator
from typing import Any, cast

import asyncpg
import uvloop
from litestar import Litestar, Request, Response, post

from benchmarks.bare import CONNECTIONS
from server.api.guards import ASGIApp
from server.http_server import serve

TABLE = """
CREATE TABLE IF NOT EXISTS bare_deliveries (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  delivery_id TEXT NOT NULL UNIQUE,
  event TEXT NOT NULL,
  body BYTEA NOT NULL,
  received_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
)
"""
INSERT = "INSERT INTO bare_deliveries (delivery_id, event, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"


def make_bare_app(dsn: str, secret: str) -> ASGIApp:
    """The control's application; makes its table."""

    @post("/webhooks/github", status_code=202)
    async def deliver(request: Request[Any, Any, Any]) -> Response[dict[str, bool]]:
        body = await request.body()
        expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = request.headers
        if not hmac.compare_digest(headers.get("x-hub-signature-256", "").encode(), expected.encode()):
            return Response({"accepted": False}, status_code=401)
        await request.app.state.db.execute(INSERT, headers["x-github-delivery"], headers["x-github-event"], body)
        return Response({"accepted": True})

    @contextlib.asynccontextmanager
    async def open_database(app: Litestar) -> AsyncGenerator[None, None]:
        async with asyncpg.create_pool(dsn, min_size=0, max_size=CONNECTIONS) as app.state.db:
            await app.state.db.execute(TABLE)
            yield

    litestar = Litestar(route_handlers=[deliver], lifespan=[open_database], openapi_config=None)
    return cast(ASGIApp, litestar)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A bare Litestar handler that verifies and inserts.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--secret", required=True)
    wanted = parser.parse_args()
    uvloop.run(serve(make_bare_app(wanted.dsn, wanted.secret), host="127.0.0.1", port=wanted.port))


if __name__ == "__main__":
    main()
