"""SQL for `is-sql` and `contains-sql`: what their value may say, and whether a text is a statement of a dialect.

sqlglot takes statements apart, in a number of steps that is limited. Where it is more generous than the databases are,
rules of our own stand here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct

from evals.errors import CannotJudge, InvalidAssertion
from evals.javascript import strip
from evals.types import Assertion

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.parser import Parser

_MOST_CHARACTERS = 8_000
_MOST_NESTING = 25  # of brackets; the parser takes some 25 of Python's 1,000 frames for each
# The parser goes back and tries again, in the worst case without end; usual statements take one step for each token.
_STEPS_PER_TOKEN = 2
_FURTHER_STEPS = 1_000
_MOST_PATTERNS = 100
_MOST_PATTERN_CHARACTERS = 200

# promptfoo's names of databases, in small letters -> sqlglot's. "" is what all dialects have in common.
DIALECTS = {
    "athena": "athena", "bigquery": "bigquery", "db2": "", "flinksql": "", "hive": "hive", "mariadb": "mysql",
    "mysql": "mysql", "noql": "mysql", "postgresql": "postgres", "redshift": "redshift", "snowflake": "snowflake",
    "sqlite": "sqlite", "transactsql": "tsql", "trino": "trino",
}  # fmt: skip
_SHOWN_NAMES = (
    "Athena", "BigQuery", "DB2", "FlinkSQL", "Hive", "MariaDB", "MySQL", "Noql", "PostgresQL", "Redshift", "Snowflake",
    "Sqlite", "TransactSQL", "Trino",
)  # fmt: skip
_KEYS = frozenset(("databaseType", "allowedTables", "allowedColumns"))

# A comma is missing, most likely; in SQL the second word is a new name for the first.
_MISSING_COMMA = re.compile(r"\bselect\s++(?!(?:distinct|all|top|as)\b)\w++\s++(?!as\b)\w++\s++from\b", re.IGNORECASE)

# Statements that the library keeps as unread commands, put as others that are built alike.
_CALL = re.compile(r"(^|;)\s*call\s(?=\s*[\w.`]+\s*\()", re.IGNORECASE)
_REPLACE = re.compile(r"(^|;)\s*replace\s(?=\s*into\b)", re.IGNORECASE)


class Access(Struct, frozen=True):
    """One use of a table or a column: `select::null::users`, as the allow-lists are written."""

    kind: str  # select, update, delete, insert, create, drop, alter, truncate
    owner: str  # the database of a table, the table of a column; "null" where the statement names none
    name: str

    def __str__(self) -> str:
        return f"{self.kind}::{self.owner}::{self.name}"


class Database(Struct, frozen=True, kw_only=True):
    """The value: a dialect, and patterns of what statements may use (None: anything)."""

    name: str = "MySQL"
    tables: tuple[re.Pattern[str], ...] | None = None
    columns: tuple[re.Pattern[str], ...] | None = None


def require_database(spec: Assertion) -> Database:
    """The value, an object; MySQL and no limits without one. Raises InvalidAssertion."""
    value = spec.value
    if value is UNSET or value is None:
        return Database()
    if not isinstance(value, dict) or value.keys() - _KEYS:
        raise InvalidAssertion(
            f"{spec.type}: `value` must be an object with `databaseType`, `allowedTables` or `allowedColumns`"
        )
    name = value.get("databaseType", "MySQL")
    if not isinstance(name, str) or name.lower() not in DIALECTS:
        raise InvalidAssertion(f"{spec.type}: `databaseType` must be one of {', '.join(_SHOWN_NAMES)}")
    return Database(
        name=name,
        tables=_read_patterns(spec, value.get("allowedTables"), key="allowedTables"),
        columns=_read_patterns(spec, value.get("allowedColumns"), key="allowedColumns"),
    )


class NotSql(Exception):
    """The text is no statement that is allowed; the message says why."""


def require_sql(text: str, database: Database, *, type_: str) -> None:
    """Returns when the text is one or more statements that are allowed.

    Raises NotSql when it is not, CannotJudge when it is too long or too involved to tell.
    """
    if len(text) > _MOST_CHARACTERS:
        raise CannotJudge(f"{type_}: the SQL has more than {_MOST_CHARACTERS:,} characters")
    text = strip(text)
    if text.count("`") % 2:
        raise NotSql("a back-tick is not closed")
    if _MISSING_COMMA.search(text):
        raise NotSql("two words stand between SELECT and FROM; a comma or AS is missing")
    try:
        statements = _parse(text, DIALECTS[database.name.lower()])
    except RecursionError:
        raise CannotJudge(f"{type_}: the SQL is nested too deeply to be read") from None
    except _TooInvolved:
        raise CannotJudge(f"{type_}: the SQL is too involved to be read") from None
    for statement in statements:
        _require_statement(statement, database)
        _require_allowed(statement, database)


# --- taking statements apart


class _TooInvolved(Exception):
    """The parser has used up its steps."""


@cache
def _parser_class(dialect: str) -> Any:
    """A parser of the dialect that counts its steps, and refuses what it would keep as an unread command.

    Any: the class is made at run time.
    """
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.errors import ParseError

    base: type[Parser] = Dialect.get_or_raise(dialect).parser_class

    class Bounded(base):  # type: ignore[misc, valid-type]  # the base is known at run time only
        steps = _FURTHER_STEPS

        def _advance(self, times: int = 1) -> None:
            self.steps -= 1
            if self.steps < 0:
                raise _TooInvolved
            super()._advance(times)

        def _warn_unsupported(self) -> None:
            # The library would log a piece of the statement here, and take any words for a command.
            raise ParseError("not read")

    return Bounded


def _parse(text: str, dialect: str) -> list[exp.Expression]:
    """The statements. Raises NotSql, _TooInvolved or RecursionError."""
    # Imported late: it takes a quarter of a second, and few suites use it.
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.errors import SqlglotError

    known = Dialect.get_or_raise(dialect)
    text = _CALL.sub(r"\1 SELECT ", text)
    if dialect in ("mysql", "sqlite"):
        text = _REPLACE.sub(r"\1 INSERT ", text)
    try:
        tokens = known.tokenize(text)
        _refuse_brackets(tokens, dialect)
        _refuse_deep_nesting(tokens)
        parser = _parser_class(dialect)(dialect=known)
        parser.steps += _STEPS_PER_TOKEN * len(tokens)
        parsed = parser.parse(tokens, text)
    except SqlglotError:
        raise NotSql("it does not follow the syntax") from None
    statements: list[exp.Expression] = [statement for statement in parsed if statement is not None]
    if not statements:
        raise NotSql("it holds no statement")
    return statements


def _refuse_brackets(tokens: Sequence[Any], dialect: str) -> None:
    """MySQL has no square brackets; in PostgreSQL they follow a value or ARRAY."""
    if dialect not in ("mysql", "postgres", "redshift"):
        return
    before = ""
    for token in tokens:
        kind = token.token_type.name
        starts_value = before not in ("VAR", "IDENTIFIER", "R_PAREN", "R_BRACKET", "ARRAY", "STRING")
        if kind == "L_BRACKET" and (dialect == "mysql" or starts_value):
            raise NotSql("square brackets stand where this database has none")
        before = kind


def _refuse_deep_nesting(tokens: Sequence[Any]) -> None:
    """Raises _TooInvolved before the parser would run into Python's own limit."""
    depth = 0
    for token in tokens:
        kind = token.token_type.name
        depth += kind.startswith("L_") - kind.startswith("R_")
        if depth > _MOST_NESTING:
            raise _TooInvolved


def _require_statement(statement: exp.Expression, database: Database) -> None:
    """Raises NotSql for what the library takes and no database does: `hello world`, say, is a column to it."""
    from sqlglot import exp

    whole = (
        exp.Query, exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.TruncateTable,
        exp.Use, exp.Set, exp.Show, exp.Describe, exp.Transaction, exp.Commit, exp.Rollback, exp.Grant, exp.Revoke,
        exp.Pragma, exp.Comment, exp.Analyze, exp.Kill, exp.Values,
    )  # fmt: skip
    if not isinstance(statement, whole):
        raise NotSql("it is no statement")
    if isinstance(statement, exp.Insert) and not (statement.expression or statement.args.get("default")):
        raise NotSql("INSERT has no values")
    if isinstance(statement, exp.Delete) and not isinstance(statement.this, exp.Table):
        raise NotSql("DELETE has no FROM")
    if isinstance(statement, exp.Use) and not (isinstance(statement.this, exp.Table) and not statement.this.alias):
        raise NotSql("USE needs one name")
    if isinstance(statement, exp.Describe) and not isinstance(statement.this, exp.Query | exp.Table | exp.DML):
        raise NotSql("nothing is described")
    if isinstance(statement, exp.Describe) and statement.expressions:
        raise NotSql("more follows than what is described")
    for select in statement.find_all(exp.Select):
        if not select.expressions:
            raise NotSql("SELECT has no columns")
    if DIALECTS[database.name.lower()] == "mysql" and any(
        isinstance(table.this, exp.Func) and not isinstance(table.this, exp.JSONTable)
        for table in statement.find_all(exp.Table)
    ):
        raise NotSql("a function stands in place of a table")


# --- what statements may use


def _read_patterns(spec: Assertion, value: object, *, key: str) -> tuple[re.Pattern[str], ...] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list | tuple)
        or len(value) > _MOST_PATTERNS
        or not all(isinstance(item, str) and 0 < len(item) <= _MOST_PATTERN_CHARACTERS for item in value)
    ):
        raise InvalidAssertion(
            f"{spec.type}: `{key}` must be a list of at most {_MOST_PATTERNS} patterns such as select::null::users"
        )
    return tuple(_compile(item, type_=spec.type, key=key) for item in (*value, *_unnamed(value, key=key)))


def _unnamed(patterns: Sequence[str], *, key: str) -> Iterator[str]:
    """What allows a table's column allows it where the statement does not say whose it is."""
    for pattern in patterns if key == "allowedColumns" else ():
        parts = pattern.split("::")
        if len(parts) == 3 and parts[1] != "null":
            yield f"{parts[0]}::null::{parts[2]}"


def _compile(source: str, *, type_: str, key: str) -> Any:
    """re2's pattern, which takes linear time whatever it says; its class has no static type."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    options.never_capture = True
    try:
        return re2.compile(f"^(?:{source})$", options)
    except re2.error:
        raise InvalidAssertion(f"{type_}: `{key}` holds an invalid pattern: {source[:80]!r}") from None


def _require_allowed(statement: exp.Expression, database: Database) -> None:
    """Raises NotSql that names what the allow-lists do not hold."""
    for what, used, allowed in (
        ("table", _tables(statement), database.tables),
        ("column", _columns(statement), database.columns),
    ):
        if allowed is None:
            continue
        for access in used:
            if not any(pattern.search(str(access)) for pattern in allowed):
                raise NotSql(f"it uses the {what} {access!s:.80}, which is not allowed")


def _tables(statement: exp.Expression) -> Iterator[Access]:
    from sqlglot import exp

    names = {cte.alias for cte in statement.find_all(exp.CTE)}
    for table in statement.find_all(exp.Table):
        if table.name and (table.db or table.name not in names):
            yield Access(_kind_of(table), table.db or "null", table.name)


def _columns(statement: exp.Expression) -> Iterator[Access]:
    from sqlglot import exp

    tables = {table.alias_or_name: table.name for table in statement.find_all(exp.Table)}
    for column in statement.find_all(exp.Column):
        name = "(.*)" if isinstance(column.this, exp.Star) else column.name
        yield Access(_kind_of(column), tables.get(column.table, column.table) or "null", name)
    for changed in statement.find_all(exp.Delete, exp.Insert):
        if isinstance(changed.this, exp.Table):  # an INSERT that names its columns has a schema there
            yield Access("delete" if isinstance(changed, exp.Delete) else "insert", changed.this.name, "(.*)")
    for added in statement.find_all(exp.ColumnDef):
        yield Access("create", "null", added.name)
    for star in statement.find_all(exp.Star):
        if isinstance(star.parent, exp.Select):
            yield Access("select", "null", "(.*)")
    for schema in statement.find_all(exp.Schema):
        for name in schema.expressions:
            if isinstance(name, exp.Identifier):
                yield Access(_kind_of(schema), tables.get(schema.this.name, "") or "null", name.name)


def _kind_of(part: exp.Expression) -> str:
    """What the nearest statement around does: a table that is read within an INSERT is selected from."""
    from sqlglot import exp

    kinds = {
        exp.Select: "select", exp.Insert: "insert", exp.Update: "update", exp.Delete: "delete", exp.Create: "create",
        exp.Drop: "drop", exp.Alter: "alter", exp.TruncateTable: "truncate", exp.Merge: "update",
    }  # fmt: skip
    around = part.parent
    while around is not None:
        for statement, kind in kinds.items():
            if isinstance(around, statement):
                return kind
        around = around.parent
    return "select"
