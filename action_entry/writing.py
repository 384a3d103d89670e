"""What stays of a run: the summary for people, report files for later steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from action_entry.ci import Ci
from action_entry.gate import FAILED, PASSED, SKIPPED, WITHOUT_VERDICT, Verdict
from action_entry.service import Service
from notifiers import Notice
from notifiers._findings import sort_rows
from notifiers._markdown import Budget, code, link
from notifiers._report import report

# GitHub takes 1 MiB a step; its own measure is bytes.
SUMMARY_BYTES = 950_000
REPORT_FILE = Budget(chars=4_000_000, bytes=4_000_000)
REPORTS = ("xml", "md", "html")
WHY_CHARS = 600
SIGNS = {PASSED: "✅", FAILED: "❌", WITHOUT_VERDICT: "⚠️", SKIPPED: "⏭️"}


def summary_of(verdict: Verdict, *, name: str, notice: Notice | None, told: Sequence[str], suites: int) -> str:
    """The part of the summary for one suite; `suites` share the room."""
    if notice is None:
        lines = [f"### {SIGNS[verdict.state]} Prompt tests: {code(name)}", code(verdict.why, limit=WHY_CHARS)]
        if verdict.url:
            lines.append(link("the job", verdict.url))
    else:
        room = SUMMARY_BYTES // suites
        lines = [report(notice, sort_rows(notice.outcome), budget=Budget(chars=room, bytes=room)).rstrip()]
        if verdict.state == FAILED:
            lines.append(f"The step fails: {code(verdict.why, limit=WHY_CHARS)}")
    return "\n\n".join([*lines, *told]) + "\n\n"


def save_reports(
    results: bytes, *, service: Service, job_id: str, notice: Notice, slug: str, folder: Path, ci: Ci
) -> None:
    """JSON always, the others as far as the service has them. A full disk is a warning."""
    found = {"json": results} | {ending: body for ending in REPORTS if (body := service.report(job_id, ending=ending))}
    if "md" not in found:
        found["md"] = report(notice, sort_rows(notice.outcome), budget=REPORT_FILE).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, body in found.items():
            (folder / f"{slug}.{ending}").write_bytes(body)
    except OSError as error:
        ci.warn(f"The reports could not be written to {folder}: {error.strerror}.")
