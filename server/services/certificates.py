"""Whose certificates are trusted, for all clients of this process."""

from __future__ import annotations

import ssl
from functools import cache


@cache
def trusted_certificates() -> ssl.SSLContext:
    """The public authorities, whatever the environment says. Read once: that holds the event loop for 20 to 50 ms."""
    import httpx  # here, as most processes of the API never ask anybody, and it takes a third of a second

    return httpx.create_ssl_context(trust_env=False)
