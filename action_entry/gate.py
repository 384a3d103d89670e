"""What results mean for the workflow: decided here, from the outcome and the inputs."""

from __future__ import annotations

from dataclasses import dataclass

from action_entry.errors import CannotTest, Misused, NotAllowed
from action_entry.inputs import Inputs
from notifiers import Outcome
from notifiers._findings import Findings, headline, sort_rows
from notifiers._notice import Notice
from notifiers._outcome import Gate
from notifiers._text import counted, percent

PASSED, FAILED, WITHOUT_VERDICT, SKIPPED = "passed", "failed", "without verdict", "skipped"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One suite as the workflow sees it. `why` is a sentence; `fails` says whether the step does."""

    state: str
    fails: bool
    why: str
    outcome: Outcome | None = None
    job_id: str = ""
    url: str = ""
    regressed: int = 0


def judge(notice: Notice, inputs: Inputs) -> Verdict:
    """The verdict of a job that ran to its end.

    It is the service's, which was told `fail-on` and `min-score`, so that comment, check and step say the same. A job
    that somebody else had submitted with another gate is judged here. Without a comparison there are no regressions to
    tell, so that `fail-on: regressions` looks at failures.
    """
    outcome = notice.outcome
    findings = sort_rows(outcome)
    state, why = _state(notice, findings, inputs)
    return Verdict(
        state=state,
        fails=state == FAILED or (state == WITHOUT_VERDICT and inputs.on_error == "fail"),
        why=why,
        outcome=outcome,
        job_id=notice.job_id,
        url=notice.url,
        regressed=len(findings.regressed),
    )


def _state(notice: Notice, findings: Findings, inputs: Inputs) -> tuple[str, str]:
    words = headline(notice, findings)
    if (gate := notice.outcome.gate) is not None and _is_as_asked(gate, inputs):
        return _by_conclusion(notice, gate, words)
    if inputs.fail_on == "never":
        return PASSED, f"{words}; fail-on is `never`"
    if found := _counts_against(notice, findings, inputs.fail_on):
        return FAILED, found
    score = notice.outcome.summary.overall_score
    has_score = len(findings.without_verdict) < len(notice.outcome.test_cases)
    if inputs.min_score is not None and has_score and score < inputs.min_score:
        return FAILED, _too_low(score, inputs.min_score)
    if notice.conclusion == "inconclusive":
        return WITHOUT_VERDICT, words
    return PASSED, words


def _is_as_asked(gate: Gate, inputs: Inputs) -> bool:
    return gate.asked == inputs.fail_on and gate.min_score == inputs.min_score


def _by_conclusion(notice: Notice, gate: Gate, words: str) -> tuple[str, str]:
    """The service's conclusion, with what decided it."""
    if gate.decided_by == "never" and notice.conclusion == "passed":
        return PASSED, f"{words}; fail-on is `never`"
    if notice.conclusion != "failed":
        return (PASSED if notice.conclusion == "passed" else WITHOUT_VERDICT), words
    if gate.decided_by == "min_score" and gate.min_score is not None:
        return FAILED, _too_low(notice.outcome.summary.overall_score, gate.min_score)
    return FAILED, " ".join(gate.reasons) if gate.decided_by == "cases" else words


def _too_low(score: float, least: float) -> str:
    return f"the score is {percent(score)}, below min-score {least:g}"


def _counts_against(notice: Notice, findings: Findings, fail_on: str) -> str:
    """What makes the step fail, in words; "" if nothing does.

    The service's conclusion holds regressions (and cases removed or loosened) where it compared, else failures.
    """
    if fail_on == "regressions":
        return headline(notice, findings) if notice.conclusion == "failed" else ""
    others = [row for row in findings.known + findings.flaky if row.state == "failed"]
    failed = len(findings.worst) + len(others)
    return counted(failed, "failed row") if failed else ""


def without_results(error: CannotTest, inputs: Inputs | None, *, job_id: str = "", url: str = "") -> Verdict:
    """The verdict where nothing could be tested. A mistake always fails; a fork never does."""
    if isinstance(error, NotAllowed):
        return Verdict(state=SKIPPED, fails=False, why=error.message)
    fails = isinstance(error, Misused) or inputs is None or inputs.on_error == "fail"
    return Verdict(state=WITHOUT_VERDICT, fails=fails, why=error.message, job_id=job_id, url=url)
