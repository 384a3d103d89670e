"""`is-html`: the whole answer is HTML."""

from __future__ import annotations

import html

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._html import FOREIGN, VOID, Piece, is_known, pieces, require_short
from evals.assertions._values import quoted, refuse_settings
from evals.javascript import strip
from evals.types import Assertion

# What the start of an element ends by itself when it is still open:
# https://html.spec.whatwg.org/multipage/syntax.html#optional-tags
_BLOCKS = """
address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer form h1 h2 h3 h4
h5 h6 header hgroup hr main menu nav ol p pre search section table ul
"""
_ENDS_OPEN = {
    **dict.fromkeys(_BLOCKS.split(), frozenset(("p",))),
    "li": frozenset(("li",)), "dt": frozenset(("dt", "dd")), "dd": frozenset(("dt", "dd")),
    "option": frozenset(("option",)), "optgroup": frozenset(("option", "optgroup")),
    "tr": frozenset(("tr", "td", "th")), "td": frozenset(("td", "th")), "th": frozenset(("td", "th")),
    "body": frozenset(("head",)),
}  # fmt: skip


@assertion("is-html", check=refuse_settings)
def is_html(answer: Answer, spec: Assertion) -> Judgement:
    """The whole answer is HTML: at least one element that browsers know, and no text outside of elements."""
    refuse_settings(spec)
    problem = _problem_with(require_short(answer, spec))
    if problem:
        return Judgement(passed=False, score=0.0, reason=f"the answer is not HTML: {problem}")
    return Judgement(passed=True, score=1.0, reason="the answer is HTML")


def _problem_with(text: str) -> str | None:
    open_ = _OpenElements()
    knows_one = False
    for piece in pieces(text):
        if piece.kind == "text":
            if open_.is_outside and not _is_blank(piece.text):
                return f"{quoted(piece.text.strip())} stands outside of elements"
        elif piece.kind in ("start", "empty"):
            knows_one = knows_one or is_known(piece.name)
            open_.start(piece)
        elif piece.kind == "end":
            open_.end(piece.name)
    return None if knows_one else "it holds no element that browsers know"


def _is_blank(text: str) -> bool:
    """Whether nobody sees it: white space, also such as `&nbsp;`."""
    return not strip(html.unescape(text))


class _OpenElements:
    """The elements around the place that is being read, as far as it matters for what stands outside of all."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._counts: dict[str, int] = {}  # so that an end without a start costs nothing

    @property
    def is_outside(self) -> bool:
        # Text directly in these two is moved out of them by browsers.
        return len(self._names) == self._counts.get("html", 0) + self._counts.get("head", 0)

    def start(self, piece: Piece) -> None:
        while self._names and self._names[-1] in _ENDS_OPEN.get(piece.name, ()):
            self._pop()
        # Browsers take <div/> for <div>; only elements of other languages end at once.
        is_foreign = piece.name in FOREIGN or any(self._counts.get(name) for name in FOREIGN)
        if piece.name in VOID or (piece.kind == "empty" and is_foreign):
            return
        self._names.append(piece.name)
        self._counts[piece.name] = self._counts.get(piece.name, 0) + 1

    def end(self, name: str) -> None:
        while self._counts.get(name):
            if self._pop() == name:
                return

    def _pop(self) -> str:
        name = self._names.pop()
        self._counts[name] -= 1
        return name
