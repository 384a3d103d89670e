"""What a job is compared with: found by what its submit said, its change and its package; and what comes of that."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, Struct, UnsetType

from evals.agents.choosing import FrameworkUnavailable, Wish, choose
from evals.archives import read_archive
from evals.catalogue import Catalogue
from evals.comparing import Before
from evals.comparison import Baseline, Past, RowKey
from evals.errors import EngineError
from evals.gating import GateWish, with_gate
from evals.outcome import BaselineSource, Outcome, present_rows
from evals.packages import read_package
from evals.runner import Plan
from evals.statistics import Counts
from evals.suite_changes import CaseChange, changed_cases
from evals.suites import without_judges
from evals.types import Suite
from server.domain.baselines import NO_BASELINE, Against, Base, BaselineRef, FixedBaseline, KnownPast
from server.domain.jobs import ClaimedJob
from server.store import history, packages

NOTHING = Against()


class _Found(NamedTuple):
    """A baseline before its trials are read. `is_meant`: somebody asked for it, or a change brings it."""

    ref: BaselineRef
    base: Base
    is_meant: bool
    ran_by: UUID | None = None  # the job that made the trials, for a baseline of one job


def gate_of(job: ClaimedJob) -> GateWish:
    """What fails the job: tested regressions where somebody compares, else failures."""
    against = job.against or NOTHING
    meant = job.change is not None or against.base_snapshot_id is not None
    compares = against.baseline not in (None, NO_BASELINE) or (meant and against.baseline is None)
    return GateWish(rule=against.gate or ("regressions" if compares else "failures"), min_score=against.min_score)


def has_gate(job: ClaimedJob) -> bool:
    """Whether the outcome has to say what decided, also without a baseline."""
    against = job.against or NOTHING
    return job.change is not None or against.gate is not None or against.min_score is not None


async def find_baseline(db: asyncpg.Pool, job: ClaimedJob, plan: Plan) -> FixedBaseline | None:
    """What the job is compared with: as it was fixed before, else as it is found now. None: with nothing."""
    fixed = await history.read_fixed_baseline(db, job.id)
    if fixed is not None:
        return fixed
    found = await _find(db, job)
    if found is None:
        return None
    found = await _with_sent_base(db, job, found)
    past = await _read_past(db, job, plan, found)
    if not found.is_meant and not past.rows:
        return None
    cases = await asyncio.to_thread(_changed_cases, job, plan, found) if found.base.suite_body else ()
    snapshot = (job.against or NOTHING).base_snapshot_id or found.base.snapshot_id
    return FixedBaseline(
        kind=found.ref.kind,
        name=found.ref.name,
        past=past,
        cases=cases,
        # Run beside the same files, the base would say nothing about a change.
        base_snapshot_id=snapshot if snapshot != job.snapshot_id else None,
    )


async def _find(db: asyncpg.Pool, job: ClaimedJob) -> _Found | None:
    asked = (job.against or NOTHING).baseline
    if asked == NO_BASELINE:
        return None
    if asked is not None:
        kind, _, name = asked.partition(":")
        return await _named(db, job, kind, name)
    if job.change is not None and job.change.base_ref:
        return await _named(db, job, "branch", job.change.base_ref)
    base = await history.find_version_base(db, job.package_name, account_id=job.account_id, version=None)
    if base is None or base.snapshot_id == job.snapshot_id:
        return _sent_alone(job)
    return _Found(BaselineRef("version", base.version or ""), base, is_meant=job.change is not None)


def _sent_alone(job: ClaimedJob) -> _Found | None:
    """The files that were sent as the package as it was, where nothing else is there to compare with."""
    snapshot = (job.against or NOTHING).base_snapshot_id
    if snapshot is None or job.change is not None or snapshot == job.snapshot_id:
        return None
    return _Found(BaselineRef("snapshot", snapshot[:12]), Base(), is_meant=True)


async def _with_sent_base(db: asyncpg.Pool, job: ClaimedJob, found: _Found) -> _Found:
    """With the suite of the very files that the submit named as base: a branch's newest job may have run others."""
    snapshot = (job.against or NOTHING).base_snapshot_id
    if snapshot is None:
        return found
    suite = await history.find_snapshot_suite(db, job.package_name, account_id=job.account_id, snapshot_id=snapshot)
    if suite is None:
        return found
    return found._replace(base=msgspec.structs.replace(found.base, snapshot_id=snapshot, suite_body=suite))


async def _named(db: asyncpg.Pool, job: ClaimedJob, kind: str, name: str) -> _Found:
    if kind == "version":
        base = await history.find_version_base(db, job.package_name, account_id=job.account_id, version=name)
        return _Found(BaselineRef("version", name), base or Base(version=name), is_meant=True)
    if kind == "job":
        of_job = await history.find_job_base(db, UUID(name), account_id=job.account_id)
        ran_by, base = of_job or (UUID(name), Base())
        return _Found(BaselineRef("job", name), base, is_meant=True, ran_by=ran_by if of_job else None)
    repository = _repository(job)
    base = await history.find_branch_base(
        db,
        job.package_name,
        account_id=job.account_id,
        branch=name,
        repository=repository,
        suite_name=job.suite_name,
    )
    return _Found(BaselineRef("branch", name), base or Base(repository=repository), is_meant=True)


def _repository(job: ClaimedJob) -> str | None:
    return f"{job.change.forge}:{job.change.repository_id}" if job.change is not None else None


async def _read_past(db: asyncpg.Pool, job: ClaimedJob, plan: Plan, found: _Found) -> KnownPast:
    asked = {(row.key.model, row.case_digest or "") for row in present_rows(plan.suite, plan.models, ())}
    match found.ref.kind:
        case "branch" if found.base.repository is None:
            return KnownPast(rows=(), jobs=0)
        case "branch":
            key = f"{found.base.repository} {found.ref.name}"
            return await history.read_branch_past(
                db, job.package_name, account_id=job.account_id, branch_key=key, asked=asked
            )
        case "version":
            return await history.read_version_past(
                db, job.package_name, account_id=job.account_id, version=found.ref.name, asked=asked
            )
    return KnownPast(rows=(), jobs=0) if found.ran_by is None else await history.read_job_past(db, found.ran_by)


def _changed_cases(job: ClaimedJob, plan: Plan, found: _Found) -> tuple[CaseChange, ...]:
    """What this run's suite asks less than the baseline's; nothing where only some cases were asked for."""
    if found.base.suite_body is None or (job.against or NOTHING).some_cases:
        return ()
    suite = msgspec.json.decode(found.base.suite_body, type=Suite)
    if (job.against or NOTHING).without_judges:
        suite = without_judges(suite)
    # As this job's own suite was cut to its tier.
    suite = msgspec.structs.replace(suite, max_tokens=min(suite.max_tokens, job.answer_tokens))
    return changed_cases(suite, plan.suite, gates=found.is_meant and gate_of(job).rule != "never")


def known_rows(plan: Plan, fixed: FixedBaseline) -> Baseline:
    """The baseline's trials by the rows of this run."""
    counts = {(row.model, row.case_digest): Counts(row.passed, row.failed) for row in fixed.past.rows}
    return {
        row.key: Past(counts=counts[row.key.model, row.case_digest], case_digest=row.case_digest)
        for row in present_rows(plan.suite, plan.models, ())
        if row.case_digest is not None and (row.key.model, row.case_digest) in counts
    }


class NotAtHand(Struct, frozen=True):
    """Why the package cannot be run as it was, as the end of a sentence."""

    why: str


async def read_base(
    db: asyncpg.Pool, job: ClaimedJob, fixed: FixedBaseline, plan: Plan, catalogue: Catalogue
) -> Before | NotAtHand:
    """The package as it was, to be run as the plan runs it now."""
    if fixed.base_snapshot_id is None:
        return NotAtHand("no other files of it are stored")
    archive = await packages.read_archive(db, fixed.base_snapshot_id)
    if not archive:
        return NotAtHand("its files are not kept any more")
    try:
        return await asyncio.to_thread(_before, archive, job, plan, catalogue)
    except FrameworkUnavailable:
        return NotAtHand("it was no agent then")
    except EngineError:
        return NotAtHand("it cannot be read")


def _before(archive: bytes, job: ClaimedJob, plan: Plan, catalogue: Catalogue) -> Before:
    files = read_archive(archive)
    package = read_package(files, name=job.package_name, version="base", format=job.format, subtype=job.subtype)
    if plan.agent is None:
        return Before(package.instructions)
    wish = Wish(
        asked="claude-agent",
        suite=plan.suite,
        models=[catalogue.resolve(name) for name in plan.models],
        plugins=plan.agent.plugins,
        limits=plan.agent.limits,
    )
    return Before(package.instructions, choose(package, files, wish).agent)


class Compared(Struct, kw_only=True):
    """How far a job's comparison came; grows while the job runs."""

    fixed: FixedBaseline | None = None
    baseline: Baseline | None = None
    no_base: NotAtHand | None = None  # where it was wanted


def told(outcome: Outcome, compared: Compared, job: ClaimedJob) -> Outcome:
    """The outcome with where its baseline comes from, the cases that it asks less, and what decided."""
    fixed = compared.fixed
    if fixed is not None and outcome.comparison:
        comparison = msgspec.structs.replace(
            outcome.comparison,
            source=_source(fixed),
            cases=fixed.cases,
            removed=_keys(fixed, job, change="removed"),
            changed=_keys(fixed, job, change="changed"),
        )
        outcome = msgspec.structs.replace(outcome, comparison=comparison)
    if fixed is None and not has_gate(job):
        return outcome
    outcome = with_gate(outcome, gate_of(job))
    if compared.no_base is None or not outcome.gate:
        return outcome
    why = f"The package was not run as it was, beside this run: {compared.no_base.why}."
    return msgspec.structs.replace(
        outcome, gate=msgspec.structs.replace(outcome.gate, reasons=(*outcome.gate.reasons, why))
    )


def _keys(fixed: FixedBaseline, job: ClaimedJob, *, change: str) -> tuple[RowKey, ...]:
    return tuple(
        RowKey(case.title, model, case.number) for case in fixed.cases if case.change == change for model in job.models
    )


def _source(fixed: FixedBaseline) -> BaselineSource:
    return BaselineSource(
        kind=fixed.kind,
        name=fixed.name,
        jobs=fixed.past.jobs,
        oldest_at=_iso(fixed.past.oldest_at),
        newest_at=_iso(fixed.past.newest_at),
        snapshot=fixed.base_snapshot_id or UNSET,
    )


def _iso(moment: datetime | None) -> str | UnsetType:
    if moment is None:
        return UNSET
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
