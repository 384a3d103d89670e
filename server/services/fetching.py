"""A repository at a commit, read through its forge: paths at once, contents as they are needed, each once.

What is read is data: paths and bytes. Nothing is checked out, followed or run.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

from evals.archives import MAX_ARCHIVE_BYTES
from server.domain.links import Link
from server.forges import FORGES, Asking, CannotRead, Entry, Place, Proposed, Touched, Tree
from server.services.forge_access import ForgeAccess
from server.services.handling import TryLater

T = TypeVar("T")

AT_ONCE: Final = 8
MOST_BYTES: Final = 100_000_000  # of all contents for one event
# What one event's files and lists may take; an attempt of the inbox has half as much again for the rest.
FETCH_SECONDS: Final = 60.0
# A forge may be slow for a while; after so many attempts the change is too large for it.
TRIES_TO_FETCH: Final = 3


class TooMuch(Exception):
    """The change is larger than what is looked through; `str()` is a sentence for people."""


class Budget:
    """The time that an event's files and lists may take in one attempt, from the first of them on; `tries` counts this
    attempt."""

    def __init__(self, *, tries: int = 1, seconds: float = FETCH_SECONDS) -> None:
        self._tries = tries
        self._seconds = seconds
        self._until: float | None = None
        self._has_answer = False

    async def spend(self, asking: Awaitable[T]) -> T:
        """The answer. Raises TryLater where the time is over, and TooMuch where it was more than once though the forge
        answers."""
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        try:
            async with asyncio.timeout(max(self._until - time.monotonic(), 0.0)):
                found = await asking
        except TimeoutError:
            raise self._over() from None
        self._has_answer = True
        return found

    def _over(self) -> TryLater | TooMuch:
        if not self._has_answer:
            return TryLater("The forge does not answer.")
        if self._tries < TRIES_TO_FETCH:
            return TryLater("The forge is slow, or the change is large.")
        return TooMuch(
            f"Its packages could not be read from the forge within {self._seconds:.0f} seconds, {self._tries} times. "
            "Touch fewer or smaller packages at once, name fewer under `packages` in .prpm-testing.yml, or test them "
            "in a workflow: there the files are at hand. A new push, or `/prpm test` in a comment, tries it again."
        )


class Commit:
    """The paths of a commit."""

    def __init__(self, sha: str, tree: Tree) -> None:
        self.sha = sha
        self.entries: dict[str, Entry] = {entry.path: entry for entry in tree.entries}
        self._paths = sorted(self.entries)

    @property
    def kinds(self) -> dict[str, str]:
        """Path -> "file", "link" or "submodule"."""
        return {path: entry.kind for path, entry in self.entries.items()}

    def below(self, folder: str) -> dict[str, Entry]:
        """Path within the folder -> what is there; "" is the root."""
        if not folder:
            return self.entries
        start = f"{folder}/"
        first = bisect_left(self._paths, start)
        last = bisect_left(self._paths, f"{folder}0")  # 0 follows the slash
        return {path[len(start) :]: self.entries[path] for path in self._paths[first:last]}

    def differs(self, other: Commit | None, *, below: str) -> bool:
        """Whether any path in the folder has other content than in the other commit."""
        return other is None or self._named(below) != other._named(below)

    def _named(self, folder: str) -> list[tuple[str, str, str]]:
        return [(path, entry.sha, entry.kind) for path, entry in self.below(folder).items()]


class Reader:
    """One repository for one event. Raises TryLater where the forge is away, and CannotRead for what cannot be had."""

    def __init__(self, access: ForgeAccess, link: Link, *, budget: Budget | None = None) -> None:
        self.link = link
        self._budget = budget or Budget()
        self._access = access
        self._forge = FORGES[link.forge]
        self._place: Place | None = None
        self._commits: dict[str, Commit] = {}
        self._contents: dict[str, bytes] = {}
        self._bytes = 0
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def proposed(self, number: int) -> Proposed:
        """The pull or merge request as it is now."""
        return await self._ask(self._forge.proposed(await self.place(), number))

    async def branch_head(self, branch: str) -> str:
        """The branch's commit now."""
        return await self._ask(self._forge.branch_head(await self.place(), branch))

    def queue_base(self, branch: str) -> str | None:
        """The branch that a merge queue's branch is to be merged into; None for every other branch."""
        return self._forge.queue_base(branch)

    async def tag_object(self, tag: str) -> str | None:
        """What the tag points to now."""
        return await self._ask(self._forge.tag_object(await self.place(), tag))

    async def may_write(self, login: str, user_id: int) -> bool:
        """Whether this person may write to the repository now."""
        return await self._ask(self._forge.may_write(await self.place(), login, user_id))

    async def touched(self, base: str, head: str) -> Touched:
        """What lies between the two."""
        return await self._ask(self._forge.touched(await self.place(), base, head))

    async def commit(self, sha: str) -> Commit:
        """The commit's paths. Raises TooMuch for one that the forge does not list as a whole."""
        if sha not in self._commits:
            tree = await self._budget.spend(self._ask(self._forge.tree(await self.place(), sha)))
            if not tree.is_whole:
                raise TooMuch(
                    "The repository has more files than its forge lists at once, so its packages cannot be found. "
                    "Test it in a workflow: there the files are at hand."
                )
            self._commits[sha] = Commit(sha, tree)
        return self._commits[sha]

    async def contents(self, entries: Iterable[Entry]) -> dict[str, bytes]:
        """Path -> content, each content asked for once."""
        wanted = list(entries)
        missing = {entry.sha: entry for entry in wanted if entry.sha not in self._contents}
        self._spend(sum(max(entry.bytes, 0) for entry in missing.values()))
        await asyncio.gather(*(self._fetch(entry) for entry in missing.values()))
        return {entry.path: self._contents[entry.sha] for entry in wanted}

    def names_in(self, manifest: Entry) -> tuple[str, ...] | None:
        """Which packages this manifest names, if anybody here has read it."""
        return self._access.manifest_names.find(self.link.forge, self.link.repository.id, manifest.sha)

    def note_names(self, manifest: Entry, names: tuple[str, ...]) -> None:
        """It was read."""
        self._access.manifest_names.note(self.link.forge, self.link.repository.id, manifest.sha, names)

    async def _fetch(self, entry: Entry) -> None:
        async with self._slots:
            asking = self._ask(self._forge.blob(await self.place(), entry.sha, MAX_ARCHIVE_BYTES))
            content = await self._budget.spend(asking)
        if entry.bytes < 0:
            self._spend(len(content))
        self._contents[entry.sha] = content

    def _spend(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MOST_BYTES:
            raise TooMuch(f"The changed packages are larger than {MOST_BYTES // 1_000_000} MB in all.")

    async def place(self) -> Place:
        """The repository with a token for reading."""
        if self._place is None:
            self._place = await later(self._access.place(self.link, right="read"))
        return self._place

    async def _ask(self, asking: Asking[T]) -> T:
        try:
            return await later(self._access.ask_for(self.link, asking))
        except CannotRead as error:
            if error.is_elsewhere:
                raise TryLater("The repository has another name by now, of which a delivery tells.") from None
            if error.status == 401 and self.link.installation_id is not None:
                # Taken back before its time, as when the App's rights change.
                self._access.forget_installation(self.link.forge, self.link.installation_id)
                raise TryLater("The token was not accepted; a new one is asked for.") from None
            raise


async def later(asking: Awaitable[T]) -> T:
    """The answer; TryLater in place of a CannotRead that says so."""
    try:
        return await asking
    except CannotRead as error:
        if error.retryable:
            raise TryLater(str(error), seconds=error.seconds) from None
        raise
