"""Stored outcomes -> what a comparison may know of the past. Only trials that were chance, and nothing else, count.

Left out: errors and skipped trials; trials answered from a cache (one draw seen twice); rows whose repeats were
stopped early, and trials made because a row was suspected (how many there are depends on what they said).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from evals.comparison import Baseline, Past, RowKey
from evals.digests import case_digest
from evals.errors import EngineError
from evals.printable import shortened
from evals.runner import Plan
from evals.scoring import count_verdicts
from evals.statistics import Counts
from evals.types import RowHistory, RowIndex, Trial


def history_of(plan: Plan, trials: Iterable[Trial]) -> tuple[RowHistory, ...]:
    """The rows with trials that later comparisons may count, in the suite's order.

    Where repeats may stop early, a row brings its first trial alone: that one is made whatever it says. To leave out
    the rows that did stop would keep those that passed, and make every history look better than it was.
    """
    found: dict[RowIndex, list[Trial]] = {}
    for trial in trials:
        if _is_history(plan, trial):
            found.setdefault(RowIndex(trial.case_index, trial.model), []).append(trial)
    return tuple(_row_history(plan, index, found[index]) for index in sorted(found))


def _is_history(plan: Plan, trial: Trial) -> bool:
    repeat = plan.suite.cases[trial.case_index].repeat
    is_own = trial.repeat_index < (1 if plan.early_stop else repeat)
    is_cached = trial.completion is not None and trial.completion.is_cached
    return is_own and not is_cached and trial.state in ("passed", "failed")


def _row_history(plan: Plan, index: RowIndex, trials: Sequence[Trial]) -> RowHistory:
    case = plan.suite.cases[index.case_index]
    counts = count_verdicts(trials)
    return RowHistory(
        case_index=index.case_index,
        model=index.model,
        title=shortened(case.title, limit=200) or "(untitled)",
        case_digest=case_digest(plan.suite, case),
        passed=counts.passed,
        failed=counts.failed,
    )


class InvalidBaseline(EngineError):
    """A document is not an outcome."""


class _Cache(Struct, frozen=True):
    state: str = ""


class _StoredTrial(Struct, frozen=True):
    """What is read of a trial; of a row without repeats too."""

    state: str | None = None
    cache: _Cache | None = None


class _StoredRow(_StoredTrial, frozen=True, kw_only=True):
    title: str
    model: str
    case_digest: str | None = None
    stopped_early: bool = False
    trials: tuple[_StoredTrial, ...] = ()

    def counts(self, *, first_alone: bool) -> Counts:
        """Its trials as history takes them, or the first of them `first_alone`."""
        trials = (self.trials or (self,))[: 1 if first_alone else None]
        if self.stopped_early and not first_alone:
            return Counts()
        drawn = [trial.state for trial in trials if trial.cache is None or trial.cache.state != "hit"]
        return Counts(drawn.count("passed"), drawn.count("failed"))


class _StoredProvenance(Struct, frozen=True):
    early_stop: bool = False


class _StoredOutcome(Struct, frozen=True, kw_only=True):
    """Where repeats may have been skipped, rows that have all of theirs are those that passed, or failed, throughout:
    of each row the first trial alone is a fair draw. Outcomes of earlier do not say whether they may; their rows that
    were stopped are left out.
    """

    test_cases: tuple[_StoredRow, ...]
    provenance: _StoredProvenance = _StoredProvenance()


def read_baseline(documents: Iterable[tuple[str, bytes]]) -> Baseline:
    """What these outcomes (name and JSON, oldest first) know together. Raises InvalidBaseline.

    One document counts once, however often it is given. Where a case asks something else than it used to, only what is
    known of its newest form counts.
    """
    seen: set[bytes] = set()
    known: dict[RowKey, Past] = {}
    for name, body in documents:
        outcome = _read(name, body)
        fingerprint = sha256(body).digest()
        if fingerprint in seen:
            continue
        seen.add(fingerprint)
        for key, past in _rows(outcome):
            known[key] = _joined(known.get(key), past)
    return known


def _read(name: str, body: bytes) -> _StoredOutcome:
    try:
        return msgspec.json.decode(body, type=_StoredOutcome)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBaseline(
            f"{name} is not an outcome of `prpm test`. Make one with `prpm test ... --output outcome.json`.",
            [str(error)[:200]],
        ) from None


def _rows(outcome: _StoredOutcome) -> Iterable[tuple[RowKey, Past]]:
    first_alone = outcome.provenance.early_stop
    numbers: Counter[tuple[str, str]] = Counter()
    for row in outcome.test_cases:
        key = RowKey(row.title, row.model, numbers[row.title, row.model])
        numbers[row.title, row.model] += 1
        yield key, Past(counts=row.counts(first_alone=first_alone), case_digest=row.case_digest)


def _joined(earlier: Past | None, later: Past) -> Past:
    if earlier is None or earlier.case_digest != later.case_digest:
        return later
    return Past(counts=earlier.counts.plus(later.counts), case_digest=later.case_digest)
