"""`contains-sql`: SQL stands in the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._sql import Database, NotSql, require_database, require_sql
from evals.errors import CannotJudge
from evals.types import Assertion

_MOST_BLOCKS = 10
_MOST_CHARACTERS = 8_000  # of all blocks together
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[ \t]*\r?$", re.MULTILINE)
# What a block of SQL is called; one without a name may be SQL as well.
_LANGUAGES = frozenset(
    ("", "sql", "mysql", "postgresql", "postgres", "pgsql", "plpgsql", "psql", "sqlite", "tsql", "plsql", "bigquery")
)


@assertion("contains-sql", check=require_database, slow=True)
def contains_sql(answer: Answer, spec: Assertion) -> Judgement:
    """A fenced block of the answer, or the whole of it, is SQL of the database in `value` (MySQL)."""
    database = require_database(spec)
    problem = "it is empty"
    for candidate in _candidates(answer.text, type_=spec.type):
        problem = _problem_with(candidate, database, type_=spec.type)
        if not problem:
            return Judgement(passed=True, score=1.0, reason=f"the answer contains {database.name} as asked for")
    return Judgement(
        passed=False, score=0.0, reason=f"the answer does not contain the {database.name} asked for: {problem}"
    )


def _problem_with(text: str, database: Database, *, type_: str) -> str:
    try:
        require_sql(text, database, type_=type_)
    except NotSql as error:
        return str(error)
    return ""


def _candidates(text: str, *, type_: str) -> Iterator[str]:
    """The fenced blocks of SQL, else the whole text. Raises CannotJudge when there is too much of it."""
    blocks = [block for language, block in _blocks(text) if language.lower() in _LANGUAGES]
    if len(blocks) > _MOST_BLOCKS or sum(map(len, blocks)) > _MOST_CHARACTERS:
        raise CannotJudge(f"{type_}: the answer holds more than {_MOST_CHARACTERS:,} characters of SQL")
    yield from blocks or [text]


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block. One that is not closed is none: what it would hold was cut off."""
    opening: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opening is None:
            opening = fence
        elif not fence[1]:
            yield opening[1], text[opening.end() : fence.start()]
            opening = None
