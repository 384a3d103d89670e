"""Server-sent events, as far as the service sends them. Pure: lines in, events out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from cli.errors import InvalidAnswer

# The last event holds the job's summary; more is none of ours.
MOST_CHARACTERS = 1_000_000


class ServerEvent(Struct, frozen=True, kw_only=True):
    """One event."""

    id: str
    name: str
    data: str


def read_events(lines: Iterable[str]) -> Iterator[ServerEvent | None]:
    """Each event when it is whole; None for a comment or hint, which only says that the other side is there.

    An event that is cut off is left out, as the specification says. Raises InvalidAnswer for one without an end.
    """
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in fields:
                yield ServerEvent(id=fields.get("id", ""), name=fields.get("event", "message"), data=fields["data"])
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name in ("", "retry"):
            yield None
        elif name == "data" and "data" in fields:
            fields["data"] += "\n" + value
        else:
            fields[name] = value
        if sum(map(len, fields.values())) > MOST_CHARACTERS:
            raise InvalidAnswer("The server sent an event that has no end.")
