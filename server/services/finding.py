"""Which packages a commit holds, which of them a change touches, and their files.

Two commits of one package are compared by what names their contents, so that of a package that is as it was nothing is
fetched but its manifest and its suite. Of packages that a change does not touch only the names are read, once: two of
one name have suites of different names, whichever of them is touched, and the one that was there first keeps its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from evals.archives import MAX_ARCHIVE_BYTES, quoted_path
from evals.errors import EngineError, InvalidPackage
from evals.folders import NEVER_PACKED
from evals.listed_folder import ListedFolder, NeedsContents, package_folders
from evals.manifests import MANIFEST, SUITE_PATHS, find_candidates, read_every_manifest
from evals.narrowing import manifests_alone
from server.domain.changes import DEFAULT_SUITE
from server.forges import CannotRead, Entry
from server.services.fetching import Commit, Reader, TooMuch
from server.services.publishing import KeptSnapshot, keep_files

MOST_PACKAGES: Final = 50  # a change that touches more is tested by hand
# Folders whose manifests are read for their names alone. With more than that each suite is named by its folder.
MOST_NAMED: Final = 200
MOST_MANIFEST_BYTES: Final = 1_000_000
AGENTS: Final = (".claude", "agents")
AS_AGENT: Final = {"format": "claude", "subtype": "agent"}
TESTED_BY_LAYOUT: Final = ("skill", "agent")  # without a prpm.json, of Claude's packages
NO_NAME: Final = re.compile(r"[^a-z0-9]+")
NO_SUITE_NAME: Final = re.compile(r"[^A-Za-z0-9._/-]+")


class Wanted(Struct, frozen=True, kw_only=True):
    """A package of a commit before its contents are read. `told`: what its files do not say of it.

    `files` is path -> what names its content: two are the same package if these are the same.
    """

    folder: str  # "" is the root
    name: str
    told: Mapping[str, str]
    files: Mapping[str, str]
    manifest: bytes | None  # where there is one: of this package alone
    version: str | None = None  # by its manifest


class Broken(Struct, frozen=True, kw_only=True):
    """A folder with a package that cannot be read; `reason` is a sentence."""

    folder: str
    reason: str


class Touched(Struct, frozen=True, kw_only=True):
    """A package that a change touches. `before`: as it was, None for a new one; `after`: None for a removed one."""

    name: str
    suite_name: str
    before: Wanted | None
    after: Wanted | Broken | None

    @property
    def folder(self) -> str:
        """Where it is, or was."""
        found = self.after or self.before
        return found.folder if found is not None else ""


class Found(Struct, frozen=True, kw_only=True):
    """What a change touches. `at_base`, `at_head`: package -> the folder that has the default suite there, of those
    names that several folders have at one of the commits."""

    touched: tuple[Touched, ...] = ()
    at_base: Mapping[str, str] = {}
    at_head: Mapping[str, str] = {}


async def find_touched(
    reader: Reader, head: Commit, base: Commit | None, *, folders: Iterable[str], known: Mapping[str, str]
) -> Found:
    """The packages in these folders that are others in head than in base; all that head has without a base.

    `known`: package -> the folder that has the default suite, as an earlier look kept it. Raises TooMuch, TryLater,
    CannotRead.
    """
    folders = tuple(folders)
    differing = [folder for folder in folders if head.differs(base, below=folder)]
    if not differing:
        return Found()
    here, there = await _holders(reader, head, folders), await _holders(reader, base, folders)
    at_base = _suites(there, before=None, known=known)
    at_head = _suites(here, before=there, known={**known, **(at_base.first or {})})
    if base is None:
        at_base = at_head
    found: list[Touched] = []
    for folder in differing:
        after = await _packages_in(reader, head, folder)
        before = await _packages_in(reader, base, folder) if base is not None else ()
        for name, was, now in _pairs(folder, before, after):
            suites = at_head if isinstance(now, Wanted) or was is None else at_base
            found.append(Touched(name=name, suite_name=suites.name_of(folder, name), before=was, after=now))
        if len(found) > MOST_PACKAGES:
            raise TooMuch(
                f"The change touches more than {MOST_PACKAGES} packages. Name fewer under `packages` in "
                ".prpm-testing.yml, or test them with `prpm test`."
            )
    several = {name for holders in (here, there) for name, those in (holders or {}).items() if len(those) > 1}
    return Found(touched=_with_moves(found), at_base=at_base.of(several), at_head=at_head.of(several))


class _Suites(Struct, frozen=True):
    """Names of suites at one commit. `first`: package -> the folder with the default one; None: too many."""

    first: Mapping[str, str] | None

    def of(self, names: Iterable[str]) -> dict[str, str]:
        """Those of these names alone."""
        return {name: self.first[name] for name in names if self.first is not None and name in self.first}

    def name_of(self, folder: str, package: str) -> str:
        """Whatever a change touches: one package of a name has the default suite, the others are named by folder."""
        if self.first is None:
            return _suite_name(folder)
        return DEFAULT_SUITE if self.first.get(package, folder) == folder else _suite_name(folder)


Holders = Mapping[str, Sequence[str]]  # package -> the folders that have one of this name, sorted


async def _holders(reader: Reader, commit: Commit | None, folders: Sequence[str]) -> Holders | None:
    """Who has which name at the commit; None where there are too many to be read. Raises TryLater."""
    if commit is None:
        return {}
    here = [folder for folder in folders if commit.below(folder)]
    if len(here) > MOST_NAMED:
        return None
    found = await asyncio.gather(*(_names_in(reader, commit, folder) for folder in here))
    holders: dict[str, list[str]] = {}
    for folder, names in zip(here, found, strict=True):
        for name in names:
            holders.setdefault(name, []).append(folder)
    return holders


def _suites(holders: Holders | None, *, before: Holders | None, known: Mapping[str, str]) -> _Suites:
    """Who has the default suite is who had it; a folder that comes later, wherever it sorts, takes it from nobody."""
    if holders is None:
        return _Suites(None)
    return _Suites({name: _first(name, those, before or {}, known.get(name)) for name, those in holders.items()})


def _first(name: str, those: Sequence[str], before: Holders, known: str | None) -> str:
    """Who had it; where that one is gone, who came when it went, as it may have moved there; else the first."""
    if known in those:
        return known or ""
    came = [folder for folder in those if folder not in before.get(name, ())]
    return (came if known is not None and came else those)[0]


async def _names_in(reader: Reader, commit: Commit, folder: str) -> tuple[str, ...]:
    """What the packages in the folder are called. One that cannot be read is called by its folder."""
    manifest = commit.entries.get(_join(folder, MANIFEST))
    if manifest is None:
        kinds = _kinds_below(folder, commit)
        return (_layout_name(folder, kinds),) if _is_by_layout(folder, kinds) else ()
    known = reader.names_in(manifest)
    if known is None:
        known = await _read_names(reader, manifest)
        reader.note_names(manifest, known)
    return known or (_name_of(folder),)


async def _read_names(reader: Reader, manifest: Entry) -> tuple[str, ...]:
    """The names in a manifest; none in what is no manifest. Raises TryLater."""
    if manifest.kind != "file" or manifest.bytes > MOST_MANIFEST_BYTES:
        return ()
    try:
        content = (await reader.contents([manifest]))[manifest.path]
        return tuple(one.name for one in read_every_manifest(content))
    except (EngineError, CannotRead):
        return ()


def _with_moves(found: Sequence[Touched]) -> tuple[Touched, ...]:
    """A package that has another name or folder now is still compared with what it was, and so are its tests.

    One that is gone is what a new one in the same folder was before, or a new one of the same name; else the new one
    that has most of its contents, as both may be others now.
    """
    gone = [one for one in found if one.after is None]
    kept = [one for one in found if one.after is not None]
    moved: dict[int, Touched] = {}
    for is_move in (_is_named_alike, _has_its_contents):
        for place, one in enumerate(kept):
            if one.before is not None or place in moved:
                continue
            was = max((old for old in gone if is_move(old, one)), key=lambda old: _in_common(old, one), default=None)
            if was is not None:
                gone.remove(was)
                moved[place] = msgspec.structs.replace(one, before=was.before)
    return (*(moved.get(place, one) for place, one in enumerate(kept)), *gone)


def _is_named_alike(old: Touched, new: Touched) -> bool:
    return old.name == new.name or (
        old.before is not None and new.after is not None and old.before.folder == new.after.folder
    )


def _has_its_contents(old: Touched, new: Touched) -> bool:
    """At least half of what the smaller one has, beside its manifest: a licence that both have is not enough."""
    common = _in_common(old, new)
    return common > 0 and 2 * common >= min(len(_contents(old.before)), len(_contents(new.after)))


def _in_common(old: Touched, new: Touched) -> int:
    return len(_contents(old.before) & _contents(new.after))


def _contents(package: Wanted | Broken | None) -> set[str]:
    """What names the contents of its files, beside its manifest."""
    if not isinstance(package, Wanted):
        return set()
    return {sha for path, sha in package.files.items() if path != MANIFEST}


def folders_of(*commits: Commit | None) -> tuple[str, ...]:
    """The folders that hold a package in one of these commits, sorted."""
    found: set[str] = set()
    for commit in commits:
        if commit is not None:
            kinds = commit.kinds
            found.update(package_folders(kinds, frozenset((MANIFEST,))))
            with_suite = package_folders(kinds, frozenset(SUITE_PATHS))
            found.update(folder for folder in with_suite if _is_by_layout(folder, _kinds_below(folder, commit)))
    return tuple(sorted(found))


def _is_by_layout(folder: str, kinds: Mapping[str, str]) -> bool:
    """Whether a folder without prpm.json has a suite, and a skill or an agent of Claude's."""
    if MANIFEST in kinds or not any(place in kinds for place in SUITE_PATHS):
        return False
    layouts = [candidate.layout for candidate in find_candidates(kinds)]
    is_claudes = any(layout.format == "claude" and layout.subtype in TESTED_BY_LAYOUT for layout in layouts)
    return is_claudes or (_is_agents_folder(folder) and bool(layouts))


def _kinds_below(folder: str, commit: Commit) -> dict[str, str]:
    return {
        path: entry.kind for path, entry in commit.below(folder).items() if not NEVER_PACKED & set(path.split("/")[:-1])
    }


def _is_agents_folder(folder: str) -> bool:
    return tuple(folder.split("/")[-2:]) == AGENTS


def _pairs(
    folder: str, before: Sequence[Wanted | Broken], after: Sequence[Wanted | Broken]
) -> Iterator[tuple[str, Wanted | None, Wanted | Broken | None]]:
    """Name, before and after of each package that is not as it was; one that cannot be read is named by its folder."""
    old = {one.name: one for one in before if isinstance(one, Wanted)}
    for one in after:
        if isinstance(one, Broken):
            name, was = next(iter(old.items()), (_name_of(folder), None))
            yield name, was, one
            return
        was = old.pop(one.name, None)
        if was is None or was.files != one.files:
            yield one.name, was, one
    for name, was in old.items():
        yield name, was, None


async def _packages_in(reader: Reader, commit: Commit, folder: str) -> tuple[Wanted | Broken, ...]:
    """The packages in the folder, without their contents."""
    kinds = _kinds_below(folder, commit)
    try:
        if MANIFEST not in kinds:
            return (await _by_layout(reader, commit, folder, kinds),) if _is_by_layout(folder, kinds) else ()
        manifest = (await _read(reader, commit, folder, (MANIFEST,), kinds))[MANIFEST]
        return tuple([await _described(reader, commit, folder, kinds, alone) for alone in manifests_alone(manifest)])
    except EngineError as error:
        return (Broken(folder=folder, reason=error.message),)


async def _described(reader: Reader, commit: Commit, folder: str, kinds: Mapping[str, str], manifest: bytes) -> Wanted:
    (described,) = read_every_manifest(manifest)
    return Wanted(
        folder=folder,
        name=described.name,
        version=described.version,
        told={},
        files=await _named_contents(reader, commit, folder, kinds, manifest),
        manifest=manifest,
    )


async def _by_layout(reader: Reader, commit: Commit, folder: str, kinds: Mapping[str, str]) -> Wanted:
    name = _layout_name(folder, kinds)
    return Wanted(
        folder=folder,
        name=name,
        told={"name": name, **(AS_AGENT if _is_agents_folder(folder) else {})},
        files=await _named_contents(reader, commit, folder, kinds, None),
        manifest=None,
    )


def _layout_name(folder: str, kinds: Mapping[str, str]) -> str:
    candidates = find_candidates(kinds)
    named = candidates[0].name if len(candidates) == 1 else None
    return _plain_name(named) if named else _name_of(folder)


async def _named_contents(
    reader: Reader, commit: Commit, folder: str, kinds: Mapping[str, str], manifest: bytes | None
) -> dict[str, str]:
    """Path -> what names the content, for what belongs to the package."""
    known = {MANIFEST: manifest} if manifest is not None else {}
    while True:
        try:
            paths = _PathsAlone(kinds, known, label=folder or "the repository").collect()
        except NeedsContents as needs:
            known |= await _read(reader, commit, folder, needs.paths, kinds)
            continue
        found = {path: commit.entries[_join(folder, path)].sha for path in paths}
        if manifest is not None:
            found[MANIFEST] = hashlib.sha256(manifest).hexdigest()
        return found


class _PathsAlone(ListedFolder):
    """Says which paths belong to a package, and reads only what that depends on."""

    def read_all(self, paths: tuple[str, ...]) -> dict[str, bytes]:
        for path in paths:
            self._require_file(path)
        return dict.fromkeys(paths, b"")


async def _read(
    reader: Reader, commit: Commit, folder: str, paths: tuple[str, ...], kinds: Mapping[str, str]
) -> dict[str, bytes]:
    """Path -> content. Raises InvalidPackage for what is no file, or too large."""
    for path in paths:
        if kinds.get(path) != "file":
            raise InvalidPackage(f"{quoted_path(path)} is no regular file; put the file itself there.")
    entries = [commit.entries[_join(folder, path)] for path in paths]
    if sum(max(entry.bytes, 0) for entry in entries) > MAX_ARCHIVE_BYTES:
        megabytes = MAX_ARCHIVE_BYTES // 1_000_000
        raise InvalidPackage(f"The package is larger than {megabytes} MB; take out what the model does not read.")
    contents = await reader.contents(entries)
    return {path: contents[_join(folder, path)] for path in paths}


async def keep(db: asyncpg.Pool, reader: Reader, commit: Commit, wanted: Wanted, *, account_id: UUID) -> KeptSnapshot:
    """The package's files, fetched and kept for the account. Safe to call twice.

    Raises InvalidRequest or InvalidPackage for files that make no package, TooMuch, TryLater, CannotRead.
    """
    kinds = _kinds_below(wanted.folder, commit)
    paths = tuple(path for path in wanted.files if wanted.manifest is None or path != MANIFEST)
    known = await _read(reader, commit, wanted.folder, paths, kinds)
    if wanted.manifest is not None:
        known[MANIFEST] = wanted.manifest
    # Once more as a folder, which knows pointers and limits.
    files = ListedFolder(kinds, known, label=wanted.folder or "the repository").collect()
    return await keep_files(db, account_id, files=files, told=wanted.told)


def _join(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path


def _name_of(folder: str) -> str:
    return _plain_name(folder.rpartition("/")[2]) if folder else "package"


def _plain_name(name: str) -> str:
    return NO_NAME.sub("-", name.lower()).strip("-")[:100] or "package"


def _suite_name(folder: str) -> str:
    """For the second package of a name, so that its runs are its own."""
    return NO_SUITE_NAME.sub("-", folder).strip("-._/")[:100] or "root"
