"""One package of a folder that holds several: its files, and what belongs to none of the others.

What comes out holds one package alone, so that everything behind it (snapshots, histories, workers) need not choose.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evals.errors import InvalidPackage
from evals.json_reader import read_json
from evals.manifests import (
    MANIFEST,
    Manifest,
    bare_name,
    choose_manifest,
    find_candidates,
    read_every_manifest,
    read_manifest,
)
from evals.suites.references import referenced_files


def package_names(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """The names of all packages in these files, each once; a lone one may have none. Raises InvalidPackage."""
    if MANIFEST in files:
        return tuple(dict.fromkeys(manifest.name for manifest in read_every_manifest(files[MANIFEST])))
    return tuple(dict.fromkeys(found.name for found in find_candidates(files) if found.name))


def narrow(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """The files without what other packages alone bring; the same files for the only package.

    `name` is with or without scope. Raises InvalidPackage with the names that there are.
    """
    if MANIFEST not in files:
        return _narrow_layouts(files, name)
    every = read_every_manifest(files[MANIFEST])
    chosen = choose_manifest(every, name=name, version=None)
    if len(every) == 1:
        return dict(files)
    own = set(_paths([chosen], files)) if chosen.files else set(files)
    others = set(_paths((one for one in every if one is not chosen), files))
    kept = _without(files, others - own)
    return kept | {MANIFEST: _only(files[MANIFEST], chosen)}


def manifests_alone(content: bytes) -> tuple[bytes, ...]:
    """For each package of a prpm.json, a prpm.json that describes it alone: as it is, where there is one only.

    Raises InvalidPackage.
    """
    every = read_every_manifest(content)
    return (content,) if len(every) == 1 else tuple(_only(content, one) for one in every)


def _narrow_layouts(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """By where editors look: another skill, agent or command is another package."""
    candidates = find_candidates(files)
    chosen = next((one for one in candidates if one.name == bare_name(name)), None)
    if chosen is None:
        names = package_names(files)
        if not names:
            read_manifest(files)  # says what is missing
        raise InvalidPackage(f"There is no package {name[:80]!r} here; there are {', '.join(names[:20]) or 'none'}.")
    others = {path for one in candidates if one is not chosen for path in one.paths}
    return _without(files, others.difference(chosen.paths))


def _paths(manifests: Iterable[Manifest], files: Mapping[str, bytes]) -> list[str]:
    """What these packages list, folders with all that is in them."""
    listed = [file.path for manifest in manifests for file in manifest.files]
    return [path for path in files if any(path == one or path.startswith(f"{one}/") for one in listed)]


def _without(files: Mapping[str, bytes], dropped: set[str]) -> dict[str, bytes]:
    """A suite may name a file that another package lists: it stays."""
    named = referenced_files(files.keys(), files.__getitem__)
    gone = dropped.difference(named, (MANIFEST,))
    return {path: content for path, content in files.items() if path not in gone}


def _only(content: bytes, chosen: Manifest) -> bytes:
    """The manifest with one entry in `packages[]`, and all that stands beside them."""
    value: Any = read_json(content).value
    entries: Sequence[Any] = value["packages"]
    entry = entries[chosen.entry or 0]
    return json.dumps(value | {"packages": [entry]}, ensure_ascii=False, indent=2).encode()
