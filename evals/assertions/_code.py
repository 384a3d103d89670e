"""What assertions of the author's own code have in common: what they are given, and what their result means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from evals.assertions import Answer, Judgement
from evals.assertions._values import require_text
from evals.errors import CannotJudge, EngineError, InvalidAssertion
from evals.killable import Broke, Killable, TookTooLong
from evals.types import Assertion, JsonValue

CODE_SECONDS: Final = 5.0  # of one assertion
MAX_CODE: Final = 100_000  # characters


def require_code(spec: Assertion) -> str:
    """The value, a text that is not empty. Raises InvalidAssertion."""
    code = require_text(spec)
    if not code.strip() or len(code) > MAX_CODE:
        raise InvalidAssertion(f"{spec.type}: `value` must be code, of at most {MAX_CODE:,} characters")
    return code


def context_of(answer: Answer, spec: Assertion) -> dict[str, JsonValue]:
    """What code knows as `context`: promptfoo's names for the vars, the prompt and the limit."""
    context: dict[str, JsonValue] = {"vars": answer.vars, "prompt": answer.question}
    return context if spec.threshold is None else {**context, "threshold": spec.threshold}


def ask(process: Killable, question: dict[str, JsonValue], spec: Assertion) -> Any:
    """What the code made of it. Blocks for `CODE_SECONDS` at most.

    Raises CodeFailed when the code itself raised, and CannotJudge when it was stopped.
    """
    try:
        answer = process.ask({**question, "seconds": CODE_SECONDS}, seconds=CODE_SECONDS)
    except TookTooLong as error:
        raise CannotJudge(f"{spec.type}: the code {error.message} and was stopped") from None
    except Broke as error:
        raise CannotJudge(f"{spec.type}: the code {error.message}") from None
    if "error" in answer:
        raise CodeFailed(f"the code failed: {answer['error']}")
    return answer.get("value")


class CodeFailed(EngineError):
    """The author's code raised, or gave what is no verdict: the assertion fails, and so does its opposite."""


def judged(run: Callable[[], Any], spec: Assertion) -> Judgement:
    """The judgement in what `run` gives. Code that fails has not confirmed anything, so both forms fail.

    Raises CannotJudge when the code was stopped.
    """
    try:
        return judgement_of(run(), spec)
    except CodeFailed as error:
        # Our limit and not the code's own verdict.
        if "out of memory" in error.message:
            raise CannotJudge(f"{spec.type}: {error.message}") from None
        return Judgement(passed=False, score=0.0, reason=error.message[:1_000], final=True)


def judgement_of(value: Any, spec: Assertion) -> Judgement:
    """The judgement in true or false, in a score, or in {pass, score, reason}. Raises CodeFailed for all else.

    A score alone passes above 0, or from the threshold on. It is kept as the code gave it, beyond 0 and 1 too; the
    score of the whole trial lies between them again.
    """
    if isinstance(value, dict) and ("pass" in value or "score" in value):
        given = _score(value["score"]) if "score" in value else float(value["pass"] is True)
        passed = value.get("pass", given > 0)
        if not isinstance(passed, bool):
            raise CodeFailed("the code must give `pass` as true or false")
        reason = value.get("reason")
        said = reason if isinstance(reason, str) and reason.strip() else f"the code gave {given:g}"
        return Judgement(passed=passed and _reaches(given, spec), score=given, reason=said[:1_000])
    if isinstance(value, bool):
        return Judgement(passed=value, score=float(value), reason=f"the code said {'true' if value else 'false'}")
    score = _score(value)
    passed = score > 0 if spec.threshold is None else _reaches(score, spec)
    return Judgement(passed=passed, score=score, reason=f"the code gave {score:g}")


def _reaches(score: float, spec: Assertion) -> bool:
    return spec.threshold is None or score >= spec.threshold


def _score(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise CodeFailed("the code must give true or false, a score, or {pass, score, reason}")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False
