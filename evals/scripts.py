"""JavaScript, run by QuickJS in a process that can be killed: patterns that re2 cannot run, and authors' code."""

from __future__ import annotations

import json
from typing import Final

from evals.errors import CannotJudge
from evals.killable import Broke, Killable, TookTooLong

PATTERN_SECONDS: Final = 1.0  # of one search; no pattern that anybody means takes a hundredth of it

QUICKJS: Final = Killable("evals.quickjs_program")


def search(source: str, *, unicode: bool, text: str, seconds: float = PATTERN_SECONDS) -> bool:
    """Whether JavaScript finds the pattern in the text. Blocks for `seconds` at most, once it is its turn.

    Raises CannotJudge when the pattern takes longer, uses too much memory, or is refused by the engine.
    """
    flags = "u" if unicode else ""
    answer = evaluate(f"new RegExp({_literal(source)}, '{flags}').test({_literal(text)})", seconds=seconds)
    return answer is True


def evaluate(code: str, *, seconds: float) -> object:
    """The value (a text, number or boolean) of a script in ASCII. Raises CannotJudge, as `search`."""
    try:
        answer = QUICKJS.ask({"code": code, "seconds": seconds}, seconds=seconds)
    except TookTooLong as error:
        raise CannotJudge(f"{error.message} and was stopped") from None
    except Broke as error:
        raise CannotJudge(error.message) from None
    if "error" in answer:
        raise CannotJudge(f"cannot be run: {answer['error']}")
    return answer["value"]


def _literal(text: str) -> str:
    """The text as a literal of JavaScript in ASCII; halves of surrogate pairs stay what they are."""
    return json.dumps(text)
