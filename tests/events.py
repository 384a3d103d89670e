"""Server-sent events as a reader gets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of a stream."""

    id: str
    name: str
    data: dict[str, Any]


@contextmanager
def events_of(client: httpx.Client, job_id: str, *, after: str | None = None) -> Iterator[Iterator[Event]]:
    """The job's events as they come, from behind the id `after`."""
    headers = {"Last-Event-ID": after} if after is not None else {}
    with client.stream("GET", f"/api/v1/test-jobs/{job_id}/events", headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield read_events(response.iter_lines())


def all_events(client: httpx.Client, job_id: str, *, after: str | None = None) -> list[Event]:
    """Every event until the stream ends."""
    with events_of(client, job_id, after=after) as events:
        return list(events)


def read_events(lines: Iterator[str]) -> Iterator[Event]:
    """Events of a stream; comments and the retry hint are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "event" in fields:
                yield Event(id=fields["id"], name=fields["event"], data=json.loads(fields["data"]))
            fields = {}
