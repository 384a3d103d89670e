"""Words of an English text as the Penn Treebank cuts them: punctuation and contractions stand alone.

The rules are those of the treebank's own tokenizer, for a single sentence: only a full stop at the very end is cut off.
"""

from __future__ import annotations

import re

# None of these can backtrack far: every repeat ends where its class ends.
_OPENING_QUOTE = re.compile(r'^"|(?<=[ (\[{<])"')
_ELLIPSIS = re.compile(r"\.{2,}")
_DASH = re.compile(r"-{2,}")
_MARKS = str.maketrans({mark: f" {mark} " for mark in ",;@#$%&?![](){}<>"} | {'"': " '' "})
_CLOSING_QUOTE = re.compile(r"(?<=[^'])'(?=\s|$)")
_SUFFIX = re.compile(r"'(?:[smd]|ll|re|ve)(?=\s|$)|n't(?=\s|$)")
_TWO_WORDS = re.compile(
    r"\b(?:(can)(not)|(gim|lem)(me)|(gon|wan)(na)|(got)(ta)|(d)('ye)|(more)('n))\b|(?<!\S)('t)(is|was)\b"
)


def treebank_words(text: str) -> list[str]:
    """The words and marks of a text that is in lower case."""
    text = _OPENING_QUOTE.sub(" `` ", _cut_final_stop(text.strip()))
    text = _ELLIPSIS.sub(" ... ", text)
    text = _DASH.sub(" -- ", text.translate(_MARKS))
    text = _CLOSING_QUOTE.sub(" ' ", text)
    text = _SUFFIX.sub(r" \g<0> ", text)
    text = _TWO_WORDS.sub(lambda found: " ".join(part for part in found.groups() if part), text)
    return text.split()


def _cut_final_stop(text: str) -> str:
    # Looked for among the last marks alone: searching the whole text could take quadratic time.
    body = text.rstrip("])}>\"'")
    if len(body) >= 2 and body[-1] == "." and body[-2] != ".":
        return f"{body[:-1]} . {text[len(body) :]}"
    return text
