"""`/api/v1/notify-targets`: where an account is told of its tests."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import delete, get, post
from msgspec import UNSET, Meta, Struct, UnsetType

from server.api.context import AccountName, Site, allows
from server.api.errors import refusals
from server.api.timestamps import iso, iso_if
from server.domain.accounts import Caller
from server.domain.notifications import Notification, Target
from server.domain.rights import Right
from server.services import notifying
from server.services.notifying import Wanted
from server.services.on_behalf import acting_for

TAGS = ["Notifications"]
PATH = "/api/v1/notify-targets"


class NewTarget(Struct, kw_only=True, forbid_unknown_fields=True):
    """Where to tell, of which packages, and when."""

    kind: Annotated[str, Meta(examples=["slack"], description="slack, discord, webhook, …")]
    url: Annotated[
        str, Meta(max_length=2048, examples=["https://hooks.slack.com/services/T…/B…/…"], description="Kept encrypted.")
    ]
    package: Annotated[
        str, Meta(description="A package's name; `*` stands for any characters and `?` for any one.")
    ] = "*"
    on: (
        Annotated[
            str,
            Meta(description="changes, failures or always. By default chats are told changes, webhooks always."),
        ]
        | UnsetType
    ) = UNSET
    secret: (
        Annotated[
            str,
            Meta(description="Signs webhooks: `whsec_` and base64 of 24 to 64 bytes. Made by us where it is left out."),
        ]
        | UnsetType
    ) = UNSET


class LastNotification(Struct, kw_only=True):
    """What became of the newest message."""

    state: Annotated[str, Meta(description="pending, sent, quiet (no news) or dead")]
    attempts: int
    at: str
    reason: str | UnsetType = UNSET


class TargetAnswer(Struct, kw_only=True):
    """A target, its address masked."""

    id: str
    kind: Annotated[str, Meta(examples=["slack"])]
    address: Annotated[str, Meta(examples=["https://hooks.slack.com/…x9Qz"])]
    package: Annotated[str, Meta(examples=["@acme/*"])]
    on: Annotated[str, Meta(examples=["changes"])]
    state: Annotated[str, Meta(description="active, or stopped: nothing is sent there any more")]
    created_at: str
    stopped_at: str | UnsetType = UNSET
    stopped_reason: str | UnsetType = UNSET
    last_notification: LastNotification | UnsetType = UNSET


class NewTargetAnswer(TargetAnswer, kw_only=True):
    """`secret` is shown this once: the receiver checks signatures with it."""

    secret: str | UnsetType = UNSET


class TargetList(Struct, kw_only=True):
    targets: list[TargetAnswer]


class NotificationAnswer(Struct, kw_only=True):
    """One message on its way. Of the other side's answer only the status is shown."""

    id: int
    event: Annotated[str, Meta(description="job, warning or check")]
    state: Annotated[str, Meta(description="pending, sent, quiet (no news) or dead")]
    attempts: int
    created_at: str
    job_id: str | UnsetType = UNSET
    http_status: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    next_at: Annotated[str, Meta(description="When it is tried next")] | UnsetType = UNSET
    settled_at: str | UnsetType = UNSET


class NotificationList(Struct, kw_only=True):
    notifications: list[NotificationAnswer]


class CheckAnswer(Struct, kw_only=True):
    """The message that is on its way; `notifications` says what becomes of it."""

    notification_id: int


@get(PATH, opt=allows("see"), tags=TAGS, summary="Where am I told?", responses=refusals(401, 403, 404))
async def list_notify_targets(site: Site, caller: Caller, account: AccountName = None) -> TargetList:
    """The account's targets, oldest first, each with its last notification."""
    targets = await notifying.list_targets(site.notifying, await _acting(site, caller, account, "see"))
    return TargetList(targets=[target_answer(target) for target in targets])


@post(
    PATH,
    opt=allows("administer"),
    tags=TAGS,
    summary="Be told somewhere",
    responses=refusals(400, 401, 403, 404, 409, 415, 429),
)
async def add_notify_target(
    data: NewTarget, site: Site, caller: Caller, account: AccountName = None
) -> NewTargetAnswer:
    """Told from now on of each test of these packages that ends."""
    wanted = Wanted(
        kind=data.kind,
        url=data.url,
        package_glob=data.package,
        mode=data.on or None,
        secret=data.secret or None,
    )
    added = await notifying.add_target(site.notifying, await _acting(site, caller, account, "administer"), wanted)
    shown = target_answer(added.target)
    fields = {name: getattr(shown, name) for name in shown.__struct_fields__}
    return NewTargetAnswer(**fields, secret=added.secret or UNSET)


@delete(
    PATH + "/{target_id:str}",
    opt=allows("administer"),
    tags=TAGS,
    summary="Be told there no more",
    responses=refusals(401, 403, 404),
)
async def remove_notify_target(target_id: str, site: Site, caller: Caller, account: AccountName = None) -> None:
    """Its address is forgotten at once, and what waits for it is not sent."""
    await notifying.remove_target(
        site.notifying, await _acting(site, caller, account, "administer"), parse_target_id(target_id)
    )


@post(
    PATH + "/{target_id:str}/test",
    opt=allows("administer"),
    status_code=202,
    tags=TAGS,
    summary="See whether a target works",
    responses=refusals(401, 403, 404, 409),
)
async def check_notify_target(target_id: str, site: Site, caller: Caller, account: AccountName = None) -> CheckAnswer:
    """A message that says so is sent there."""
    return CheckAnswer(
        notification_id=await notifying.check_target(
            site.notifying, await _acting(site, caller, account, "administer"), parse_target_id(target_id)
        )
    )


@post(
    PATH + "/{target_id:str}/resume",
    opt=allows("administer"),
    status_code=200,
    tags=TAGS,
    summary="Tell a stopped target again",
    responses=refusals(401, 403, 404),
)
async def resume_notify_target(target_id: str, site: Site, caller: Caller, account: AccountName = None) -> TargetAnswer:
    """Of what ends from now on. Safe to call twice."""
    return target_answer(
        await notifying.resume_target(
            site.notifying, await _acting(site, caller, account, "administer"), parse_target_id(target_id)
        )
    )


@get(
    PATH + "/{target_id:str}/notifications",
    opt=allows("see"),
    tags=TAGS,
    summary="What became of messages",
    responses=refusals(401, 403, 404),
)
async def list_target_notifications(
    target_id: str, site: Site, caller: Caller, account: AccountName = None
) -> NotificationList:
    """The target's latest 50 messages, newest first."""
    found = await notifying.list_notifications(
        site.notifying, await _acting(site, caller, account, "see"), parse_target_id(target_id)
    )
    return NotificationList(notifications=[notification_answer(notification) for notification in found])


async def _acting(site: Site, caller: Caller, account: str | None, right: Right) -> UUID:
    """The account that is meant: the caller's own, or an organisation's. Raises NotFound or NotAllowed."""
    return (await acting_for(site.db, caller, account, right)).id


def parse_target_id(text: str) -> UUID:
    """Raises NotFound for what is no id: it names no target either."""
    try:
        if len(text) == 36:
            return UUID(text)
    except ValueError:
        pass
    raise notifying.no_target()


def target_answer(target: Target) -> TargetAnswer:
    """The public form of a target."""
    last = target.last
    return TargetAnswer(
        id=str(target.id),
        kind=target.kind,
        address=target.shown,
        package=target.package_glob,
        on=target.mode,
        state="stopped" if target.stopped_at else "active",
        created_at=iso(target.created_at),
        stopped_at=iso_if(target.stopped_at),
        stopped_reason=target.stopped_reason or UNSET,
        last_notification=LastNotification(
            state=last.state, attempts=last.attempts, at=iso(last.at), reason=last.reason or UNSET
        )
        if last
        else UNSET,
    )


def notification_answer(notification: Notification) -> NotificationAnswer:
    """The public form of a notification."""
    return NotificationAnswer(
        id=notification.id,
        event=notification.event,
        state=notification.state,
        attempts=notification.attempts,
        created_at=iso(notification.created_at),
        job_id=str(notification.job_id) if notification.job_id else UNSET,
        http_status=notification.last_status or UNSET,
        reason=notification.last_error or UNSET,
        next_at=iso(notification.next_at) if notification.state == "pending" else UNSET,
        settled_at=iso_if(notification.settled_at),
    )


handlers = [
    list_notify_targets,
    add_notify_target,
    remove_notify_target,
    check_notify_target,
    resume_notify_target,
    list_target_notifications,
]
