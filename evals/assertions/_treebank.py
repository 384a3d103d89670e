"""Words of an English text as the Penn Treebank cuts them: punctuation and contractions stand alone.

For a single sentence: only a full stop at the very end is cut off. Where the treebank leaves a choice (figures,
acronyms, quotation marks), the words are those that promptfoo's ROUGE scores count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import partial

from evals.javascript import words

# None of these can backtrack far: every repeat ends where its class ends.
_QUOTE = re.compile("``|''|\"")
_ELLIPSIS = re.compile(r"\.{3}")
_SEPARATOR = re.compile(r"[:,](?!\d)")  # but within 1,000 and 10:30
_MARK = re.compile(r"[;@#$%&]")
_END_MARK = re.compile(r"[?!]|[][(){}<>]")
_ACRONYM = re.compile(r"(?<![a-z0-9_])[a-z]\.[a-z]\Z")  # "u.s" before its last dot
_CLOSING_QUOTE = re.compile(r"([^'])' ")
_SHORT_SUFFIX = re.compile(r"'([smd]) ")
_SUFFIX = re.compile(r"('ll|'re|'ve|n't) ")
_TWO_WORDS = tuple(
    map(
        re.compile,
        (
            "(can)(not)", "(d)('ye)", "(gim)(me)", "(gon)(na)", "(got)(ta)", "(lem)(me)", "(more)('n)",
            "(wan)(na)(?= )", "('t)(is)", "('t)(was)",
        ),
    )
)  # fmt: skip


def treebank_words(text: str) -> list[str]:
    """The words and marks of a text that is in lower case."""
    text = " ".join(words(text.replace("\x85", " ")))
    text = _SEPARATOR.sub(r" \g<0> ", _ELLIPSIS.sub(" ... ", "".join(_with_quotes(text))))
    text = _cut_final_stop(_MARK.sub(r" \g<0> ", text))
    text = _END_MARK.sub(r" \g<0> ", text).replace("--", " -- ")
    text = _CLOSING_QUOTE.sub(r"\1 ' ", f" {text} ")
    text = _SUFFIX.sub(r" \1 ", _SHORT_SUFFIX.sub(r" '\1 ", text))
    for pattern in _TWO_WORDS:
        text = pattern.sub(partial(_parted, text), text)
    return text.split()


def _with_quotes(text: str) -> Iterator[str]:
    """The text with its quotation marks told apart: those that open become ``, those that close ''."""
    found = list(_QUOTE.finditer(text))
    is_inside = False
    end = 0
    for number, quote in enumerate(found):
        following = found[number + 1].group() if number + 1 < len(found) else ""
        is_inside = quote.group() == "``" or (not is_inside and _opens(text, quote, following=following))
        yield text[end : quote.start()]
        yield " `` " if is_inside else " '' "
        end = quote.end()
    yield text[end:]


def _opens(text: str, quote: re.Match[str], *, following: str) -> bool:
    """Whether a quotation mark outside of a quotation opens one, by what stands around it."""
    before = text[quote.start() - 1 : quote.start()]
    is_free = not before or before in " <" or _kind(before) == "Ps"
    if quote.end() == len(text) and not is_free:
        return False
    if not (is_free or _kind(before).startswith("P") or text.endswith("``", 0, quote.start())) or before in _STOPS:
        return False
    # Two apostrophes are a mark that opens only before a word, and where another two close it.
    return quote.group() == '"' or (
        bool(before) and _kind(text[quote.end() : quote.end() + 1]) in _BEGINNINGS and following == "''"
    )


_STOPS = frozenset(".!?")
_BEGINNINGS = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Sc", "Ps"))


def _kind(character: str) -> str:
    return unicodedata.category(character) if character else ""


def _cut_final_stop(text: str) -> str:
    # Looked for among the last marks alone: searching the whole text could take quadratic time.
    body = text.rstrip("])}>' ")
    if len(body) >= 2 and body[-1] == "." and body[-2] != "." and not _ACRONYM.search(body[-5:-1]):
        return f"{body[:-1]} .{text[len(body) :]} "
    return text


def _parted(text: str, found: re.Match[str]) -> str:
    """Both words, unless they are a piece of a longer one."""
    if _is_in_word(text[found.start() - 1 : found.start()]) or _is_in_word(text[found.end() : found.end() + 1]):
        return found.group()
    return f" {found[1]} {found[2]} "


def _is_in_word(character: str) -> bool:
    return bool(character) and (f"a{character}".isidentifier() or character in "\u200c\u200d")
