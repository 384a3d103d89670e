"""Runs an author's JavaScript on an answer, in QuickJS and in a process that can be killed."""

from __future__ import annotations

import json
from typing import Any

from evals.assertions import Answer
from evals.assertions._code import CodeFailed, ask, context_of
from evals.errors import CannotJudge
from evals.scripts import QUICKJS
from evals.types import Assertion

# An expression, a function's body with `return`, or a module that exports a function of (output, context).
_PROGRAM = """
globalThis.judged = '';
(() => {
  const code = %(code)s, output = %(output)s, context = %(context)s;
  const keep = (result) => { globalThis.judged = JSON.stringify(result); };
  const fail = (error) => keep({error: String(error)});
  let run;
  try {
    if (/\\bmodule\\.exports\\b/.test(code)) {
      const module = {exports: {}};
      new Function('module', 'exports', code)(module, module.exports);
      run = typeof module.exports === 'function' ? module.exports : module.exports.default;
    } else {
      try { run = new Function('output', 'context', 'return (' + code + '\\n)'); }
      catch { run = new Function('output', 'context', code); }
    }
    Promise.resolve(run(output, context)).then((value) => keep({value}), fail);
  } catch (error) { fail(error); }
})();
"""


def run_javascript(code: str, answer: Answer, spec: Assertion) -> Any:
    """What the code gives for the answer, as JSON has it. Blocks; raises CodeFailed, and CannotJudge when stopped."""
    program = _PROGRAM % {
        "code": json.dumps(code),
        "output": json.dumps(answer.text),
        "context": json.dumps(context_of(answer, spec)),
    }
    text = ask(QUICKJS, {"code": program, "then": "judged"}, spec)
    if not text:
        raise CannotJudge(f"{spec.type}: the code waits for something that never comes")
    result = json.loads(text)
    if "error" in result:
        raise CodeFailed(f"the code failed: {result['error'][:500]}")
    return result.get("value")
