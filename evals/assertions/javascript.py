"""`javascript`: the author's own code judges the answer, in QuickJS; local runs with `--allow-code` only."""

from __future__ import annotations

import json
from collections.abc import Awaitable

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._code import ask, context_of, judgement_of, require_code
from evals.errors import CannotJudge
from evals.killable import off_the_loop
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


@assertion("javascript", check=require_code, runs_code=True)
def javascript(answer: Answer, spec: Assertion) -> Awaitable[Judgement]:
    """JavaScript code says true, a score, or {pass, score, reason} of the answer."""
    program = _PROGRAM % {
        "code": json.dumps(require_code(spec)),
        "output": json.dumps(answer.text),
        "context": json.dumps(context_of(answer, spec)),
    }
    return off_the_loop(lambda: _judge(program, spec))


def _judge(program: str, spec: Assertion) -> Judgement:
    text = ask(QUICKJS, {"code": program, "then": "judged"}, spec)
    if not text:
        raise CannotJudge(f"{spec.type}: the code waits for something that never comes")
    result = json.loads(text)
    if "error" in result:
        raise CannotJudge(f"{spec.type}: the code failed: {result['error'][:500]}")
    return judgement_of(result.get("value"), spec)
