"""`python`: the author's own code judges the answer, in a process of its own; local runs with `--allow-code` only."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._code import ask, context_of, judged, require_code
from evals.killable import Killable, off_the_loop
from evals.types import Assertion

PYTHON: Final = Killable("evals.python_program")


@assertion("python", check=require_code, runs_code=True)
def python(answer: Answer, spec: Assertion) -> Awaitable[Judgement]:
    """Python code says True, a score, or {pass, score, reason} of the answer."""
    question = {"code": require_code(spec), "output": answer.text, "context": context_of(answer, spec)}
    return off_the_loop(lambda: judged(lambda: ask(PYTHON, question, spec), spec))
