"""Outcomes made by the engine from drawings of verdicts, for tests of what is done with them afterwards."""

from __future__ import annotations

from typing import Any

import msgspec

from evals.comparison import Baseline
from evals.outcome import Outcome, build_outcome
from evals.provenance import provenance_of, record_of
from evals.types import (
    Assertion,
    AssertionResult,
    Case,
    Completion,
    Instructions,
    Message,
    State,
    Suite,
    Trial,
    TrialError,
)

INSTRUCTIONS = Instructions(name="@demo/polite", version="1.0.0", format="claude", subtype="rule", system="Be kind.")
STATES: dict[str, State] = {"P": "passed", "F": "failed", "E": "error", "S": "skipped"}


def a_case(title: str = "Greets", **changes: Any) -> Case:
    fields: dict[str, Any] = {
        "title": title,
        "messages": (Message("user", "Hi"),),
        "assertions": (Assertion(type="contains", value="hello"),),
    }
    return Case(**fields | changes)


def a_trial(letter: str, *, case: int = 0, repeat: int = 0, model: str = "m", answer: str | None = None) -> Trial:
    """`P`, `F`, `E` (a provider's error) or `S`."""
    state = STATES[letter]
    text = answer if answer is not None else {"P": "hello", "F": "no"}.get(letter, "")
    passed = state == "passed"
    judged = state in ("passed", "failed")
    reason = "the answer contains 'hello'" if passed else "the answer does not contain 'hello'"
    result = AssertionResult(type="contains", passed=passed, score=float(passed), reason=reason)
    return Trial(
        case_index=case, model=model, repeat_index=repeat, state=state, score=float(passed),
        completion=Completion(text=text, answered_by=f"{model}-1", duration_ms=7, cost_usd=0.5) if judged else None,
        assertions=(result,) if judged else (),
        error=TrialError(kind="provider", message="It is down.") if state == "error" else None,
        duration_ms=9,
    )  # fmt: skip


def an_outcome(
    *drawings: str, cases: tuple[Case, ...] = (), answer: str | None = None, baseline: Baseline | None = None
) -> Outcome:
    """One case for each drawing, one trial for each letter: `an_outcome("P", "PPF")`; `F|PPP` has three reruns."""
    firsts = [drawing.split("|")[0] for drawing in drawings]
    cases = cases or tuple(a_case(f"Case {number}", repeat=len(first)) for number, first in enumerate(firsts))
    trials = [
        a_trial(letter, case=case, repeat=repeat, answer=answer)
        for case, drawing in enumerate(drawings)
        for repeat, letter in enumerate(drawing.replace("|", ""))
    ]
    suite = Suite(cases=cases)
    outcome = build_outcome(suite, ["m"], trials, total_duration_ms=1_234, engine_version="0.1.0", baseline=baseline)
    return msgspec.structs.replace(
        outcome,
        provenance=provenance_of(INSTRUCTIONS, suite, ["m"], trials),
        record=record_of(suite, ["m"], trials),
    )
