"""Runs for a change: of each package that it touches, at its head, beside the package as it was; and what is said of
those that cannot be run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET

from evals.errors import InvalidPackage
from notifiers._text import counted
from server.domain.changes import Change
from server.domain.deliveries import Ended
from server.domain.errors import InvalidRequest, NoSuite, NotAllowed, NotFound, ServiceError, Unavailable
from server.domain.heads import Head, TouchedPart, known_or, tested_or, with_rerun, with_run
from server.domain.models import AnnouncedModel
from server.domain.repository_rules import InvalidRules, Rules
from server.forges import CannotRead
from server.services.acts import Acting
from server.services.change_jobs import (
    LISTED,
    NothingLeft,
    Order,
    Ready,
    Report,
    Submitted,
    listed,
    refusal,
    report_of,
    submit_package,
    untested,
    upload_package,
)
from server.services.fetching import Commit, Reader, TooMuch
from server.services.finding import Broken, Touched, Wanted, find_touched, folders_of, keep
from server.services.handling import TryLater
from server.services.publishing import KeptSnapshot
from server.services.reporting import report_head, report_state, said_of
from server.services.suites import read_titles
from server.services.turns import turn_on
from server.store import suite_folders, workers

Result = Submitted | Report


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
            await _prepare(acting, reader, one, head, base) for one in await _touched(acting, reader, order, head, base)
        ]
    except (CannotRead, TooMuch) as reason:
        title = "The change cannot be read"
        return await refuse(acting, reader, order.change, title=title, reason=str(reason), rules=order.rules)
    async with turn_on(acting.db, order.line):
        if not await is_current():
            return Ended("ignored", "A newer commit is there, which is tested by itself.")
        # First of all, so that nothing is submitted that the sum does not wait for.
        await _tell_sum(acting, reader, order, [_part(one) for one in prepared], is_begun=True)
        if not prepared:
            return Ended("handled", order.nothing)
        # Read once for all of them: what one submit finds the others find, too.
        models = await workers.read_models(acting.db)
        results = [await _run_or_tell(acting, reader, order, one, models) for one in prepared]
        await _tell_sum(acting, reader, order, [_part(*both) for both in zip(prepared, results, strict=True)])
    return Ended("handled", _in_words(results))


async def _tell_sum(
    acting: Acting, reader: Reader, order: Order, parts: Sequence[TouchedPart], *, is_begun: bool = False
) -> None:
    """The commit's own check is the sum of these packages. What was said of the change as a whole is over: a draft is
    ready, a stranger's change approved. `is_begun`: what is known of them holds until they are submitted."""
    change, at = order.change, datetime.now(UTC)
    warning = order.warning
    said = said_of(warning.state, warning.title, warning.summary) if warning is not None else None

    def changed(head: Head) -> Head | None:
        is_extra = order.models is not None
        found = known_or(head, change, parts) if is_begun else tested_or(head, change, parts, is_extra=is_extra)
        if order.is_partial:
            return with_rerun(head, change, found, at=at)
        nothing = "" if parts else order.nothing
        return with_run(head, change, found, said=said, nothing=nothing, at=at, commit_status=order.rules.commit_status)

    await report_head(acting.db, reader.link, change, changed=changed)


def _part(prepared: Ready | Report, result: Result | None = None) -> TouchedPart:
    at = datetime.now(UTC)
    if isinstance(prepared, Ready) and not isinstance(result, Report):
        job_id = result.job_id if result is not None else None
        return TouchedPart(package=prepared.touched.name, suite_name=prepared.touched.suite_name, at=at, job_id=job_id)
    report = result if isinstance(result, Report) else prepared
    assert isinstance(report, Report), "what is ready has a job or a report"  # noqa: S101 -- for the type checker
    return TouchedPart(
        package=report.package or "",
        suite_name=report.suite_name,
        at=at,
        said=said_of(report.state, report.title, report.summary),
        is_untested=report.is_untested,
        removed_tests=report.removed_tests,
    )


async def _touched(acting: Acting, reader: Reader, order: Order, head: Commit, base: Commit | None) -> list[Touched]:
    folders = [folder for folder in folders_of(head, base) if order.rules.wants(folder)]
    known = await suite_folders.read_suite_folders(acting.db, reader.link)
    found = await find_touched(reader, head, base, folders=folders, known=known)
    # What a change would make of it is no word on who was there first; what the default branch has is the last one.
    is_default = order.change.ref == reader.link.repository.default_branch and order.change.pull_request is UNSET
    now = found.at_head if is_default else found.at_base
    if any(known.get(package) != folder for package, folder in now.items()):
        await suite_folders.keep_suite_folders(acting.db, reader.link, now, replaces=is_default)
    return [one for one in found.touched if order.only is None or order.only(one)]


async def _prepare(
    acting: Acting, reader: Reader, touched: Touched, head: Commit, base: Commit | None
) -> Ready | Report:
    """The package's files are kept, or why they are not."""
    after, before = touched.after, touched.before
    if after is None:
        return await _removed(acting, reader, touched, base)
    if isinstance(after, Broken):
        return report_of(touched, "failure", "The package cannot be read", after.reason)
    try:
        kept = await keep(acting.db, reader, head, after, account_id=reader.link.account_id)
    except (InvalidRequest, InvalidPackage) as error:
        return report_of(touched, "failure", "The package cannot be read", listed(error))
    return Ready(touched, kept, await _keep_base(acting, reader, base, before))


async def _removed(acting: Acting, reader: Reader, touched: Touched, base: Commit | None) -> Report:
    """Which tests went with the package. Who wants to be rid of some may give it another name, folder and text: then
    nothing compares them, and people have to see it."""
    report = report_of(touched, "neutral", "The package was removed", "The change removes this package.")
    titles = await _titles_before(acting, reader, touched, base)
    if not titles:
        return report
    listed_titles = [f"- {title}" for title in titles[:LISTED]]
    more = [f"... and {len(titles) - LISTED} more"] if titles[LISTED:] else []
    words = (
        f"The change removes this package, and {counted(len(titles), 'test')} with it. Nothing is compared with them, "
        "also if the package lives on under another name:"
    )
    summary = "\n".join([words, *listed_titles, *more])
    return msgspec.structs.replace(report, summary=summary, removed_tests=len(titles))


async def _titles_before(acting: Acting, reader: Reader, touched: Touched, base: Commit | None) -> tuple[str, ...]:
    """Of the cases of the suite that the package itself had; none where that cannot be read."""
    try:
        kept = await _keep_base(acting, reader, base, touched.before)
    except (CannotRead, TooMuch):
        return ()
    if kept is None or kept.suite_path is None:
        return ()
    return await read_titles(acting.db, reader.link.account_id, kept)


async def _keep_base(acting: Acting, reader: Reader, base: Commit | None, before: Wanted | None) -> KeptSnapshot | None:
    if base is None or before is None:
        return None
    try:
        return await keep(acting.db, reader, base, before, account_id=reader.link.account_id)
    except (InvalidRequest, InvalidPackage):
        return None  # what could not be read before says nothing about the change


async def _run_or_tell(
    acting: Acting, reader: Reader, order: Order, prepared: Ready | Report, models: tuple[AnnouncedModel, ...]
) -> Result:
    report = prepared
    if isinstance(prepared, Ready):
        try:
            return await _submit(acting, reader, order, prepared, models)
        except Unavailable as error:
            raise TryLater(error.message) from None
        except NothingLeft:
            words = "Every test of this package is judged by a model, which is not paid for in changes from forks."
            report = untested(prepared.touched, words)
        except ServiceError as error:
            report = refusal(prepared, error)
    assert isinstance(report, Report), "each way out of the above made one"  # noqa: S101 -- for the type checker
    await tell(acting, reader, order.change, report, rules=order.rules)
    return report


async def _submit(
    acting: Acting, reader: Reader, order: Order, ready: Ready, models: tuple[AnnouncedModel, ...]
) -> Submitted:
    if order.uploads:
        try:
            return await upload_package(acting, reader.link, order, ready, models=models)
        except (NotFound, NotAllowed, NoSuite, InvalidRequest) as error:
            words = f"The results are not uploaded for a published version. {error.message}"
            report = Report(
                state="neutral",
                title="Not uploaded",
                summary=words,
                package=ready.touched.name,
                suite_name=f"{ready.touched.suite_name}.upload"[:100],
            )
            await tell(acting, reader, order.change, report, rules=order.rules)
    return await submit_package(acting, reader.link, order, ready, models=models)


async def refuse(
    acting: Acting, reader: Reader, change: Change, *, title: str, reason: str, rules: Rules | None = None
) -> Ended:
    """A change that is not looked at fails, as nobody knows what is in it."""
    await tell(acting, reader, change, Report(state="failure", title=title, summary=reason), rules=rules)
    return Ended("handled", reason)


async def refuse_rules(acting: Acting, reader: Reader, change: Change, error: InvalidRules) -> Ended:
    """Rules that cannot be read let nothing through, and spend nothing."""
    lines = "\n".join(error.details[:LISTED])
    advice = "The rules are read from the branch that the change is for: mend them there, or merge over this check."
    return await refuse(
        acting, reader, change, title="The rules of this repository cannot be read", reason=f"{lines}\n{advice}"
    )


async def tell(acting: Acting, reader: Reader, change: Change, report: Report, *, rules: Rules | None = None) -> None:
    """The report is kept to be told at the forge, where the service may write there, as the rules want it."""
    await report_state(
        acting.db,
        reader.link,
        change=change,
        package=report.package,
        suite_name=report.suite_name,
        state=report.state,
        title=report.title,
        summary=report.summary,
        commit_status=rules.commit_status if rules is not None else None,
        is_notable=report.removed_tests > 0,
    )


def _in_words(results: Sequence[Result]) -> str:
    """Of an operator's interest: how many were submitted, and why others were not."""
    submitted = [one.is_new for one in results if isinstance(one, Submitted)]
    run, joined = submitted.count(True), submitted.count(False)
    words = [f"{run} {'job' if run == 1 else 'jobs'} submitted."] if run or not joined else []
    words += [f"{joined} known already."] if joined else []
    words += [f"{one.package}: {one.title}." for one in results if isinstance(one, Report)]
    return " ".join(words)[:1000]


def nothing_newer() -> Callable[[], Awaitable[bool]]:
    """For what names its commit itself, whatever came later."""

    async def is_current() -> bool:
        return True

    return is_current
