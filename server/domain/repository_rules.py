"""What a repository says about its tests, in `.github/prpm-testing.yml` or `.prpm-testing.yml`. Pure.

Whoever proposes a change must not change the rules that judge it, so rules are read from the branch that the change is
for. What spends and tells (`forks`, `tags`, `max-cost-usd`, `comment`, `commit-status`, `notify`) is read from the
default branch alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar, cast

import msgspec
import re2
from msgspec import Struct

from evals.json_reader import Document, InvalidText
from evals.yaml_reader import read_yaml

PLACES: Final = (".github/prpm-testing.yml", ".prpm-testing.yml")  # the first that is there counts
MAX_BYTES: Final = 64_000
MOST_GLOBS: Final = 100
MOST_MODELS: Final = 20
LONGEST_LABEL: Final = 100
GLOB: Final = re.compile(r"!?[^\x00-\x1f\x7f\\]{1,200}")
MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")
KIND: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")

Gate = Literal["regressions", "failures", "never"]
Mode = Literal["changes", "failures", "always", "never"]
ForkRun = Literal["capped", "deterministic"]
GATES: Final[tuple[Gate, ...]] = ("regressions", "failures", "never")
MODES: Final[tuple[Mode, ...]] = ("changes", "failures", "always", "never")
FORK_RUNS: Final[tuple[ForkRun, ...]] = ("capped", "deterministic")


class InvalidRules(Exception):
    """`details` has a line `file, line n: key: what` for each thing that is wrong; `str()` is the first."""

    def __init__(self, details: tuple[str, ...]) -> None:
        super().__init__(details[0])
        self.details = details


class ForkRules(Struct, frozen=True, kw_only=True):
    """What may be spent on a stranger's change once somebody with write access approved it."""

    label: str = "prpm-test"  # setting it approves, as `/prpm test` does
    run: ForkRun = "capped"  # deterministic: only cases that no model judges
    max_cost_usd: float = 0.10  # for all models of a run


class Rules(Struct, frozen=True, kw_only=True):
    """A repository's rules; without a file, these."""

    packages: tuple[str, ...] = ()  # globs of folders, `!` excludes; none: every package
    models: tuple[str, ...] | None = None  # None: the service's usual one
    fail_on: Gate | None = None  # None: regressions against the base
    min_score: float | None = None
    comment: Mode = "changes"
    drafts: bool = False
    notify: tuple[str, ...] | None = None  # kinds of the account's targets that are told; None: all of them
    commit_status: bool = False  # one beside the check
    upload_tags: bool = False
    max_cost_usd: float | None = None
    forks: ForkRules = ForkRules()

    def with_default_branch(self, default: Rules) -> Rules:
        """These rules, with the keys that only the default branch may set taken from there."""
        return msgspec.structs.replace(
            self,
            comment=default.comment,
            commit_status=default.commit_status,
            notify=default.notify,
            upload_tags=default.upload_tags,
            max_cost_usd=default.max_cost_usd,
            forks=default.forks,
        )

    def wants(self, folder: str) -> bool:
        """Whether the package in this folder ("" is the root) is tested. The last glob that fits decides."""
        if not self.packages:
            return True
        wanted = all(glob.startswith("!") for glob in self.packages)
        for glob in self.packages:
            if _fits(glob.removeprefix("!"), folder):
                wanted = not glob.startswith("!")
        return wanted


def _fits(glob: str, folder: str) -> bool:
    """`*` and `?` stay within a folder's name, `**` goes through folders. In time linear in the folder's name."""
    text = glob.removeprefix("./").rstrip("/") or "."
    pattern = "".join(map(_part, re.split(r"(\*\*/|/\*\*|\*\*|\*|\?)", text)))
    return re2.fullmatch(pattern, folder or ".") is not None


def _part(part: str) -> str:
    return {"**/": "(?:[^/]+/)*", "/**": "(?:/[^/]+)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(
        part, re.escape(part)
    )


def read_rules(content: bytes, *, place: str) -> Rules:
    """The rules in the file. Raises InvalidRules with everything that is wrong."""
    try:
        document = read_yaml(content, max_bytes=MAX_BYTES)
    except InvalidText as error:
        where = f"{place}, line {error.line}" if error.line else place
        raise InvalidRules((f"{where}: {error.message}",)) from None
    reader = _Reader(document, place)
    rules = reader.read()
    if reader.problems:
        raise InvalidRules(tuple(reader.problems))
    return rules


T = TypeVar("T")
Read = Callable[[Any], Any]  # raises ValueError with what it has to be


class _Reader:
    def __init__(self, document: Document, place: str) -> None:
        self._document = document
        self._place = place
        self.problems: list[str] = []

    def read(self) -> Rules:
        top = self._table(
            self._document.value,
            (),
            {
                "packages": _globs,
                "models": _models,
                "gate": _mapping,
                "comment": _one_of(MODES),
                "drafts": _flag,
                "commit-status": _flag,
                "notify": _kinds,
                "tags": _mapping,
                "max-cost-usd": _money,
                "forks": _mapping,
            },
        )
        gate = self._table(top.get("gate"), ("gate",), {"fail-on": _one_of(GATES), "min-score": _score})
        tags = self._table(top.get("tags"), ("tags",), {"upload": _flag})
        forks = self._table(
            top.get("forks"), ("forks",), {"label": _label, "run": _one_of(FORK_RUNS), "max-cost-usd": _money}
        )
        usual = Rules()
        return Rules(
            packages=top.get("packages", ()),
            models=top.get("models"),
            fail_on=gate.get("fail-on"),
            min_score=gate.get("min-score"),
            comment=top.get("comment", usual.comment),
            drafts=top.get("drafts", False),
            commit_status=top.get("commit-status", False),
            notify=top.get("notify"),
            upload_tags=tags.get("upload", False),
            max_cost_usd=top.get("max-cost-usd"),
            forks=ForkRules(
                label=forks.get("label", usual.forks.label),
                run=forks.get("run", usual.forks.run),
                max_cost_usd=forks.get("max-cost-usd", usual.forks.max_cost_usd),
            ),
        )

    def _table(self, value: Any, path: tuple[str, ...], known: Mapping[str, Read]) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._problem(path, f"must hold {', '.join(known)}")
            return {}
        found: dict[str, Any] = {}
        for key, given in value.items():
            if key not in known:
                self._problem((*path, key), f"is not known here; the keys are {', '.join(known)}")
                continue
            try:
                found[key] = known[key](given)
            except ValueError as error:
                self._problem((*path, key), f"must be {error}")
        return found

    def _problem(self, path: tuple[str, ...], what: str) -> None:
        line = self._document.line_of(path)
        where = f"{self._place}, line {line}" if line else self._place
        shown = ".".join(_shown(part) for part in path)
        self.problems.append(f"{where}: {shown}: {what}." if shown else f"{where}: the file {what}.")


def _shown(key: str) -> str:
    return "".join(char if char.isprintable() and char != "`" else "�" for char in key[:60])


def _mapping(value: Any) -> Any:
    return value  # its own table says what is wrong


def _one_of(words: tuple[T, ...]) -> Read:
    def read(value: Any) -> T:
        if value not in words or isinstance(value, bool):
            raise ValueError(f"one of {', '.join(map(str, words))}")
        return cast(T, value)

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _number(value: Any, *, least: float, most: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        return None
    return float(value)


def _score(value: Any) -> float:
    if (number := _number(value, least=0, most=1)) is None:
        raise ValueError("a number from 0 to 1, as scores are")
    return number


def _money(value: Any) -> float:
    number = _number(value, least=0, most=1_000_000)
    if not number:
        raise ValueError("an amount in US dollars above 0, such as 0.10")
    return number


def _label(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= LONGEST_LABEL or not value.isprintable():
        raise ValueError(f"a label's name of 1 to {LONGEST_LABEL} characters")
    return value.strip()


def _globs(value: Any) -> tuple[str, ...]:
    return _texts(value, GLOB, most=MOST_GLOBS, what="a list of folders, such as `skills/*`, or `!skills/old`")


def _models(value: Any) -> tuple[str, ...]:
    found = _texts(value, MODEL, most=MOST_MODELS, what="a list of models' names, such as `gpt-4o`")
    if not found or len(set(found)) < len(found):
        raise ValueError("a list of one model or more, each named once")
    return found


def _kinds(value: Any) -> tuple[str, ...]:
    return _texts(value, KIND, most=MOST_GLOBS, what="a list of kinds, such as `slack`, or `[]` for nobody")


def _texts(value: Any, pattern: re.Pattern[str], *, most: int, what: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or len(values) > most:
        raise ValueError(what)
    if not all(isinstance(one, str) and pattern.fullmatch(one) for one in values):
        raise ValueError(what)
    return tuple(values)
