"""Trials now against trials of a baseline: which rows regressed, and which only flip. Pure.

A row is suspected by its own trials, and tried anew; only the trials that follow enter the test, as the failure that
raised a suspicion would convict every unlucky row. The suspected rows of one run are one family of claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from evals.statistics import (
    Claim,
    Counts,
    benjamini_hochberg,
    discrete_benjamini_hochberg,
    drop_claim,
    fisher_drop,
    fisher_rise,
    rise_claim,
    wilson_interval,
)
from evals.types import State

Status = Literal["regressed", "fixed", "flaky", "stable", "not_enough_data"]
Rule = Literal["regression", "failure"]

# What a single p-value has to reach, for a row to be worth new trials.
SUSPICION = 0.05
# Of the claims "regressed" and "fixed", on average at most this share is false.
FALSE_CLAIMS = 0.05
# The same for what only the sharper method of exact tests finds. With 0.05 here too, a harmless change would raise an
# alarm in 2.2 % of all comparisons, where at most 2 % are wanted.
SHARPER_FALSE_CLAIMS = 0.03
# Trials of a suspected row. Seven that all fail, after seven that all passed, have a p-value of 0.0003.
RERUNS = 7
# Below this nothing is claimed: a baseline of four trials has seen 0.95 and 0.6 look the same in 1 of 8 cases.
FEWEST_BASELINE_TRIALS = 5
# Of the first run's trials: a comparison never costs more than two runs (and about 1.4 where nothing is broken) ...
RERUN_SHARE = 1.0
# ... but for small suites, which may always try a few rows anew.
FEWEST_RERUNS = 5 * RERUNS


class RowKey(Struct, frozen=True, order=True):
    """Names a row across runs. `number` counts rows of one title and model from 0."""

    title: str
    model: str
    number: int = 0


class Past(Struct, frozen=True, kw_only=True):
    """What a baseline knows of one row. `case_digest` is None where the baseline does not say it."""

    counts: Counts
    case_digest: str | None = None


Baseline = Mapping[RowKey, Past]


class Present(Struct, frozen=True, kw_only=True):
    """One row of this run: its state by its own trials, these trials, and those made because it was suspected."""

    key: RowKey
    state: State
    first: Counts
    again: Counts = Counts()
    case_digest: str | None = None
    quarantined: bool = False


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the comparison says about one row. Part of the public JSON.

    `rule` says what decides for the gate: the tested claim, or (with too little to test) the row's own failure.
    Rates are shares of passed trials, 0..1; `effect` is the rate now less the baseline's.
    """

    status: Status
    rule: Rule
    baseline: Rate | UnsetType = UNSET
    reruns: Rate | UnsetType = UNSET
    effect: float | UnsetType = UNSET
    p_value: float | UnsetType = UNSET


class Rate(Struct, frozen=True, kw_only=True):
    """Passed trials out of all that have a verdict, and where the true rate lies with 95 % confidence."""

    passed: int
    total: int
    low: float
    high: float


def rate_of(counts: Counts) -> Rate:
    """The counts with their Wilson interval, rounded to six places."""
    interval = wilson_interval(counts)
    return Rate(passed=counts.passed, total=counts.total, low=round(interval.low, 6), high=round(interval.high, 6))


def suspects(rows: Sequence[Present], baseline: Baseline, *, calls: int, reruns: int = RERUNS) -> tuple[int, ...]:
    """Positions of the rows that are worth `reruns` more trials each, as many as `calls` allows, ascending.

    Suspected is a row that stands against its baseline, if the new trials could show it. What gates comes first, then
    what the baseline is surest of.
    """
    found = [
        (row.quarantined, _direction(row, past) == "rise", smallest, position)
        for position, row in enumerate(rows)
        if (past := _usable(row, baseline)) is not None
        and (smallest := _smallest_p_value(row, past, reruns)) <= SUSPICION
    ]
    return tuple(sorted(position for *_, position in sorted(found)[: max(calls, 0) // reruns]))


def lacking(rows: Sequence[Present], baseline: Baseline) -> tuple[int, ...]:
    """Positions of the failed rows that the baseline cannot judge; those that gate come first."""
    found = [
        (row.quarantined, position)
        for position, row in enumerate(rows)
        if row.state == "failed" and _usable(row, baseline) is None
    ]
    return tuple(position for _, position in sorted(found))


def rerun_calls(first_trials: int) -> int:
    """How many trials a comparison may add to a run of so many."""
    return max(int(first_trials * RERUN_SHARE), FEWEST_RERUNS)


def compare(rows: Sequence[Present], baseline: Baseline) -> tuple[Change, ...]:
    """What to say about each row, in the order given."""
    claims = {
        position: claim
        for position, row in enumerate(rows)
        if (past := _usable(row, baseline)) is not None and (claim := _claim(row, past)) is not None
    }
    claimed = {position for position, stands in zip(claims, _standing(tuple(claims.values())), strict=True) if stands}
    p_values = {position: claim.p_value for position, claim in claims.items()}
    return tuple(
        _change(row, baseline.get(row.key), p_values.get(position), claimed=position in claimed)
        for position, row in enumerate(rows)
    )


def _standing(claims: Sequence[Claim]) -> tuple[bool, ...]:
    """Which claims stand: by the method of Benjamini and Hochberg, or by its sharper form for tests of few trials.

    Both take the smallest p-values up to a bound, and each bound is one that the sharper form allows at FALSE_CLAIMS;
    so does the larger of the two.
    """
    plain = benjamini_hochberg([claim.p_value for claim in claims], rate=FALSE_CLAIMS)
    sharper = discrete_benjamini_hochberg(claims, rate=SHARPER_FALSE_CLAIMS)
    return tuple(one or other for one, other in zip(plain, sharper, strict=True))


def removed_rows(rows: Iterable[Present], baseline: Baseline) -> tuple[RowKey, ...]:
    """Rows of the baseline that this run does not have."""
    return tuple(sorted(baseline.keys() - {row.key for row in rows}))


def changed_rows(rows: Iterable[Present], baseline: Baseline) -> tuple[RowKey, ...]:
    """Rows whose case asks something else than in the baseline, so that their figures cannot be compared."""
    return tuple(row.key for row in rows if row.key in baseline and _asks_otherwise(row, baseline[row.key]))


def _usable(row: Present, baseline: Baseline) -> Past | None:
    """The row's past, if there is enough of it and it is of the same question."""
    past = baseline.get(row.key)
    if past is None or past.counts.total < FEWEST_BASELINE_TRIALS or _asks_otherwise(row, past):
        return None
    return past


def _asks_otherwise(row: Present, past: Past) -> bool:
    return None not in (row.case_digest, past.case_digest) and row.case_digest != past.case_digest


def _direction(row: Present, past: Past) -> Literal["drop", "rise"] | None:
    """Which way the row stands against its baseline; None when it does not."""
    if row.state == "failed" and past.counts.passed:
        return "drop"
    if row.state == "passed" and past.counts.pass_rate <= 0.5:
        return "rise"
    return None


def _smallest_p_value(row: Present, past: Past, reruns: int) -> float:
    """What the new trials would give if all of them said the same; 1 for a row that is not suspected."""
    match _direction(row, past):
        case "drop":
            return fisher_drop(past.counts, Counts(0, reruns))
        case "rise":
            return fisher_rise(past.counts, Counts(reruns, 0))
    return 1.0


def _claim(row: Present, past: Past) -> Claim | None:
    """What the test says; None for a row that was not tried anew."""
    if row.again.total == 0:
        return None
    match _direction(row, past):
        case "drop":
            return drop_claim(past.counts, row.again)
        case "rise":
            return rise_claim(past.counts, row.again)
    return None


def _change(row: Present, past: Past | None, p_value: float | None, *, claimed: bool) -> Change:
    if past is None or _asks_otherwise(row, past):
        return Change(status="not_enough_data", rule="failure")
    status = _status(row, past, p_value, claimed=claimed)
    now = row.again if row.again.total else row.first
    return Change(
        status=status,
        rule="failure" if status == "not_enough_data" else "regression",
        baseline=rate_of(past.counts),
        reruns=rate_of(row.again) if row.again.total else UNSET,
        effect=round(now.pass_rate - past.counts.pass_rate, 6) if now.total else UNSET,
        p_value=float(f"{p_value:.6g}") if p_value is not None else UNSET,
    )


def _status(row: Present, past: Past, p_value: float | None, *, claimed: bool) -> Status:
    if claimed:
        return "regressed" if _direction(row, past) == "drop" else "fixed"
    if row.state not in ("passed", "failed") or past.counts.total < FEWEST_BASELINE_TRIALS:
        return "not_enough_data"
    if p_value is None and _smallest_p_value(row, past, RERUNS) <= SUSPICION and row.state == "failed":
        return "not_enough_data"  # suspected, and the calls did not reach to try it anew
    return "flaky" if _flips(row, past) else "stable"


def _flips(row: Present, past: Past) -> bool:
    """Both verdicts within this run, or each at least twice over all trials: one slip in thirty is no habit."""
    now = row.first.plus(row.again)
    whole = now.plus(past.counts)
    return min(now.passed, now.failed) >= 1 or min(whole.passed, whole.failed) >= 2
