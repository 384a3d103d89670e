"""`contains-html`: HTML stands somewhere in the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._html import ELEMENTS, pieces, require_short
from evals.assertions._values import refuse_settings
from evals.types import Assertion

_ENOUGH_SIGNS = 2  # one alone, such as "List<String>", is no HTML
_TAG_SIGNS = frozenset(("a start tag", "an end tag", "an empty tag", "a known element", "a document type"))

# A tag as people write it: an address in angle brackets, <a@b.c>, is none.
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9-]*+")
_ATTRIBUTE = re.compile(r"""\s[a-zA-Z][\w:-]*+\s*+=\s*+["']""")
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,31}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
_KINDS = {"start": "a start tag", "end": "an end tag", "empty": "an empty tag"}


@assertion("contains-html", check=refuse_settings)
def contains_html(answer: Answer, spec: Assertion) -> Judgement:
    """HTML stands in the answer: a tag, and a second sign such as its end, an attribute or a known name."""
    refuse_settings(spec)
    signs = set(_signs(require_short(answer, spec)))
    passed = len(signs) >= _ENOUGH_SIGNS and bool(signs & _TAG_SIGNS)
    found = " and ".join(sorted(signs)) or "no sign of HTML"
    return Judgement(passed=passed, score=float(passed), reason=f"the answer holds {found}")


def _signs(text: str) -> Iterator[str]:
    for piece in pieces(text):
        if piece.kind == "comment":
            yield "a comment"
        elif piece.kind == "declaration" and piece.text[:14].lower() == "<!doctype html":
            yield "a document type"
        elif piece.kind in _KINDS and _PLAIN_NAME.fullmatch(piece.name):
            yield _KINDS[piece.kind]
            if piece.name in ELEMENTS and piece.kind != "end":
                yield "a known element"
    if _ATTRIBUTE.search(text):
        yield "an attribute"
    if _ENTITY.search(text):
        yield "an entity"
