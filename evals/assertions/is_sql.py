"""`is-sql`: the whole answer is SQL."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._sql import NotSql, require_database, require_sql
from evals.types import Assertion


@assertion("is-sql", check=require_database, slow=True)
def is_sql(answer: Answer, spec: Assertion) -> Judgement:
    """The whole answer is SQL of the database in `value` (MySQL), and uses only what its lists allow."""
    database = require_database(spec)
    try:
        require_sql(answer.text, database, type_=spec.type)
    except NotSql as error:
        return Judgement(passed=False, score=0.0, reason=f"the answer is not the {database.name} asked for: {error}")
    return Judgement(passed=True, score=1.0, reason=f"the answer is {database.name} as asked for")
