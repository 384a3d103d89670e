"""A job that has ended, once more: the same package, suite and models as a new job, by the same submit."""

from __future__ import annotations

from uuid import UUID, uuid4

import asyncpg
import msgspec

from evals.catalogue import ModelInfo
from server.domain.accounts import Caller, Credential
from server.domain.errors import Conflict, NotAllowed
from server.domain.jobs import JobRequest, NewJob, SentSuite, Submission, Wakeups
from server.domain.packages import PackageRef
from server.services.admission import Admission
from server.services.missing_suites import TO_BE_WRITTEN
from server.services.reading import read_job
from server.services.submitting import choose_models, digest, may_cost, submit_new
from server.store import jobs


async def retry(
    db: asyncpg.Pool,
    admission: Admission,
    wakeups: Wakeups,
    credential: Credential,
    job_id: UUID,
    *,
    caller: Caller,
    models: tuple[ModelInfo, ...],
    idempotency_key: str | None = None,
) -> Submission:
    """The new job, charged as any run; for equal requests within 10 s, or under one key, the same one.

    Raises NotFound, NotAllowed, Conflict for a job that has not ended, and whatever a submit does.
    """
    job = await read_job(db, caller, job_id)
    request = await jobs.read_request(db, job_id, seen_by=caller.asker_id)
    if request is None:
        raise NotAllowed("Only the account that a job belongs to can run it again.")
    if not job.has_ended:
        raise Conflict(f"This job is {job.status}; it can be sent again when it has ended.", code="job_not_finished")
    chosen = choose_models(request.models, models)
    new = _new_job(request, credential, key=idempotency_key, models=chosen, costs_money=may_cost(chosen, models))
    if request.account_id != caller.id:
        new = msgspec.structs.replace(new, account=request.account_name)
    return await submit_new(db, admission, wakeups, new)


def _suite(suite: SentSuite) -> SentSuite:
    """A job that ended before its cases were written gets them now."""
    return TO_BE_WRITTEN if suite.id == TO_BE_WRITTEN.id else suite


def _new_job(
    request: JobRequest, credential: Credential, *, key: str | None, models: list[str], costs_money: bool
) -> NewJob:
    """As the first submit described it; no kept outcome answers, as somebody wants to see it run."""
    return NewJob(
        id=uuid4(),
        credential=credential,
        key=f"key:{key}" if key is not None else None,
        # Other than the first submit's, so that the job itself is not what equals it.
        request_sha256=digest({"retry_of": str(request.job_id)}),
        force=False,
        package=PackageRef(id=request.package_id),
        package_version=request.package_version,
        snapshot_id=request.snapshot_id,
        # The package's own where it is still the same one, as only that can be verified.
        suite=None if request.suite_is_current else _suite(request.suite),
        models=models,
        framework=request.framework,
        plugins=request.plugins,
        upload_results=request.upload_results,
        verify_results=request.verify_results,
        may_cost=costs_money,
        max_cost_usd=request.max_cost_usd,
        use_cache=request.use_cache,
        # Without the change: what its forge is told of is decided there, and the head may be an old one.
        suite_name=request.suite_name,
        against=request.against,
    )
