"""`/api/v1/test-jobs`: submit a job, look at it, read its results."""

from __future__ import annotations

from math import ceil
from typing import Annotated, cast
from uuid import UUID

import msgspec
from litestar import MediaType, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import Body, Parameter
from msgspec import UNSET, Meta, Struct, UnsetType

from evals.outcome import Outcome, Summary
from server.api.context import Site, allows, limit_submits
from server.api.errors import refusals
from server.api.estimates import EstimateAnswer, estimate_answer
from server.api.timestamps import iso, iso_if
from server.api.waiting import LateResponse, WaitForJob, etag, known_version, not_modified
from server.domain.accounts import Caller, Credential
from server.domain.changes import Change
from server.domain.errors import InvalidRequest, NotFound
from server.domain.jobs import JobView, Submission
from server.domain.nearing import nearing
from server.domain.tiers import UNLIMITED_RUNS
from server.services import estimating, reading, submitting
from server.services.forecasting import Forecast
from server.services.notifying import Report, report_of
from server.services.submitting import RunRequest
from server.services.superseding import SUPERSEDED
from server.services.watching import version_of

TAGS = ["Test jobs"]
RUN_EXAMPLE = {"package_id": "@demo/hello", "models": ["claude-sonnet-4"], "upload_results": False}


class SubmitUsage(Struct, kw_only=True):
    """The month after this run was charged."""

    tests_used_this_month: Annotated[int, Meta(examples=[23])]
    tests_remaining: Annotated[int, Meta(examples=[77])]
    tier: Annotated[str, Meta(examples=["plus"])]
    unlimited: bool | UnsetType = UNSET


class SubmitAnswer(Struct, kw_only=True):
    """The accepted job."""

    job_id: Annotated[str, Meta(examples=["7b0c1c3e-2d5a-4b7e-9a44-0d6c5b1f2a10"])]
    status: Annotated[str, Meta(examples=["queued"])]
    usage: SubmitUsage
    position_in_queue: Annotated[int, Meta(examples=[2])] | UnsetType = UNSET
    estimated_wait_seconds: Annotated[int, Meta(examples=[15])] | UnsetType = UNSET
    warnings: (
        Annotated[
            list[str],
            Meta(
                examples=[["80 % of this month's test runs are used: 80 of 100."]],
                description="Sentences, once 50, 80 or 100 % of the month's runs or money are used.",
            ),
        ]
        | UnsetType
    ) = UNSET


class JobPackage(Struct, kw_only=True):
    id: str
    name: Annotated[str, Meta(examples=["@author/package"])]
    version: Annotated[str, Meta(examples=["1.2.0"])]


class JobConfig(Struct, kw_only=True):
    models: Annotated[list[str], Meta(examples=[["claude-sonnet-4"]])]
    framework: Annotated[str, Meta(examples=["litellm"])]
    suite_source: Annotated[
        str, Meta(examples=["package"], description="request, package, stored, registry or generated")
    ]
    plugins: list[str] | UnsetType = UNSET


class Progress(Struct, kw_only=True):
    """Trials so far, while the job runs."""

    trials_total: int
    trials_finished: int
    passed: int
    failed: int
    errored: int


class ReportAnswer(Struct, kw_only=True):
    """Who comments on the change. Only the reporter does, and marks its comment with `marker`."""

    marker: Annotated[str, Meta(description="HMAC in hex over forge, repository id, pull request, package, suite name")]
    reporter: Annotated[str, Meta(description="app: the service itself does; action: the workflow's Action does")]
    previous: Annotated[str, Meta(description="What this change's run before came to: passed, failed")] | UnsetType = (
        UNSET
    )


class JobAnswer(Struct, kw_only=True):
    """A job as it stands."""

    id: str
    status: Annotated[str, Meta(description="queued, running, completed or failed")]
    package: JobPackage
    config: JobConfig
    created_at: Annotated[str, Meta(examples=["2026-01-02T03:04:05.678Z"])]
    results: Summary | UnsetType = UNSET
    conclusion: Annotated[str, Meta(description="passed, failed or inconclusive")] | UnsetType = UNSET
    error: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    progress: Progress | UnsetType = UNSET
    position_in_queue: int | UnsetType = UNSET
    estimated_wait_seconds: int | UnsetType = UNSET
    started_at: str | UnsetType = UNSET
    completed_at: str | UnsetType = UNSET
    cached: (
        Annotated[bool, Meta(description="true: an identical job was run before, and this is its outcome")] | UnsetType
    ) = UNSET
    cached_at: Annotated[str, Meta(description="when that job ended")] | UnsetType = UNSET
    suite_name: Annotated[str, Meta(examples=["default"])] | UnsetType = UNSET
    change: Change | UnsetType = UNSET
    superseded_by: Annotated[str, Meta(description="with `code` superseded: the newer head's job")] | UnsetType = UNSET
    report: ReportAnswer | UnsetType = UNSET


@post(
    "/api/v1/test-jobs/run",
    opt=allows("run"),
    guards=[limit_submits],
    status_code=202,
    tags=TAGS,
    summary="Submit a test job",
    responses=refusals(
        400,
        401,
        402,
        404,
        413,
        415,
        422,
        429,
        described={
            403: "Free tier, or no right to upload for this package.",
            409: "The Idempotency-Key was used for another request.",
        },
    )
    | {
        200: ResponseSpec(
            EstimateAnswer, description="With `dry_run`: what the run would take.", generate_examples=False
        )
    },
)
async def run_test_job(
    data: Annotated[RunRequest, Body(examples=[Example(value=RUN_EXAMPLE)])],
    site: Site,
    credential: Credential,
    idempotency_key: Annotated[
        str | None,
        Parameter(header="Idempotency-Key", description="Same key and body: the same answer. 1 to 255 characters."),
    ] = None,
) -> Response[SubmitAnswer]:
    """Checks everything, keeps and charges the job, answers at once. An equal submit within 10 s gets the same job.

    With `dry_run` nothing is kept or charged: the answer is an estimate, with status 200.
    """
    key = check_key(idempotency_key)
    if data.dry_run:
        found = await estimating.estimate(
            site.db, credential, data, models=await site.models.read(), registry=site.registry
        )
        # The one answer of another kind; the framework wants to know of one only.
        return cast(Response[SubmitAnswer], Response(estimate_answer(found), status_code=200))
    submission = await submitting.submit(
        site.db,
        site.admission,
        site.wakeups,
        credential,
        data,
        models=await site.models.read(),
        cache_days=site.cache_days,
        idempotency_key=key,
        registry=site.registry,
    )
    return Response(submit_answer(submission))


@get(
    "/api/v1/test-jobs/{job_id:str}",
    opt=allows("follow"),
    tags=TAGS,
    summary="Look at a job, or wait for it",
    responses=refusals(400, 401, 404)
    | {304: ResponseSpec(None, description="Still as in `If-None-Match`.", generate_examples=False)},
)
async def get_test_job(
    job_id: str,
    site: Site,
    caller: Caller,
    *,
    wait: Annotated[
        int, Parameter(ge=0, le=25, description="Seconds to wait for the job's end before the answer, at most 25.")
    ] = 0,
    if_none_match: Annotated[
        str | None,
        Parameter(header="If-None-Match", description="An earlier answer's ETag: the wait ends with any change."),
    ] = None,
) -> Response[JobAnswer]:
    """The job's status; `results` when it is completed, `error` when it failed, `progress` while it runs.

    With `wait` the answer comes when the job has ended, with `If-None-Match` as soon as it is another than the caller
    has seen; else after so many seconds, as the job then stands.
    """
    job = await reading.read_job(site.db, caller, parse_job_id(job_id))
    known = known_version(if_none_match)
    version = version_of(job)

    def shown(job: JobView) -> JobAnswer:
        return job_answer(job, forecast=site.queue.recent(), report=report_of(site.notifying, job))

    if wait and site.watch.has_room and not job.has_ended and known in (None, version):
        return LateResponse(WaitForJob(site.watch, job, known=known, seconds=wait, shown=shown))
    if version == known:
        return LateResponse(not_modified(version))
    forecast = await site.queue.forecast() if job.status == "queued" else None
    answer = job_answer(job, forecast=forecast, report=report_of(site.notifying, job))
    return Response(answer, headers={"ETag": etag(version)}, media_type=MediaType.JSON)


@get(
    "/api/v1/test-jobs/{job_id:str}/results",
    opt=allows("follow"),
    tags=TAGS,
    summary="Read a job's results",
    responses=refusals(401, 404, described={409: "The job is not finished, or failed without results."})
    | {
        200: ResponseSpec(
            Outcome, description="Every case on every model, with its assertions.", generate_examples=False
        )
    },
)
async def get_test_results(job_id: str, site: Site, caller: Caller) -> Response[bytes]:
    """Every case on every model: answer, verdict, score, assertions."""
    outcome = await reading.read_outcome(site.db, caller, parse_job_id(job_id), key=site.signing_key)
    # Stored as the JSON that goes out: nothing is decoded on the way.
    return Response(outcome.encode(), media_type=MediaType.JSON)


def parse_job_id(text: str) -> UUID:
    """Raises NotFound for what is no id: it names no job either (A14)."""
    try:
        if len(text) == 36:
            return UUID(text)
    except ValueError:
        pass
    raise NotFound("There is no such job, or it is not yours.", code="job_not_found")


def check_key(key: str | None) -> str | None:
    """The Idempotency-Key, if it can be one. Raises InvalidRequest (Q10)."""
    if key is not None and (not 0 < len(key) <= 255 or not key.isprintable()):
        raise InvalidRequest(
            "Idempotency-Key: must have 1 to 255 printable characters.", code="invalid_idempotency_key"
        )
    return key


def submit_answer(submission: Submission) -> SubmitAnswer:
    """What the caller is told; made from stored figures alone, so that a repeat is equal byte for byte."""
    limit = submission.run_limit
    return SubmitAnswer(
        job_id=str(submission.job_id),
        status="queued",
        position_in_queue=submission.position or UNSET,
        estimated_wait_seconds=submission.wait_seconds or UNSET,
        usage=SubmitUsage(
            tests_used_this_month=submission.runs_used,
            tests_remaining=max((UNLIMITED_RUNS if limit is None else limit) - submission.runs_used, 0),
            tier=submission.tier,
            unlimited=True if limit is None else UNSET,
        ),
        warnings=nearing(runs_used=submission.runs_used, run_limit=limit, money_level=submission.money_level) or UNSET,
    )


def job_answer(job: JobView, *, forecast: Forecast | None = None, report: Report | None = None) -> JobAnswer:
    """The public form of a job; with a forecast it says how long a waiting one will wait."""
    return JobAnswer(
        id=str(job.id),
        status=job.status,
        package=JobPackage(id=str(job.package_id), name=job.package_name, version=job.package_version),
        config=JobConfig(
            models=job.models,
            framework=job.framework,
            suite_source=job.suite_source,
            plugins=job.plugins or UNSET,
        ),
        results=_results(job),
        conclusion=job.conclusion or UNSET,
        error=job.error_message or UNSET,
        code=job.error_code or UNSET,
        progress=_progress(job),
        position_in_queue=job.position or UNSET,
        estimated_wait_seconds=_wait(job, forecast) or UNSET,
        created_at=iso(job.created_at),
        started_at=iso_if(job.started_at),
        completed_at=iso_if(job.completed_at),
        cached=True if job.cached_at else UNSET,
        cached_at=iso_if(job.cached_at),
        suite_name=job.suite_name,
        change=job.change or UNSET,
        superseded_by=str(job.superseded_by) if job.superseded_by and job.error_code == SUPERSEDED else UNSET,
        report=ReportAnswer(marker=report.marker, reporter=report.reporter, previous=report.previous or UNSET)
        if report
        else UNSET,
    )


def _results(job: JobView) -> Summary | UnsetType:
    if job.status != "completed" or job.results is None:
        return UNSET
    summary = msgspec.json.decode(job.results, type=Summary)
    return msgspec.structs.replace(
        summary,
        cached_at=iso_if(job.cached_at),
        test_result_id=str(job.test_result_id) if job.test_result_id is not None else UNSET,
    )


def _wait(job: JobView, forecast: Forecast | None) -> int:
    if forecast is None or job.status != "queued":
        return 0
    return ceil(forecast.wait(job.id, position=job.position))


def _progress(job: JobView) -> Progress | UnsetType:
    if job.status not in ("queued", "running"):
        return UNSET
    return Progress(
        trials_total=job.trials_total,
        trials_finished=job.trials_finished,
        passed=job.trials_passed,
        failed=job.trials_failed,
        errored=job.trials_errored,
    )


handlers = [run_test_job, get_test_job, get_test_results]
