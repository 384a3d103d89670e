"""The files that a suite names, found by their names alone: they travel with the package, untold.

They stand behind `file://` anywhere in it, or, as in many of promptfoo's configurations, bare among `tests` and
`prompts`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator
from typing import Final

from evals.manifests import FOREIGN_SUITE_PATH, SUITE_PATHS
from evals.suites.sources import matching, problem_with

# What tests are made of. Anything else in a working folder (keys, settings, databases) is never taken along, nor is
# what hides behind a dot: a suite may be a stranger's.
ENDINGS: Final = (".csv", ".html", ".j2", ".js", ".json", ".jsonl", ".md", ".mjs", ".py", ".sql", ".txt", ".xml",
                  ".yaml", ".yml")  # fmt: skip
_SUITES_OF_THEIR_OWN: Final = (".yaml", ".yml", ".json", ".jsonl")
_MAX_FILES = 500

_REFERENCE = re.compile(rb"file://([^\s\"'`,\]}]+)")
# `tests: cases.csv`, `prompts: [a.txt, b.txt]`, or such a key with lines of `- cases.csv` below it.
_KEY = re.compile(rb"(?:tests|prompts)\s*:(.*)")
_ITEM = re.compile(rb"\s*-\s+(.*)")
_BARE = re.compile(rb"[\"']?([\w./*-]+\.(?:csv|jsonl?|md|txt|ya?ml))[\"']?")


def referenced_files(names: Collection[str], read: Callable[[str], bytes]) -> list[str]:
    """Those of the `names` that the suites among them name, and what these name in turn; sorted."""
    found: set[str] = set()
    waiting = [name for name in (*SUITE_PATHS, FOREIGN_SUITE_PATH) if name in names]
    while waiting and len(found) <= _MAX_FILES:
        suite = waiting.pop()
        new = _named_in(read(suite), suite, names) - found
        found |= new
        waiting.extend(name for name in new if name.lower().endswith(_SUITES_OF_THEIR_OWN))
    return sorted(found)


def names_files(suite: bytes) -> bool:
    """Whether a suite names any file at all."""
    return next(_names_in(suite), None) is not None


def _names_in(text: bytes) -> Iterator[str]:
    for match in _REFERENCE.finditer(text):
        yield match[1].decode("utf-8", "replace")
    in_list = False
    for line in text.splitlines():
        key, item = _KEY.fullmatch(line), _ITEM.fullmatch(line)
        if key is not None:
            in_list = True
        elif line[:1].strip() not in (b"", b"-", b"#"):
            in_list = False
        value = key or (item if in_list else None)
        for part in value[1].partition(b" #")[0].strip(b" []").split(b",") if value else ():
            if bare := _BARE.fullmatch(part.strip()):
                yield bare[1].decode()


def _named_in(text: bytes, suite: str, names: Collection[str]) -> set[str]:
    """What a text names, seen from the folder of the suite that is read: files in other folders name theirs alike."""
    found: set[str] = set()
    for name in _names_in(text):
        if problem_with(name):
            continue
        # Paths in files are relative to the suite; a file in another folder may still mean its own.
        for base in {posixpath.dirname(suite), ""}:
            full = posixpath.normpath(posixpath.join(base, name))
            found.update(path for path in matching(full, names) if _travels(path))
    return found


def _travels(path: str) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and path.lower().endswith(ENDINGS)
