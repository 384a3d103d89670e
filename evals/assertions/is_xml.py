"""`is-xml`: the whole answer is one well-formed XML document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._elements import Element, Path, missing_paths, require_paths, require_readable
from evals.assertions._values import quoted
from evals.types import Assertion


class _NotXml(Exception):
    """The text is no document; the message says why."""


@assertion("is-xml", check=require_paths)
def is_xml(answer: Answer, spec: Assertion) -> Judgement:
    """The whole answer is well-formed XML and has the elements whose paths (root.child) stand in `value`."""
    paths = require_paths(spec)
    try:
        document = _read(require_readable(answer, spec), paths)
    except _NotXml as error:
        return Judgement(passed=False, score=0.0, reason=f"the answer is not XML: {error}")
    missing = missing_paths(document, paths)
    if missing:
        return Judgement(passed=False, score=0.0, reason=f"the answer has no element {quoted(', '.join(missing))}")
    has = " with the elements that are asked for" if paths else ""
    return Judgement(passed=True, score=1.0, reason=f"the answer is XML{has}")


def _read(text: str, paths: Sequence[Path]) -> Element:
    """An element that holds the document's root. Raises _NotXml.

    An internal DTD is refused, so no entity can be declared that grows or reads a file; nothing is ever fetched.
    """
    from xml.parsers import expat

    reader = _Reader(paths)
    # With a separator, expat checks that each prefix is bound to a namespace.
    parser = expat.ParserCreate("utf-8", namespace_separator=" ")
    parser.namespace_prefixes = True
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.SkippedEntityHandler = reader.skipped
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise _NotXml(f"{expat.ErrorString(error.code)} in line {error.lineno}") from None
    except UnicodeEncodeError:
        raise _NotXml("it holds half of a surrogate pair") from None
    return reader.document


class _Reader:
    """Builds, from expat's events, as much of the tree of names as the paths can lead through.

    A tree of all would be a hundred thousand objects, and each collection of garbage would walk through them.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.document = Element("")
        self._open: list[Element | None] = [self.document]  # None: no path leads through it
        names = [[step for step in path if not step.isdecimal()] for path in paths]
        deepest = max(map(len, names), default=0)
        self._wanted = [{path[depth] for path in names if depth < len(path)} for depth in range(deepest)]

    def start(self, name: str, _: dict[str, str]) -> None:
        parent, depth = self._open[-1], len(self._open) - 1
        written = _as_written(name)
        if parent is None or depth >= len(self._wanted) or written not in self._wanted[depth]:
            self._open.append(None)
            return
        element = Element(written)
        parent.add(element)
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    # Any: expat hands over names and addresses that are of no use here.
    def doctype(self, _name: Any, _system: Any, _public: Any, has_internal_subset: int) -> None:
        if has_internal_subset:
            raise _NotXml("it declares entities or elements of its own, which is never read")

    def skipped(self, name: str, _: Any) -> None:
        raise _NotXml(f"the entity {name[:50]!r} is not known")


def _as_written(name: str) -> str:
    """`prefix:name` of expat's "namespace name prefix"."""
    parts = name.rsplit(" ", 2)
    return f"{parts[2]}:{parts[1]}" if len(parts) == 3 else parts[-1]
