"""What people tell this service in comments: `/prpm test [models]`, `/prpm cancel`, `/prpm help`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

Verb = Literal["test", "cancel", "help"]

# One space or more, and then a word: `/prpmtest` and `/prpm-testing` are nobody's command here.
COMMAND: Final = re.compile(r"/prpm(?:[ \t]+(?P<words>.*))?")
FENCE: Final = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})")
MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")
HTML_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
# By this our own comments begin: whatever they quote is no command.
OUR_MARK: Final = re.compile(r"\s*<!-- prpm")
LONGEST_TEXT: Final = 65_536  # characters: a comment of GitHub has no more
MOST_WORDS: Final = 20


class Command(Struct, frozen=True):
    """`words` are the models that `test` names, none for the usual ones."""

    verb: Verb
    words: tuple[str, ...] = ()


def read_command(text: str) -> Command | None:
    """The first command at the start of a line; None without one.

    Quoted lines, code and hidden comments hold no command, and neither does what this service wrote itself. A word that
    is not known asks for help.
    """
    if OUR_MARK.match(text):
        return None
    for line in _spoken_lines(text[:LONGEST_TEXT]):
        if found := COMMAND.fullmatch(line.rstrip()):
            return _command((found["words"] or "").split())
    return None


def _spoken_lines(text: str) -> Iterator[str]:
    """The lines that their author says, without fenced code. Quotes and indented code never begin with a slash."""
    fence = ""
    for line in HTML_COMMENT.sub("", text).splitlines():
        mark = FENCE.match(line)
        if mark is not None and not fence:
            fence = mark["fence"]
        elif mark is not None and mark["fence"].startswith(fence) and not line.strip(" \t`~"):
            fence = ""
        elif not fence:
            yield line


def _command(words: list[str]) -> Command:
    verb, *rest = words or ["help"]
    match verb.lower():
        case "test" if len(rest) <= MOST_WORDS and all(MODEL.fullmatch(word) for word in rest):
            return Command("test", tuple(dict.fromkeys(rest)))
        case "cancel" if not rest:
            return Command("cancel")
    return Command("help")
