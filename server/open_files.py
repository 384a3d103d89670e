"""How many sockets the process may hold."""

from __future__ import annotations

import resource

# For the database, Redis, logs, libraries and requests that do not wait.
RESERVED = 256


def raise_limit() -> None:
    """The process may hold as many files as it is allowed to ask for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS says "unlimited" and means less
        return


def free_files() -> int:
    """How many requests may wait at once, so that others still find a socket."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 1_000_000 if soft == resource.RLIM_INFINITY else soft
    return max(limit - RESERVED, limit // 2)
