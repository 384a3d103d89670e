"""What the worst answers cost: every deterministic assertion on texts made to keep it busy, the event loop watched.

Values and texts are the same for all types; a type is asked with every value that its own check accepts, so that a new
one is measured without a change here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from msgspec import UNSET, Struct

from benchmarks.tables import Line, Table
from evals.assertions import ASSERTIONS, Answer
from evals.errors import InvalidAssertion
from evals.grading import check_assertion, grade
from evals.types import Assertion, Case, Completion

MOST_CPU_SECONDS = 1.0
MOST_LAG_SECONDS = 0.05
TRIES = 3  # of what breaks a bound: the machine may have been busy
TICK_SECONDS = 0.002

# Repeated up to each size; the sizes lie just below the limits of one assertion or another.
UNITS = (
    "a", "a ", "\n", "{", '{"a":', '{"a":1}', "[", "[1,", '"', '","', "(", "((1)", "<", "<a>", "<a/>", "</a>", "<a><b>",
    "<div>", "<p>", "<!--", '<a b="', "<svg><b/>", "&amp;", "'", "a' ", "...", "SELECT 1;", "-", "1+", "😀", "İ",
    "i cannot ", "```sql\nSELECT\n```\n",
)  # fmt: skip
SIZES = (8_000, 50_000, 100_000, 500_000)
# Statements whose parts double the time of a careless parser, and objects that a schema can walk for ever.
WHOLE_TEXTS = (
    "SELECT * FROM t" + " JOIN t" * 30,
    "SELECT " + "a," * 3_990 + "a",
    "SELECT a" + "<a" * 3_990,
    '{"a":' * 900 + "1" + "}" * 900,
    "[" + ",".join(f'{{"type":"tool_use","name":"f{number}"}}' for number in range(20_000)) + "]",
    "[" + ",".join('{"function":{"name":"f0","arguments":"{}"}}' for _ in range(10_000)) + "]",
    "{" + ",".join(f'"a{number}":{{"a":1}}' for number in range(30_000)) + "}",
    "<root>" + "<item><name/></item>" * 4_900 + "</root>",
    '<!DOCTYPE a [<!ENTITY x "' + "x" * 1_000 + '"><!ENTITY y "' + "&x;" * 1_000 + '">]><a>&y;&y;</a>',
)

_TWICE: dict[str, Any] = {"anyOf": [{"additionalProperties": {"$ref": "#/definitions/n"}}] * 2, "required": ["z"]}
VALUES: tuple[Any, ...] = (
    UNSET,
    "a",
    3,
    "(a+)+$",
    "(x|x|a?)*y{500}",
    "a" * 5_000,
    ["a b c d " * 3_000] * 2,
    [f"root.item.name.x{number}" for number in range(50)],
    {"definitions": {"n": _TWICE}, "$ref": "#/definitions/n"},
    {"type": "object", "patternProperties": {"(a+)+$": {"type": "integer", "multipleOf": 1e-300}}},
    {"databaseType": "Snowflake", "allowedTables": [f"select::null::(a+)+x{number}" for number in range(100)]},
    [{"function": {"name": "f0", "parameters": {"definitions": {"n": _TWICE}, "type": "object"}}}],
    {"min": 1, "max": 5},
)


class Cost(Struct, frozen=True, order=True):
    """Seconds of the processor and of the longest wait of the event loop, for one text."""

    cpu: float
    lag: float


class Worst(Struct, frozen=True):
    """The largest figures of one type, which may come from different texts."""

    cpu: float = 0.0
    lag: float = 0.0
    runs: int = 0

    def with_cost(self, cost: Cost) -> Worst:
        return Worst(max(self.cpu, cost.cpu), max(self.lag, cost.lag), self.runs + 1)


def measure() -> Table:
    """Every type's worst case, beside a substring that is looked for in the same texts."""
    worst = {name: asyncio.run(worst_of(name)) for name, entry in ASSERTIONS.items() if not entry.graded}
    return table(worst)


def table(worst: dict[str, Worst]) -> Table:
    """The figures as promised."""
    lines = [_processor_line(name, figures, worst["contains"]) for name, figures in worst.items()]
    slowest = max(worst, key=lambda name: worst[name].lag)
    return Table(
        title="hostile",
        how=f"Each deterministic assertion on {len(UNITS)} pieces of text repeated up to {SIZES[-1]:,} characters and "
        f"on {len(WHOLE_TEXTS)} texts made for one of them, with each of the {len(VALUES)} values it accepts: the most "
        "processor time of one answer, and the longest that the event loop was kept waiting meanwhile. Time that other "
        "programs on the machine took does not count as waiting.",
        lines=(*lines, _loop_line(slowest, worst[slowest], worst["contains"])),
        notes=(f"{sum(figures.runs for figures in worst.values()):,} answers were judged.",),
    )


def _processor_line(name: str, figures: Worst, plain: Worst) -> Line:
    return Line(
        what=f"`{name}`, processor", measured=figures.cpu * 1_000, against="`contains`", control=plain.cpu * 1_000,
        unit="ms", bound=f"≤ {MOST_CPU_SECONDS * 1_000:,.0f} ms", holds=figures.cpu <= MOST_CPU_SECONDS,
    )  # fmt: skip


def _loop_line(name: str, figures: Worst, plain: Worst) -> Line:
    return Line(
        what=f"event loop, the worst of all (`{name}`)", measured=figures.lag * 1_000, against="`contains`",
        control=plain.lag * 1_000, unit="ms", bound=f"≤ {MOST_LAG_SECONDS * 1_000:g} ms",
        holds=figures.lag <= MOST_LAG_SECONDS,
    )  # fmt: skip


async def worst_of(name: str) -> Worst:
    """The largest figures of a type. The first answer is not counted: a library may be loaded for it."""
    worst = Worst()
    for assertion in assertions_of(name):
        await cost_of(assertion, "a")
        for text in texts():
            worst = worst.with_cost(await steady_cost_of(assertion, text))
    return worst


def assertions_of(name: str) -> list[Assertion]:
    """The type with every value that it can be asked with."""
    candidates = [Assertion(type=name, value=value, threshold=0.5) for value in VALUES]
    return [candidate for candidate in candidates if _is_usable(candidate)]


def _is_usable(assertion: Assertion) -> bool:
    try:
        check_assertion(assertion)
    except InvalidAssertion:
        return False
    return True


def texts() -> Iterator[str]:
    """All hostile answers."""
    yield from WHOLE_TEXTS
    for unit in UNITS:
        for size in SIZES:
            yield unit * (size // len(unit))


async def steady_cost_of(assertion: Assertion, text: str) -> Cost:
    """The cost, taken again when it breaks a bound: each figure is the smallest of some tries."""
    cost = await cost_of(assertion, text)
    for _ in range(TRIES - 1):
        if cost.cpu <= MOST_CPU_SECONDS and cost.lag <= MOST_LAG_SECONDS:
            break
        again = await cost_of(assertion, text)
        cost = Cost(min(cost.cpu, again.cpu), min(cost.lag, again.lag))
    return cost


async def cost_of(assertion: Assertion, text: str) -> Cost:
    """What one answer costs, judged as in a run."""
    completion = Completion(text=text, answered_by="hostile", duration_ms=1, cost_usd=0.1, logprobs=(-1.0,) * 1_000)
    case = Case(title="hostile", messages=(), assertions=(assertion,))
    watch = asyncio.create_task(_longest_wait())
    await asyncio.sleep(TICK_SECONDS)
    began = time.process_time()
    await grade(case, Answer(text=text, completion=completion), None)
    cpu = time.process_time() - began
    await asyncio.sleep(0)
    watch.cancel()
    return Cost(cpu, await watch)


async def _longest_wait() -> float:
    """Seconds by which the event loop was late at most, until it is cancelled.

    Of the time that passed and the time that this process used, the smaller: whatever is beyond the latter was other
    programs'.
    """
    longest = 0.0
    try:
        while True:
            began, used = time.monotonic(), time.process_time()
            await asyncio.sleep(TICK_SECONDS)
            longest = max(longest, min(time.monotonic() - began - TICK_SECONDS, time.process_time() - used))
    except asyncio.CancelledError:
        return max(longest, min(time.monotonic() - began - TICK_SECONDS, time.process_time() - used))
