"""What holds for every assertion of the family, those included that are added later."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import evals
from evals.assertions import ASSERTIONS, Answer
from evals.errors import InvalidAssertion
from evals.grading import check_assertion, find_assertion, grade
from evals.types import Assertion, Case, Completion
from tests.standins.judges import WillingJudge

NAMES = list(ASSERTIONS)

# Values that one assertion or another can use, each with a limit that most can use.
USABLE: list[Any] = ["1", "a", "{}", 3, ["a"], {"type": "object"}, {"min": 1}, None]

NONSENSE: list[Any] = [
    "", " ", "\0", "(", "[" * 2_000, "x" * 1_000_000, 0, -1, 1e308, float("nan"), float("inf"), 10**400, True, [], [[]],
    [None], ["x" * 100_000], {}, {"": None}, {"type": 7}, {"$ref": 7}, {"min": "x"}, {"enum": 1}, ["a"] * 10_000, (1,),
]  # fmt: skip


def usable(name: str) -> Assertion:
    """An assertion of this name that can be asked, found by trying."""
    for value in USABLE:
        candidate = Assertion(type=name, threshold=0.5, **({} if value is None else {"value": value}))
        try:
            check_assertion(candidate, allow_code=True)
        except InvalidAssertion:
            continue
        return candidate
    raise AssertionError(f"no value of this test is usable for {name}; add one to USABLE")


def refused(type_: str, value: Any) -> str | None:
    """What the check says against a value. Any other exception than InvalidAssertion fails the test."""
    try:
        check_assertion(Assertion(type=type_, value=value, threshold=0.5), allow_code=True)
    except InvalidAssertion as error:
        return error.message
    return None


async def asked(assertion: Assertion) -> Any:
    completion = Completion(
        text="a {} b", answered_by="m", duration_ms=1, cost_usd=0.1, finish_reason="a", logprobs=(-1.0,)
    )
    answer = Answer(text=completion.text, question="q", completion=completion)
    case = Case(title="t", messages=(), assertions=(assertion,))
    return await grade(case, answer, WillingJudge(), rivals=(Answer(text="another"),), allow_code=True)


@pytest.mark.parametrize("name", NAMES)
def test_assertion__has_a_name_and_a_summary_line(name: str) -> None:
    entry = ASSERTIONS[name]

    assert name == entry.name
    assert name == name.lower()
    assert not name.startswith("not-")
    assert entry.summary.endswith(".")
    assert len(entry.summary) <= 120
    assert entry.graded == inspect.iscoroutinefunction(entry.judge)


@pytest.mark.parametrize("name", NAMES)
async def test_assertion__not_form_says_the_opposite(name: str) -> None:
    plain = usable(name)
    negated = Assertion(type=f"not-{name}", value=plain.value, threshold=plain.threshold)

    check_assertion(negated, allow_code=True)
    first, second = await asked(plain), await asked(negated)

    assert {first.state, second.state} == {"passed", "failed"}
    assert first.score + second.score == pytest.approx(1)
    assert first.assertions[0].reason == second.assertions[0].reason != ""
    assert find_assertion(f"not-{name}").negated


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["", "not-"])
def test_assertion__check_refuses_nonsense_with_a_sentence_and_nothing_else(name: str, prefix: str) -> None:
    refusals = [refusal for value in NONSENSE if (refusal := refused(prefix + name, value))]

    assert refusals or name == "equals"  # which takes any value
    for refusal in refusals:
        assert refusal.startswith(f"{prefix}{name}: ")
        assert len(refusal) < 1_000


@pytest.mark.parametrize("name", NAMES)
async def test_assertion__asked_with_nonsense_it_judges_or_is_an_error(name: str) -> None:
    """grade() raises nothing, whatever a suite that was never checked holds."""
    for value in NONSENSE:
        result = await asked(Assertion(type=name, value=value))

        assert result.state in ("passed", "failed", "error")
        assert result.error is None or "itself failed" not in result.error.message


@pytest.mark.parametrize("name", [name for name in NAMES if ASSERTIONS[name].runs_code])
@pytest.mark.parametrize("prefix", ["", "not-"])
async def test_assertion__that_runs_code_is_refused_by_name_unless_it_is_allowed(name: str, prefix: str) -> None:
    spec = Assertion(type=prefix + name, value="1")

    with pytest.raises(InvalidAssertion, match=f"^{prefix}{name}: runs the author's code"):
        check_assertion(spec)
    result = await grade(Case(title="t", messages=(), assertions=(spec,)), Answer(text="a"), None)
    assert (result.state, result.assertions) == ("error", ())


NEW_FILE = '''\
"""`shouts`: the answer is in capitals."""

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import require_text
from evals.types import Assertion


@assertion("shouts", check=require_text)
def shouts(answer: Answer, spec: Assertion) -> Judgement:
    """The answer holds `value` in capitals."""
    passed = require_text(spec).upper() in answer.text
    return Judgement(passed=passed, score=float(passed), reason="it shouts" if passed else "it does not shout")
'''

USE_IT = """\
import asyncio, sys
import evals
from evals.assertions import ASSERTIONS, Answer
from evals.errors import InvalidAssertion
from evals.grading import check_assertion, grade
from evals.types import Assertion, Case

print(evals.__file__)
print(ASSERTIONS["shouts"].summary)
for value, type_ in [("", "shouts"), ("a", "shout")]:
    try:
        check_assertion(Assertion(type=type_, value=value))
    except InvalidAssertion as error:
        print(str(error)[:60])
case = Case(title="t", messages=(), assertions=tuple(Assertion(type=t, value="hey") for t in ("shouts", "not-shouts")))
print([(r.type, r.passed, r.reason) for r in asyncio.run(grade(case, Answer(text="HEY"), None)).assertions])
"""


def test_family__a_new_file_is_found_checked_graded_and_listed(tmp_path: Path) -> None:
    shutil.copytree(Path(evals.__file__).parent, tmp_path / "evals", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "evals" / "assertions" / "shouts.py").write_text(NEW_FILE)

    done = subprocess.run(
        [sys.executable, "-c", USE_IT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        str(tmp_path / "evals" / "__init__.py"),
        "The answer holds `value` in capitals.",
        "shouts: `value` must be a text that is not empty",
        'unknown assertion type "shout"; did you mean "shouts"? Known',
        "[('shouts', True, 'it shouts'), ('not-shouts', False, 'it shouts')]",
    ]
