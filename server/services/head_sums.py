"""The sum of a commit: one check that ends whatever its changes touch, so that it alone can be required. Pure.

How a job's own check stands is said by the notifiers (`ended_state`), here as there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from notifiers import Standing
from notifiers._report import PARTS_ORDER
from notifiers._standing import NO_JOB, WAITING, Part, ended_state
from notifiers._text import counted
from server.domain.changes import DEFAULT_SUITE, Change
from server.domain.heads import Head, HeadOfChange, HeadPart, PartJob, Said, TouchedPart

NOTHING_TO_TEST: Final = "Nothing to test"
NOT_WAITED_FOR: Final = "Nobody waits for these tests any more"
SUPERSEDED: Final = "A newer commit came"
# Longer than an inbox tries: whoever said that a job is to come does not come any more.
LONGEST_QUEUED: Final = timedelta(hours=48)
NEVER_STARTED: Final = "The test did not start"
# A job that is to come comes at once, or when its delivery is tried again: it is looked for ever more seldom.
FIRST_LOOK_SECONDS, LOOK_SHARE = 10.0, 0.25
# What was said of a change as a whole, the strongest first.
BLOCKING: Final = ("failure", "action_required")
# What ended without a pass, the strongest first.
WITHOUT_A_PASS: Final = {"failure": "failed", "cancelled": "cancelled", "inconclusive": "without a verdict"}


class Sum(NamedTuple):
    """What the commit's check shows, as the check of which change, and when to look again though there is no news."""

    standing: Standing
    change: Change
    again_seconds: float | None


class _Shown(NamedTuple):
    part: Part
    is_untested: bool = False
    is_superseded: bool = False
    removed_tests: int = 0
    again_seconds: float | None = None


class _Verdict(NamedTuple):
    state: str
    title: str
    summary: str = ""


def sum_up(head: Head, parts: Sequence[HeadPart], *, now: datetime, public_url: str | None) -> Sum:
    """How the commit stands. `parts` are all of the head's, as the jobs are at this moment."""
    changes = sorted(head.changes.values(), key=lambda one: one.at)
    waited_for = [found for found in parts if not _is_left(head, found)]
    shown = _worst(_shown(head, found, now=now, public_url=public_url) for found in waited_for)
    blocking = _blocking(changes)
    verdict = _verdict_of(blocking.said) if blocking and blocking.said else _of_parts(changes, shown)
    urls = {one.part.url for one in shown}
    standing = Standing(
        key=NO_JOB,
        package=None,
        suite=DEFAULT_SUITE,
        state=verdict.state,
        title=verdict.title,
        summary=verdict.summary,
        accepted_at=changes[-1].at,
        url=urls.pop() if len(urls) == 1 else "",
        parts=tuple(one.part for one in shown),
        # What is to be said of a package is said in its own comment.
        may_comment=blocking is not None,
    )
    looks = [one.again_seconds for one in shown if one.again_seconds is not None]
    return Sum(standing, (blocking or changes[-1]).change, min(looks, default=None))


def _is_left(head: Head, found: HeadPart) -> bool:
    """Whether nobody waits for what has no verdict yet. What has one counts for good: a detour turns nothing green."""
    change, job = head.changes[found.change], found.job
    if not change.left or change.parts[found.part].said is not None:
        return False
    return job is None or (job.status != "completed" and job.error_code in (None, "superseded"))


def _worst(shown: Iterable[_Shown]) -> list[_Shown]:
    """A package that several changes touch once, as it stands in the one where it is worst."""
    ordered = sorted(shown, key=lambda one: PARTS_ORDER.index(one.part.state), reverse=True)
    return list({(one.part.package, one.part.suite): one for one in ordered}.values())


def _blocking(changes: Sequence[HeadOfChange]) -> HeadOfChange | None:
    """The change of which something is said that holds up a merge, whatever its packages come to."""
    words = [one for one in changes if one.said is not None and not _is_known_otherwise(one, changes)]
    return next((one for state in BLOCKING for one in words if one.said and one.said.state == state), None)


def _is_known_otherwise(waiting: HeadOfChange, changes: Sequence[HeadOfChange]) -> bool:
    """Whether what waits for approval is tested as another change: a stranger who proposes the same commit for the same
    branch once more holds nobody up."""
    if waiting.said is None or waiting.said.state != "action_required" or waiting.is_run:
        return False
    return any(one.is_run and one.change.base_ref == waiting.change.base_ref for one in changes)


def _verdict_of(said: Said) -> _Verdict:
    return _Verdict(said.state, said.title, said.summary)


def _of_parts(changes: Sequence[HeadOfChange], shown: Sequence[_Shown]) -> _Verdict:
    """Some packages of a change whose others nobody looked at are not all of it: then what is said of it counts."""
    run = [one for one in changes if one.is_run]
    if not run:
        said = changes[-1].said
        return _verdict_of(said) if said is not None else _Verdict("neutral", NOTHING_TO_TEST)
    if shown:
        return _with_removed(_of_states(shown), sum(one.removed_tests for one in shown))
    if all(one.left for one in run):
        return _Verdict("inconclusive", NOT_WAITED_FOR, run[-1].left)
    return _Verdict("neutral", NOTHING_TO_TEST, next((one.nothing for one in reversed(run) if one.nothing), ""))


def _with_removed(verdict: _Verdict, tests: int) -> _Verdict:
    """Tests that went with their package are said where people decide: nothing else tells that there are fewer."""
    if not tests:
        return verdict
    title = f"{verdict.title}, {counted(tests, 'test')} removed"
    return verdict._replace(title=title)


def _of_states(shown: Sequence[_Shown]) -> _Verdict:
    count = Counter(one.part.state for one in shown)
    packages = counted(len(shown), "package")
    waiting = sum(count[state] for state in WAITING)
    if waiting:
        failed = f", {count['failure']} failed so far" if count["failure"] else ""
        state = "queued" if count["queued"] == len(shown) else "in_progress"
        return _Verdict(state, f"{len(shown) - waiting} of {packages} done{failed}")
    worst = next((state for state in WITHOUT_A_PASS if count[state]), None)
    if worst == "inconclusive" and any(one.is_superseded for one in shown):
        return _Verdict(worst, SUPERSEDED)
    if worst is not None:
        return _Verdict(worst, f"{count[worst]} of {packages} {WITHOUT_A_PASS[worst]}")
    return _of_good_states(count["success"], sum(one.is_untested for one in shown), packages, len(shown))


def _of_good_states(passed: int, untested: int, packages: str, total: int) -> _Verdict:
    if untested:
        return _Verdict("neutral", f"{untested} of {packages} not tested")
    if passed:
        return _Verdict("success", f"{packages} passed" if passed == total else f"{passed} of {packages} passed")
    return _Verdict("neutral", NOTHING_TO_TEST)


def _shown(head: Head, found: HeadPart, *, now: datetime, public_url: str | None) -> _Shown:
    part, job = head.changes[found.change].parts[found.part], found.job
    if part.said is not None:
        title = part.said.title
        if part.removed_tests:
            title += f", with {counted(part.removed_tests, 'test')}"
        return _Shown(_part(part, part.said.state, title), part.is_untested, removed_tests=part.removed_tests)
    if job is not None:
        url = f"{public_url}/jobs/{job.id}" if public_url else ""
        is_superseded = job.error_code == "superseded"
        return _Shown(_part(part, _state(job), _title(job), url), is_superseded=is_superseded)
    if found.has_newer:
        return _Shown(_part(part, "inconclusive", SUPERSEDED), is_superseded=True)
    age = now - part.at
    if age >= LONGEST_QUEUED:
        return _Shown(_part(part, "inconclusive", NEVER_STARTED))
    until_then = (LONGEST_QUEUED - age).total_seconds() + 1.0
    again = min(until_then, max(FIRST_LOOK_SECONDS, age.total_seconds() * LOOK_SHARE))
    return _Shown(_part(part, "queued", "Waiting for its turn"), again_seconds=again)


def _part(part: TouchedPart, state: str, title: str, url: str = "") -> Part:
    return Part(package=part.package, suite=part.suite_name, state=state, title=title, url=url)


def _state(job: PartJob) -> str:
    if job.status == "completed":
        return ended_state(job.conclusion or "", job.error_code or "")
    if job.status == "failed":
        return ended_state("inconclusive", job.error_code or "")
    return "queued" if job.started_at is None else "in_progress"


def _title(job: PartJob) -> str:
    if job.status in ("queued", "running"):
        return "Waiting for its turn" if job.started_at is None else "Running"
    if job.error_code == "superseded":
        return SUPERSEDED
    if job.status == "failed":
        return "Cancelled" if job.error_code == "cancelled" else "It could not be run"
    if job.total_tests is None or job.tests_passed is None:
        return (job.conclusion or "").capitalize()
    return f"{job.tests_passed} of {counted(job.total_tests, 'test')} passed"
