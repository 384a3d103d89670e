"""Reads the blocks of a noun's `.sql` file: `-- name: claim_job`, what it is for, the statement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent
NAME = re.compile(r"^-- name: ([a-z_]+)\n", re.MULTILINE)


def read_queries(noun: str) -> Mapping[str, str]:
    """Block name -> statement of `server/store/<noun>.sql`."""
    parts = NAME.split((FOLDER / f"{noun}.sql").read_text())[1:]
    return {name: statement.strip() for name, statement in zip(parts[::2], parts[1::2], strict=True)}


def nouns() -> list[str]:
    """Every noun that has statements."""
    return sorted(path.stem for path in FOLDER.glob("*.sql") if path.stem != "schema")
