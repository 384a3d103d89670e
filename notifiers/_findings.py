"""What an outcome says, sorted for people: what regressed first, what failed, what got fixed, what only flips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from notifiers._notice import Mode, Notice
from notifiers._outcome import Outcome, Rate, Row, Summary
from notifiers._text import NOTHING, counted, dollars, percent, points, useful_piece

SIGNS = {"passed": "✅", "failed": "❌", "inconclusive": "⚠️"}
# Why a run has no conclusion, by the code of its error.
ENDED_BY = {"superseded": "superseded by a newer commit", "cancelled": "cancelled"}
NOT_NEEDED = "no longer needed"
COLOURS = {"passed": 0x2DA44E, "failed": 0xCF222E, "inconclusive": 0xBF8700}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Each row stands in exactly one of these, in the order of the outcome."""

    regressed: tuple[Row, ...]  # a tested claim
    failed: tuple[Row, ...]  # failures that count without a test
    errored: tuple[Row, ...]
    skipped: tuple[Row, ...]
    fixed: tuple[Row, ...]
    flaky: tuple[Row, ...]
    known: tuple[Row, ...]  # failures that the baseline explains
    quarantined: tuple[Row, ...]  # in quarantine and not passed
    passed: tuple[Row, ...]

    @property
    def worst(self) -> tuple[Row, ...]:
        """What decides, most important first."""
        return self.regressed + self.failed

    @property
    def without_verdict(self) -> tuple[Row, ...]:
        return self.errored + self.skipped


def sort_rows(outcome: Outcome) -> Findings:
    """The outcome's rows by what they mean for a reader."""
    piles: dict[str, list[Row]] = {name: [] for name in Findings.__dataclass_fields__}
    for row in outcome.test_cases:
        piles[_pile(row)].append(row)
    return Findings(**{name: tuple(rows) for name, rows in piles.items()})


def _pile(row: Row) -> str:
    change = row.change
    is_claim = change is not None and change.rule == "regression"
    if row.quarantined and row.state != "passed":
        return "quarantined"
    if row.state in _WITHOUT_VERDICT:
        return _WITHOUT_VERDICT[row.state]
    if change is not None and is_claim and change.status in ("regressed", "fixed", "flaky"):
        return change.status
    if row.state == "passed":
        return "passed"
    return "known" if is_claim else "failed"


_WITHOUT_VERDICT = {"error": "errored", "skipped": "skipped"}


def is_changed(notice: Notice, findings: Findings) -> bool:
    """Whether anything differs from the base; without a base, whether anything failed."""
    if findings.worst or findings.fixed:
        return True
    comparison = notice.outcome.comparison
    return comparison is not None and bool(comparison.removed or comparison.changed)


def deserves_comment(notice: Notice, findings: Findings, mode: Mode) -> bool:
    """Whether a new comment may appear. One that is there already is kept true in any case."""
    if mode == "changes":
        return is_changed(notice, findings)
    return mode == "always" or (mode == "failures" and notice.conclusion == "failed")


def headline(notice: Notice, findings: Findings) -> str:
    """The verdict in words of ours alone: `2 regressions, 1 failure`, `all 12 rows passed`."""
    decided = [
        counted(len(rows), one)
        for rows, one in ((findings.regressed, "regression"), (findings.failed, "failure"))
        if rows
    ]
    if decided or notice.conclusion == "failed":
        return ", ".join(decided) or "failed"
    if notice.conclusion != "passed":
        if notice.is_unwanted:
            return NOT_NEEDED
        if notice.error_code:
            return ENDED_BY.get(notice.error_code, "could not be run")
        total = len(notice.outcome.test_cases)
        return f"{len(findings.without_verdict):,} of {counted(total, 'row')} without a verdict" if total else "no rows"
    return _good_news(findings, len(notice.outcome.test_cases))


def _good_news(findings: Findings, total: int) -> str:
    if findings.fixed:
        return f"{counted(len(findings.fixed), 'row')} fixed"
    if len(findings.passed) < total:
        return "nothing regressed"
    return f"all {total:,} rows passed" if total != 1 else "the one row passed"


def cost_text(summary: Summary) -> str:
    """`$0.0123`, `$0.0123 or more` where some answers had no known price, `cost unknown` where none had one."""
    if not summary.cost_is_partial:
        return dollars(summary.total_cost_usd)
    return f"{dollars(summary.total_cost_usd)} or more" if summary.total_cost_usd else "cost unknown"


def score_text(notice: Notice) -> str:
    """`81 %`, or `81 % (−12 points)` where the base's score is known; `–` where no row has a verdict."""
    summary = notice.outcome.summary
    if summary.tests_errored + summary.tests_skipped >= summary.total_tests:
        return NOTHING
    score = summary.overall_score
    if notice.baseline is None or notice.baseline.score is None:
        return percent(score)
    return f"{percent(score)} ({points(score - notice.baseline.score)})"


def what_failed(row: Row) -> str:
    """What the first assertion that refused says, or why there is no verdict."""
    refused = refused_reasons(row)
    if refused:
        return refused[0]
    return row.error.message if row.error else ""


def got(row: Row, *, limit: int) -> str:
    """The shortest useful quote of the answer."""
    return useful_piece(row.response, refused_reasons(row), limit=limit)


def refused_reasons(row: Row) -> tuple[str, ...]:
    return tuple(result.reason for result in row.assertions if not result.passed)


def rates(row: Row) -> str:
    """`29 of 30 → 1 of 7`: passed trials of the baseline and now."""
    before = row.change.baseline if row.change else None
    now = (row.change.reruns if row.change else None) or row.pass_rate
    return " → ".join(_rate(rate) for rate in (before, now) if rate is not None)


def _rate(rate: Rate) -> str:
    return f"{rate.passed:,} of {rate.total:,}"


def p_value(row: Row) -> str:
    value = row.change.p_value if row.change else None
    if value is None:
        return ""
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


@dataclass(frozen=True, kw_only=True)
class ModelLine:
    """How one model did over all cases."""

    model: str
    passed: int
    total: int
    score: float | None  # mean over rows that have a verdict
    cost_usd: float | None
    duration_ms: int


def by_model(rows: Sequence[Row]) -> tuple[ModelLine, ...]:
    """One line a model, in the order in which they appear."""
    names = dict.fromkeys(row.model for row in rows)
    return tuple(_model_line(name, [row for row in rows if row.model == name]) for name in names)


def _model_line(name: str, rows: Sequence[Row]) -> ModelLine:
    scores = [row.score for row in rows if row.state in ("passed", "failed")]
    costs = [row.cost_usd for row in rows if row.cost_usd is not None]
    return ModelLine(
        model=name,
        passed=sum(row.state == "passed" for row in rows),
        total=len(rows),
        score=sum(scores) / len(scores) if scores else None,
        cost_usd=sum(costs) if costs else None,
        duration_ms=_mean(row.duration_ms for row in rows),
    )


def _mean(values: Iterable[int]) -> int:
    listed = list(values)
    return round(sum(listed) / len(listed)) if listed else 0
