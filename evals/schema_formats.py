"""The `format` words of JSON Schema, as strict draft-07 validators read them; any other word is an error."""

from __future__ import annotations

import ipaddress
import math
import re
from calendar import monthrange
from collections.abc import Callable
from typing import Final

from evals.errors import InvalidAssertion
from evals.patterns import is_pattern

# Every pattern here is free of nested repeats, so matching is linear.
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(
    r"(\d\d):(\d\d):(\d\d(?:\.\d+)?)(?P<zone>z|(?P<sign>[+-])(?P<zh>\d\d)(?::?(?P<zm>\d\d))?)?",
    re.ASCII | re.IGNORECASE,
)
_DURATION = re.compile(r"P(?=.)(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)", re.ASCII)
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*", re.IGNORECASE)
_DOMAIN_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.IGNORECASE)
_UUID = re.compile(r"(?:urn:uuid:)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*", re.DOTALL)
_POINTER_FRAGMENT = re.compile(r"#(?:/(?:[a-z0-9_.!$&'()*+,;:=@-]|%[0-9a-f]{2}|~[01])*)*", re.IGNORECASE)
_RELATIVE_POINTER = re.compile(r"(?:0|[1-9]\d*)(?:#|(?:/(?:[^~/]|~[01])*)*)", re.ASCII | re.DOTALL)
_URI_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_URI_REST = re.compile(r"(?:[a-z0-9._~!$&'\"()*+,;=:@/?\[\]-]|%[0-9a-f]{2})*", re.IGNORECASE)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_URL_SCHEME = re.compile(r"(?:https?|ftp)://", re.IGNORECASE)
_URL_HOST = re.compile(r"([^/:]+)(?::[0-9]{2,5})?(?=/|\Z)")
_URL_LABEL = re.compile(r"[a-z0-9\xa1-\uffff]+(?:-[a-z0-9\xa1-\uffff]+)*", re.IGNORECASE)
_TOP_LABEL = re.compile(r"[a-z\xa1-\uffff]{2,}", re.IGNORECASE)
# Networks and ends of networks that no host on the internet has, as the schemas' usual checker knows them.
_NO_HOST = re.compile(
    r"0\.|10\.|127\.|169\.254\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|22[4-9]\.|2[3-5]\d\.|.*\.(?:0|255)\Z"
)
_TEMPLATE_TEXT = re.compile(r"[^\x00-\x20\"'<>\\^`{|}%]|%[0-9a-f]{2}", re.IGNORECASE)
_TEMPLATE_EXPRESSION = re.compile(
    r"\{[+#./;?&=,!@|]?(?:[a-z0-9_]|%[0-9a-f]{2})+(?::[1-9][0-9]{0,3}|\*)?"
    r"(?:,(?:[a-z0-9_]|%[0-9a-f]{2})+(?::[1-9][0-9]{0,3}|\*)?)*\}",
    re.IGNORECASE,
)


def _is_date(text: str) -> bool:
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    year, month, day = map(int, match.groups())
    # Python knows no year 0; it has the days of any leap year.
    return 1 <= month <= 12 and 1 <= day <= monthrange(year or 2000, month)[1]


def _is_time(text: str, *, zone_needed: bool = True) -> bool:
    match = _TIME.fullmatch(text)
    if match is None or (zone_needed and not match["zone"]):
        return False
    hour, minute, second = int(match[1]), int(match[2]), float(match[3])
    zone_hour, zone_minute = int(match["zh"] or 0), int(match["zm"] or 0)
    if zone_hour > 23 or zone_minute > 59:
        return False
    if hour <= 23 and minute <= 59 and second < 60:
        return True
    # A leap second: the last second of a day in UTC.
    sign = -1 if match["sign"] == "-" else 1
    utc_minutes = (hour - sign * zone_hour) * 60 + minute - sign * zone_minute
    return hour <= 23 and minute <= 59 and utc_minutes % 1440 == 1439 and second < 61


def _is_date_time(text: str, *, zone_needed: bool = True) -> bool:
    parts = re.split(r"t|\s", text, maxsplit=1, flags=re.IGNORECASE)
    return len(parts) == 2 and _is_date(parts[0]) and _is_time(parts[1], zone_needed=zone_needed)


def _is_email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    labels = domain.split(".")
    return (
        bool(at)
        and bool(_LOCAL_PART.fullmatch(local))
        and len(labels) > 1
        and all(_DOMAIN_LABEL.fullmatch(label) for label in labels)
    )


def _is_hostname(text: str) -> bool:
    name = text.removesuffix(".")
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))


def _is_ipv4(text: str) -> bool:
    try:
        return text.isascii() and bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        return "%" not in text and ipaddress.IPv6Address(text) is not None
    except ValueError:
        return False


def _is_uri_reference(text: str) -> bool:
    before, _, fragment = text.partition("#")
    scheme = _URI_SCHEME.match(before)
    rest = before[scheme.end() :] if scheme else before
    brackets = "[" in fragment or "]" in fragment
    return bool(_URI_REST.fullmatch(rest) and _URI_REST.fullmatch(fragment)) and not brackets and _has_host(rest)


def _has_host(rest: str) -> bool:
    """Brackets stand in the host only, round an IP literal; a port is a number."""
    if not rest.startswith("//"):
        return "[" not in rest and "]" not in rest
    authority = re.split("[/?]", rest[2:], maxsplit=1)[0]
    tail = rest[2 + len(authority) :]
    host = re.sub(r":\d*$", "", authority.rpartition("@")[2], flags=re.ASCII)
    if "[" in tail or "]" in tail:
        return False
    if host.startswith("[") and host.endswith("]"):
        return _is_ipv6(host[1:-1]) or bool(re.fullmatch(r"v[0-9a-f]+\..+", host[1:-1], re.IGNORECASE))
    return not set(host) & set(":[]@")


def _is_uri(text: str) -> bool:
    scheme = _URI_SCHEME.match(text)
    # Something has to follow the scheme, and quotation marks stand in no address that is complete.
    if scheme is None or text[scheme.end() : scheme.end() + 1] in ("", "?", "#") or '"' in text:
        return False
    return _is_uri_reference(text)


def _is_url(text: str) -> bool:
    """A web or FTP address that others can reach: a name with a top domain of letters, or a public IPv4 address."""
    scheme = _URL_SCHEME.match(text)
    if scheme is None or re.search(r"\s", text):
        return False
    rest = text[scheme.end() :]
    # Names and passwords may hold anything, so the host follows any of the signs that end them.
    starts = (0, *(sign.end() for sign in re.finditer("(?<=.)@", rest)))
    hosts = (_URL_HOST.match(rest, start) for start in starts)
    return any(host is not None and _is_public_host(host[1]) for host in hosts)


def _is_public_host(host: str) -> bool:
    if _is_ipv4(host):
        return _NO_HOST.match(host) is None
    *labels, top = host.split(".")
    return bool(labels and all(map(_URL_LABEL.fullmatch, labels)) and _TOP_LABEL.fullmatch(top))


def _is_uri_template(text: str) -> bool:
    at = 0
    while at < len(text):
        piece = _TEMPLATE_EXPRESSION.match(text, at) or _TEMPLATE_TEXT.match(text, at)
        if piece is None:
            return False
        at = piece.end()
    return True


def _is_regex(text: str) -> bool:
    # `\\Z` is another language's end of a text; JavaScript reads it as a letter.
    if re.search(r"[^\\]\\Z", text):
        return False
    try:
        return is_pattern(text, unicode=False)
    except InvalidAssertion:
        return False  # longer or deeper than any pattern that could be used here


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _is_integer_below(limit: int) -> Callable[[float], bool]:
    return lambda number: float(number).is_integer() and -limit <= number < limit


TEXT_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date": _is_date,
    "time": _is_time,
    "date-time": _is_date_time,
    "iso-time": lambda text: _is_time(text, zone_needed=False),
    "iso-date-time": lambda text: _is_date_time(text, zone_needed=False),
    "duration": _matches(_DURATION),
    "email": _is_email,
    "hostname": _is_hostname,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "uri": _is_uri,
    "uri-reference": _is_uri_reference,
    "uri-template": _is_uri_template,
    "url": _is_url,
    "uuid": _matches(_UUID),
    "regex": _is_regex,
    "json-pointer": _matches(_POINTER),
    "json-pointer-uri-fragment": _matches(_POINTER_FRAGMENT),
    "relative-json-pointer": _matches(_RELATIVE_POINTER),
    "byte": _matches(_BASE64),
    "binary": lambda _: True,
    "password": lambda _: True,
}

NUMBER_FORMATS: Final[dict[str, Callable[[float], bool]]] = {
    "int32": _is_integer_below(2**31),
    "int64": lambda number: float(number).is_integer(),  # JavaScript's numbers hold no border of its range
    "float": math.isfinite,
    "double": math.isfinite,
}

FORMATS: Final = frozenset(TEXT_FORMATS) | frozenset(NUMBER_FORMATS)
