"""Which packages a manifest names, by what names its content: read once for a process, as a content never changes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MOST_KNOWN: Final = 20_000


class ManifestNames:
    """Names by repository and content; the longest unused is forgotten first. It may be lost: then it is read again."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int, str], tuple[str, ...]] = OrderedDict()

    def find(self, forge: str, repository_id: int, sha: str) -> tuple[str, ...] | None:
        """None for a content that nobody read yet."""
        found = self._known.get((forge, repository_id, sha))
        if found is not None:
            self._known.move_to_end((forge, repository_id, sha))
        return found

    def note(self, forge: str, repository_id: int, sha: str, names: tuple[str, ...]) -> None:
        """It names these; nothing, where it is no manifest."""
        self._known[(forge, repository_id, sha)] = names
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
