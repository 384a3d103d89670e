"""HTML taken apart as browsers do it: tags, comments and text, in one pass whose time is linear.

A tag, comment or declaration that never ends swallows the rest of the text:
https://html.spec.whatwg.org/multipage/parsing.html#parse-error-eof-in-tag
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from evals.assertions import Answer
from evals.errors import CannotJudge
from evals.types import Assertion

_MOST_CHARACTERS = 100_000

# https://html.spec.whatwg.org/multipage/indices.html#elements-3, and those of older pages.
_ELEMENTS = """
a abbr acronym address area article aside audio b base bdi bdo big blockquote body br button canvas caption center
cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed fieldset figcaption figure
font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img input ins kbd label legend
li link main map mark marquee menu meta meter nav noframes noscript object ol optgroup option output p param picture
pre progress q rp rt ruby s samp script search section select slot small source span strike strong style sub summary
sup table tbody td template textarea tfoot th thead time title tr track tt u ul var video wbr
"""
ELEMENTS = frozenset(_ELEMENTS.split())
FOREIGN = frozenset(("svg", "math"))  # elements of other languages, with names of their own inside
_VOID = "area base br col embed frame hr img input link meta param source track wbr"
VOID = frozenset(_VOID.split())
_RAW_TEXT = frozenset(("script", "style", "textarea", "title", "iframe", "noframes"))

_NAME = r"[a-zA-Z][^\s/>]*+"
# Quotes count after an equals sign only; no repeat gives anything back.
_TAG = re.compile(rf"""<(?P<slash>/?)(?P<name>{_NAME})(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+>""")
_OPENS_TAG = re.compile(rf"</?(?={_NAME})")

Kind = Literal["start", "end", "empty", "comment", "declaration", "text"]


class Piece(Struct, frozen=True):
    """A part of the text; `name` in lower case for tags, `text` as it stands there. "empty" is `<name ... />`."""

    kind: Kind
    name: str
    text: str


def require_short(answer: Answer, spec: Assertion) -> str:
    """The answer's text. Raises CannotJudge when it is too long."""
    if len(answer.text) > _MOST_CHARACTERS:
        raise CannotJudge(f"{spec.type}: the answer has more than {_MOST_CHARACTERS:,} characters")
    return answer.text


def is_known(name: str) -> bool:
    """Whether browsers know the element, or its hyphen makes it one of a page's own."""
    return name in ELEMENTS or name in FOREIGN or "-" in name


def pieces(text: str) -> Iterator[Piece]:
    """All parts in order; what never ends is not among them."""
    at = 0
    while at < len(text):
        start = _next_mark(text, at)
        if start > at:
            yield Piece("text", "", text[at:start])
        if start == len(text):
            return
        piece = _piece_at(text, start)
        if piece is None:
            return
        yield piece
        at = start + len(piece.text)
        if piece.kind == "start" and piece.name in _RAW_TEXT:
            end = _end_of_raw_text(text, at, piece.name)
            yield Piece("text", "", text[at:end])
            at = end


def _next_mark(text: str, at: int) -> int:
    """Where the next tag, comment or declaration begins: a "<" before anything else is text."""
    while True:
        at = text.find("<", at)
        if at < 0:
            return len(text)
        if _OPENS_TAG.match(text, at) or text[at + 1 : at + 2] in ("!", "?", "/"):
            return at
        at += 1


def _piece_at(text: str, start: int) -> Piece | None:
    if text.startswith("<!--", start):
        return _until(text, start, "-->", kind="comment")
    if not _OPENS_TAG.match(text, start):
        return _until(text, start, ">", kind="declaration")
    found = _TAG.match(text, start)
    if found is None:
        return None
    kind: Kind = "end" if found["slash"] else "empty" if found[0].endswith("/>") else "start"
    return Piece(kind, found["name"].lower(), found[0])


def _until(text: str, start: int, end: str, *, kind: Kind) -> Piece | None:
    found = text.find(end, start)
    return Piece(kind, "", text[start : found + len(end)]) if found >= 0 else None


def _end_of_raw_text(text: str, at: int, name: str) -> int:
    found = re.compile(rf"</{re.escape(name)}(?=[\s/>])", re.IGNORECASE).search(text, at)
    return found.start() if found else len(text)
