"""`/jobs/{id}`: a job as people look at it, for those who may see it over the API."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get

from evals.outcome import Outcome, Summary
from server.api.context import Site, allows
from server.api.jobs import parse_job_id
from server.domain.accounts import Caller
from server.domain.errors import Conflict, NotFound
from server.pages.login import ask_to_log_in, visitor_of
from server.pages.rendering import render
from server.services import reading

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
    return render("job.html", job=job, summary=summary, rows=rows)


async def _outcome(site: Site, visitor: Caller, job_id: str) -> Outcome | None:
    try:
        return msgspec.json.decode(await reading.read_outcome(site.db, visitor, parse_job_id(job_id)), type=Outcome)
    except (Conflict, NotFound):
        return None


handlers = [show_job]
