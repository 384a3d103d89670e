"""What is told where: comment and check run on the change's page, messages in chats. Nothing here fails the step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from action_entry.ci import Change, Ci, Send, Teller
from action_entry.errors import Misused
from action_entry.inputs import Inputs
from action_entry.service import Job
from notifiers import NOTIFIERS, CannotNotify, InvalidTarget, Notice, Outcome, target_for
from notifiers._http import Patience
from notifiers._outcome import Summary
from notifiers._urllib import drive

# A workflow's minutes are paid for: a chat that is away is not waited for long.
PATIENCE = Patience(tries=4, pauses_seconds=30.0)
ENGINE = "none"


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A target of `notify`. `where` names it without its address."""

    where: str
    kind: str
    target: object


def chats(inputs: Inputs, *, allowed_origins: frozenset[str]) -> tuple[Chat, ...]:
    """The targets that `notify` names. Raises Misused before anything runs; the kinds are the registry's."""
    found = []
    for number, (kind, address) in enumerate(inputs.notify, start=1):
        try:
            target = target_for(kind, address, allowed_origins=allowed_origins)
        except InvalidTarget as error:
            raise Misused(f"notify, line {number}: {error}") from None
        found.append(Chat(where=f"{kind} (notify, line {number})", kind=kind, target=target))
    return tuple(found)


def tell_change(
    notice: Notice, change: Change, ci: Ci, inputs: Inputs, *, job: Job | None, send: Send, has_outcome: bool = True
) -> tuple[str, ...]:
    """What was done on the change's page, and what was not: sentences of ours for the summary.

    Where the App reports (`reporter: app`), it does so alone. Without an outcome there is no comment, only a check.
    """
    if job is not None and job.reporter != "action":
        return ("The prpm App reports on this change.",)
    said: list[str] = []
    for teller in ci.tellers(change, inputs=inputs, marker=job.marker if job and has_outcome else "", send=send):
        said += _told(notice, teller, ci, send=send)
    return tuple(said)


def _told(notice: Notice, teller: Teller, ci: Ci, *, send: Send) -> list[str]:
    try:
        receipt = drive(NOTIFIERS[teller.kind].tell(notice, teller.target), send=send, patience=PATIENCE)
    except CannotNotify as error:
        if error.status in (403, 404):
            # A fork's token, or a workflow that gives fewer rights: nobody's fault, and never a reason to fail.
            return [] if teller.is_optional else [f"{_capital(teller.what)} was not written: the token may not do it."]
        ci.warn(f"{_capital(teller.what)} was not written. {error.message}")
        return []
    ci.quote([f"{_capital(teller.what)}: we {', '.join(receipt.did)}"] if receipt.did else [])
    return []


def tell_chats(notice: Notice, found: tuple[Chat, ...], ci: Ci, *, send: Send) -> None:
    """Each chat is told. One that cannot be reached is a warning."""
    for chat in found:
        try:
            receipt = drive(NOTIFIERS[chat.kind].tell(notice, chat.target), send=send, patience=PATIENCE)
        except CannotNotify as error:
            ci.warn(f"{_capital(chat.where)}: {error.message}")
        else:
            ci.quote([f"{_capital(chat.where)}: we {', '.join(receipt.did)}"] if receipt.did else [])


def notice_of(
    outcome: Outcome,
    *,
    job: Job,
    package: str,
    suite: str,
    url: str,
    change: Change | None,
    label: str,
    suite_path: str,
    lines: dict[str, int],
) -> Notice:
    """The finished job as notifiers take it."""
    return Notice(
        outcome=outcome,
        package=package,
        suite=suite,
        job_id=job.id,
        accepted_at=_moment(job.created_at),
        finished_at=_moment(job.completed_at),
        told_at=datetime.now(timezone.utc),
        url=url,
        ref=label,
        head_sha=change.head_sha if change else "",
        previous=job.previous or None,
        suite_path=suite_path or None,
        case_lines=lines,
    )


def notice_without_outcome(why: str, *, package: str, suite: str, run_key: str, change: Change, label: str) -> Notice:
    """What is told where nothing was tested, so that a required check does not wait for ever: neutral, and why."""
    summary = Summary(
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
        notes=(why,),
    )
    now = datetime.now(timezone.utc)
    return Notice(
        outcome=Outcome(test_cases=(), summary=summary, engine_version=ENGINE),
        package=package,
        suite=suite,
        job_id=run_key,
        accepted_at=now,
        finished_at=now,
        ref=label,
        head_sha=change.head_sha,
    )


def _moment(text: str) -> datetime:
    """The service's time; now, where it gives none that can be read."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return datetime.now(timezone.utc)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
