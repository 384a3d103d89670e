"""Where a suite's cases stand in its file, for what is shown beside their lines."""

from __future__ import annotations

import json
import re

_DESCRIBED = re.compile(r"""^[\s\-{,]*["']?(?:description|title)["']?\s*:\s*(?P<title>.+?)\s*,?\s*$""")


def case_lines(text: bytes) -> dict[str, int]:
    """Title -> line, as far as a look at single lines can tell; cases without a title of their own are left out."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), start=1):
        if match := _DESCRIBED.match(line):
            found.setdefault(_unquoted(match["title"]), number)
    return found


def _unquoted(text: str) -> str:
    if text[:1] == text[-1:] == '"' and len(text) > 1:
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    if text[:1] == text[-1:] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    return text.partition(" #")[0].rstrip()
