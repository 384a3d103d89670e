"""`/jobs/{id}`: a job as people look at it, for those who may see it over the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response, get

from evals.outcome import Outcome, Summary
from evals.reports import REPORTS
from server.api.context import Site, allows
from server.api.jobs import parse_job_id
from server.domain.accounts import Caller
from server.domain.errors import Conflict, NotFound
from server.pages.login import ask_to_log_in, visitor_of
from server.pages.rendering import render
from server.services import reading

REPORT_LINKS = {name: report.extensions[0] for name, report in REPORTS.items()}
STATE_ORDER = ("failed", "error", "skipped", "passed")


@get("/jobs/{job_id:str}", opt=allows("follow"), include_in_schema=False)
async def show_job(job_id: str, request: Request[Any, Any, Any], site: Site) -> Response[bytes]:
    """The job's page; somebody without a session is asked to log in, whether the job exists or not."""
    visitor = await visitor_of(request, site)
    if visitor is None:
        return ask_to_log_in(next_path=f"/jobs/{job_id}")
    try:
        job = await reading.read_job(site.db, visitor, parse_job_id(job_id))
    except NotFound as error:
        return render("trouble.html", status=404, title="No such job", sentence=error.message)
    # The summary outlives the answers, which are removed after their time.
    summary = msgspec.json.decode(job.results, type=Summary) if job.results else None
    outcome = await _outcome(site, visitor, job_id)
    rows = sorted(outcome.test_cases, key=lambda row: STATE_ORDER.index(row.state)) if outcome else []
    return render(
        "job.html",
        job=job,
        summary=summary,
        rows=rows,
        outcome=outcome,
        costs=costs_by_model(outcome) if outcome else [],
        reports=REPORT_LINKS,
        now=datetime.now(UTC),
    )


class ModelCost(NamedTuple):
    """What a model's rows came to; `cost_usd` is None where a price is not known."""

    model: str
    passed: int
    rows: int
    cost_usd: float | None


def costs_by_model(outcome: Outcome) -> list[ModelCost]:
    """Each model's rows, those that were run again included, in the order in which the models were asked for."""
    found = []
    for model in dict.fromkeys(row.model for row in outcome.test_cases):
        rows = [row for row in outcome.test_cases if row.model == model]
        costs = [row.cost_usd for row in rows if isinstance(row.cost_usd, float | int)]
        passed = sum(row.state == "passed" for row in rows)
        found.append(ModelCost(model, passed, len(rows), sum(costs) if costs else None))
    return found


async def _outcome(site: Site, visitor: Caller, job_id: str) -> Outcome | None:
    try:
        return msgspec.json.decode(await reading.read_outcome(site.db, visitor, parse_job_id(job_id)), type=Outcome)
    except (Conflict, NotFound):
        return None


handlers = [show_job]
