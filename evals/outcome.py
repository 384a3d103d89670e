"""The public JSON of a finished job: the one truth about its fields. Scores are 0..1, optional fields are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from statistics import fmean
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from evals.comparison import (
    Baseline,
    Change,
    Present,
    Rate,
    RowKey,
    Status,
    changed_rows,
    compare,
    rate_of,
    removed_rows,
)
from evals.derived import derive
from evals.digests import case_digest
from evals.provenance import Provenance, Record
from evals.scoring import GatedRow, count_verdicts, decide_row, gate
from evals.suite_changes import CaseChange
from evals.types import (
    Agreement,
    AssertionResult,
    Attempt,
    CacheUse,
    Completion,
    Conclusion,
    RowIndex,
    State,
    StoppedBy,
    Suite,
    ToolCall,
    Trial,
    TrialError,
)


class TrialResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One trial as people and programs read it."""

    state: State
    score: float
    response: str
    duration_ms: int
    assertions: tuple[AssertionResult, ...] = ()
    error: TrialError | UnsetType = UNSET
    answered_by: str | UnsetType = UNSET
    input_tokens: int | UnsetType = UNSET
    output_tokens: int | UnsetType = UNSET
    cost_usd: float | UnsetType = UNSET
    attempts: tuple[Attempt, ...] = ()
    cache: CacheUse | UnsetType = UNSET
    tool_calls: tuple[ToolCall, ...] | UnsetType = UNSET
    turns: int | UnsetType = UNSET
    earlier: tuple[str, ...] = ()  # answers of a conversation before `response`


class Row(Struct, frozen=True, kw_only=True):
    """One case on one model. The first seven fields are the contract's; the rest adds to them."""

    title: str
    passed: bool
    score: float
    response: str
    model: str  # the name that was asked for
    duration_ms: int
    assertions: tuple[AssertionResult, ...]
    state: State
    error: TrialError | UnsetType = UNSET
    answered_by: str | UnsetType = UNSET
    input_tokens: int | UnsetType = UNSET
    output_tokens: int | UnsetType = UNSET
    cost_usd: float | UnsetType = UNSET
    named_scores: dict[str, float] | UnsetType = UNSET
    attempts: tuple[Attempt, ...] | UnsetType = UNSET
    cache: CacheUse | UnsetType = UNSET  # of the answer that the row shows
    trials: tuple[TrialResult, ...] | UnsetType = UNSET  # only when the case repeats
    case_digest: str | UnsetType = UNSET  # equal for cases that ask the same; baselines are compared by it
    pass_rate: Rate | UnsetType = UNSET  # of the trials that have a verdict, with its 95 % interval
    stopped_early: bool | UnsetType = UNSET  # true: repeats that could not change the verdict were left out
    quarantined: bool | UnsetType = UNSET  # true: the row decides nothing
    change: Change | UnsetType = UNSET  # against the baseline, where there is one
    tool_calls: tuple[ToolCall, ...] | UnsetType = UNSET  # of the answer that the row shows
    turns: int | UnsetType = UNSET  # of an agent: how often its model was asked for that answer
    earlier: tuple[str, ...] | UnsetType = UNSET  # answers of a conversation before `response`
    reruns: tuple[TrialResult, ...] | UnsetType = UNSET  # made as the row stood against its baseline


class ModelFigures(Struct, frozen=True, kw_only=True):
    """One model's trials, and what its answers cost; kept ones count as much as when they were asked for.

    Costs are left out where an answer's price is unknown. Judges are not in them: they are no merit of the model.
    """

    passed: int
    failed: int
    errored: int
    cost_usd: float | UnsetType = UNSET
    cost_usd_per_pass: float | UnsetType = UNSET  # left out while nothing passed, too


class Summary(Struct, frozen=True, kw_only=True):
    """`results` of a job. `tests_failed` counts every row that did not pass: no old client shows a false green."""

    total_tests: int
    tests_passed: int
    tests_failed: int
    overall_score: float
    total_duration_ms: int
    total_tokens: int
    total_cost_usd: float
    tests_errored: int
    tests_skipped: int
    conclusion: Conclusion
    cost_is_partial: bool | UnsetType = UNSET  # true: some answers had no known price
    stopped_by: StoppedBy | UnsetType = UNSET  # which cap left tests without a verdict
    notes: tuple[str, ...] | UnsetType = UNSET  # sentences for people: what was cut short, and what to do
    trials_cached: int | UnsetType = UNSET  # whose answer was kept from an earlier run; left out when none was
    cached: bool | UnsetType = UNSET  # true: the whole outcome is that of an identical job before
    cached_at: str | UnsetType = UNSET  # when that job ended: 2026-01-02T03:04:05.678Z
    test_result_id: str | UnsetType = UNSET
    judge_agreement: Agreement | UnsetType = UNSET  # of the judges with themselves, where they were asked again
    derived_metrics: dict[str, dict[str, float]] | UnsetType = UNSET  # by model, where the suite has formulas
    by_model: dict[str, ModelFigures] | UnsetType = UNSET


class ChangeCounts(Struct, frozen=True, kw_only=True):
    """How many rows have which status; they add up to `total_tests`."""

    regressed: int
    fixed: int
    flaky: int
    stable: int
    not_enough_data: int


class Comparison(Struct, frozen=True, kw_only=True):
    """The run against its baseline. `rule`: what the conclusion rests on.

    "regressions": each row that gates was tested, or had nothing to test; "failures": none had enough of a baseline, so
    each failure counts; "both": some of each, as `change.rule` of each row says.
    """

    rule: Literal["regressions", "failures", "both"]
    rows: ChangeCounts
    baseline_trials: int
    rerun_trials: int
    base_trials: int | UnsetType = UNSET  # made with the package as it was, where the baseline knew too little
    removed: tuple[RowKey, ...] = ()  # rows of the baseline that this run does not have
    changed: tuple[RowKey, ...] = ()  # rows that ask something else than in the baseline
    cases: tuple[CaseChange, ...] = ()  # cases of the baseline's suite that are missing here or easier to pass
    source: BaselineSource | UnsetType = UNSET  # where the baseline's trials come from, on a service


DecidedBy = Literal["regressions", "failures", "both", "cases", "min_score", "never"]


class BaselineSource(Struct, frozen=True, kw_only=True):
    """Which past a service compared with. Times are as 2026-01-02T03:04:05.678Z."""

    kind: Literal["branch", "version", "job", "snapshot"]
    name: str  # of the branch, or the version, or the job's id, or the beginning of the snapshot's
    jobs: int  # that brought trials
    oldest_at: str | UnsetType = UNSET
    newest_at: str | UnsetType = UNSET
    snapshot: str | UnsetType = UNSET  # of the package as it was, where it is at hand


class Gate(Struct, frozen=True, kw_only=True):
    """What decided the conclusion, where a gate was asked for or there is a baseline.

    `decided_by`: "regressions", "failures" and "both" as in `comparison.rule`; "cases": cases of the baseline's suite
    are missing or easier to pass; "min_score": the score is too low; "never": the gate is off.
    """

    asked: Literal["regressions", "failures", "never"]
    decided_by: DecidedBy
    reasons: tuple[str, ...]  # sentences for people
    min_score: float | UnsetType = UNSET


class Outcome(Struct, frozen=True, kw_only=True):
    """Every row and what they add up to."""

    test_cases: tuple[Row, ...]
    summary: Summary
    engine_version: str
    comparison: Comparison | UnsetType = UNSET
    gate: Gate | UnsetType = UNSET
    provenance: Provenance | UnsetType = UNSET
    record: Record | UnsetType = UNSET  # what `prpm score` needs; answers stand in the rows


Trials = dict[RowIndex, tuple[Trial, ...]]


def build_outcome(
    suite: Suite,
    models: Sequence[str],
    trials: Iterable[Trial],
    *,
    total_duration_ms: int,
    engine_version: str,
    notes: Sequence[str] = (),
    out_of_time: bool = False,
    baseline: Baseline | None = None,
    base_trials: Sequence[Trial] = (),
    agreement: Agreement | None = None,
) -> Outcome:
    """The outcome of these trials, rows in the order case, model. A row that no trial reached is `skipped`.

    Trials numbered after a case's own repeats are those of `run_again`. With a baseline the conclusion rests on what
    can be claimed against it. `base_trials` were made for the baseline in the same run: they are in its sums alone.
    `notes` are sentences for people; `out_of_time`: the run's time limit left trials out.
    """
    by_row = _by_row(models, trials)
    indexes = [RowIndex(case, model) for case in range(len(suite.cases)) for model in models]
    present = present_rows(suite, models, by_row)
    changes = compare(present, baseline) if baseline is not None else (None,) * len(indexes)
    rows = tuple(
        build_row(suite, index, by_row.get(index, ()), change=change)
        for index, change in zip(indexes, changes, strict=True)
    )
    every_trial = [*(trial for group in by_row.values() for trial in group), *base_trials]
    stopped_by: StoppedBy | UnsetType = "time_cap" if out_of_time else UNSET
    return Outcome(
        test_cases=rows,
        summary=msgspec.structs.replace(
            summarise(rows, every_trial, total_duration_ms=total_duration_ms, agreement=agreement),
            stopped_by="money_cap" if find_cap(every_trial) else stopped_by,
            notes=tuple(notes) or UNSET,
            derived_metrics=derived_by_model(suite, models, rows),
            by_model=figures_by_model(models, by_row),
        ),
        engine_version=engine_version,
        comparison=UNSET
        if baseline is None
        else msgspec.structs.replace(summarise_changes(present, rows, baseline), base_trials=len(base_trials) or UNSET),
    )


def figures_by_model(models: Sequence[str], by_row: Trials) -> dict[str, ModelFigures]:
    """What each model's trials were and cost, in the order of the models."""
    return {
        model: _figures([trial for row, group in by_row.items() if row.model == model for trial in group])
        for model in models
    }


def _figures(trials: Sequence[Trial]) -> ModelFigures:
    costs = [_full_cost(trial.completion) for trial in trials if trial.completion]
    known = [cost for cost in costs if cost is not None]
    passed = sum(trial.state == "passed" for trial in trials)
    cost = round(sum(known), 9) if len(known) == len(costs) else None
    return ModelFigures(
        passed=passed,
        failed=sum(trial.state == "failed" for trial in trials),
        errored=sum(trial.state == "error" for trial in trials),
        cost_usd=UNSET if cost is None else cost,
        cost_usd_per_pass=UNSET if cost is None or not passed else round(cost / passed, 9),
    )


def _full_cost(completion: Completion) -> float | None:
    if completion.cache is not None and completion.is_cached:
        return completion.cache.saved_usd
    return completion.cost_usd


def find_cap(trials: Iterable[Trial]) -> str | None:
    """Why trials were skipped, if a cap did it."""
    return next((trial.error.message for trial in trials if trial.error and trial.error.kind == "cap"), None)


def derived_by_model(
    suite: Suite, models: Sequence[str], rows: Sequence[Row]
) -> dict[str, dict[str, float]] | UnsetType:
    """The suite's formulas for each model, over its rows that have a verdict."""
    if not suite.derived_metrics:
        return UNSET
    derived: dict[str, dict[str, float]] = {}
    for model in models:
        judged = [row for row in rows if row.model == model and row.state in ("passed", "failed")]
        sums: dict[str, float] = {}
        for row in judged:
            for metric, score in (row.named_scores or {}).items():
                sums[metric] = sums.get(metric, 0.0) + score
        derived[model] = derive(suite.derived_metrics, sums=sums, count=len(judged))
    return derived


def present_rows(suite: Suite, models: Sequence[str], trials: Iterable[Trial] | Trials) -> tuple[Present, ...]:
    """The rows as a comparison sees them, in the outcome's order."""
    by_row = trials if isinstance(trials, dict) else _by_row(models, trials)
    numbers: Counter[tuple[str, str]] = Counter()
    found = []
    for case_index, case in enumerate(suite.cases):
        digest = case_digest(suite, case)
        for model in models:
            first, again = _parted(suite, by_row.get(RowIndex(case_index, model), ()))
            found.append(
                Present(
                    key=RowKey(case.title, model, numbers[case.title, model]),
                    state=decide_row(case, first).state,
                    first=count_verdicts(first),
                    again=count_verdicts(again),
                    case_digest=digest,
                    quarantined=case.quarantine,
                )
            )
            numbers[case.title, model] += 1
    return tuple(found)


def _by_row(models: Sequence[str], trials: Iterable[Trial]) -> Trials:
    order = {name: position for position, name in enumerate(models)}
    return {
        key: tuple(group)
        for key, group in groupby(
            sorted(trials, key=lambda t: (t.case_index, order[t.model], t.repeat_index)),
            key=lambda t: RowIndex(t.case_index, t.model),
        )
    }


def _parted(suite: Suite, trials: Sequence[Trial]) -> tuple[Sequence[Trial], Sequence[Trial]]:
    """The case's own repeats, and what was tried anew."""
    own = [trial for trial in trials if trial.repeat_index < suite.cases[trial.case_index].repeat]
    return own, trials[len(own) :]


def build_row(suite: Suite, index: RowIndex, trials: Sequence[Trial], *, change: Change | None = None) -> Row:
    """One row; the trial that explains its state best (the first that did not pass) lends its answer."""
    case = suite.cases[index.case_index]
    own, again = _parted(suite, trials)
    verdict = decide_row(case, own)
    shown = next((trial for trial in own if trial.state == verdict.state), own[0] if own else None)
    completion = shown.completion if shown else None
    counts = count_verdicts(own)
    return Row(
        title=case.title,
        passed=verdict.state == "passed",
        score=verdict.score,
        response=completion.text if completion else "",
        model=index.model,
        duration_ms=sum(trial.duration_ms for trial in trials),
        assertions=shown.assertions if shown else (),
        state=verdict.state,
        error=shown.error or UNSET if shown else UNSET,
        answered_by=completion.answered_by if completion else UNSET,
        input_tokens=_total(trials, "input_tokens"),
        output_tokens=_total(trials, "output_tokens"),
        cost_usd=_total_cost(trials),
        named_scores=mean_named_scores(own) or (shown.named_scores if shown else {}) or UNSET,
        attempts=_attempts(shown) or UNSET if shown else UNSET,
        cache=(completion.cache if completion else None) or UNSET,
        trials=tuple(map(trial_result, own)) if case.repeat > 1 and own else UNSET,
        case_digest=case_digest(suite, case),
        pass_rate=rate_of(counts) if counts.total else UNSET,
        stopped_early=True if _is_stopped_early(verdict.state, own) else UNSET,
        quarantined=True if case.quarantine else UNSET,
        tool_calls=(completion.tool_calls if completion else ()) or UNSET,
        turns=_turns(completion),
        change=change or UNSET,
        earlier=_earlier(shown) or UNSET if shown else UNSET,
        reruns=tuple(map(trial_result, again)) or UNSET,
    )


def mean_named_scores(trials: Sequence[Trial]) -> dict[str, float]:
    """The mean of each metric over the trials that have a verdict, as of the row's score; no metric without one."""
    judged = [trial.named_scores for trial in trials if trial.state in ("passed", "failed")]
    metrics = dict.fromkeys(metric for scores in judged for metric in scores)
    return {metric: fmean([scores[metric] for scores in judged if metric in scores]) for metric in metrics}


def _earlier(trial: Trial) -> tuple[str, ...]:
    return tuple(completion.text for completion in trial.earlier)


def _attempts(trial: Trial) -> tuple[Attempt, ...]:
    return trial.completion.attempts if trial.completion else trial.attempts


def _is_stopped_early(state: State, trials: Sequence[Trial]) -> bool:
    return state in ("passed", "failed") and any(trial.state == "skipped" and trial.error is None for trial in trials)


def summarise_changes(present: Sequence[Present], rows: Sequence[Row], baseline: Baseline) -> Comparison:
    """The comparison as a whole. Quarantined rows are counted, and do not enter the rule."""
    statuses: Counter[Status] = Counter(row.change.status for row in rows if row.change)
    rules = {row.change.rule for row in rows if row.change and not row.quarantined}
    return Comparison(
        rule="both" if len(rules) > 1 else "failures" if rules == {"failure"} else "regressions",
        rows=ChangeCounts(
            regressed=statuses["regressed"],
            fixed=statuses["fixed"],
            flaky=statuses["flaky"],
            stable=statuses["stable"],
            not_enough_data=statuses["not_enough_data"],
        ),
        baseline_trials=sum(past.counts.total for past in baseline.values()),
        rerun_trials=sum(len(row.reruns) for row in rows if row.reruns),
        removed=removed_rows(present, baseline),
        changed=changed_rows(present, baseline),
    )


def trial_result(trial: Trial) -> TrialResult:
    """The public form of one trial."""
    completion = trial.completion
    return TrialResult(
        state=trial.state,
        score=trial.score,
        response=completion.text if completion else "",
        duration_ms=trial.duration_ms,
        assertions=trial.assertions,
        error=trial.error or UNSET,
        answered_by=completion.answered_by if completion else UNSET,
        input_tokens=_total([trial], "input_tokens"),
        output_tokens=_total([trial], "output_tokens"),
        cost_usd=_total_cost([trial]),
        attempts=_attempts(trial),
        cache=(completion.cache if completion else None) or UNSET,
        tool_calls=(completion.tool_calls if completion else ()) or UNSET,
        turns=_turns(completion),
        earlier=_earlier(trial),
    )


def _turns(completion: Completion | None) -> int | UnsetType:
    return UNSET if completion is None or completion.turns is None else completion.turns


def summarise(
    rows: Sequence[Row], trials: Sequence[Trial], *, total_duration_ms: int, agreement: Agreement | None = None
) -> Summary:
    """Counts and sums over all rows; the score is the mean over rows that have a verdict, 0 when none has one."""
    scores = [row.score for row in rows if row.state in ("passed", "failed")]
    answered = [completion for trial in trials for completion in trial.completions]
    again = agreement or Agreement(share=0.0, n=0)
    states = [row.state for row in rows]
    return Summary(
        total_tests=len(rows),
        tests_passed=states.count("passed"),
        tests_failed=len(rows) - states.count("passed"),
        overall_score=round(sum(scores) / len(scores), 6) if scores else 0.0,
        total_duration_ms=total_duration_ms,
        total_tokens=sum((c.input_tokens or 0) + (c.output_tokens or 0) for c in answered)
        + sum(trial.judge_tokens for trial in trials)
        + again.tokens,
        total_cost_usd=round(
            sum(c.cost_usd or 0.0 for c in answered) + sum(trial.judge_cost_usd for trial in trials) + again.cost_usd,
            9,
        ),
        tests_errored=states.count("error"),
        tests_skipped=states.count("skipped"),
        conclusion=gate([gated_row(row) for row in rows]),
        cost_is_partial=True if any(c.cost_usd is None for c in answered) else UNSET,
        trials_cached=sum(trial.completion is not None and trial.is_cached for trial in trials) or UNSET,
        judge_agreement=agreement or UNSET,
    )


def gated_row(row: Row) -> GatedRow:
    """What the row brings to the conclusion."""
    return GatedRow(row.state, quarantined=row.quarantined is True, change=row.change or None)


def summary_as_cached(summary: Summary, *, trials: int) -> Summary:
    """What an identical job is told: the same verdicts, at no cost. `trials` is how many there are."""
    return msgspec.structs.replace(
        summary,
        total_cost_usd=0.0,
        cost_is_partial=UNSET,
        trials_cached=trials,
        cached=True,
        test_result_id=UNSET,
        judge_agreement=msgspec.structs.replace(summary.judge_agreement, cost_usd=0.0)
        if summary.judge_agreement
        else UNSET,
    )


def outcome_as_cached(outcome: Outcome, *, ended_at: datetime) -> Outcome:
    """The outcome as an identical job shows it: every answer marked as kept, none with a cost.

    `ended_at` is when the job that ran it ended.
    """
    at = ended_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    rows = tuple(_as_cached(row, ended_at=at) for row in outcome.test_cases)
    summary = summary_as_cached(outcome.summary, trials=count_trials(outcome))
    return msgspec.structs.replace(outcome, test_cases=rows, summary=msgspec.structs.replace(summary, cached_at=at))


def count_trials(outcome: Outcome) -> int:
    """Trials in all rows, as far as the rows show them."""
    return sum(len(row.trials) if row.trials else 1 for row in outcome.test_cases)


Shown = TypeVar("Shown", Row, TrialResult)


def _as_cached(shown: Shown, *, ended_at: str) -> Shown:
    use = CacheUse(
        state="hit",
        reason=f"an identical job ended at {ended_at}",
        saved_usd=shown.cost_usd if shown.cost_usd is not UNSET else None,
    )
    free = msgspec.structs.replace(shown, cache=use, cost_usd=UNSET if shown.cost_usd is UNSET else 0.0)
    # Nobody was called for this job.
    if not isinstance(free, Row):
        return msgspec.structs.replace(free, attempts=())
    trials = tuple(_as_cached(trial, ended_at=ended_at) for trial in free.trials) if free.trials else UNSET
    return msgspec.structs.replace(free, attempts=UNSET, trials=trials)


def _total(trials: Sequence[Trial], field: str) -> int | UnsetType:
    known = [getattr(completion, field) for t in trials for completion in t.completions]
    counts = [count for count in known if count is not None]
    return sum(counts) if counts else UNSET


def _total_cost(trials: Sequence[Trial]) -> float | UnsetType:
    known = [completion.cost_usd for t in trials for completion in t.completions]
    costs = [cost for cost in known if cost is not None]
    return round(sum(costs), 9) if costs else UNSET
