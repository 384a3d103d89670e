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
    Delivery,
    InvalidDelivery,
    Named,
    Secrets,
    Source,
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
    """By Idempotency-Key (17.4 and newer), which retries repeat, else by the event's own id or the body."""
    found = (
        delivery.header("idempotency-key") or delivery.header("webhook-id") or delivery.header("x-gitlab-event-uuid")
    )
    return Named(
        id=(found or f"body:{hashlib.sha256(delivery.body).hexdigest()}")[:MAX_NAME],
        event=(delivery.header("x-gitlab-event") or "")[:MAX_NAME],
    )


def read(event: str, body: bytes) -> Meaning:
    """What the event means here. Raises InvalidDelivery."""
    # The header of a system hook is another one; the payload says the same thing itself.
    kind = decode(body, _Kind).object_kind
    reader = _READERS.get(kind)
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
    object_kind: str = ""


class _Numbered(Struct, frozen=True):
    id: int


class _About(Struct, frozen=True):
    project: _Numbered | None = None


class _Project(Struct, frozen=True):
    id: int
    path_with_namespace: str
    default_branch: str | None = None


class _User(Struct, frozen=True):
    username: str = ""
    id: int = 0  # older servers leave it out


class _Commit(Struct, frozen=True):
    id: str


class _Label(Struct, frozen=True):
    title: str


class _MergeRequest(Struct, frozen=True):
    iid: int
    source_branch: str
    target_branch: str
    source_project_id: int | None
    last_commit: _Commit | None = None
    action: str = ""
    oldrev: str | None = None
    draft: bool = False
    work_in_progress: bool = False
    updated_at: str = ""


class _LabelChange(Struct, frozen=True):
    previous: list[_Label] = []
    current: list[_Label] = []


class _DraftChange(Struct, frozen=True):
    previous: bool | None = None
    current: bool | None = None


class _TitleChange(Struct, frozen=True):
    previous: str | None = None
    current: str | None = None


class _Changes(Struct, frozen=True):
    labels: _LabelChange | None = None
    draft: _DraftChange | None = None
    title: _TitleChange | None = None


class _MergeRequestEvent(Struct, frozen=True):
    project: _Project
    object_attributes: _MergeRequest
    user: _User
    changes: _Changes | None = None


class _Push(Struct, frozen=True):
    project: _Project
    ref: str
    before: str
    after: str


class _Note(Struct, frozen=True):
    id: int
    note: str = ""
    noteable_type: str = ""
    action: str = "create"
    system: bool = False
    created_at: str = ""


class _NoteEvent(Struct, frozen=True):
    project: _Project
    user: _User
    object_attributes: _Note
    merge_request: _MergeRequest | None = None


_PROPOSALS: dict[str, Proposal] = {"open": "opened", "reopen": "reopened"}


def _merge_request(body: bytes) -> Meaning:
    event = decode(body, _MergeRequestEvent)
    request = event.object_attributes
    if request.last_commit is None:
        return Uninteresting("The merge request has no commit.")
    action = _proposal(request, event.changes)
    label = _new_label(request, event.changes)
    is_from_fork = request.source_project_id != event.project.id
    # One update can say both; what approves a stranger's change also runs it.
    if label is not None and (action is None or is_from_fork):
        return LabelSet(
            repository=_repository(event.project),
            number=request.iid,
            label=label,
            head_sha=request.last_commit.id,
            author_id=event.user.id,
            author=event.user.username,
            at=moment(request.updated_at),
        )
    if action is None:
        return Uninteresting("This action of the event starts nothing.")
    return ChangeProposed(
        repository=_repository(event.project),
        action=action,
        number=request.iid,
        head_sha=request.last_commit.id,
        head_ref=request.source_branch,
        head_repository_id=request.source_project_id,
        base_ref=request.target_branch,
        is_draft=_is_draft(request),
        at=moment(request.updated_at),
    )


def _proposal(request: _MergeRequest, changes: _Changes | None) -> Proposal | None:
    if request.action == "update" and request.oldrev:  # without it the title changed, or such
        return "updated"
    if request.action == "update" and not _is_draft(request) and _was_draft(changes):
        return "ready"
    return _PROPOSALS.get(request.action)


def _is_draft(request: _MergeRequest) -> bool:
    return request.draft or request.work_in_progress


def _was_draft(changes: _Changes | None) -> bool:
    if changes is None:
        return False
    if changes.draft is not None:
        return changes.draft.previous is True
    # Servers before 14 name the title alone.
    title = changes.title
    return title is not None and _DRAFT.match(title.previous or "") is not None


def _new_label(request: _MergeRequest, changes: _Changes | None) -> str | None:
    """The label that was put on; of several, the one that sorts first, as each starts the same.

    Only an update that brings no code can put one on: beside a push some servers list all labels as new, and a label
    that counted there would approve a commit that nobody looked at. https://gitlab.com/gitlab-org/gitlab/-/issues/216874
    """
    if request.action != "update" or request.oldrev or changes is None or changes.labels is None:
        return None
    new = {label.title for label in changes.labels.current} - {label.title for label in changes.labels.previous}
    return min(new, default=None)


def _push(body: bytes) -> Meaning:
    event = decode(body, _Push)
    if not event.after.strip("0"):
        return Uninteresting("A deleted branch or tag has nothing to test.")
    repository = _repository(event.project)
    if event.ref.startswith(TAG):
        return TagPushed(repository=repository, tag=event.ref.removeprefix(TAG), sha=event.after)
    if not event.ref.startswith(BRANCH):
        raise InvalidDelivery("The payload names neither a branch nor a tag.")
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
    if note.system or note.action != "create":
        return Uninteresting("This action of the event starts nothing.")
    return CommentMade(
        repository=_repository(event.project),
        number=event.merge_request.iid,
        comment_id=note.id,
        author_id=event.user.id,
        author=event.user.username,
        text=note.note,
        at=moment(note.created_at),
    )


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
