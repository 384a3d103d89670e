"""`javascript`: the author's own code judges the answer, in QuickJS; local runs with `--allow-code` only."""

from __future__ import annotations

from collections.abc import Awaitable

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._code import judged, require_code
from evals.assertions._javascript import run_javascript
from evals.killable import off_the_loop
from evals.types import Assertion


@assertion("javascript", check=require_code, runs_code=True)
def javascript(answer: Answer, spec: Assertion) -> Awaitable[Judgement]:
    """JavaScript code says true, a score, or {pass, score, reason} of the answer."""
    code = require_code(spec)
    return off_the_loop(lambda: judged(lambda: run_javascript(code, answer, spec), spec))
