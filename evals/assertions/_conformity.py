"""JSON Schemas in values of assertions: read, and asked about values of one answer with one time limit for all."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from evals.assertions import Judgement
from evals.errors import CannotJudge, InvalidAssertion
from evals.killable import off_the_loop
from evals.turns import Turns
from evals.types import Assertion, JsonValue

if TYPE_CHECKING:
    from evals.schemas import Schema

_CPU_SECONDS = 0.4  # before the last value, which may take half a second more
_WAITING_SECONDS = 10.0  # for patterns that run in another process, where others wait too


def schema_of(value: str | dict[str, Any]) -> Schema:
    """The schema, ready to use. Raises InvalidAssertion."""
    # Here, as the library takes a sixth of what a run on one's own machine takes to start, and few suites have schemas.
    from evals.schemas import compile_schema

    return compile_schema(value)


def read_schema(spec: Assertion) -> Schema | None:
    """The schema in the value, None without one. Raises InvalidAssertion."""
    if spec.value is UNSET or spec.value is None or spec.value == "":
        return None
    if not isinstance(spec.value, dict | str):
        raise InvalidAssertion(f"{spec.type}: `value` must be a JSON schema: an object, or a text of JSON or YAML")
    try:
        return schema_of(spec.value)
    except InvalidAssertion as error:
        raise InvalidAssertion(f"{spec.type}: {error.message}") from None


class Conformity:
    """Asks schemas about values until the time is used up; made anew for each answer."""

    def __init__(self, spec: Assertion) -> None:
        self._type = spec.type
        self._turns = Turns()
        self._cpu_ends = time.thread_time() + _CPU_SECONDS
        self._ends = time.monotonic() + _WAITING_SECONDS

    def step(self) -> None:
        """Raises CannotJudge when the time is used up."""
        if self._turns.step() > self._cpu_ends or time.monotonic() > self._ends:
            raise CannotJudge(f"{self._type}: the answer takes too long to be read; ask for a shorter one")

    def problem_with(self, value: JsonValue, schema: Schema) -> str | None:
        """What keeps the value from conforming, or None. Raises CannotJudge."""
        self.step()
        try:
            return schema.problem_with(value)
        except CannotJudge as error:
            raise CannotJudge(f"{self._type}: {error.message}") from None


def judge_by(judge: Callable[[], Judgement], *schemas: Schema | None) -> Judgement | Awaitable[Judgement]:
    """The judgement at once, or later when a schema's patterns need the process that can be killed."""
    if all(schema is None or schema.is_linear for schema in schemas):
        return judge()
    return off_the_loop(judge)
