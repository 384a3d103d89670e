"""`javascript` and `python`: what they are given, what they may say, and how they are stopped."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from evals.assertions import Answer
from evals.assertions.python import PYTHON
from evals.grading import Graded, grade
from evals.suites import FoundSuite, read_suite
from evals.types import Assertion, Case


async def judged(type_: str, code: str, *, text: str = "Paris", threshold: float | None = None) -> Graded:
    answer = Answer(text=text, question="Where?", vars={"city": "Paris", "n": [1]})
    case = Case(title="t", messages=(), assertions=(Assertion(type=type_, value=code, threshold=threshold),))
    return await grade(case, answer, None, allow_code=True)


@pytest.mark.parametrize(
    ("type_", "code", "passed", "score"),
    [
        ("javascript", "output === context.vars.city", True, 1.0),
        ("javascript", "output.length > 10", False, 0.0),
        ("javascript", "0.25", True, 0.25),
        ("javascript", "0", False, 0.0),
        ("javascript", "({pass: false, score: 0.5, reason: 'so so'})", False, 0.5),
        ("javascript", "const n = context.vars.n[0];\nreturn n === 1 && context.prompt === 'Where?'", True, 1.0),
        ("javascript", "return output === 'Paris';", True, 1.0),
        ("javascript", "(async () => output)().then((o) => o.startsWith('P'))", True, 1.0),
        ("javascript", "module.exports = (output, context) => output === 'Paris';", True, 1.0),
        ("not-javascript", "0.25", False, 0.75),
        ("python", "output == context['vars']['city']", True, 1.0),
        ("python", "0.25", True, 0.25),
        ("python", "import re\nreturn re.fullmatch('P.*', output) is not None", True, 1.0),
        ("python", "def get_assert(output, context):\n    return {'pass': True, 'score': 0.5}", True, 0.5),
        ("python", "print('x') or input_is_closed() if False else True", True, 1.0),
        ("not-python", "len(output) == 5", False, 0.0),
    ],
)  # fmt: skip
async def test_code__judges(type_: str, code: str, passed: bool, score: float) -> None:
    graded = await judged(type_, code)

    assert graded.error is None
    assert (graded.state == "passed", graded.score) == (passed, score)


async def test_code__score_is_held_against_the_threshold() -> None:
    assert (await judged("javascript", "0.6", threshold=0.5)).state == "passed"
    assert (await judged("javascript", "0.4", threshold=0.5)).state == "failed"
    assert (await judged("python", "{'pass': True, 'score': 0.4}", threshold=0.5)).state == "failed"


@pytest.mark.parametrize(
    ("type_", "code", "said"),
    [
        ("javascript", "nothing", "the code failed: ReferenceError: nothing is not defined"),
        ("javascript", "(", "the code failed: SyntaxError"),
        ("javascript", "undefined", "the code must give true or false, a score, or {pass, score, reason}"),
        ("javascript", "'yes'", "the code must give true or false"),
        ("javascript", "NaN", "the code must give true or false"),
        ("javascript", "({pass: 'yes'})", "the code must give `pass` as true or false"),
        ("javascript", "require('fs')", "require is not defined"),
        ("javascript", "process.env", "process is not defined"),
        ("python", "nothing", "the code failed: NameError"),
        ("python", "(", "the code failed: SyntaxError"),
        ("python", "raise SystemExit(3)", "the code failed: SystemExit: 3"),
        ("python", "object()", "the result is not made of plain values"),
        ("python", "10**400", "the code must give true or false"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "not-"])
async def test_code__that_fails_has_confirmed_nothing_so_both_forms_fail(
    prefix: str, type_: str, code: str, said: str
) -> None:
    """As recorded of promptfoo. A misspelt check must never be a green one, nor its opposite."""
    graded = await judged(prefix + type_, code)

    assert graded.error is None
    assert (graded.state, graded.score) == ("failed", 0.0)
    assert said in graded.assertions[0].reason


@pytest.mark.parametrize(
    ("type_", "code", "said"),
    [
        ("javascript", "new Promise(() => {})", "waits for something that never comes"),
        ("python", "[0] * 10**10", "out of memory"),
        ("python", "import os\nos._exit(1)", "ran out of memory, or broke the engine that runs it"),
    ],
)
async def test_code__that_is_stopped_is_an_error_never_a_failure(type_: str, code: str, said: str) -> None:
    graded = await judged(type_, code)

    assert graded.state == "error"
    assert graded.error is not None
    assert graded.error.message.startswith(f"{type_}: ")
    assert said in graded.error.message


@pytest.mark.parametrize(("code", "passed", "score"), [("5", True, 5.0), ("-1", False, -1.0)])
async def test_code__score_beyond_0_and_1_is_kept_as_recorded_of_promptfoo(
    code: str, passed: bool, score: float
) -> None:
    """The score of the trial lies between 0 and 1 again (tests/unit/test_runner.py)."""
    graded = await judged("python", code)

    assert (graded.state == "passed", graded.score) == (passed, score)


@pytest.mark.parametrize(("type_", "code"), [("javascript", "for (;;) {}"), ("python", "while True: pass")])
async def test_code__R1_that_never_ends_is_stopped(type_: str, code: str) -> None:
    began = time.monotonic()

    graded = await judged(type_, code)

    assert graded.error is not None
    assert graded.error.message == f"{type_}: the code took longer than 5 s and was stopped"
    assert time.monotonic() - began < 15
    assert (await judged(type_, "1")).state == "passed"


async def test_code__in_python_what_it_starts_is_stopped_with_it() -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "return child.pid / 2**40"
    )
    child = psutil.Process(round((await judged("python", code)).score * 2**40))

    PYTHON.close()

    child.wait(timeout=5)


async def test_code__in_python_sees_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    PYTHON.close()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    assert (await judged("python", "import os\nreturn 'OPENAI_API_KEY' not in os.environ")).state == "passed"


@pytest.mark.skipif(sys.platform == "win32", reason="only POSIX limits files")
async def test_code__in_python_writes_no_file(tmp_path: Path) -> None:
    code = f"with open({str(tmp_path / 'f')!r}, 'w') as file:\n    file.write('x')\nreturn True"

    graded = await judged("python", code)

    assert graded.state == "failed"
    assert "File too large" in graded.assertions[0].reason
    assert (tmp_path / "f").read_text() == ""


async def test_code__failing_with_an_empty_reason_fails() -> None:
    graded = await judged("javascript", "({pass: false, score: 0, reason: ''})")

    assert graded.state == "failed"
    assert graded.assertions[0].reason == "the code gave 0"


def test_code__from_a_file_of_the_package(tmp_path: Path) -> None:
    config: Any = {"tests": [{"input": "x", "assert": [{"type": "python", "value": "file://check.py"}]}]}
    text = msgspec.json.encode(config)
    found = FoundSuite("prpm.test.json", text, files={"prpm.test.json": text, "check.py": b"len(output) > 2\n"})

    (case,) = read_suite(found, allow_code=True).suite.cases

    assert case.assertions == (Assertion(type="python", value="len(output) > 2"),)
