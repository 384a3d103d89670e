"""Runs for a change: of each package that it touches, at its head, beside the package as it was; and what is said of
those that cannot be run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct

from evals.errors import InvalidPackage
from server.domain.accounts import Credential
from server.domain.change_heads import ChangeLine
from server.domain.changes import DEFAULT_SUITE, Change
from server.domain.deliveries import Ended
from server.domain.errors import InvalidRequest, NoSuite, NotAllowed, NotFound, QuotaExceeded, ServiceError, Unavailable
from server.domain.jobs import Cause
from server.domain.models import AnnouncedModel
from server.domain.repository_rules import ForkRules, InvalidRules, Rules
from server.forges import CannotRead
from server.services.acts import Acting
from server.services.against import check_against
from server.services.fetching import Commit, Reader, TooMuch
from server.services.finding import Broken, Touched, Wanted, find_touched, folders_of, keep
from server.services.handling import TryLater
from server.services.publishing import KeptSnapshot
from server.services.reporting import report_state
from server.services.submitting import RunRequest, new_job, submit_new
from server.services.turns import turn_on
from server.store import workers

LISTED: Final = 20  # lines of what is wrong
# What is nobody's fault in the change, and is no verdict on it.
NO_VERDICT: Final = (QuotaExceeded, NotAllowed, NotFound)
NO_VERDICT_CODES: Final = frozenset({"invalid_models", "too_many_trials", "framework_unavailable", "not_deterministic"})

Told = Literal["neutral", "failure", "action_required"]


class Report(Struct, frozen=True, kw_only=True):
    """What is told in place of a run. `package` None: of the change as a whole."""

    state: Told
    title: str
    summary: str
    package: str | None = None
    suite_name: str = DEFAULT_SUITE


class Order(Struct, frozen=True, kw_only=True):
    """What is to be run, and why. `change` has its cause."""

    line: ChangeLine
    change: Change
    rules: Rules
    base_sha: str | None  # None: compared with nothing, and every package is run
    models: tuple[str, ...] | None = None  # None: as the rules say
    fork: ForkRules | None = None  # of a stranger's change
    job_cause: Cause = "submit"
    only: Callable[[Touched], bool] | None = None
    nothing: str = "No package is touched by this change, so there is nothing to test."


class _Ready(Struct, frozen=True):
    """A package that is kept and can be submitted."""

    touched: Touched
    head: KeptSnapshot
    base: KeptSnapshot | None


async def run_change(
    acting: Acting, reader: Reader, order: Order, *, is_current: Callable[[], Awaitable[bool]]
) -> Ended:
    """A job for each package that is touched, or a report of why there is none; in words what came of it.

    `is_current` is asked right before anything is submitted. Safe to call again. Raises TryLater.
    """
    try:
        head = await reader.commit(order.change.head_sha)
        base = await reader.commit(order.base_sha) if order.base_sha else None
        prepared = [
            await _prepare(acting, reader, one, head, base) for one in await _touched(reader, order, head, base)
        ]
    except (CannotRead, TooMuch) as reason:
        return await refuse(acting, reader, order.change, title="The change cannot be read", reason=str(reason))
    async with turn_on(acting.db, order.line):
        if not await is_current():
            return Ended("ignored", "A newer commit is there, which is tested by itself.")
        if not prepared:
            report = Report(state="neutral", title="Nothing to test", summary=order.nothing)
            await tell(acting, reader, order.change, report)
            return Ended("handled", order.nothing)
        # Read once for all of them: what one submit finds the others find, too.
        models = await workers.read_models(acting.db)
        results = [await _run_or_tell(acting, reader, order, one, models) for one in prepared]
    return Ended("handled", _in_words(results))


async def _touched(reader: Reader, order: Order, head: Commit, base: Commit | None) -> list[Touched]:
    folders = [folder for folder in folders_of(head, base) if order.rules.wants(folder)]
    found = await find_touched(reader, head, base, folders=folders)
    return [one for one in found if order.only is None or order.only(one)]


async def _prepare(
    acting: Acting, reader: Reader, touched: Touched, head: Commit, base: Commit | None
) -> _Ready | Report:
    """The package's files are kept, or why they are not."""
    after, before = touched.after, touched.before
    if after is None:
        return _report_of(touched, "neutral", "The package was removed", "The change removes this package.")
    if isinstance(after, Broken):
        return _report_of(touched, "failure", "The package cannot be read", after.reason)
    try:
        kept = await keep(acting.db, reader, head, after, account_id=reader.link.account_id)
    except (InvalidRequest, InvalidPackage) as error:
        return _report_of(touched, "failure", "The package cannot be read", _listed(error))
    return _Ready(touched, kept, await _keep_base(acting, reader, base, before))


async def _keep_base(acting: Acting, reader: Reader, base: Commit | None, before: Wanted | None) -> KeptSnapshot | None:
    if base is None or before is None:
        return None
    try:
        return await keep(acting.db, reader, base, before, account_id=reader.link.account_id)
    except (InvalidRequest, InvalidPackage):
        return None  # what could not be read before says nothing about the change


async def _run_or_tell(
    acting: Acting, reader: Reader, order: Order, prepared: _Ready | Report, models: tuple[AnnouncedModel, ...]
) -> Literal["run", "joined"] | Report:
    if isinstance(prepared, _Ready):
        try:
            return await _submit(acting, reader, order, prepared, models)
        except Unavailable as error:
            raise TryLater(error.message) from None
        except ServiceError as error:
            prepared = _refusal(prepared, error)
    await tell(acting, reader, order.change, prepared)
    return prepared


async def _submit(
    acting: Acting, reader: Reader, order: Order, ready: _Ready, models: tuple[AnnouncedModel, ...]
) -> Literal["run", "joined"]:
    credential = Credential(account_id=reader.link.account_id)
    request = _request(order, ready)
    new = await new_job(request, credential, key=None, models=models, cache_days=0)
    new = msgspec.structs.replace(new, cause=order.job_cause)
    await check_against(acting.db, new)
    submission = await submit_new(acting.db, acting.admission, acting.wakeups, new)
    return "run" if submission.job_id == new.id else "joined"


def _request(order: Order, ready: _Ready) -> RunRequest:
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


def _refusal(ready: _Ready, error: ServiceError) -> Report:
    """Why the package is not run. What a change could bring about by itself never looks like a pass."""
    if isinstance(error, NoSuite) and (ready.base is None or ready.base.suite_path is None):
        return _report_of(ready.touched, "neutral", "There are no tests", error.message)
    if isinstance(error, NoSuite):
        words = "The package had tests, and the change removes them. Put them back, or merge over this check."
        return _report_of(ready.touched, "failure", "The tests were removed", words)
    if isinstance(error, NO_VERDICT) or error.error_code in NO_VERDICT_CODES:
        return _report_of(ready.touched, "neutral", "The tests were not run", _listed(error))
    return _report_of(ready.touched, "failure", "The tests cannot be run", _listed(error))


def _report_of(touched: Touched, state: Told, title: str, summary: str) -> Report:
    return Report(state=state, title=title, summary=summary, package=touched.name, suite_name=touched.suite_name)


def _listed(error: InvalidRequest | InvalidPackage | ServiceError) -> str:
    return "\n".join([error.message, *(line for line in error.details[:LISTED] if line != error.message)])


async def refuse(acting: Acting, reader: Reader, change: Change, *, title: str, reason: str) -> Ended:
    """A change that is not looked at fails, as nobody knows what is in it."""
    await tell(acting, reader, change, Report(state="failure", title=title, summary=reason))
    return Ended("handled", reason)


async def refuse_rules(acting: Acting, reader: Reader, change: Change, error: InvalidRules) -> Ended:
    """Rules that cannot be read let nothing through, and spend nothing."""
    lines = "\n".join(error.details[:LISTED])
    advice = "The rules are read from the branch that the change is for: mend them there, or merge over this check."
    return await refuse(
        acting, reader, change, title="The rules of this repository cannot be read", reason=f"{lines}\n{advice}"
    )


async def tell(acting: Acting, reader: Reader, change: Change, report: Report) -> None:
    """The report is kept to be told at the forge, where the service may write there."""
    await report_state(
        acting.db,
        reader.link,
        change=change,
        package=report.package,
        suite_name=report.suite_name,
        state=report.state,
        title=report.title,
        summary=report.summary,
    )


def _in_words(results: Sequence[Literal["run", "joined"] | Report]) -> str:
    """Of an operator's interest: how many were submitted, and why others were not."""
    run, joined = results.count("run"), results.count("joined")
    words = [f"{run} {'job' if run == 1 else 'jobs'} submitted."] if run or not joined else []
    words += [f"{joined} known already."] if joined else []
    words += [f"{one.package}: {one.title}." for one in results if isinstance(one, Report)]
    return " ".join(words)[:1000]


def nothing_newer() -> Callable[[], Awaitable[bool]]:
    """For what names its commit itself, whatever came later."""

    async def is_current() -> bool:
        return True

    return is_current
