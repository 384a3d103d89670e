"""What a workflow may read afterwards; action.yml and the README's table say the same, held equal by a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from action_entry.gate import Verdict


@dataclass(frozen=True)
class Word:
    """One output."""

    name: str
    meaning: str


OUTPUTS = (
    Word("job-id", "The job's id; of several suites one a line."),
    Word("passed", "`true` if every suite has a verdict and the step does not fail."),
    Word("score", "0 to 1; of several suites the mean. Empty without a verdict."),
    Word("total", "Rows: one case on one model."),
    Word("failed", "Rows that failed or have no verdict."),
    Word("regressed", "Rows that regressed against the baseline."),
    Word("cost-usd", "What the models cost."),
    Word("report-path", "The folder with the reports: JSON, JUnit XML, Markdown and HTML."),
    Word("url", "The page of the results; of several suites one a line."),
)


def output_values(verdicts: Sequence[Verdict], *, report_path: str) -> dict[str, str]:
    """Each output's value, by name."""
    summaries = [verdict.outcome.summary for verdict in verdicts if verdict.outcome is not None]
    scores = [summary.overall_score for summary in summaries]
    is_whole = bool(verdicts) and len(summaries) == len(verdicts)
    return {
        "job-id": "\n".join(verdict.job_id for verdict in verdicts if verdict.job_id),
        "passed": str(is_whole and all(verdict.state == "passed" for verdict in verdicts)).lower(),
        "score": f"{sum(scores) / len(scores):.4g}" if scores else "",
        "total": str(sum(summary.total_tests for summary in summaries)),
        "failed": str(sum(summary.tests_failed for summary in summaries)),
        "regressed": str(sum(verdict.regressed for verdict in verdicts)),
        "cost-usd": f"{sum(summary.total_cost_usd for summary in summaries):.6f}",
        "report-path": report_path,
        "url": "\n".join(verdict.url for verdict in verdicts if verdict.url),
    }
