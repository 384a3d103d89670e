"""`transform` of an assertion: the author's JavaScript turns the answer into what is judged.

Code, and so refused unless whoever runs the suite allows it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from evals.assertions import Answer
from evals.assertions._code import MAX_CODE, CodeFailed
from evals.assertions._javascript import run_javascript
from evals.errors import CannotJudge, InvalidAssertion
from evals.javascript import json_text
from evals.killable import off_the_loop
from evals.types import Assertion

NEEDS_CODE: Final = (
    "runs the author's code, which happens on the author's own machine only: `prpm test --local --allow-code`"
)


def check_transform(assertion: Assertion, *, allow_code: bool) -> None:
    """Raises InvalidAssertion for a transform that may not be run, or is none."""
    code = assertion.transform
    if code is None:
        return
    if not allow_code:
        raise InvalidAssertion(f"{assertion.type}: `transform` {NEEDS_CODE}")
    if not code.strip() or len(code) > MAX_CODE:
        raise InvalidAssertion(f"{assertion.type}: `transform` must be code, of at most {MAX_CODE:,} characters")


async def transformed(answer: Answer, assertion: Assertion) -> Answer:
    """The answer as the assertion's transform makes it; itself without one.

    Raises CannotJudge when the code fails, is stopped or gives nothing: then nobody knows what is to be judged.
    """
    code = assertion.transform
    if code is None:
        return answer
    try:
        value = await off_the_loop(lambda: run_javascript(code, answer, assertion))
    except CodeFailed as error:
        raise CannotJudge(f"{assertion.type}: in `transform` {error.message}") from None
    if value is None:
        raise CannotJudge(f"{assertion.type}: `transform` gave nothing; it must give what is to be judged")
    text = value if isinstance(value, str) else json_text(value)
    return msgspec.structs.replace(answer, text=text, is_text=isinstance(value, str))
