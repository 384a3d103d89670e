"""`auto`: the cheapest of the models whose pass rate on a suite is not significantly worse than the best one's."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from evals.statistics import Counts, benjamini_hochberg, fisher_drop

AUTO = "auto"
# With 20 verdicts each, 20 of 20 against 15 of 20 is a significant difference (p = 0.024), 17 of 20 is none.
LEAST_VERDICTS = 20


class Measured(Struct, frozen=True, kw_only=True):
    """What is known of one model on one suite. `usd` is what its trials cost in all."""

    model: str
    counts: Counts
    usd: float

    @property
    def usd_a_trial(self) -> float:
        return self.usd / self.counts.total if self.counts.total else 0.0


class Choice(Struct, frozen=True):
    """Which model runs, and the sentence that says by which rule."""

    model: str
    why: str


def choose(known: Sequence[Measured], *, usable: Sequence[str], default: str) -> Choice:
    """The model for `auto` among the usable ones.

    Each is held against the one that passed most often (Fisher's exact test, one-sided; Benjamini-Hochberg at 5 % over
    all of them). Fewer than two with LEAST_VERDICTS verdicts: there is nothing to choose by, so the default runs.
    """
    measured = [one for one in known if one.model in usable and one.counts.total >= LEAST_VERDICTS]
    if len(measured) < 2:
        return Choice(default, _not_enough(default, [one.model for one in measured]))
    best = max(measured, key=lambda one: (one.counts.passed / one.counts.total, -one.usd_a_trial))
    others = [one for one in measured if one is not best]
    are_worse = benjamini_hochberg([fisher_drop(best.counts, one.counts) for one in others])
    worse = [one.model for one, is_worse in zip(others, are_worse, strict=True) if is_worse]
    chosen = min(
        (one for one in measured if one.model not in worse), key=lambda one: (one.usd_a_trial, one is not best)
    )
    return Choice(chosen.model, _chosen(chosen, best, worse, len(measured)))


def _not_enough(default: str, measured: Sequence[str]) -> str:
    enough = f"only {measured[0]} has" if measured else "no model has"
    return (
        f"auto: {default} ran, the default model, as {enough} {LEAST_VERDICTS} stored verdicts on this suite. "
        "Run it on two models or more, and auto can compare them."
    )


def _chosen(chosen: Measured, best: Measured, worse: Sequence[str], count: int) -> str:
    left_out = f"; significantly worse: {', '.join(worse)}" if worse else ""
    if chosen is best:
        reason = f"passed most often ({_rate(best)}) and nothing cheaper is as good"
    else:
        reason = f"is the cheapest that is not significantly worse ({_rate(chosen)}) than {best.model} ({_rate(best)})"
    return f"auto: {chosen.model} ran: of {count} models measured on this suite it {reason}{left_out}."


def _rate(one: Measured) -> str:
    return f"{one.counts.passed} of {one.counts.total}"
