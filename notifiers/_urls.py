"""Addresses that people give us: which may be called at all. Whether a name leads to a public address is the driver's
to check when it connects, as only that moment counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

LONGEST_URL = 2048
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
# A name with a dot whose last label is a word: no literal address in any spelling, no `localhost`.
_PUBLIC_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?=[a-z0-9-]*[a-z])[a-z0-9-]{2,63}")
_INNER_SUFFIXES = (".local", ".localhost", ".internal", ".intranet", ".lan", ".home", ".corp", ".arpa", ".test")


class InvalidTarget(ValueError):
    """An address cannot be used; the message says which form it has to have and does not repeat it."""


@dataclass(frozen=True)
class TargetUrl:
    """An address that passed `checked_url`. Its repr hides the path, which often is the secret."""

    text: str
    host: str
    path: str
    query: str
    is_exempt: bool = False  # its origin is one that the operator allowed

    def __repr__(self) -> str:
        return f"TargetUrl(https://{self.host}/…)"

    @property
    def base(self) -> str:
        """The address without its query."""
        return self.text.partition("?")[0]

    def require(self, *, hosts: frozenset[str], path: re.Pattern[str], example: str) -> TargetUrl:
        """Itself, if host and path are exactly of this form. Raises InvalidTarget; an exempt origin may be any host."""
        if (self.host in hosts or self.is_exempt) and path.fullmatch(self.path):
            return self
        raise InvalidTarget(f"This address is of another form than {example}. Copy it whole from the settings there.")


def checked_url(url: str, *, allowed_origins: frozenset[str] = frozenset()) -> TargetUrl:
    """The address, if it is plain https to a public name on port 443. Raises InvalidTarget.

    Anything that two parsers could read in two ways is refused: user names, backslashes, white space, fragments,
    characters beyond ASCII, literal addresses.
    """
    if len(url) > LONGEST_URL or not _VISIBLE_ASCII.fullmatch(url) or "\\" in url:
        raise InvalidTarget("An address is at most 2048 visible ASCII characters, without white space or backslash.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidTarget("This is no web address. It has to begin with https:// and a host.") from None
    host = (parts.hostname or "").lower()
    if "@" in parts.netloc or "#" in url:
        raise InvalidTarget("An address must not hold a user name, a password or a fragment (#).")
    is_exempt = f"{parts.scheme}://{parts.netloc}".lower() in allowed_origins
    if not is_exempt and (parts.scheme != "https" or port not in (None, 443) or not _is_public(host)):
        raise InvalidTarget("An address has to be https:// with a public host name, and no port but 443.")
    return TargetUrl(url, host, parts.path, parts.query, is_exempt)


def _is_public(host: str) -> bool:
    return bool(_PUBLIC_HOST.fullmatch(host)) and len(host) <= 253 and not host.endswith(_INNER_SUFFIXES)


def linkable(url: str) -> str:
    """Our own address in a form that ends no Markdown link, or "" if it is none that people may be led to."""
    if not url.startswith(("https://", "http://")) or len(url) > LONGEST_URL:
        return ""
    return quote(url, safe="%/:?#&=@+,;~!$-._")
