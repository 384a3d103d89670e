"""The program that runs an author's Python: started by `evals/assertions/python.py`, in a process that can be killed.

It reads lines `{"code", "output", "context", "seconds"}` and writes `{"value": ...}` or `{"error": ...}`. The limits
keep a mistake from doing harm; they do not hold back who means it, which is why nobody else's machine runs this.
"""

from __future__ import annotations

import json
import os
import textwrap
from typing import Any, Final

from evals.process_limits import end_after, limit_process

PROCESS_BYTES: Final = 1024 * 1024 * 1024  # of address space

# What promptfoo calls in a file of Python.
_ENTRY = "get_assert"


def main() -> None:
    """Answers until nobody asks any more."""
    limit_process(memory_bytes=PROCESS_BYTES)
    questions, answers = _own_streams()
    answers.write(b"{}\n")
    for line in questions:
        question = json.loads(line)
        with end_after(question["seconds"]):
            answer = _run(question)
        answers.write(_encoded(answer) + b"\n")


def _own_streams() -> tuple[Any, Any]:
    """The pipes, out of reach of the code: what it prints or reads goes nowhere."""
    questions = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return questions, answers


def _run(question: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": _evaluate(question["code"], question["output"], question["context"])}
    except MemoryError:
        return {"error": "out of memory"}
    except BaseException as error:  # noqa: BLE001 - SystemExit too: the code is not ours
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def _evaluate(code: str, output: str, context: dict[str, Any]) -> Any:
    """The value of an expression, of a function's body, or of a module's `get_assert(output, context)`."""
    names: dict[str, Any] = {"__name__": "assertion", "output": output, "context": context}
    code = textwrap.dedent(code).strip()
    if f"def {_ENTRY}(" in code:
        exec(compile(code, "<assertion>", "exec"), names)  # noqa: S102 - what this program is for
        return names[_ENTRY](output, context)
    try:
        expression = compile(code, "<assertion>", "eval")
    except SyntaxError:
        body = f"def {_ENTRY}(output, context):\n{textwrap.indent(code, '    ')}"
        exec(compile(body, "<assertion>", "exec"), names)  # noqa: S102 - the same
        return names[_ENTRY](output, context)
    return eval(expression, names)  # noqa: S307 - the same


def _encoded(answer: dict[str, Any]) -> bytes:
    try:
        return json.dumps(answer).encode()
    except (TypeError, ValueError, RecursionError):
        return json.dumps({"error": "the result is not made of plain values"}).encode()


if __name__ == "__main__":
    main()
