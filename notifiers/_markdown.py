"""Markdown for GitHub and GitLab: other people's text only ever as code, tables whose rows stay whole, sizes by budget.

Code spans are the one form that both sites leave alone: no mention, reference, image, link, emoji or task is made of
them, and a line of ours never begins with text of others, as bots that read raw comments act on lines like `/merge`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from notifiers._text import NOTHING, cut, one_line, utf8_bytes, utf16_units
from notifiers._urls import linkable

_BACKTICKS = re.compile(r"`+")


def code(text: str, *, limit: int = 200) -> str:
    """The text as a code span that nothing in it can end; a dash if it is empty. `limit` in UTF-16 units."""
    shown = cut(one_line(text), limit)
    if not shown:
        return NOTHING
    fence = "`" * (max((len(run) for run in _BACKTICKS.findall(shown)), default=0) + 1)
    padding = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def cell(markdown: str) -> str:
    """Markdown of one line as a cell. A table is cut at pipes before anything else, also within code."""
    return markdown.replace("|", "\\|")


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell(text) for text in cells)} |\n"


def link(text: str, url: str) -> str:
    """Our own words as a link to our own page; the words alone where there is no page."""
    address = linkable(url)
    return f"[{text}]({address})" if address else text


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that may be cut between any two rows. `title` stands above it; `folded` hides it behind that.

    `cells` makes Markdown of one row, and is asked only for rows that there is room for.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Any]
    cells: Callable[[Any], Sequence[str]]
    folded: bool = False

    @property
    def before(self) -> str:
        head = row(self.columns) + "|" + " --- |" * len(self.columns) + "\n"
        if self.folded:
            return f"<details>\n<summary>{self.title}</summary>\n\n{head}"
        return f"{self.title}\n\n{head}"

    @property
    def after(self) -> str:
        return "\n</details>\n\n" if self.folded else "\n"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The size of a message in both measures that platforms use; characters are UTF-16 units, the larger reading."""

    chars: int
    bytes: int

    def holds(self, text: str) -> bool:
        return utf16_units(text) <= self.chars and utf8_bytes(text) <= self.bytes

    def less(self, text: str) -> Budget:
        return Budget(chars=self.chars - utf16_units(text), bytes=self.bytes - utf8_bytes(text))


def assemble(*, head: str, tables: Sequence[Table], budget: Budget, left_out: Callable[[int], str]) -> str:
    """Head, and as many rows of the tables in their order as the budget holds.

    `left_out(n)` is the sentence that stands where n rows were cut. The head is the caller's to keep small: it is there
    always. Rows are never cut apart, and a table that has begun is always closed.
    """
    parts = [head]
    room = budget.less(head)
    for table in tables:
        text = _table_within(table, room, left_out)
        parts.append(text)
        room = room.less(text)
    return "".join(parts).rstrip("\n") + "\n"


def _table_within(table: Table, room: Budget, left_out: Callable[[int], str]) -> str:
    """The table with the rows that fit; nothing if not even one does and the room is too small to say so."""
    lines: list[str] = []
    rooms = [room.less(table.before).less(table.after)]  # what is left before each row, and after the last
    for item in table.rows:
        line = row(table.cells(item))
        rooms.append(rooms[-1].less(line))
        if not rooms[-1].holds(""):
            break
        lines.append(line)
    if len(lines) == len(table.rows):
        return table.before + "".join(lines) + table.after
    longest_note = f"\n{left_out(len(table.rows))}\n"
    while lines and not rooms[len(lines)].holds(longest_note):
        lines.pop()
    note = left_out(len(table.rows) - len(lines))
    if lines:
        return f"{table.before}{''.join(lines)}\n{note}\n{table.after}"
    return f"{note}\n\n" if room.holds(f"{note}\n\n") else ""
