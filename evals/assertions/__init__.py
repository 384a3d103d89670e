"""The family of assertions. To add one, put a file here; nothing else is edited.

    @assertion("starts-with", check=require_text)
    def starts_with(answer: Answer, spec: Assertion) -> Judgement:
        ...

`not-<name>` exists for every name: the engine turns the judgement round unless it is `final`.
What takes longer than a few milliseconds is an `async def`, so that other trials go on (`evals/killable.py` runs it
elsewhere). A graded assertion is an `async def` that takes a third argument, the Judge; it asks through
`_opinions.py`, which shows what is graded as data. The best word of a schema's `enum` stands first. One that `compares`
takes all answers to a case and gives a judgement for each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from evals.plugins import Registry
from evals.types import Assertion, Completion, JsonValue, Message


class Answer(Struct, frozen=True, kw_only=True):
    """What is judged: the text, and what was asked and reported beside it."""

    text: str
    question: str = ""  # the last thing the user said, for graded assertions
    vars: dict[str, JsonValue] = {}
    completion: Completion | None = None
    is_text: bool = True  # False where a model gave no text but a value; `text` then shows it as JSON


class Judgement(Struct, frozen=True, kw_only=True):
    """`score` is 0..1; `reason` states a fact that stays true when `not-` turns the judgement round.

    `final` keeps `not-` from turning it.
    """

    passed: bool
    score: float
    reason: str
    final: bool = False


Vector = tuple[float, ...]


class Judge(Protocol):
    """Asks a model for a graded opinion."""

    async def ask(self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None) -> dict[str, Any]:
        """The judge's answer, valid by `schema` (JSON Schema, object). Asks again once.

        Raises CannotJudge(kind="judge" or "timeout").
        """

    async def embed(self, texts: tuple[str, ...], *, model: str | None) -> tuple[Vector, ...]:
        """A vector for each text, all equally long, by an embedding model. Raises CannotJudge, as `ask`."""

    def again(self, times: int) -> Judge:
        """The same judge, asked for one more opinion on the same, which no kept first one stands for."""


Deterministic = Callable[[Answer, Assertion], Judgement | Awaitable[Judgement]]
Graded = Callable[[Answer, Assertion, Judge], Awaitable[Judgement]]
Comparing = Callable[[Sequence[Answer], Assertion, Judge], Awaitable[list[Judgement]]]


class AssertionType(Struct, frozen=True, kw_only=True):
    """One entry of the family.

    `check` raises InvalidAssertion when the value cannot be used, before any call is made;
    what it returns is ignored.
    """

    name: str
    summary: str  # first line of the function's docstring
    judge: Deterministic | Graded | Comparing
    check: Callable[[Assertion], object] | None = None
    graded: bool = False
    asks: bool = False  # a judge model is asked, so that several may vote
    embeds: bool = False  # an embedding model is asked
    compares: bool = False  # judges all answers to a case against each other
    runs_code: bool = False  # the author's code: refused unless the one who runs the suite allows it
    needs_fresh: bool = False  # judges the call and not the answer, so a kept answer tells nothing
    slow: bool = False  # even a short answer may take more than a few milliseconds: asked beside the event loop


ASSERTIONS: Registry[AssertionType] = Registry("evals.assertions")


def assertion(
    name: str,
    *,
    check: Callable[[Assertion], object] | None = None,
    graded: bool = False,
    asks: bool | None = None,
    embeds: bool = False,
    compares: bool = False,
    runs_code: bool = False,
    needs_fresh: bool = False,
    slow: bool = False,
) -> Callable[[Any], Any]:
    """Register a function as the assertion `name`. A graded one `asks` a judge model unless it says otherwise."""

    def register(function: Any) -> Any:
        summary = (function.__doc__ or "").strip().splitlines()
        ASSERTIONS.register(
            name,
            AssertionType(
                name=name,
                summary=summary[0] if summary else "",
                judge=function,
                check=check,
                graded=graded,
                asks=graded if asks is None else asks,
                embeds=embeds,
                compares=compares,
                runs_code=runs_code,
                needs_fresh=needs_fresh,
                slow=slow,
            ),
        )
        return function

    return register
