"""Links: whose a repository on a forge is, and how it is reached."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from server.domain.events import Repository

Right = Literal["read", "report"]


class NotLinked(Exception):
    """Nobody here is billed for this repository; `str()` is a sentence for the delivery's reason."""


class Link(Struct, frozen=True, kw_only=True):
    """A repository that is an account's. Neither an installation nor a hook: by the service's own settings."""

    forge: str
    repository: Repository
    account_id: UUID
    account: str  # its name
    installation_id: int | None
    hook_id: UUID | None
    reports: bool  # the service may write at the forge

    @property
    def holder(self) -> str:
        """Names whose token reaches it: an installation's, a hook's, or the service's own."""
        return msgspec.json.encode([self.forge, self.installation_id, self.hook_id]).decode()


class Installation(Struct, frozen=True, kw_only=True):
    """An installation of the service's App, as it is kept."""

    forge: str
    installation_id: int
    account_id: UUID
    account: str
    owner_id: int | None
    owner: str
    proof: str
    linked_at: datetime
    suspended_at: datetime | None


class NewLink(Struct, frozen=True, kw_only=True):
    """A repository that a proof of this moment says is the account's.

    `issuer`: whose tokens its workflows show, for those that get a trust along with the link.
    """

    repository: Repository
    account_id: UUID
    installation_id: int | None = None
    hook_id: UUID | None = None
    owner_id: int | None = None
    reports: bool = True
    issuer: str | None = None


class KeptLink(Struct, frozen=True, kw_only=True):
    """A link as it is kept; `is_suspended`: its installation may do nothing for now."""

    forge: str
    repository_id: int
    account_id: UUID
    account: str
    installation_id: int | None
    hook_id: UUID | None
    owner_id: int | None
    name: str
    default_branch: str
    reports: bool
    linked_at: datetime
    is_suspended: bool

    def as_link(self) -> Link:
        """As it is used."""
        return Link(
            forge=self.forge,
            repository=Repository(
                forge=self.forge, id=self.repository_id, name=self.name, default_branch=self.default_branch
            ),
            account_id=self.account_id,
            account=self.account,
            installation_id=self.installation_id,
            hook_id=self.hook_id,
            reports=self.reports,
        )


class StoredApp(Struct, frozen=True, kw_only=True):
    """An App that was made on the set-up page."""

    forge: str
    app_id: str
    slug: str
    client_id: str
    page_url: str
    sealed: bytes


class Hook(Struct, frozen=True, kw_only=True):
    """A webhook with an address of its own, without what opens it."""

    id: UUID
    account_id: UUID
    account: str
    forge: str
    name: str
    is_group: bool
    place_id: int | None  # the forge's number of the repository or group
    owner_id: int | None
    proof: Literal["signature", "token"]
    token_shown: str | None
    created_at: datetime
    created_by: str
    rotated_at: datetime | None
    old_until: datetime | None
    delivered_at: datetime | None
    is_old_good: bool  # the secret before still holds
    sealed: bytes
    refused: list[str] = []  # what its token may not do, or did not work for lately: read, report
    refused_at: datetime | None = None
    refused_reason: str | None = None  # of the latest refusal, a sentence
