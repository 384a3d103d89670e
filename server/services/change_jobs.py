"""One package of a change becomes a job, or a report of why it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct

from evals.errors import InvalidPackage
from evals.suites import suite_digest, without_judges
from evals.types import Suite
from server.domain.accounts import Credential
from server.domain.baselines import Against
from server.domain.change_heads import ChangeLine
from server.domain.changes import DEFAULT_SUITE, OWN_CAUSE, Change
from server.domain.errors import NoSuite, NotAllowed, NotFound, QuotaExceeded, ServiceError
from server.domain.events import LONGEST_CAUSE
from server.domain.jobs import Cause, NewJob, SentSuite
from server.domain.links import Link
from server.domain.models import AnnouncedModel
from server.domain.packages import PackageRef
from server.domain.reporting import ReportSettings
from server.domain.repository_rules import ForkRules, Rules
from server.services.acts import Acting
from server.services.against import check_against
from server.services.finding import Touched, Wanted
from server.services.identity import read_caller
from server.services.publishing import KeptSnapshot, encode_canonical, trials_a_model
from server.services.reading import read_job
from server.services.submitting import RunRequest, new_job, submit_new
from server.store import change_heads, notify_targets, subjects

LISTED: Final = 20  # lines of what is wrong
# What is nobody's fault in the change, and is no verdict on it.
NO_VERDICT: Final = (QuotaExceeded, NotAllowed, NotFound)
NO_VERDICT_CODES: Final = frozenset({"invalid_models"})

FOR_A_HEAD: Final = frozenset({"head", f"{OWN_CAUSE}head"})
MOST_CAUSES: Final = 4  # head, own:head, back:, own:back:

Told = Literal["neutral", "failure", "action_required"]
Only = Callable[[Touched], bool]


class Report(Struct, frozen=True, kw_only=True):
    """What is told in place of a run. `package` None: of the change as a whole."""

    state: Told
    title: str
    summary: str
    package: str | None = None
    suite_name: str = DEFAULT_SUITE
    is_untested: bool = False  # there would have been something to test
    removed_tests: int = 0  # that went with the package


class Order(Struct, frozen=True, kw_only=True):
    """What is to be run, and why. `change` has its cause."""

    line: ChangeLine
    change: Change
    rules: Rules
    base_sha: str | None  # None: compared with nothing, and every package is run
    models: tuple[str, ...] | None = None  # None: as the rules say
    fork: ForkRules | None = None  # of a stranger's change
    job_cause: Cause = "submit"
    only: Only | None = None
    is_partial: bool = False  # `only` leaves out what the change touches, too
    warning: Report | None = None  # said of the change as a whole, whatever its packages come to
    nothing: str = "No package is touched by this change, so there is nothing to test."
    uploads: bool = False  # results are uploaded for the version that is published


class Ready(Struct, frozen=True):
    """A package that is kept and can be submitted."""

    touched: Touched
    head: KeptSnapshot
    base: KeptSnapshot | None


class NothingLeft(Exception):
    """Every case of the suite is judged by a model, which is not paid for here."""


class Submitted(NamedTuple):
    """The job of a package; not new where the same event had it before."""

    job_id: UUID
    is_new: bool


async def submit_package(
    acting: Acting, link: Link, order: Order, ready: Ready, *, models: tuple[AnnouncedModel, ...]
) -> Submitted:
    """Raises ServiceError, NothingLeft."""
    change = order.change
    for _ in range(MOST_CAUSES):
        new = await _new_job(acting, link, msgspec.structs.replace(order, change=change), ready, models)
        submission = await submit_new(acting.db, acting.admission, acting.wakeups, new)
        if submission.job_id == new.id:
            return Submitted(new.id, is_new=True)
        cause = await _why_again(acting, new, change, submission.job_id)
        if cause is None:
            break
        change = msgspec.structs.replace(change, cause=cause[:LONGEST_CAUSE])
    return Submitted(submission.job_id, is_new=False)


async def _why_again(acting: Acting, new: NewJob, change: Change, earlier_id: UUID) -> str | None:
    """What causes another run of what had one; None where that one says all that there is to say.

    What a token submitted, as a workflow does that the change itself may alter, has the files, the suite and the gate
    that its sender chose: the change is judged by a run of our own. A head that comes back after another one was tested
    had its job ended by that. One that is for another branch by now was compared with what the one before has.
    """
    if not await change_heads.was_submitted_here(acting.db, earlier_id):
        return f"{OWN_CAUSE}{change.cause}"
    if change.cause not in FOR_A_HEAD:
        return None
    earlier = await read_job(acting.db, await read_caller(acting.db, new.credential), earlier_id)
    if earlier.superseded_by is not None:
        return f"back:{earlier.superseded_by}"
    if earlier.unwanted is not None:
        return f"back:{earlier_id}"
    was_for = earlier.change.base_ref if earlier.change is not None else UNSET
    if isinstance(was_for, str) and isinstance(change.base_ref, str) and was_for != change.base_ref:
        return f"base:{change.base_ref}"
    return None


async def upload_package(
    acting: Acting, link: Link, order: Order, ready: Ready, *, models: tuple[AnnouncedModel, ...]
) -> Submitted:
    """As `submit_package`, for the published version that the manifest names, with its results uploaded."""
    after = ready.touched.after
    version = after.version if isinstance(after, Wanted) else None
    request = msgspec.structs.replace(
        _request(order, ready), package_id=ready.touched.name, package_version=version, upload_results=True
    )
    new = await new_job(request, _credential(link), key=None, models=models, cache_days=0)
    new = msgspec.structs.replace(new, report=await _told(acting, link, order, ready))
    submission = await submit_new(acting.db, acting.admission, acting.wakeups, new)
    return Submitted(submission.job_id, is_new=submission.job_id == new.id)


async def _new_job(
    acting: Acting, link: Link, order: Order, ready: Ready, models: tuple[AnnouncedModel, ...]
) -> NewJob:
    new = await new_job(_request(order, ready), _credential(link), key=None, models=models, cache_days=0)
    new = msgspec.structs.replace(new, cause=order.job_cause, report=await _told(acting, link, order, ready))
    await check_against(acting.db, new)
    if order.fork is not None and order.fork.run == "deterministic":
        return await _without_judges(acting, link, new)
    return new


async def _told(acting: Acting, link: Link, order: Order, ready: Ready) -> ReportSettings:
    """How the job is reported, by the rules: where, and to which of the targets that the account has."""
    rules, folder = order.rules, ready.touched.folder
    suite_path = ready.head.suite_path
    return ReportSettings(
        comment=rules.comment,
        commit_status=rules.commit_status,
        suite_path=None if suite_path is None else f"{folder}/{suite_path}".removeprefix("/"),
        notify=None if rules.notify is None else await _targets(acting, link, rules.notify),
    )


async def _targets(acting: Acting, link: Link, kinds: Sequence[str]) -> tuple[UUID, ...]:
    targets = await notify_targets.list_targets(acting.db, link.account_id) if kinds else []
    return tuple(target.id for target in targets if target.kind in kinds)


def _credential(link: Link) -> Credential:
    return Credential(account_id=link.account_id)


def _request(order: Order, ready: Ready) -> RunRequest:
    rules, fork = order.rules, order.fork
    models = order.models or rules.models
    caps = [cap for cap in (rules.max_cost_usd, fork.max_cost_usd if fork else None) if cap is not None]
    return RunRequest(
        package_id=str(ready.head.package_id),
        package_version=ready.head.version,
        models=list(models) if models else None,
        # An agent reads files and calls tools; what a stranger wrote is only ever told to a model.
        framework="litellm" if fork else None,
        cache=False if order.job_cause == "baseline" else None,
        max_cost_usd=min(caps, default=None),
        change=order.change,
        suite_name=ready.touched.suite_name,
        gate=rules.fail_on,
        min_score=rules.min_score,
        base_snapshot_id=ready.base.snapshot_id if ready.base else None,
    )


async def _without_judges(acting: Acting, link: Link, new: NewJob) -> NewJob:
    """With the cases that no model judges. A suite that is missing or broken is left to those who say so."""
    subject = await subjects.read_subject(
        acting.db, link.account_id, PackageRef(id=new.package.id), version=new.package_version, snapshot_id=None
    )
    if subject is None or subject.suite_body is None:
        return new
    suite = await asyncio.to_thread(_cut, subject.suite_body)
    if suite is None:
        raise NothingLeft
    against = msgspec.structs.replace(new.against or Against(), without_judges=True)
    return msgspec.structs.replace(new, suite=suite, against=against)


def _cut(body: str) -> SentSuite | None:
    suite = without_judges(msgspec.json.decode(body, type=Suite))
    if not suite.cases:
        return None
    return SentSuite(id=suite_digest(suite), body=encode_canonical(suite).decode(), trials=trials_a_model(suite))


def refusal(ready: Ready, error: ServiceError) -> Report:
    """Why the package is not run. What a change could bring about by itself never looks like a pass."""
    if isinstance(error, NoSuite) and (ready.base is None or ready.base.suite_path is None):
        return report_of(ready.touched, "neutral", "There are no tests", error.message)
    if isinstance(error, NoSuite):
        words = "The package had tests, and the change removes them. Put them back, or merge over this check."
        return report_of(ready.touched, "failure", "The tests were removed", words)
    if isinstance(error, NO_VERDICT) or error.error_code in NO_VERDICT_CODES:
        return untested(ready.touched, listed(error))
    return report_of(ready.touched, "failure", "The tests cannot be run", listed(error))


def untested(touched: Touched, summary: str) -> Report:
    """Of one package that has tests, which is no verdict on the change."""
    return msgspec.structs.replace(report_of(touched, "neutral", "The tests were not run", summary), is_untested=True)


def report_of(touched: Touched, state: Told, title: str, summary: str) -> Report:
    """Of one package."""
    return Report(state=state, title=title, summary=summary, package=touched.name, suite_name=touched.suite_name)


def listed(error: ServiceError | InvalidPackage) -> str:
    """The sentence, and each thing that is wrong on a line of its own."""
    return "\n".join([error.message, *(line for line in error.details[:LISTED] if line != error.message)])
