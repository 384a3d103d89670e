"""Text of models and servers, made safe for a terminal and a build log: it can be read, and do nothing."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

# ECMA-48 in its 7-bit and 8-bit forms: CSI, the string kinds (OSC, DCS, SOS, PM, APC), two-byte escapes.
_ESCAPE_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_WHITESPACE = re.compile(r"\s+")
# Cc: control; Cf: format (bidi overrides, zero-width); Cs: half surrogates; Co: private; Zl, Zp: breaks.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def printable(text: str) -> str:
    """One line without escape sequences, control or format characters; line breaks and tabs are one space."""
    spaced = re.sub(r"[\t\n\r\v\f\x85\u2028\u2029]+", " ", _ESCAPE_SEQUENCES.sub("", text))
    shown = "".join(char for char in spaced if unicodedata.category(char) not in _INVISIBLE)
    # GitHub's runner reads "##[...]" anywhere in a line as a command to itself.
    return shown.replace("##[", "## [")


def printable_lines(text: str) -> list[str]:
    """The same for text of several lines, which stay lines."""
    return [printable(line) for line in re.split(r"\r\n|[\n\r\v\f\x85\u2028\u2029]", text)]


def shortened(text: str, *, limit: int) -> str:
    """One printable line of at most `limit` characters, white space run together."""
    line = _WHITESPACE.sub(" ", printable(text[: limit * 20])).strip()
    return line if len(line) <= limit and len(text) <= limit * 20 else line[: limit - 1].rstrip() + "…"


def excerpt(text: str, *, about: Sequence[str], limit: int = 160) -> str:
    """The piece of `text` that says most: around the first of `about` found in it, else its beginning."""
    if len(text) > limit:
        for wanted in about:
            position = text.lower().find(wanted.lower())
            if position > limit // 2:
                return "…" + shortened(text[position - limit // 3 :], limit=limit)
    return shortened(text, limit=limit)


def exact_dollars(usd: float) -> str:
    """`$0.0012`, `$0.000021`: at least four decimals, and as many as it takes to show two figures of a small amount."""
    if usd >= 1:
        return f"${usd:,.2f}"
    decimals = 4 if usd <= 0 else max(4, min(12, 1 - math.floor(math.log10(usd))))
    return f"${usd:.{decimals}f}"
