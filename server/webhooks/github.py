"""GitHub's deliveries, of the App or of a repository's own webhook.

https://docs.github.com/en/webhooks/webhook-events-and-payloads
https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from server.domain.events import (
    LONGEST_CAUSE,
    BranchPushed,
    ChangeProposed,
    CheckAskedAgain,
    CommentMade,
    GroupDissolved,
    GroupFormed,
    LabelSet,
    LinkChanged,
    LinkWord,
    Meaning,
    Ping,
    Proposal,
    Repository,
    TagPushed,
    Uninteresting,
)
from server.domain.merge_queues import PREFIX, queue_base
from server.webhooks import (
    MAX_NAME,
    SOURCES,
    ChangeNumber,
    Commit,
    Delivery,
    Named,
    Number,
    Path,
    Ref,
    Secrets,
    Source,
    Words,
    Written,
    decode,
    moment,
    peek,
)
from server.webhooks._signatures import is_hmac_hex

SECRET: Final = "GITHUB_WEBHOOK_SECRET"  # noqa: S105 - the name of a setting
FORGE: Final = "github"
BRANCH, TAG = "refs/heads/", "refs/tags/"


def is_authentic(delivery: Delivery, secrets: Secrets, now: float) -> bool:
    """By X-Hub-Signature-256 alone: the older SHA-1 header proves nothing (W3), and no time is signed."""
    signature = delivery.header("x-hub-signature-256") or ""
    scheme, _, digest = signature.partition("=")
    return scheme == "sha256" and is_hmac_hex(digest, delivery.body, secrets.get(SECRET, ()))


def identify(delivery: Delivery) -> Named:
    """By X-GitHub-Delivery, which a redelivery repeats, and X-GitHub-Event."""
    return Named(
        id=(delivery.header("x-github-delivery") or "")[:MAX_NAME],
        event=(delivery.header("x-github-event") or "")[:MAX_NAME],
    )


def read(event: str, body: bytes) -> Meaning:
    """What the event means here. Raises InvalidDelivery."""
    reader = _READERS.get(event)
    return reader(body) if reader is not None else Uninteresting("This kind of event starts nothing.")


def about(body: bytes) -> str:
    """The installation; without one, as from a repository's own webhook, the repository."""
    found = peek(body, _About)
    if found is None:
        return ""
    if found.installation is not None:
        return f"installation {found.installation.id}"
    return f"repository {found.repository.id}" if found.repository is not None else ""


class _Numbered(Struct, frozen=True):
    id: Number


class _About(Struct, frozen=True):
    installation: _Numbered | None = None
    repository: _Numbered | None = None


class _Account(Struct, frozen=True):
    id: Number
    login: Words | None = None


class _Repo(Struct, frozen=True):
    id: Number
    full_name: Path
    default_branch: Ref | None = None


class _Installation(Struct, frozen=True):
    id: Number
    account: _Account | None = None


class _Side(Struct, frozen=True):
    ref: Ref
    sha: Commit
    repo: _Numbered | None = None  # null once a fork is deleted


class _PullRequest(Struct, frozen=True):
    number: ChangeNumber
    head: _Side
    base: _Side
    draft: bool | None = None
    updated_at: str | None = None


class _Label(Struct, frozen=True):
    name: Words


class _Edited(Struct, frozen=True):
    base: dict[str, Any] | None = None


class _PullRequestEvent(Struct, frozen=True, kw_only=True):
    action: str | None = None
    pull_request: _PullRequest
    repository: _Repo
    sender: _Account | None = None  # null for an account that is gone
    installation: _Installation | None = None
    label: _Label | None = None
    changes: _Edited | None = None


class _HeadCommit(Struct, frozen=True):
    id: Commit


class _Push(Struct, frozen=True):
    ref: Ref
    before: Commit
    after: Commit
    repository: _Repo
    deleted: bool | None = None
    head_commit: _HeadCommit | None = None
    installation: _Installation | None = None


class _MergeGroup(Struct, frozen=True):
    head_sha: Commit
    head_ref: Ref
    base_ref: Ref


class _MergeGroupEvent(Struct, frozen=True, kw_only=True):
    action: str | None = None
    merge_group: _MergeGroup
    repository: _Repo
    installation: _Installation | None = None


class _CheckRun(Struct, frozen=True):
    id: Number
    head_sha: Commit
    external_id: str | None = None


class _CheckSuite(Struct, frozen=True):
    id: Number
    head_sha: Commit
    updated_at: Words | None = None


class _CheckRunEvent(Struct, frozen=True, kw_only=True):
    action: str | None = None
    check_run: _CheckRun
    repository: _Repo
    sender: _Account | None = None
    installation: _Installation | None = None


class _CheckSuiteEvent(Struct, frozen=True, kw_only=True):
    action: str | None = None
    check_suite: _CheckSuite
    repository: _Repo
    sender: _Account | None = None
    installation: _Installation | None = None


class _Issue(Struct, frozen=True):
    number: ChangeNumber
    pull_request: dict[str, Any] | None = None  # only a pull request's issue has it


class _Comment(Struct, frozen=True):
    id: Number
    user: _Account | None = None
    body: str | None = None
    created_at: str | None = None


class _CommentEvent(Struct, frozen=True, kw_only=True):
    action: str | None = None
    issue: _Issue
    comment: _Comment
    repository: _Repo
    installation: _Installation | None = None


class _NamedRepo(Struct, frozen=True):
    id: Number
    full_name: Path


class _InstallationEvent(Struct, frozen=True, kw_only=True):
    action: str | None = None
    installation: _Installation
    repositories: list[_NamedRepo] | None = None
    repositories_added: list[_NamedRepo] | None = None
    repositories_removed: list[_NamedRepo] | None = None


class _RepositoryEvent(Struct, frozen=True, kw_only=True):
    action: str | None = None
    repository: _Repo
    installation: _Installation | None = None


_NOBODY_ASKED = "Nobody known asked for the check."

_PROPOSALS: dict[str, Proposal] = {
    "opened": "opened",
    "synchronize": "updated",
    "reopened": "reopened",
    "ready_for_review": "ready",
}


def _pull_request(body: bytes) -> Meaning:
    event = decode(body, _PullRequestEvent)
    pull = event.pull_request
    if event.action == "labeled" and event.label is not None:
        if event.sender is None:
            return Uninteresting("Nobody known set the label.")
        return LabelSet(
            repository=_repository(event.repository),
            installation_id=_installation_id(event.installation),
            number=pull.number,
            labels=(event.label.name,),
            head_sha=pull.head.sha,
            author_id=event.sender.id,
            author=event.sender.login or "",
            at=moment(pull.updated_at),
        )
    action = _proposal(event)
    if action is None:
        return _no_action()
    return ChangeProposed(
        repository=_repository(event.repository),
        installation_id=_installation_id(event.installation),
        action=action,
        number=pull.number,
        head_sha=pull.head.sha,
        head_ref=pull.head.ref,
        head_repository_id=pull.head.repo.id if pull.head.repo is not None else None,
        base_ref=pull.base.ref,
        base_sha=pull.base.sha,
        is_draft=pull.draft is True,
        at=moment(pull.updated_at),
    )


def _proposal(event: _PullRequestEvent) -> Proposal | None:
    if event.action == "edited":  # the title, the text, or the branch that it is for
        return "retargeted" if event.changes is not None and event.changes.base is not None else None
    return _PROPOSALS.get(event.action or "")


def _push(body: bytes) -> Meaning:
    event = decode(body, _Push)
    if event.ref.startswith(f"{BRANCH}{PREFIX}"):
        return _queue_push(event)
    if event.deleted or not event.after.strip("0"):
        return Uninteresting("A deleted branch or tag has nothing to test.")
    repository, installation_id = _repository(event.repository), _installation_id(event.installation)
    if event.ref.startswith(TAG):
        return TagPushed(
            repository=repository,
            installation_id=installation_id,
            tag=event.ref.removeprefix(TAG),
            # Of an annotated tag `after` is the tag's own object, of which no file and no check is.
            # https://github.blog/changelog/2021-10-01-the-push-webhook-payload-provides-a-consistent-head_commit-on-tag-creation/
            sha=event.head_commit.id if event.head_commit is not None else event.after,
            object_sha=event.after,
        )
    if not event.ref.startswith(BRANCH):
        return Uninteresting("Neither a branch nor a tag was pushed.")
    return BranchPushed(
        repository=repository,
        installation_id=installation_id,
        branch=event.ref.removeprefix(BRANCH),
        before=event.before if event.before.strip("0") else "",
        after=event.after,
    )


def _queue_push(event: _Push) -> Meaning:
    """Apps are told of a group by an event of its own. Webhooks have none: they are told by the branch alone.

    https://docs.github.com/webhooks/webhook-events-and-payloads#merge_group
    """
    branch = event.ref.removeprefix(BRANCH)
    base_ref = queue_base(branch)
    if event.installation is not None or base_ref is None:
        return Uninteresting("A branch of a merge queue is tested as the group that it is.")
    is_gone = event.deleted or not event.after.strip("0")
    repository = _repository(event.repository)
    if is_gone:
        return GroupDissolved(repository=repository, branch=branch, base_ref=base_ref, head_sha=event.before)
    return GroupFormed(repository=repository, branch=branch, base_ref=base_ref, head_sha=event.after)


def _merge_group(body: bytes) -> Meaning:
    event = decode(body, _MergeGroupEvent)
    if event.action not in ("checks_requested", "destroyed"):
        return _no_action()
    group = event.merge_group
    branch, base_ref = group.head_ref.removeprefix(BRANCH), group.base_ref.removeprefix(BRANCH)
    # By the branch's rules the group is judged, so that both words have to agree on which it is.
    if queue_base(branch) != base_ref:
        return Uninteresting("The group is on no branch of a merge queue of the branch that it names.")
    meant = GroupFormed if event.action == "checks_requested" else GroupDissolved
    return meant(
        repository=_repository(event.repository),
        installation_id=_installation_id(event.installation),
        branch=branch,
        base_ref=base_ref,
        head_sha=group.head_sha,
    )


def _check_run(body: bytes) -> Meaning:
    event = decode(body, _CheckRunEvent)
    # GitHub's "Re-run", and our own button. An App is told of its own checks only.
    if event.action not in ("rerequested", "requested_action"):
        return _no_action()
    if event.sender is None:
        return Uninteresting(_NOBODY_ASKED)
    return CheckAskedAgain(
        repository=_repository(event.repository),
        installation_id=_installation_id(event.installation),
        author_id=event.sender.id,
        author=event.sender.login or "",
        asked=f"check_run:{event.check_run.id}",
        head_sha=event.check_run.head_sha,
        check_id=event.check_run.id,
        key=event.check_run.external_id or "",
    )


def _check_suite(body: bytes) -> Meaning:
    event = decode(body, _CheckSuiteEvent)
    if event.action != "rerequested":
        return _no_action()
    if event.sender is None:
        return Uninteresting(_NOBODY_ASKED)
    suite = event.check_suite
    return CheckAskedAgain(
        repository=_repository(event.repository),
        installation_id=_installation_id(event.installation),
        author_id=event.sender.id,
        author=event.sender.login or "",
        # A suite keeps its id for all times that it is asked for.
        asked=f"check_suite:{suite.id}:{suite.updated_at or ''}"[:LONGEST_CAUSE],
        head_sha=suite.head_sha,
        check_id=None,
    )


def _issue_comment(body: bytes) -> Meaning:
    event = decode(body, _CommentEvent)
    if event.action != "created":
        return _no_action()
    if event.issue.pull_request is None:
        return Uninteresting("The comment is on an issue, not on a pull request.")
    if event.comment.user is None:
        return Uninteresting("Nobody known wrote the comment.")
    return CommentMade(
        repository=_repository(event.repository),
        installation_id=_installation_id(event.installation),
        number=event.issue.number,
        comment_id=event.comment.id,
        author_id=event.comment.user.id,
        author=event.comment.user.login or "",
        text=event.comment.body or "",
        at=moment(event.comment.created_at),
    )


_INSTALLATION_WORDS: dict[str, LinkWord] = {
    "created": "installed",
    "deleted": "uninstalled",
    "suspend": "suspended",
    "unsuspend": "unsuspended",
    "added": "added",
    "removed": "removed",
}
_REPOSITORY_WORDS: dict[str, LinkWord] = {"renamed": "renamed", "transferred": "transferred", "deleted": "deleted"}


def _installation(body: bytes) -> Meaning:
    event = decode(body, _InstallationEvent)
    word = _INSTALLATION_WORDS.get(event.action or "")
    if word is None:
        return _no_action()
    named = {"added": event.repositories_added, "removed": event.repositories_removed}.get(word, event.repositories)
    owner = event.installation.account
    return LinkChanged(
        word=word,
        installation_id=event.installation.id,
        owner_id=owner.id if owner is not None else None,
        owner=(owner.login or "") if owner is not None else "",
        repositories=tuple(Repository(forge=FORGE, id=repo.id, name=repo.full_name) for repo in named or ()),
    )


def _repository_event(body: bytes) -> Meaning:
    event = decode(body, _RepositoryEvent)
    word = _REPOSITORY_WORDS.get(event.action or "")
    if word is None:
        return _no_action()
    return LinkChanged(
        word=word,
        installation_id=_installation_id(event.installation),
        repositories=(_repository(event.repository),),
    )


def _ping(body: bytes) -> Meaning:
    decode(body, msgspec.Raw)
    return Ping()


def _repository(repo: _Repo) -> Repository:
    return Repository(forge=FORGE, id=repo.id, name=repo.full_name, default_branch=repo.default_branch or "")


def _installation_id(installation: _Installation | None) -> int | None:
    return installation.id if installation is not None else None


def _no_action() -> Uninteresting:
    return Uninteresting("This action of the event starts nothing.")


_READERS: dict[str, Callable[[bytes], Meaning]] = {
    "pull_request": _pull_request,
    "push": _push,
    "merge_group": _merge_group,
    "check_run": _check_run,
    "check_suite": _check_suite,
    "issue_comment": _issue_comment,
    "installation": _installation,
    "installation_repositories": _installation,
    "repository": _repository_event,
    "ping": _ping,
}


def write(proposed: ChangeProposed) -> Written:
    """As the delivery of a pull request that was opened."""
    repository, fork = proposed.repository, proposed.head_repository_id
    body = {
        "action": "opened",
        "pull_request": {
            "number": proposed.number,
            "head": {"ref": proposed.head_ref, "sha": proposed.head_sha, "repo": {"id": fork} if fork else None},
            "base": {"ref": proposed.base_ref, "sha": proposed.base_sha},
            "draft": proposed.is_draft,
            "updated_at": proposed.at.isoformat() if proposed.at else "",
        },
        "repository": {
            "id": repository.id,
            "full_name": repository.name,
            "default_branch": repository.default_branch,
        },
        "sender": {"login": "", "id": 0},
    }
    return Written("pull_request", msgspec.json.encode(body))


SOURCES.register(
    "github",
    Source(
        secrets=(SECRET,),
        is_authentic=is_authentic,
        identify=identify,
        read=read,
        about=about,
        proofs={"signature": SECRET},
        events=("Pull requests", "Pushes", "Issue comments", "Repositories"),
        content_type="application/json",
        secret_fields={"signature": "Secret"},
        write=write,
    ),
)
