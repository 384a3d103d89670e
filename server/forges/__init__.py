"""Forges: a file each. What a repository holds at a commit, what a change touches, and who may write.

Every function is a generator that yields HTTP requests and is sent responses (`server/services/asking.py` carries them
out), so that nothing here opens a connection. To add one, write `server/forges/NAME.py` that registers a `Forge`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from msgspec import Struct

from evals.models import Secret
from evals.plugins import Registry
from notifiers import Request, Response
from server.domain.changes import Change
from server.domain.events import Repository
from server.domain.missed import Sent
from server.domain.reporting import ReportSettings

T = TypeVar("T")
Asking = Generator[Request, Response, T]

Kind = Literal["file", "link", "submodule"]


class CannotRead(Exception):
    """What was asked for cannot be had, now or ever; `str()` is a sentence for the check that people see.

    `retryable`: later it may work, in `seconds` at the earliest. `status`: what the forge answered, where it did;
    `is_silence`: no answer came at all.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        seconds: float | None = None,
        status: int | None = None,
        is_silence: bool = False,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.seconds = seconds
        self.is_silence = is_silence
        self.status = status

    @property
    def is_elsewhere(self) -> bool:
        """What was asked for has another name by now."""
        return self.status is not None and 300 <= self.status < 400


class Place(Struct, frozen=True, kw_only=True):
    """A repository and a token that may read it. `name` is "owner/name", `id` the forge's number."""

    api_url: str
    id: int
    name: str
    token: Secret


class Entry(Struct, frozen=True, kw_only=True):
    """A path in a commit; `sha` names its content, `bytes` is -1 where the forge does not say."""

    path: str
    sha: str
    kind: Kind
    bytes: int = -1


class Tree(Struct, frozen=True):
    """All paths of a commit, sorted. `is_whole`: False where the forge gave only some."""

    entries: tuple[Entry, ...]
    is_whole: bool = True


class Touched(Struct, frozen=True):
    """The paths that a change adds, alters or removes, with the old names of those that it moves."""

    paths: frozenset[str]
    base_sha: str  # the commit that both sides have: what the change is compared with
    is_whole: bool = True


class Proposed(Struct, frozen=True, kw_only=True):
    """A pull or merge request as it is at this moment. `at`: when it was changed last, by the forge's own clock."""

    number: int
    head_sha: str
    head_ref: str
    head_repository_id: int | None
    base_ref: str
    base_sha: str | None  # None where the forge has not found out yet
    is_open: bool
    is_draft: bool
    at: datetime | None = None


class OpenChange(Struct, frozen=True):
    """One that is open, and when the forge changed anything of it; as the forge writes it, in ISO 8601."""

    now: Proposed
    updated_at: str


class AppToken(Struct, frozen=True):
    """A token of an installation; `expires_at` as the forge writes it, in ISO 8601."""

    token: Secret
    expires_at: str


class Installed(Struct, frozen=True, kw_only=True):
    """An installation as the forge describes it now."""

    id: int
    owner_id: int | None
    owner: str
    is_suspended: bool


class Listed(Struct, frozen=True):
    """Repositories with the number of each one's owner. `is_whole`: False where there are more than were read."""

    repositories: tuple[tuple[Repository, int | None], ...]
    is_whole: bool


class AskToken(Protocol):
    """How a token for some rights in one repository is asked for, or (None) in all that the installation has."""

    def __call__(
        self, api_url: str, proof: Secret, installation_id: int, *, repository_id: int | None, rights: Mapping[str, str]
    ) -> Asking[AppToken]: ...


class SentPage(Struct, frozen=True):
    """Tries of deliveries, the newest first; `cursor` names the next page, "" after the last one."""

    sent: tuple[Sent, ...]
    cursor: str = ""


class Sending(Struct, frozen=True, kw_only=True):
    """What was sent to the App's webhook. `page` by its cursor, "" for the newest; `again` by an `attempt_id`.

    `again` says False for one that the forge has no more.
    """

    page: Callable[[str, Secret, str], Asking[SentPage]]
    again: Callable[[str, Secret, int], Asking[bool]]


class AppKind(Struct, frozen=True, kw_only=True):
    """A forge that knows Apps, which repositories are given to. What ends in `_setting` names one, without `PRPM_`."""

    id_setting: str
    key_setting: str
    client_id_setting: str
    client_secret_setting: str
    rights: Mapping[Literal["read", "report"], Mapping[str, str]]
    proof: Callable[[str, Secret, float], Secret]  # of the App's id and key, at this Unix time
    installation_of: Callable[[str, Secret, str], Asking[Installed | None]]  # that has the repository "owner/name"
    installation: Callable[[str, Secret, int], Asking[Installed | None]]
    token: AskToken
    list_rights: Mapping[str, str]
    repositories: Callable[[str, Secret], Asking[Listed]]  # with a token of these rights
    sending: Sending | None = None  # of a forge that sends each delivery once


class Proven(Struct, frozen=True, kw_only=True):
    """A repository or group as a token finds it, and what whoever made the token may do there."""

    id: int
    name: str
    owner_id: int | None
    default_branch: str = ""
    is_group: bool = False
    may_administer: bool  # and so may decide whose it is here


class ReportTo(Struct, frozen=True, kw_only=True):
    """What is shown on a forge, and how its repository wants it. `app_id`: the token is an App's; None: a person's."""

    change: Change
    settings: ReportSettings
    marker: str
    author: str  # who the token writes as
    app_id: str | None = None


class Forge(Struct, frozen=True, kw_only=True):
    """What is asked of a forge. Each raises CannotRead.

    `may_write(place, user)`: `user` is the login and the number; it is asked anew each time, as rights change.
    `prove(api_url, token, name)` looks at a repository or group; `prove_member(api_url, token, group, repository)` at
    one that has to be in the group, by numbers: None where it is not, and no such function where there are no groups.
    `api_url` finds the API's address in the settings; `token_setting` names the one that holds the service's own token.
    `person(api_url, token)`: the login of the person whose token it is. `queue_base(branch)`: what a branch of the
    forge's merge queue is to be merged into, None for every other branch.
    """

    tree: Callable[[Place, str], Asking[Tree]]
    blob: Callable[[Place, str, int], Asking[bytes]]  # at most so many bytes
    touched: Callable[[Place, str, str], Asking[Touched]]  # from the first commit to the second
    proposed: Callable[[Place, int], Asking[Proposed]]
    branch_head: Callable[[Place, str], Asking[str]]
    tag_object: Callable[[Place, str], Asking[str | None]]  # what the tag points to now; None: there is no such tag
    may_write: Callable[[Place, str, int], Asking[bool]]
    person: Callable[[str, Secret], Asking[str]]
    prove: Callable[[str, Secret, str], Asking[Proven]]
    prove_member: Callable[[str, Secret, int, int], Asking[Proven | None]] | None = None
    login: Callable[[Place], Asking[str]]  # who the token writes as
    report_to: Callable[[Place, ReportTo], Any]  # the target of the notifier of the same name
    api_url: Callable[[Mapping[str, Secret]], str]
    token_setting: str
    app: AppKind | None = None
    open_changes: Callable[[Place, datetime], Asking[tuple[OpenChange, ...]]] | None = None  # changed since, the latest
    queue_base: Callable[[str], str | None] = lambda branch: None  # of a forge whose queues have no branches


FORGES: Registry[Forge] = Registry("server.forges")


def member(value: Any, *path: str | int) -> Any:
    """What stands at the path in decoded JSON; None where there is nothing. It is another's text: look before use."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value
