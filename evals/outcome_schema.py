"""The outcome's JSON Schema: `python -m evals.outcome_schema > notifiers/outcome.schema.json`."""

from __future__ import annotations

import json
import sys

import msgspec

from evals.outcome import Outcome


def outcome_schema() -> str:
    """JSON Schema (2020-12) of the outcome, as text. Fields that are not in it may be there: readers ignore them."""
    schema = msgspec.json.schema(Outcome)
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Outcome of a test job", **schema}
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(outcome_schema())
