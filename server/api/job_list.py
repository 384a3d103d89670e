"""`GET /api/v1/test-jobs`: the caller's jobs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import get
from litestar.params import Parameter
from msgspec import UNSET, Struct, UnsetType

from evals.outcome import Summary
from server.api.context import AccountName, Site, allows
from server.api.errors import refusals
from server.api.jobs import TAGS, JobPackage
from server.api.timestamps import iso, iso_if
from server.domain.accounts import Caller
from server.domain.jobs import ListedJob
from server.services import listing
from server.services.on_behalf import acting_for


class ListedJobAnswer(Struct, kw_only=True):
    """A job in a list; `GET /api/v1/test-jobs/{id}` says more."""

    id: str
    status: str
    package: JobPackage
    models: list[str]
    created_at: str
    conclusion: str | UnsetType = UNSET
    results: Summary | UnsetType = UNSET
    error: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    started_at: str | UnsetType = UNSET
    completed_at: str | UnsetType = UNSET
    cached: bool | UnsetType = UNSET


class JobListAnswer(Struct, kw_only=True):
    """A page, newest first; `cursor` asks for the next one and is left out on the last."""

    jobs: list[ListedJobAnswer]
    cursor: str | UnsetType = UNSET


@get(
    "/api/v1/test-jobs",
    opt=allows("see"),
    tags=TAGS,
    summary="List my jobs",
    responses=refusals(400, 401, 403, 404),
)
async def list_test_jobs(
    site: Site,
    caller: Caller,
    *,
    status: Annotated[str | None, Parameter(description="queued, running, completed or failed")] = None,
    package: Annotated[str | None, Parameter(description="only jobs of this package, by name")] = None,
    account: AccountName = None,
    cursor: str | None = None,
    limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
) -> JobListAnswer:
    """The account's jobs, newest first."""
    acting = await acting_for(site.db, caller, account, "see")
    page = await listing.list_jobs(site.db, acting, status=status, package=package, cursor=cursor, limit=limit)
    return JobListAnswer(jobs=[_answer(job) for job in page.jobs], cursor=page.cursor or UNSET)


def _answer(job: ListedJob) -> ListedJobAnswer:
    completed = job.status == "completed" and job.results is not None
    return ListedJobAnswer(
        id=str(job.id),
        status=job.status,
        package=JobPackage(id=str(job.package_id), name=job.package_name, version=job.package_version),
        models=job.models,
        created_at=iso(job.created_at),
        conclusion=job.conclusion or UNSET,
        results=msgspec.json.decode(job.results or "", type=Summary) if completed else UNSET,
        error=job.error_message or UNSET,
        code=job.error_code or UNSET,
        started_at=iso_if(job.started_at),
        completed_at=iso_if(job.completed_at),
        cached=True if job.is_cached else UNSET,
    )


handlers = [list_test_jobs]
