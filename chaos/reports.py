"""What a run says: figures as Markdown tables, and every broken invariant with the rows that show it."""

from __future__ import annotations

from collections.abc import Iterable

from chaos.broken import Variant
from chaos.checks import Finding, read_checks
from chaos.recovery import Figure, Recovery
from chaos.storms import Report


def storm_text(report: Report) -> str:
    """Faults, figures and findings of a storm."""
    return "\n\n".join(
        [
            f"## Storm, seed {report.seed}: {report.seconds:.0f} s, drained in {report.drain_seconds:.1f} s",
            table(("fault", "times"), [(name, str(count)) for name, count in sorted(report.faults.items())]),
            table(
                ("what", "figure"),
                [(name, str(count)) for name, count in report.figures.items()]
                + [(f"answers {status}", str(count)) for status, count in report.answers.items()],
            ),
            findings_text(report.findings, seed=report.seed),
            *([f"Logs and data: {report.evidence}"] if report.evidence else []),
        ]
    )


def broken_text(name: str, variant: Variant, report: Report) -> str:
    """Whether the missing safeguard was noticed."""
    if not report.shows(variant):
        return f"❌ without the {name} the harness saw nothing (seed {report.seed}): it proves nothing."
    lines = [f"✅ without the {name} the harness fails, as it must (seed {report.seed}):"]
    return "\n".join(lines + [f"   {finding.check}: {finding.count}" for finding in report.findings])


def recovery_text(recovery: Recovery, *, seed: int) -> str:
    """Every figure with its bound, and the invariants that broke on the way."""
    return "\n\n".join(
        [
            "## Recovery: one fault, idle capacity, leases of 15 s",
            table(
                ("what", "n", "median", "largest", "bound", "holds"), [_figure(figure) for figure in recovery.figures]
            ),
            findings_text(recovery.findings, seed=seed),
        ]
    )


def _figure(figure: Figure) -> tuple[str, ...]:
    digits = 2 if figure.unit else 0
    values = (figure.median, max(figure.values), figure.most)
    median, largest, bound = (f"{value:.{digits}f} {figure.unit}".strip() for value in values)
    return figure.what, str(len(figure.values)), median, largest, f"≤ {bound}", "yes" if figure.holds else "**no**"


def findings_text(findings: Iterable[Finding], *, seed: int) -> str:
    """Every broken invariant, or that all hold."""
    lines = [
        f"❌ {finding.check}: {finding.count} broken (seed {seed})\n" + "\n".join(f"   {row}" for row in finding.rows)
        for finding in findings
    ]
    return "\n".join(lines) if lines else f"✅ all {len(read_checks())} checks hold"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
