"""`/api/v1/test-jobs/{id}/cancel`: end a job that nobody wants any more."""

from __future__ import annotations

from litestar import post

from server.api.context import Site, allows
from server.api.errors import refusals
from server.api.jobs import TAGS, JobAnswer, job_answer, parse_job_id
from server.domain.accounts import Caller
from server.services import cancelling
from server.services.notifying import report_of


@post(
    "/api/v1/test-jobs/{job_id:str}/cancel",
    opt=allows("run"),
    status_code=202,
    tags=TAGS,
    summary="Cancel a job",
    responses=refusals(401, 404, described={409: "The job has ended by itself."}),
)
async def cancel_test_job(job_id: str, site: Site, caller: Caller) -> JobAnswer:
    """A waiting job ends at once and its run is given back; a running one ends within two seconds and counts."""
    job = await cancelling.cancel(site.db, caller, parse_job_id(job_id))
    return job_answer(job, report=report_of(site.notifying, job))


handlers = [cancel_test_job]
