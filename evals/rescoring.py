"""Stored answers, judged again: no model is asked, and the same engine gives the same bytes.

Deterministic assertions are asked anew. What a judge or the author's code said is kept, as is a trial that has no
answer or not every word.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import UNSET, UnsetType

from evals import ENGINE_VERSION
from evals.assertions import Judgement
from evals.comparison import Baseline, Past, RowKey
from evals.errors import EngineError
from evals.gating import GateWish, with_gate
from evals.grading import clamped, grade, needs_only_the_answer, parts_of
from evals.outcome import Comparison, Outcome, Row, build_outcome
from evals.provenance import Record, with_text
from evals.runner import answers_of
from evals.statistics import Counts
from evals.types import Assertion, AssertionResult, AssertionSet, Case, Trial


class CannotRescore(EngineError):
    """The outcome does not hold what is needed."""


async def rescore(outcome: Outcome) -> Outcome:
    """The outcome as this engine judges the same answers. Raises CannotRescore."""
    record = outcome.record
    if not record:
        raise CannotRescore(
            "This outcome holds no record of its suite and trials; those of `prpm test --local --output FILE.json` do."
        )
    trials = [await _rejudged(record, trial) for trial in _with_texts(outcome, record)]
    again = build_outcome(
        record.suite,
        record.models,
        trials,
        total_duration_ms=outcome.summary.total_duration_ms,
        engine_version=ENGINE_VERSION,
        baseline=_baseline(outcome),
        base_trials=record.base_trials or (),
        notes=outcome.summary.notes or (),
        out_of_time=outcome.summary.stopped_by == "time_cap",
        agreement=outcome.summary.judge_agreement or None,
    )
    again = msgspec.structs.replace(again, comparison=_completed(again, outcome))
    if outcome.gate:
        again = with_gate(again, GateWish(rule=outcome.gate.asked, min_score=outcome.gate.min_score or None))
    return msgspec.structs.replace(
        again,
        provenance=outcome.provenance,
        record=msgspec.structs.replace(record, trials=tuple(map(_blank, trials))),
    )


def differing_rows(before: Outcome, after: Outcome) -> list[int]:
    """Positions of the rows whose verdicts, scores or reasons are not the same."""
    pairs = zip(before.test_cases, after.test_cases, strict=True)
    return [position for position, (old, new) in enumerate(pairs) if _verdicts(old) != _verdicts(new)]


def _verdicts(row: Row) -> list[object]:
    trials = [(trial.state, trial.score, trial.assertions) for trial in (*(row.trials or ()), *(row.reruns or ()))]
    return [row.state, row.score, row.assertions, row.named_scores, row.error, row.change, *trials]


def _blank(trial: Trial) -> Trial:
    return trial if trial.completion is None else with_text(trial, "")


def _with_texts(outcome: Outcome, record: Record) -> Iterator[Trial]:
    """The record's trials with their answers back from the rows. Raises CannotRescore if they do not fit."""
    models = len(record.models)
    positions: dict[int, int] = {}
    for trial in record.trials:
        try:
            position = trial.case_index * models + record.models.index(trial.model)
            index = positions.get(position, 0)
            text = _texts(outcome.test_cases[position], record.suite.cases[trial.case_index])[index]
        except (IndexError, ValueError):
            raise CannotRescore("The outcome's rows and its record do not fit together.") from None
        positions[position] = index + 1
        yield trial if trial.completion is None else with_text(trial, text)


def _texts(row: Row, case: Case) -> list[str]:
    own = [trial.response for trial in row.trials or ()] if case.repeat > 1 else [row.response]
    return own + [trial.response for trial in row.reruns or ()]


async def _rejudged(record: Record, trial: Trial) -> Trial:
    case = record.suite.cases[trial.case_index]
    if trial.completion is None or not _can_be_judged(case, trial):
        return trial
    *earlier, answer = answers_of(case, case.messages, (*trial.earlier, trial.completion))
    graded = await grade(case, answer, None, earlier=earlier, known=_judged(case, trial.assertions))
    return msgspec.structs.replace(
        trial,
        state=graded.state,
        score=clamped(graded.score),
        assertions=graded.assertions,
        named_scores=graded.named_scores,
        error=graded.error,
    )


def _can_be_judged(case: Case, trial: Trial) -> bool:
    """Not where the time ran out or a judge had no word: that cannot be found out again without asking."""
    if trial.state in ("passed", "failed"):
        return True
    return (
        trial.error is not None and trial.error.kind == "assertion" and all(map(needs_only_the_answer, _singles(case)))
    )


def _singles(case: Case) -> Iterator[Assertion]:
    for part in parts_of(case):
        yield from part.singles


def _judged(case: Case, results: tuple[AssertionResult, ...]) -> dict[int, Judgement]:
    """What judges said of the case's assertions, by the assertion's id in this process."""
    found: dict[int, Judgement] = {}
    left = iter(results)
    for item in (item for part in parts_of(case) for item in part.items):
        if isinstance(item, AssertionSet):
            next(left, None)  # the set's own result comes before its members'
        for single in item.assertions if isinstance(item, AssertionSet) else (item,):
            result = next(left, None)
            if result is not None and not needs_only_the_answer(single):
                found[id(single)] = Judgement(passed=result.passed, score=result.score, reason=result.reason)
    return found


def _baseline(outcome: Outcome) -> Baseline | None:
    """The baseline, as far as the rows tell it; None for an outcome without."""
    if not outcome.comparison:
        return None
    numbers: dict[tuple[str, str], int] = {}
    known: dict[RowKey, Past] = {}
    for row in outcome.test_cases:
        number = numbers.get((row.title, row.model), 0)
        numbers[row.title, row.model] = number + 1
        if row.change and row.change.baseline:
            rate = row.change.baseline
            counts = Counts(rate.passed, rate.total - rate.passed)
            known[RowKey(row.title, row.model, number)] = Past(counts=counts)
    return known


def _completed(again: Outcome, outcome: Outcome) -> Comparison | UnsetType:
    """The new comparison with what only the whole baseline could tell."""
    if not again.comparison or not outcome.comparison:
        return UNSET
    return msgspec.structs.replace(
        again.comparison,
        baseline_trials=outcome.comparison.baseline_trials,
        removed=outcome.comparison.removed,
        cases=outcome.comparison.cases,
        source=outcome.comparison.source,
        changed=outcome.comparison.changed,
    )
