"""JSON: the whole outcome, in the canonical form that signatures are made over."""

from __future__ import annotations

from evals.canonical import canonical_json
from evals.reports import Reported, report


@report("json", extensions=("json",), media_type="application/json")
def render(reported: Reported) -> bytes:
    """The outcome as it is, every field."""
    return canonical_json(reported.document)
