"""The program that runs JavaScript: started by `evals/scripts.py`, in a process that can be killed.

It reads lines `{"code", "seconds", "then"}` and writes `{"value": ...}` or `{"error": ...}`. The value is that of the
code, or of the expression `then` when all promises are kept; it is a text, number or boolean. The code runs in a new
context, which has the language and nothing else: no files, no network, no timers.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from evals.process_limits import end_after, limit_process

MEMORY_BYTES: Final = 64 * 1024 * 1024  # of one context
STACK_BYTES: Final = 1024 * 1024
PROCESS_BYTES: Final = 512 * 1024 * 1024  # of address space, Python's own included


def main() -> None:
    """Answers until nobody asks any more."""
    answers = sys.stdout.buffer
    limit_process(memory_bytes=PROCESS_BYTES)
    greeting: object = {}
    try:
        import quickjs
    except ImportError:
        greeting = "needs QuickJS, which is not installed here; install the package quickjs-ng"
    answers.write(json.dumps(greeting).encode() + b"\n")
    answers.flush()
    for line in sys.stdin.buffer:
        question = json.loads(line)
        with end_after(question["seconds"]):
            answer = _run(quickjs, question)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _run(quickjs: Any, question: dict[str, Any]) -> dict[str, Any]:
    context = quickjs.Context()
    context.set_memory_limit(MEMORY_BYTES)
    context.set_max_stack_size(STACK_BYTES)
    try:
        value = context.eval(question["code"])
        if "then" in question:
            while context.execute_pending_job():
                pass
            value = context.eval(question["then"])
        return {"value": value}
    except quickjs.StackOverflow:
        return {"error": "the stack overflowed"}
    except quickjs.JSException as error:
        return {"error": str(error).partition("\n")[0][:500]}
    except UnicodeError:
        return {"error": "the result holds half of a surrogate pair"}
