"""Check runs on GitHub: one a job, found again by the job's id, from queued to its end; and some without a job."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from notifiers._annotations import Annotation, annotate
from notifiers._findings import Findings
from notifiers._github_api import PER_PAGE, Api, check_name
from notifiers._http import CannotNotify, Request, Response, require_success
from notifiers._markdown import Budget
from notifiers._notice import Notice
from notifiers._report import report, standing_text, title_line
from notifiers._standing import NO_JOB, Standing
from notifiers._text import cut
from notifiers._urls import linkable

# Documented in characters, enforced in bytes.
CHECK_SUMMARY = Budget(chars=65_000, bytes=65_000)
# For a report that was refused for a reason of its own: the verdict alone.
SHORT_SUMMARY = Budget(chars=2_000, bytes=2_000)
TITLE_CHARS = 255
ANNOTATIONS_PER_REQUEST = 50
# A check run knows no difference between what is nobody's concern and what has no verdict; both let pass.
CONCLUSIONS = {"inconclusive": "neutral"}
UNPROCESSABLE = 422
# https://docs.github.com/rest/checks/runs#create-a-check-run: 20 and 40 characters at most
RERUN = ({"label": "Re-run", "description": "Run these prompt tests once more", "identifier": "rerun"},)

Did = Generator[Request, Response, Sequence[str]]


def complete(api: Api, notice: Notice, findings: Findings) -> Did:
    """One check run a job, however often this is tried: annotations are appended, so only missing ones go out."""
    if api.target.head_sha is None or not api.target.check_run:
        return ()
    wanted = annotate(notice, findings)
    try:
        return (yield from _complete(api, notice, findings, wanted))
    except CannotNotify as error:
        if error.is_unclear:
            return (yield from _complete(api, notice, findings, wanted))  # which first looks what is there now
        if error.status != UNPROCESSABLE:
            raise
    # A check that stays open for a line that GitHub does not like would block for ever.
    return (yield from _complete(api, notice, findings, (), budget=SHORT_SUMMARY))


def show(api: Api, standing: Standing) -> Did:
    """The check run stands so. One that has ended with its job is left alone: what comes late says nothing new.

    One that was completed is not opened again, as GitHub keeps its conclusion: there is a new one of the same name,
    which is the one that counts.
    """
    if api.target.head_sha is None or not api.target.check_run:
        return ()
    found, _ = yield from _find(api, name=check_name(standing.package, standing.suite), key=standing.key)
    if found is not None and found.is_completed and standing.is_waiting and found.key == standing.key != NO_JOB:
        return ()
    if found is not None and found.is_completed and standing.is_waiting:
        found = None
    fields = _standing_fields(api, standing)
    if found is not None and found.shows(fields):
        return ()
    yield from _write(api, found, fields)
    return ("wrote the check run",)


@dataclass(frozen=True, kw_only=True)
class _CheckRun:
    id: int
    key: str
    status: str
    conclusion: str | None
    title: str
    summary: str
    annotations: int

    @property
    def is_completed(self) -> bool:
        return self.status == "completed"

    def shows(self, fields: dict[str, Any]) -> bool:
        """Whether people see this already."""
        output = fields["output"]
        wanted = (fields["external_id"], fields["status"], fields.get("conclusion"), output["title"])
        # While it is open the title tells enough: what a report's other lines say is not worth a write each.
        says_it = not self.is_completed or output["summary"].split() == self.summary.split()
        return says_it and wanted == (self.key, self.status, self.conclusion, self.title)


def _complete(
    api: Api, notice: Notice, findings: Findings, wanted: Sequence[Annotation], *, budget: Budget = CHECK_SUMMARY
) -> Did:
    name = check_name(notice.package, notice.suite)
    found, others = yield from _find(api, name=name, key=notice.job_id)
    fields = _report_fields(api, notice, findings, budget)
    # What a check without a job showed is no annotation of this report.
    there = found.annotations if found is not None and found.key == notice.job_id else 0
    # Two that told of one job at once made two of it.
    still_open = [run for run in others if not run.is_completed]
    for run in still_open:
        yield from _write(api, run, fields)
    if found is not None and found.key == notice.job_id and found.is_completed and there >= len(wanted):
        return ("closed a second check run",) if still_open else ()
    for start in range(there, max(len(wanted), there + 1), ANNOTATIONS_PER_REQUEST):
        batch = wanted[start : start + ANNOTATIONS_PER_REQUEST]
        output = {**fields["output"], "annotations": _annotation_fields(batch)}
        found = yield from _write(api, found, {**fields, "output": output}, repeatable=not batch)
    return ("wrote the check run",)


def _find(
    api: Api, *, name: str, key: str
) -> Generator[Request, Response, tuple[_CheckRun | None, Sequence[_CheckRun]]]:
    """The check run of this very job, if an earlier try or the job's start made it; else one that no job is behind.

    Of several it is the newest, which is the one that people see; with it come the others of the job.
    """
    ours = f"&app_id={api.target.app_id}" if api.target.app_id is not None else ""
    query = f"check_name={quote(name, safe='')}&filter=all&per_page={PER_PAGE}{ours}"
    response = yield api.get(f"/commits/{api.target.head_sha}/check-runs?{query}")
    listed = require_success(response, doing="read the commit's check runs").json()
    runs = listed.get("check_runs") if isinstance(listed, dict) else None
    found = [run for item in (runs if isinstance(runs, list) else []) if (run := _check_run_of(item)) is not None]
    found.sort(key=lambda run: run.id, reverse=True)
    of_job = [run for run in found if run.key == key]
    if of_job:
        return of_job[0], of_job[1:]
    return next((run for run in found if run.key == NO_JOB), None), ()


def _check_run_of(item: object) -> _CheckRun | None:
    if not isinstance(item, dict) or not isinstance(item.get("id"), int):
        return None
    said = item.get("output")
    output: dict[str, Any] = said if isinstance(said, dict) else {}
    count, conclusion = output.get("annotations_count"), item.get("conclusion")
    return _CheckRun(
        id=item["id"],
        key=str(item.get("external_id", "")),
        status=str(item.get("status", "")),
        conclusion=conclusion if isinstance(conclusion, str) else None,
        title=str(output.get("title") or ""),
        summary=str(output.get("summary") or ""),
        annotations=count if isinstance(count, int) else 0,
    )


def _write(
    api: Api, found: _CheckRun | None, fields: dict[str, Any], *, repeatable: bool = True
) -> Generator[Request, Response, _CheckRun]:
    """The check run as it is now. Not repeatable: annotations of a request that did arrive would stand there twice."""
    if found is not None:
        response = yield api.send("PATCH", f"/check-runs/{found.id}", fields, repeatable=repeatable)
        require_success(response, doing="write the check run")
        return found
    created = {**fields, "head_sha": api.target.head_sha}
    response = yield api.send("POST", "/check-runs", created, repeatable=False)
    made = _check_run_of(require_success(response, doing="write the check run").json())
    if made is None:
        raise CannotNotify("GitHub answered without an id. It is tried again later.", retryable=True)
    return made


def _report_fields(api: Api, notice: Notice, findings: Findings, budget: Budget) -> dict[str, Any]:
    address = linkable(notice.url)
    return {
        "name": check_name(notice.package, notice.suite),
        "external_id": notice.job_id,
        "status": "completed",
        "conclusion": CONCLUSIONS.get(notice.state, notice.state),
        **({"details_url": address} if address else {}),
        **({"actions": list(RERUN)} if api.target.offers_rerun else {}),
        "output": {
            "title": cut(title_line(notice, findings), TITLE_CHARS),
            "summary": report(notice, findings, budget=budget),
        },
    }


def _standing_fields(api: Api, standing: Standing) -> dict[str, Any]:
    address = linkable(standing.url)
    ended = {} if standing.is_waiting else {"conclusion": CONCLUSIONS.get(standing.state, standing.state)}
    return {
        "name": check_name(standing.package, standing.suite),
        "external_id": standing.key,
        "status": standing.state if standing.is_waiting else "completed",
        **ended,
        **({"details_url": address} if address else {}),
        "output": {
            "title": cut(standing.headline, TITLE_CHARS),
            "summary": standing_text(standing, budget=CHECK_SUMMARY),
        },
    }


def _annotation_fields(batch: Sequence[Annotation]) -> list[dict[str, Any]]:
    return [
        {
            "path": one.path,
            "start_line": one.line,
            "end_line": one.line,
            "annotation_level": one.level,
            "title": one.title,
            "message": one.message,
        }
        for one in batch
    ]
