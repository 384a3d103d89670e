"""Serve the API and the pages."""

from __future__ import annotations

import click


@click.command("api")
@click.option("--host", default=None, help="Address to listen on; PRPM_HOST, else 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="Port; PRPM_PORT, else 8100.")
def command(host: str | None, port: int | None) -> None:
    """Serve the API and the pages until SIGTERM or Ctrl-C."""
    import asyncio

    import uvloop

    from server.app import make_app
    from server.http_server import serve
    from server.logs import configure_logs
    from server.open_files import raise_limit
    from server.settings import read_settings

    settings = read_settings()
    configure_logs(settings)
    # Here what is missing is told in a sentence; from inside the server it would be a traceback of its start.
    settings.require_database()
    settings.require_redis()
    raise_limit()
    stopping = asyncio.Event()
    app = make_app(settings, stopping=stopping)
    port = settings.port if port is None else port
    uvloop.run(serve(app, host=host or settings.host, port=port, stopping=stopping))
