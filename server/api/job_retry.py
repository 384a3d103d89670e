"""`/api/v1/test-jobs/{id}/retry`: send a job that has ended once more."""

from __future__ import annotations

from typing import Annotated

from litestar import post
from litestar.params import Parameter

from server.api.context import Site, allows, limit_submits
from server.api.errors import refusals
from server.api.jobs import TAGS, SubmitAnswer, check_key, parse_job_id, submit_answer
from server.domain.accounts import Caller, Credential
from server.services import retrying


@post(
    "/api/v1/test-jobs/{job_id:str}/retry",
    opt=allows("run"),
    guards=[limit_submits],
    status_code=202,
    tags=TAGS,
    summary="Run a job again",
    responses=refusals(
        400,
        401,
        402,
        404,
        422,
        429,
        described={
            403: "Free tier, or another account's job.",
            409: "The job has not ended, or the Idempotency-Key was used for another request.",
        },
    ),
)
async def retry_test_job(
    job_id: str,
    site: Site,
    caller: Caller,
    credential: Credential,
    idempotency_key: Annotated[
        str | None,
        Parameter(header="Idempotency-Key", description="Same key and job: the same answer. 1 to 255 characters."),
    ] = None,
) -> SubmitAnswer:
    """A new job with the same package version, suite and models, which counts as a run. A repeat within 10 s is one."""
    submission = await retrying.retry(
        site.db,
        site.admission,
        site.wakeups,
        credential,
        parse_job_id(job_id),
        caller=caller,
        models=await site.models.read(),
        idempotency_key=check_key(idempotency_key),
    )
    return submit_answer(submission)


handlers = [retry_test_job]
