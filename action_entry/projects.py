"""The folders that a workflow wants tested: patterns made concrete, and those left out that a change did not touch."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from action_entry.errors import Misused, NotNow
from action_entry.inputs import Inputs
from action_entry.packing import Folder, Several, belongs, layouts, package_name, path_matches, several_packages, shown

_SIGNS = "*?["
MOST_PROJECTS = 50
SUITE_NAME_CHARS = 100
DEFAULT_SUITE = "default"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite file of the workflow's own: its place in the repository and its text."""

    path: str
    text: bytes

    @property
    def as_packed(self) -> bytes:
        """The text in a form that can stand in a YAML file: JSON with tabs in it could not."""
        if not self.path.lower().endswith(".json"):
            return self.text
        return json.dumps(self.value, ensure_ascii=False, indent=1).encode()

    @property
    def value(self) -> object:
        """The suite as JSON. Raises Misused for YAML, which nothing here can read."""
        try:
            value = json.loads(self.text)
        except (ValueError, RecursionError):
            raise Misused(
                f"suite: {shown(self.path)} is not JSON. For a published package, give the suite as JSON."
            ) from None
        return {"tests": value} if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class Project:
    """One suite to run. `folder` is relative to the workspace, "" for itself and for published packages."""

    name: str  # of the package, for people
    folder: str = ""
    several: Several | None = None  # the one that is meant, where the folder holds several
    registered: str = ""  # "@author/name" or with a version: a published package
    suite: Suite | None = None
    suite_name: str = DEFAULT_SUITE

    @property
    def slug(self) -> str:
        """For file names."""
        words = f"{self.name}-{self.suite_name}" if self.suite_name != DEFAULT_SUITE else self.name
        return re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-.")[:80] or "package"


def find_projects(inputs: Inputs, *, workspace: Path) -> tuple[Project, ...]:
    """What the inputs name. Raises Misused for a path that is no folder, NotNow if patterns find nothing."""
    suite = _suite(inputs.suite, workspace=workspace) if inputs.suite else None
    suite_name = _suite_name(inputs.suite) if inputs.suite else DEFAULT_SUITE
    if inputs.package:
        if inputs.paths != (".",):
            raise Misused("Both `package` and `path` are given. Leave one out.")
        return (Project(name=inputs.package, registered=inputs.package, suite=suite, suite_name=suite_name),)
    folders = list(dict.fromkeys(folder for path in inputs.paths for folder in _folders(path, workspace=workspace)))
    if not folders:
        raise NotNow(f"No folder with a package fits {', '.join(map(shown, inputs.paths))}.", code="no_match")
    found = tuple(
        Project(name=name, folder=folder, several=one, suite=suite, suite_name=suite_name)
        for folder in folders
        for name, one in _packages(workspace / folder)
    )
    if len(found) > MOST_PROJECTS:
        raise Misused(f"{len(found)} packages fit; at most {MOST_PROJECTS} are tested at once. Narrow `path`.")
    return found


def _packages(folder: Path) -> list[tuple[str, Several | None]]:
    """Name and choice of each package in the folder."""
    several = several_packages(folder)
    return [(one.name, one) for one in several] or [(package_name(folder), None)]


def is_choice(inputs: Inputs, projects: Sequence[Project] = ()) -> bool:
    """Whether many packages may be meant, of which a change touches some."""
    is_pattern = len(inputs.paths) > 1 or any(sign in inputs.paths[0] for sign in _SIGNS)
    return not inputs.package and (is_pattern or any(project.several for project in projects))


def touched(projects: Sequence[Project], changed: Sequence[str], *, workspace: Path) -> tuple[Project, ...]:
    """Those with a changed file in their folder (of several packages there: their own files), or a changed suite."""
    return tuple(
        project for project in projects if any(_belongs(path, project, workspace=workspace) for path in changed)
    )


def _belongs(path: str, project: Project, *, workspace: Path) -> bool:
    if project.suite is not None and path == project.suite.path:
        return True
    inside = path if not project.folder else path.removeprefix(f"{project.folder}/")
    if project.folder and inside == path:
        return False
    return project.several is None or belongs(inside, project.several, Folder(workspace / project.folder))


def _folders(path: str, *, workspace: Path) -> Iterator[str]:
    """The folder of this path, or those that a pattern finds. Raises Misused (G9: nothing outside the workspace)."""
    plain = posixpath.normpath(path.replace("\\", "/"))
    if plain.startswith(("/", "~", "..")) or re.match(r"[A-Za-z]:", plain):
        raise Misused(f"path: {shown(path)} leads out of the repository. Give a path within it.")
    if any(sign in plain for sign in _SIGNS):
        yield from _matching_folders(plain, workspace=workspace)
        return
    folder = "" if plain == "." else plain
    _require_folder(folder, workspace=workspace)
    yield folder


def _require_folder(folder: str, *, workspace: Path) -> None:
    place = Folder(workspace)
    parts = folder.split("/") if folder else []
    for length in range(1, len(parts) + 1):
        part = "/".join(parts[:length])
        if (workspace / part).is_symlink():
            raise Misused(f"path: {shown(part)} is a symbolic link, which is not followed.")
    if parts and not place.is_folder(folder):
        what = "is a file; name its folder" if place.has(folder) else "does not exist"
        raise Misused(f"path: {shown(folder)} {what}. Is the repository checked out before this step?")


def _matching_folders(pattern: str, *, workspace: Path) -> list[str]:
    """Folders of that form with a manifest or a suite in them; hidden ones only where the pattern says so."""
    wanted = pattern.split("/")
    signs_of_a_package = {layouts()["manifest"], *layouts()["suites"]}
    found = []
    for place, folders, names in os.walk(workspace):  # follows no link
        relative = Path(place).relative_to(workspace).as_posix()
        parts = [] if relative == "." else relative.split("/")
        folders[:] = sorted(name for name in folders if name not in layouts()["never"])
        has_sign = signs_of_a_package & set(names) or any((Path(place) / sign).is_file() for sign in signs_of_a_package)
        if parts and has_sign and path_matches(parts, wanted):
            found.append(relative)
    return sorted(found)


def _suite(path: str, *, workspace: Path) -> Suite:
    plain = posixpath.normpath(path.replace("\\", "/"))
    if plain.startswith(("/", "~", "..")) or re.match(r"[A-Za-z]:", plain):
        raise Misused(f"suite: {shown(path)} leads out of the repository. Give a path within it.")
    try:
        return Suite(path=plain, text=Folder(workspace).read(plain))
    except Misused as error:
        raise Misused(f"suite: {error.message}") from None


def _suite_name(path: str) -> str:
    """A name for a suite's history and comment, by its file: `checks/strict.yaml` is `checks/strict`."""
    stem = posixpath.splitext(posixpath.normpath(path.replace("\\", "/")))[0]
    return re.sub(r"[^A-Za-z0-9._/-]+", "-", stem).strip("-./_")[-SUITE_NAME_CHARS:].lstrip("-./_") or DEFAULT_SUITE
