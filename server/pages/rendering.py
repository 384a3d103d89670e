"""Turns a template and its values into a page. Everything is escaped; no page has a script."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Response

FOLDER = Path(__file__).parent / "templates"


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["percent"] = lambda score: f"{score * 100:.0f}%"
    templates.filters["score"] = score
    templates.filters["seconds"] = lambda milliseconds: f"{milliseconds / 1000:.1f}s"
    templates.filters["thousands"] = lambda count: f"{count:,}"
    templates.filters["visible"] = visible
    templates.filters["age"] = age
    return templates


def score(summary: Any) -> str:
    """The score of a job's summary: `81%`, or `–` where no row has a verdict to be scored by."""
    without = summary.tests_errored + summary.tests_skipped
    return f"{summary.overall_score * 100:.0f}%" if without < summary.total_tests else "–"


def age(moment: str, now: datetime) -> str:
    """How long ago an ISO time was, in its largest unit: `3 days`."""
    seconds = max((now - datetime.fromisoformat(moment)).total_seconds(), 0.0)
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}" + ("" if count == 1 else "s")
    return "less than a minute"


def visible(text: str) -> str:
    """Text from models and packages without control and direction characters, which could make it look otherwise."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)


def render(template: str, *, status: int = 200, **values: Any) -> Response[bytes]:
    """The page as an answer."""
    text = _templates().get_template(template).render(**values)
    return Response(text.encode(errors="replace"), media_type=MediaType.HTML, status_code=status)


def render_text(template: str, **values: Any) -> bytes:
    """The page's bytes."""
    return _templates().get_template(template).render(**values).encode(errors="replace")
