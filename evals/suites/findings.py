"""What is wrong with a suite, and where: findings with a path, told with file and line."""

from __future__ import annotations

import json
from typing import Any, Final

from msgspec import Struct

from evals.errors import InvalidSuite
from evals.json_reader import Document, Path

MAX_FINDINGS: Final = 50


class InFile(str):
    """A step of a path: from here on it goes through another file of the package."""

    __slots__ = ()


class Finding(Struct, frozen=True):
    """One thing that the author has to change."""

    path: Path
    message: str


class Findings:
    """Gathers what is wrong, and sentences about what is ignored. A suite counts only if nothing is wrong."""

    def __init__(self, document: Document, *, file: str) -> None:
        """`file` is the suite's own name, as its author knows it."""
        self.wrong: list[Finding] = []
        self.notes: list[str] = []
        self._file = file
        self._documents = {"": document}

    @property
    def is_full(self) -> bool:
        """Whether there is more than anybody reads."""
        return len(self.wrong) >= MAX_FINDINGS

    def add_document(self, document: Document, *, file: str) -> None:
        """Knows the lines of another file."""
        self._documents[file] = document

    def find(self, path: Path, message: str) -> None:
        """Keep one thing that the author has to change."""
        finding = Finding(path, message)
        # What is wrong with a default is found again in each case.
        if len(self.wrong) <= MAX_FINDINGS and finding not in self.wrong:
            self.wrong.append(finding)

    def note(self, sentence: str) -> None:
        """Keep a sentence for the author, once."""
        if len(self.notes) < MAX_FINDINGS and sentence not in self.notes:
            self.notes.append(sentence)

    def line_of(self, path: Path) -> int | None:
        """The line of a path in its own file."""
        file, inner = _split(path)
        document = self._documents.get(file)
        return document.line_of(inner) if document else None

    def error(self) -> InvalidSuite:
        """All of it as one error; its message is the first finding, with the file's name."""
        lines = [self._detail(finding) for finding in self.wrong[:MAX_FINDINGS]]
        if len(self.wrong) > MAX_FINDINGS:
            lines.append("... and more")
        return InvalidSuite(self._headline(self.wrong[0]), lines)

    def _headline(self, finding: Finding) -> str:
        file = _split(finding.path)[0] or self._file
        line = self.line_of(finding.path)
        place = f"{shown(file, 200)}, line {line}" if line else shown(file, 200)
        return f"{place}: {_sentence(finding)}"

    def _detail(self, finding: Finding) -> str:
        if _split(finding.path)[0]:
            return self._headline(finding)
        line = self.line_of(finding.path)
        return f"line {line}: {_sentence(finding)}" if line else _sentence(finding)


def shown(word: Any, limit: int = 60) -> str:
    """The word for a message: cut, with control and other invisible characters escaped."""
    text = word if isinstance(word, str) else json.dumps(word, ensure_ascii=False, default=str)
    cut = text[:limit] + ("…" if len(text) > limit else "")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def _split(path: Path) -> tuple[str, Path]:
    """The file that the path ends in, empty for the suite's own, and the path inside it."""
    for at in range(len(path) - 1, -1, -1):
        step = path[at]
        if isinstance(step, InFile):
            return str(step), path[at + 1 :]
    return "", path


def _sentence(finding: Finding) -> str:
    steps = _split(finding.path)[1]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in steps).removeprefix(".")
    return f"{shown(where, 200)}: {finding.message}" if where else finding.message
