"""`github`: one comment on a pull request, a check run with annotations, a commit status."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from notifiers import Messages, Notice, Receipt, Request, Response, Standing, notifier, require_success
from notifiers._findings import Findings, deserves_comment, sort_rows
from notifiers._github_api import API_VERSION, Api, GitHubTarget, check_name
from notifiers._github_checks import CHECK_SUMMARY, complete, show
from notifiers._http import CannotNotify
from notifiers._markdown import Budget
from notifiers._report import report, standing_text, title_line
from notifiers._standing import NO_JOB
from notifiers._sticky import Comment, first_line, keep_one
from notifiers._text import cut
from notifiers._urls import linkable

__all__ = ["API_VERSION", "CHECK_SUMMARY", "COMMENT", "GitHubTarget", "stand", "tell"]

# 65,536 characters by the text of the error, 262,144 bytes as others observed; below both readings.
COMMENT = Budget(chars=65_000, bytes=260_000)
STATUS_DESCRIPTION_CHARS = 140
# A status knows neither waiting for a person nor neutral; what does not block is a success there.
STATES = {"queued": "pending", "in_progress": "pending", "action_required": "pending", "success": "success",
          "failure": "failure", "neutral": "success", "inconclusive": "error", "cancelled": "error"}  # fmt: skip

EXAMPLE = GitHubTarget(
    repository="owner/name",
    token="none",  # noqa: S106 -- it leads nowhere
    author="github-actions[bot]",
    marker="0" * 64,
    pull_request=12,
    head_sha="1a2b3c4d" * 5,
    comment="always",
    commit_status=True,
)


def stand(standing: Standing, target: GitHubTarget) -> Messages:
    """The check stands so. Where there are none the commit's status does, and a comment says what has no room there."""
    api = Api(target)
    did = [*(yield from show(api, standing)), *(yield from _standing_status(api, standing))]
    did += yield from _standing_comment(api, standing)
    return Receipt(did=tuple(did)) if did else Receipt.quiet("it is shown already")


@notifier("github", example=EXAMPLE, stand=stand)
def tell(notice: Notice, target: GitHubTarget) -> Messages:
    """GitHub: a comment that stays true, a check run with annotations, a commit status."""
    findings = sort_rows(notice.outcome)
    api = Api(target)
    did: list[str] = []
    refused: list[CannotNotify] = []
    comment: Comment | None = None
    # A token may comment and not write checks, or the other way round: each is tried whatever the others said.
    for step in (_comment, _check_run, _commit_status):
        try:
            done, seen = yield from step(api, notice, findings)
            did += done
            comment = comment or seen
        except CannotNotify as error:
            if error.retry_after_seconds is not None:
                raise  # nothing more is to be asked for now
            refused.append(error)
    if late := next((error for error in refused if error.retryable), None):
        raise late
    if refused:
        raise CannotNotify(
            " ".join(error.message for error in refused),
            gone=all(error.gone for error in refused) and not did,
            status=refused[0].status,
        )
    if not did:
        return Receipt.quiet("nothing to tell, or it is there already")
    return Receipt(
        did=tuple(did), message_id=str(comment.id) if comment else None, url=comment.url if comment else None
    )


def _check_run(api: Api, notice: Notice, findings: Findings) -> Step:
    return (yield from complete(api, notice, findings)), None


Done = tuple[Sequence[str], Comment | None]
Step = Generator[Request, Response, Done]


def _comment(api: Api, notice: Notice, findings: Findings) -> Step:
    target = api.target
    # What a newer commit ended says nothing about the change; its own result comes.
    if target.pull_request is None or target.comment == "never" or notice.is_superseded:
        return (), None
    body = report(notice, findings, budget=COMMENT, marker=first_line(target.marker, notice.accepted_at))
    kept = yield from keep_one(
        api,
        author=target.author,
        mac=target.marker,
        body=body,
        may_create=deserves_comment(notice, findings, target.comment),
    )
    return kept.did, kept.comment


def _commit_status(api: Api, notice: Notice, findings: Findings) -> Step:
    if api.target.head_sha is None or not api.target.commit_status:
        return (), None
    address = linkable(notice.url)
    response = yield api.send(
        "POST",
        f"/statuses/{api.target.head_sha}",
        {
            "state": STATES[notice.state],
            "context": check_name(notice.package, notice.suite),
            "description": cut(title_line(notice, findings), STATUS_DESCRIPTION_CHARS),
            **({"target_url": address} if address else {}),
        },
    )
    require_success(response, doing="set the commit's status")
    return ("set the commit's status",), None


def _standing_comment(api: Api, standing: Standing) -> Generator[Request, Response, Sequence[str]]:
    target = api.target
    if target.check_run or target.pull_request is None or (standing.is_waiting and standing.key != NO_JOB):
        return ()
    body = standing_text(standing, budget=COMMENT, marker=first_line(target.marker, standing.accepted_at))
    may_create = standing.needs_words and standing.may_comment
    kept = yield from keep_one(api, author=target.author, mac=target.marker, body=body, may_create=may_create)
    return kept.did


def _standing_status(api: Api, standing: Standing) -> Generator[Request, Response, Sequence[str]]:
    if api.target.head_sha is None or not api.target.commit_status:
        return ()
    address = linkable(standing.url)
    response = yield api.send(
        "POST",
        f"/statuses/{api.target.head_sha}",
        {
            "state": STATES[standing.state],
            "context": check_name(standing.package, standing.suite),
            "description": cut(standing.headline, STATUS_DESCRIPTION_CHARS),
            **({"target_url": address} if address else {}),
        },
    )
    require_success(response, doing="set the commit's status")
    return ("set the commit's status",)
