"""JSON that stands on lines of its own between other words, where calls of tools are looked for.

A block begins and ends a line. What stands in a fenced block of Markdown is an example and no call, and a bracket whose
partner is missing opens or closes nothing, so that an answer's smileys hide no call behind them. Blocks are found as
promptfoo's `tool-call-f1` finds them (https://www.promptfoo.dev/docs/configuration/expected-outputs/deterministic/).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from evals.errors import CannotJudge
from evals.javascript import WHITESPACE, NotJson, parse_json
from evals.types import JsonValue

MOST_CHARACTERS = 50_000
_MOST_WORK = 4  # times the text, of blocks that are tried as JSON

# A text between quotation marks, ended or not, or a bracket. Every alternative ends where its class ends.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*("?)|[{}\[\]]', re.DOTALL)
_ITEM = re.compile(r"[ \t]*(?:[-+*]|\d+[.)])[ \t]+", re.ASCII)
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_PARTNERS = {"}": "{", "]": "["}


class _Bracket(NamedTuple):
    sign: str
    at: int
    begins_line: bool
    ends_line: bool


class _Block(NamedTuple):
    text: str
    begins_line: bool


def json_blocks(text: str) -> Iterator[JsonValue]:
    """The values of all blocks, in their order. Raises CannotJudge for what is too long, or nests too much."""
    if not any(sign in text for sign in "{["):
        return
    if len(text) > MOST_CHARACTERS:
        raise CannotJudge(
            f"the answer has more than {MOST_CHARACTERS:,} characters, too many to look for calls of tools between "
            "them; ask for a shorter one"
        )
    left = _MOST_WORK * len(text)
    pending = [_blocks(text, inside=False)]
    while pending:
        block = next(pending[-1], None)
        if block is None:
            pending.pop()
            continue
        left -= len(block.text)
        if left < 0:
            raise CannotJudge("the answer nests too much that is nearly JSON to look for calls of tools in it")
        try:
            value = parse_json(block.text)
        except NotJson:
            pending.append(_blocks(block.text, inside=True))
        else:
            if block.begins_line:
                yield value


def _blocks(text: str, *, inside: bool) -> Iterator[_Block]:
    """The outermost pairs of brackets that end a line; `inside`: those within the text's own pair."""
    # Read twice and not kept: as many objects at once make the garbage collection hold up everybody.
    alone = _unmatched(_brackets(text))
    first_depth = 1 if inside else 0
    depth = 0
    begun: _Bracket | None = None
    for bracket in _brackets(text):
        if bracket is None or bracket.at in alone:
            continue
        if bracket.sign not in _PARTNERS:
            if begun is None and depth == first_depth:
                begun = bracket
            depth += 1
            continue
        depth -= 1
        if begun is not None and depth == first_depth:
            if bracket.ends_line:
                yield _Block(text[begun.at : bracket.at + 1], begun.begins_line)
            begun = None


def _unmatched(brackets: Iterator[_Bracket | None]) -> set[int]:
    """Where brackets without a partner stand. Nothing reaches over a break."""
    places: list[int] = []
    signs: list[str] = []
    floor = 0
    for bracket in brackets:
        if bracket is None:
            floor = len(signs)
        elif len(signs) > floor and signs[-1] == _PARTNERS.get(bracket.sign):
            places.pop()
            signs.pop()
        else:
            places.append(bracket.at)
            signs.append(bracket.sign)
            if bracket.sign in _PARTNERS:
                floor = len(signs)
    return set(places)


def _brackets(text: str) -> Iterator[_Bracket | None]:
    """The brackets outside of texts and fenced blocks; None is a break that no pair reaches over."""
    fence = ""
    fence_indent = 0
    indents: list[int] = []  # of the list items that a line stands in
    start = 0
    for line in text.split("\n"):
        offset, start = start, start + len(line) + 1
        content = line.rstrip(WHITESPACE)
        indent_text = content[: len(content) - len(content.lstrip(WHITESPACE))]
        indent = _width(indent_text)
        if fence and content and indent < fence_indent:
            fence = ""
            yield None
        if fence:
            if _closes(content, fence, most_indent=fence_indent + 3, indent=indent):
                fence = ""
            continue
        while content and indents and indent < indents[-1]:
            indents.pop()
        item = _ITEM.match(content)
        if item:
            indents.append(_width(item[0]))
        fence_indent = indents[-1] if indents else 0
        opening = _opening(content[item.end() :] if item else content)
        if opening and (item or indent <= fence_indent + 3):
            fence = opening
            yield None
            continue
        yield from _line_brackets(content, offset=offset, first=len(indent_text))


def _line_brackets(content: str, *, offset: int, first: int) -> Iterator[_Bracket | None]:
    last = len(content) - 1
    for token in _TOKEN.finditer(content):
        if token[1] is None:
            yield _Bracket(token[0], offset + token.start(), token.start() == first, token.start() == last)
        elif not token[1]:
            yield None  # a text that the line does not end


def _opening(content: str) -> str:
    """The marks of a fence that the line opens, or nothing."""
    marks = _FENCE.match(content)
    if marks is None or (marks[1][0] == "`" and "`" in content[marks.end() :]):
        return ""
    return marks[1]


def _closes(content: str, fence: str, *, most_indent: int, indent: int) -> bool:
    marks = _FENCE.match(content)
    return (
        marks is not None
        and indent <= most_indent
        and marks[1][0] == fence[0]
        and len(marks[1]) >= len(fence)
        and not content[marks.end() :].strip(WHITESPACE)
    )


def _width(text: str) -> int:
    """Columns, with tabs to each fourth."""
    column = 0
    for character in text:
        column += 4 - column % 4 if character == "\t" else 1
    return column
