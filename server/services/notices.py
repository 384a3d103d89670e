"""A job that ended, or an event that is none, as the notifiers tell it. Pure: decides what is said, sends nothing."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import msgspec

from notifiers import Announcement, Notice, Outcome, Standing, TargetUrl, checked_url, read_outcome, target_for
from notifiers._outcome import Summary
from notifiers._standing import NO_JOB
from notifiers._text import counted
from server.domain.changes import COMMENT_CAUSE, Change
from server.domain.notifications import ReadTarget, ToldJob, Warned
from server.domain.reporting import CheckState
from server.services.sealing import SealedAddress

# Conclusions that say how a package stands; a run that could not be done leaves that as it was.
STATES = ("passed", "failed")


def notice_of(job: ToldJob, *, previous: str | None, now: datetime, public_url: str | None) -> Notice:
    """What there is to tell of the job, which has ended, at this moment."""
    return Notice(
        outcome=_outcome(job),
        package=job.package_name,
        suite=job.suite_name,
        job_id=str(job.id),
        accepted_at=job.created_at,
        finished_at=job.completed_at or job.read_at,
        told_at=now,
        url=f"{public_url}/jobs/{job.id}" if public_url else "",
        ref=short_ref(job.change) if job.change else "",
        head_sha=job.change.head_sha if job.change else "",
        error_code=job.error_code or "",
        is_unwanted=job.unwanted is not None,
        previous=previous,
        suite_path=job.report.suite_path,
    )


def standing_of(job: ToldJob, *, public_url: str | None) -> Standing:
    """How a job stands that has not ended."""
    return Standing(
        key=str(job.id),
        package=job.package_name,
        suite=job.suite_name,
        state="queued" if job.started_at is None else "in_progress",
        title=_progress(job),
        accepted_at=job.created_at,
        url=f"{public_url}/jobs/{job.id}" if public_url else "",
    )


def _progress(job: ToldJob) -> str:
    if job.started_at is None:
        return "Waiting for its turn"
    if job.status == "queued":
        return "Waiting to go on"
    failed = f", {job.trials_failed:,} failed so far" if job.trials_failed else ""
    return f"{job.trials_finished:,} of {counted(job.trials_total, 'trial')} done{failed}"


def standing_of_state(said: CheckState) -> Standing:
    """How a check stands that no job is behind."""
    return Standing(
        key=NO_JOB,
        package=said.package,
        suite=said.suite_name,
        state=said.state,
        title=said.title,
        summary=said.summary,
        accepted_at=said.at,
        is_answer=said.change.cause.startswith(COMMENT_CAUSE),
        is_notable=said.is_notable,
    )


def _outcome(job: ToldJob) -> Outcome:
    """What was found. A job that could not be done, or was cancelled, is inconclusive whatever it found before."""
    outcome = read_outcome(job.outcome) if job.outcome else Outcome(test_cases=(), summary=NOTHING, engine_version="")
    if job.cached_at is not None:
        cached = dataclasses.replace(outcome.summary, cached=True)
        outcome = dataclasses.replace(outcome, summary=cached)
    if job.status == "completed":
        return outcome
    notes = (job.error_message or "The run could not be done.", *(outcome.summary.notes or ()))
    summary = dataclasses.replace(outcome.summary, conclusion="inconclusive", notes=notes)
    return dataclasses.replace(outcome, summary=summary)


NOTHING = Summary(
    total_tests=0,
    tests_passed=0,
    tests_failed=0,
    overall_score=0.0,
    total_duration_ms=0,
    total_tokens=0,
    total_cost_usd=0.0,
    tests_errored=0,
    tests_skipped=0,
    conclusion="inconclusive",
)


def short_ref(change: Change) -> str:
    """As the forge's people write it: `#12`, `!12`, `main`."""
    if isinstance(change.pull_request, int):
        return f"{'!' if change.forge == 'gitlab' else '#'}{change.pull_request}"
    return change.ref


def notifier_target(target: ReadTarget, address: SealedAddress, *, allowed: frozenset[str], edits: bool) -> Any:
    """The notifier's own target, with what the account chose. `edits`: the earlier message is to be replaced.

    Raises InvalidTarget for an address that is not allowed any more.
    """
    made = target_for(target.kind, address.url, allowed_origins=allowed)
    wanted = {
        "when": target.mode,
        **({"secret": address.secret} if address.secret else {}),
        **({"message_id": target.message_id} if edits and target.message_id else {}),
    }
    fields = {field.name for field in dataclasses.fields(made)}
    return dataclasses.replace(made, **{name: value for name, value in wanted.items() if name in fields})


def masked(url: str, *, allowed: frozenset[str]) -> str:
    """The address for people: its host, and of a long last part four characters to know it by. Raises InvalidTarget."""
    checked: TargetUrl = checked_url(url, allowed_origins=allowed)
    scheme_and_host = checked.text[: len(checked.text) - len(_after_host(checked))]
    last = checked.path.rstrip("/").rpartition("/")[2]
    return f"{scheme_and_host}/…{last[-4:] if len(last) >= 20 else ''}"


def _after_host(url: TargetUrl) -> str:
    begin = url.text.index("://") + 3
    rest = url.text[begin:]
    return rest[min((rest.index(mark) for mark in "/?" if mark in rest), default=len(rest)) :]


def check_announcement(event_id: str, *, at: datetime, now: datetime) -> Announcement:
    """Somebody wants to see whether a target works."""
    return Announcement(
        event_id=event_id,
        event="target.check",
        title="This target works",
        at=at,
        told_at=now,
        text="Results of prompt tests will be told here. Nothing else is to be done.",
    )


def warning_announcement(event_id: str, facts: str, *, at: datetime, now: datetime) -> Announcement:
    """An account's month is half, nearly or wholly used. `facts` is JSON of Warned."""
    warned = msgspec.json.decode(facts, type=Warned)
    if warned.kind == "money":
        what, amounts = "money for models", f"${warned.used:,.2f} of ${warned.most:,.2f}"
    else:
        what, amounts = "test runs", f"{warned.used:,.0f} of {warned.most:,.0f}"
    used_up = warned.level >= 100
    return Announcement(
        event_id=event_id,
        event="account.warning",
        title=f"This month's {what} are used up" if used_up else f"{warned.level} % of this month's {what} are used",
        at=at,
        told_at=now,
        text=f"{amounts} in {warned.month:%B %Y}. `prpm usage` shows the rest."
        if not used_up
        else f"{amounts} in {warned.month:%B %Y}. Runs are refused until the next month, or a higher tier.",
        mood="bad" if used_up else "warning",
    )
