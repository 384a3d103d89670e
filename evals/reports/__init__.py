"""The family of reports: one file turns an outcome into one format.

To add one, put a file here with a function and `@report(name, extensions=("ext",), media_type=...)`. It gets a
`Reported` and returns the file's bytes; whatever stands in titles, reasons and answers is hostile. Nothing else is
edited: `prpm test --output out.ext` finds it, and the family's contract test runs over it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from evals.errors import EngineError
from evals.outcome import Outcome, Row, gated_row
from evals.plugins import Registry
from evals.scoring import gated_state
from evals.types import State


class UnknownReport(EngineError):
    """No format has this extension."""


class InvalidOutcome(EngineError):
    """A document is not an outcome."""


class Reported(Struct, frozen=True):
    """What a report is made of: the outcome, and the whole document that it was read from."""

    outcome: Outcome
    document: dict[str, Any]


Render = Callable[[Reported], bytes]


class Report(Struct, frozen=True, kw_only=True):
    """One format. `extensions` are without the dot, in lower case; `summary` is one sentence."""

    name: str
    extensions: tuple[str, ...]
    media_type: str
    summary: str
    render: Render


REPORTS: Registry[Report] = Registry(__name__)


def report(name: str, *, extensions: tuple[str, ...], media_type: str) -> Callable[[Render], Render]:
    """Register a format; the function's docstring says what is in the file."""

    def register(render: Render) -> Render:
        summary = (render.__doc__ or "").strip().split("\n")[0]
        REPORTS.register(
            name,
            Report(name=name, extensions=extensions, media_type=media_type, summary=summary, render=render),
        )
        return render

    return register


def find_report(file_name: str) -> Report:
    """The format of a file by its extension, in any case. Raises UnknownReport that lists the known ones."""
    extension = file_name.lower().rpartition(".")[2] if "." in file_name else ""
    for known in REPORTS.values():
        if extension in known.extensions:
            return known
    names = ", ".join(f".{extension}" for known in REPORTS.values() for extension in known.extensions)
    raise UnknownReport(f"{file_name[:200]} has no extension of a report; known are {names}.")


def read_reported(body: bytes, *, name: str = "The document") -> Reported:
    """The outcome in this JSON. Raises InvalidOutcome."""
    try:
        return Reported(msgspec.json.decode(body, type=Outcome), msgspec.json.decode(body, type=dict[str, Any]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidOutcome(
            f"{name} is not an outcome of `prpm test`. Make one with `prpm test ... --output outcome.json`.",
            [str(error)[:200]],
        ) from None


def shown_state(row: Row) -> State:
    """How a row counts for the conclusion; a failed row that decides nothing is `skipped`, never a false green."""
    counted = gated_state(gated_row(row))
    if row.state == "failed" and (row.quarantined is True or counted == "passed"):
        return "skipped"
    return counted
