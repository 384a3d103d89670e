"""GitLab's deliveries, of a project's or a group's webhook.

https://docs.gitlab.com/user/project/integrations/webhooks/ and .../webhook_events/
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from server.domain.events import (
    BranchPushed,
    ChangeProposed,
    CommentMade,
    LabelSet,
    Meaning,
    Proposal,
    Repository,
    TagPushed,
    Uninteresting,
)
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
    plain_secret,
)
from server.webhooks._signatures import is_standard_webhook, is_token, signing_key

SIGNING_SECRET: Final = "GITLAB_SIGNING_SECRET"  # noqa: S105 - the name of a setting
TOKEN: Final = "GITLAB_WEBHOOK_SECRET"  # noqa: S105 - as above
FORGE: Final = "gitlab"
BRANCH, TAG = "refs/heads/", "refs/tags/"
# How a title begins that makes a draft: https://docs.gitlab.com/user/project/merge_requests/drafts/; WIP before 14.
_DRAFT = re.compile(r"\s*(?:\[draft\]|\(draft\)|draft:|\[wip\]|wip:)", re.IGNORECASE)


def is_authentic(delivery: Delivery, secrets: Secrets, now: float) -> bool:
    """By the signature where a signing secret is set, and by it alone (W21); else by the plain token."""
    if signing := secrets.get(SIGNING_SECRET, ()):
        return is_standard_webhook(
            message_id=delivery.header("webhook-id") or "",
            timestamp=delivery.header("webhook-timestamp") or "",
            signatures=delivery.header("webhook-signature") or "",
            body=delivery.body,
            secrets=_keys(signing),
            now=now,
        )
    return is_token(delivery.header("x-gitlab-token") or "", secrets.get(TOKEN, ()))


def identify(delivery: Delivery) -> Named:
    """By webhook-id, which a signature covers, or by Idempotency-Key (17.4 and newer), which is the same and retries
    repeat; else by the event's own id or the body."""
    found = (
        delivery.header("webhook-id") or delivery.header("idempotency-key") or delivery.header("x-gitlab-event-uuid")
    )
    return Named(
        id=(found or f"body:{hashlib.sha256(delivery.body).hexdigest()}")[:MAX_NAME],
        event=(delivery.header("x-gitlab-event") or "")[:MAX_NAME],
    )


def read(event: str, body: bytes) -> Meaning:
    """What the event means here. Raises InvalidDelivery."""
    # The header of a system hook is another one; the payload says the same thing itself.
    kind = decode(body, _Kind).object_kind
    reader = _READERS.get(kind or "")
    return reader(body) if reader is not None else Uninteresting("This kind of event starts nothing.")


def about(body: bytes) -> str:
    """The project."""
    found = peek(body, _About)
    return f"project {found.project.id}" if found is not None and found.project is not None else ""


def _keys(secrets: tuple[bytes, ...]) -> list[bytes]:
    keys = []
    for secret in secrets:
        try:
            keys.append(signing_key(secret))
        except (binascii.Error, ValueError):
            continue  # a secret that cannot be right proves nothing
    return keys


class _Kind(Struct, frozen=True):
    object_kind: str | None = None  # what happens to groups and members has another member


class _Numbered(Struct, frozen=True):
    id: Number


class _About(Struct, frozen=True):
    project: _Numbered | None = None


class _Project(Struct, frozen=True):
    id: Number
    path_with_namespace: Path
    default_branch: Ref | None = None


class _User(Struct, frozen=True):
    username: Words | None = None
    id: Number | None = None  # older servers leave it out


class _Commit(Struct, frozen=True):
    id: Commit


class _Label(Struct, frozen=True):
    title: str


class _MergeRequest(Struct, frozen=True):
    iid: ChangeNumber
    source_branch: Ref
    target_branch: Ref
    source_project_id: Number | None = None  # null once a fork is deleted
    last_commit: _Commit | None = None
    action: str | None = None
    oldrev: str | None = None
    draft: bool | None = None
    work_in_progress: bool | None = None
    updated_at: str | None = None
    labels: list[_Label] | None = None


class _LabelChange(Struct, frozen=True):
    previous: list[_Label] | None = None
    current: list[_Label] | None = None


class _DraftChange(Struct, frozen=True):
    previous: bool | None = None
    current: bool | None = None


class _TextChange(Struct, frozen=True):
    previous: str | None = None
    current: str | None = None


class _Changes(Struct, frozen=True):
    labels: _LabelChange | None = None
    draft: _DraftChange | None = None
    title: _TextChange | None = None
    target_branch: _TextChange | None = None


class _MergeRequestEvent(Struct, frozen=True):
    project: _Project
    object_attributes: _MergeRequest
    user: _User | None = None
    changes: _Changes | None = None


class _Push(Struct, frozen=True):
    project: _Project
    ref: Ref
    before: Commit
    after: Commit
    checkout_sha: Commit | None = None


class _Note(Struct, frozen=True):
    id: Number
    note: str | None = None
    noteable_type: str | None = None
    action: str | None = None  # older servers leave it out, for a note that was edited as well
    system: bool | None = None
    created_at: str | None = None
    updated_at: str | None = None


class _NoteEvent(Struct, frozen=True):
    project: _Project
    object_attributes: _Note
    user: _User | None = None
    merge_request: _MergeRequest | None = None


_PROPOSALS: dict[str, Proposal] = {"open": "opened", "reopen": "reopened"}


def _merge_request(body: bytes) -> Meaning:
    event = decode(body, _MergeRequestEvent)
    request = event.object_attributes
    if request.last_commit is None:
        return Uninteresting("The merge request has no commit.")
    proposed = _proposed(event, request.last_commit.id)
    labels = _new_labels(request, event.changes)
    # One update can say both: labels, and that it is ready or for another branch.
    if labels and event.user is not None:
        return LabelSet(
            repository=_repository(event.project),
            number=request.iid,
            labels=labels,
            head_sha=request.last_commit.id,
            author_id=event.user.id or 0,
            author=event.user.username or "",
            at=moment(request.updated_at),
            proposed=proposed,
        )
    return proposed or Uninteresting("This action of the event starts nothing.")


def _proposed(event: _MergeRequestEvent, head_sha: str) -> ChangeProposed | None:
    request = event.object_attributes
    action = _proposal(request, event.changes or _Changes())
    if action is None:
        return None
    return ChangeProposed(
        repository=_repository(event.project),
        action=action,
        number=request.iid,
        head_sha=head_sha,
        head_ref=request.source_branch,
        head_repository_id=request.source_project_id,
        base_ref=request.target_branch,
        is_draft=_is_draft(request),
        at=moment(request.updated_at),
        labels=_first_labels(request) if event.user is not None else (),
        author_id=(event.user.id or 0) if event.user is not None else 0,
        author=(event.user.username or "") if event.user is not None else "",
    )


def _first_labels(request: _MergeRequest) -> tuple[str, ...]:
    """Those that it was opened with, sorted: whoever opened it set them, which no other event tells."""
    return tuple(sorted({label.title for label in request.labels or ()})) if request.action == "open" else ()


def _proposal(request: _MergeRequest, changes: _Changes) -> Proposal | None:
    if request.action != "update":
        return _PROPOSALS.get(request.action or "")
    if request.oldrev:  # without it the title changed, or such
        return "updated"
    if changes.target_branch is not None and changes.target_branch.previous:
        return "retargeted"
    return "ready" if not _is_draft(request) and _was_draft(changes) else None


def _is_draft(request: _MergeRequest) -> bool:
    return request.draft is True or request.work_in_progress is True


def _was_draft(changes: _Changes) -> bool:
    if changes.draft is not None:
        return changes.draft.previous is True
    # Servers before 14 name the title alone.
    title = changes.title
    return title is not None and _DRAFT.match(title.previous or "") is not None


def _new_labels(request: _MergeRequest, changes: _Changes | None) -> tuple[str, ...]:
    """Those that were put on, sorted.

    Only an update that brings no code can put one on: beside a push some servers list all labels as new, and a label
    that counted there would approve a commit that nobody looked at. https://gitlab.com/gitlab-org/gitlab/-/issues/216874
    """
    if request.action != "update" or request.oldrev or changes is None or changes.labels is None:
        return ()
    before = {label.title for label in changes.labels.previous or ()}
    return tuple(sorted({label.title for label in changes.labels.current or ()} - before))


def _push(body: bytes) -> Meaning:
    event = decode(body, _Push)
    if not event.after.strip("0"):
        return Uninteresting("A deleted branch or tag has nothing to test.")
    repository = _repository(event.project)
    if event.ref.startswith(TAG):
        # Of an annotated tag `after` is the tag's own object.
        return TagPushed(
            repository=repository,
            tag=event.ref.removeprefix(TAG),
            sha=event.checkout_sha or event.after,
            object_sha=event.after,
        )
    if not event.ref.startswith(BRANCH):
        return Uninteresting("Neither a branch nor a tag was pushed.")
    return BranchPushed(
        repository=repository,
        branch=event.ref.removeprefix(BRANCH),
        before=event.before if event.before.strip("0") else "",
        after=event.after,
    )


def _note(body: bytes) -> Meaning:
    event = decode(body, _NoteEvent)
    note = event.object_attributes
    if event.merge_request is None or note.noteable_type != "MergeRequest":
        return Uninteresting("The comment is not on a merge request.")
    if note.system or not _is_new(note):
        return Uninteresting("This action of the event starts nothing.")
    if event.user is None:
        return Uninteresting("Nobody known wrote the comment.")
    return CommentMade(
        repository=_repository(event.project),
        number=event.merge_request.iid,
        comment_id=note.id,
        author_id=event.user.id or 0,
        author=event.user.username or "",
        text=note.note or "",
        at=moment(note.created_at),
    )


def _is_new(note: _Note) -> bool:
    """Whether it was written just now. A server that does not say so writes one time into both members then."""
    if note.action is not None:
        return note.action == "create"
    return note.updated_at in (None, note.created_at)


def _repository(project: _Project) -> Repository:
    return Repository(
        forge=FORGE, id=project.id, name=project.path_with_namespace, default_branch=project.default_branch or ""
    )


_READERS: dict[str, Callable[[bytes], Meaning]] = {
    "merge_request": _merge_request,
    "push": _push,
    "tag_push": _push,
    "note": _note,
}


def make_secret(setting: str, random: bytes) -> str:
    """GitLab takes a signing token in the form of Standard Webhooks alone."""
    return f"whsec_{base64.b64encode(random).decode()}" if setting == SIGNING_SECRET else plain_secret(setting, random)


def write(proposed: ChangeProposed) -> Written:
    """As the delivery of a merge request that was opened."""
    repository = proposed.repository
    body = {
        "object_kind": "merge_request",
        "user": {},
        "project": {
            "id": repository.id,
            "path_with_namespace": repository.name,
            "default_branch": repository.default_branch,
        },
        "object_attributes": {
            "iid": proposed.number,
            "action": "open",
            "source_branch": proposed.head_ref,
            "source_project_id": proposed.head_repository_id,
            "target_branch": proposed.base_ref,
            "last_commit": {"id": proposed.head_sha},
            "draft": proposed.is_draft,
            "updated_at": proposed.at.isoformat() if proposed.at else "",
        },
    }
    return Written("Merge Request Hook", msgspec.json.encode(body))


SOURCES.register(
    "gitlab",
    Source(
        secrets=(SIGNING_SECRET, TOKEN),
        is_authentic=is_authentic,
        identify=identify,
        read=read,
        about=about,
        proofs={"signature": SIGNING_SECRET, "token": TOKEN},
        make_secret=make_secret,
        events=("Merge request events", "Push events", "Tag push events", "Comments"),
        secret_fields={"signature": "Signing token", "token": "Secret token"},
        write=write,
    ),
)
