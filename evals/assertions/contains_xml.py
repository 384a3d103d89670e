"""`contains-xml`: a piece of XML stands somewhere in the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._elements import Element, missing_paths, require_paths, require_readable
from evals.types import Assertion

# A tag and, roughly, a name: https://www.w3.org/TR/xml/#sec-starttags. No value holds a "<", so a tag ends before the
# next one begins; with repeats that give nothing back, all tags of a text are found in linear time.
_TAG = re.compile(r"""<(?P<slash>/?)(?P<name>[^\W\d][\w.:-]*+)(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+>""")
# What may hold tags that are none, and how it ends.
_OTHERS = {"<!--": "-->", "<![CDATA[": "]]>", "<?": "?>"}


@assertion("contains-xml", check=require_paths)
def contains_xml(answer: Answer, spec: Assertion) -> Judgement:
    """A piece of XML stands in the answer, with the elements whose paths (root.child) stand in `value`."""
    paths = require_paths(spec)
    pieces = _pieces(require_readable(answer, spec))
    has_xml = bool(pieces.children)
    passed = has_xml and not missing_paths(pieces, paths)
    return Judgement(passed=passed, score=float(passed), reason=_reason(has_xml, passed=passed, asked=bool(paths)))


def _reason(has_xml: bool, *, passed: bool, asked: bool) -> str:
    if not has_xml:
        return "the answer contains no XML"
    if not asked:
        return "the answer contains XML"
    return f"the answer contains XML {'with' if passed else 'without'} the elements that are asked for"


class _Tag(Struct, frozen=True):
    name: str
    starts: bool
    ends: bool  # an empty element does both


def _pieces(text: str) -> Element:
    """An element that holds the outermost elements that are closed, found in one pass.

    An end that does not belong to the last start breaks everything that is open; what was complete in there counts.
    """
    pieces = Element("")
    open_ = [pieces]
    for tag in _tags(text):
        if tag.starts:
            open_.append(Element(tag.name))
        if not tag.ends or len(open_) == 1:
            continue
        if open_[-1].name == tag.name:
            closed = open_.pop()
            open_[-1].add(closed)
        else:
            _keep_parts(pieces, open_)
            open_ = [pieces]
    _keep_parts(pieces, open_)
    return pieces


def _keep_parts(pieces: Element, open_: list[Element]) -> None:
    for element in open_[1:]:
        for children in element.children.values():
            for child in children:
                pieces.add(child)


def _tags(text: str) -> Iterator[_Tag]:
    """The tags outside of comments, character data and instructions."""
    absent: set[str] = set()  # ends that were looked for in vain: looking again each time would be quadratic
    at = text.find("<")
    while at >= 0:
        end = _end_of_other(text, at, absent)
        if end is None:
            found = _TAG.match(text, at)
            if found:
                is_empty = text[found.end() - 2] == "/"
                yield _Tag(found["name"], starts=not found["slash"], ends=bool(found["slash"]) or is_empty)
            end = found.end() if found else at + 1
        at = text.find("<", end)


def _end_of_other(text: str, at: int, absent: set[str]) -> int | None:
    """Where the comment, character data or instruction that starts here ends; None if there is none."""
    for start, end in _OTHERS.items():
        if text.startswith(start, at) and end not in absent:
            found = text.find(end, at + len(start))
            if found >= 0:
                return found + len(end)
            absent.add(end)
    return None
