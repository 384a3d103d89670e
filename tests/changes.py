"""Changes of a forge, as a submit names them."""

from __future__ import annotations

from typing import Any

from server.domain.changes import Change

FIRST, SECOND, THIRD = "1" * 40, "2" * 40, "3" * 40


def a_change(**changes: Any) -> Change:
    """A pull request's first head."""
    usual: dict[str, Any] = {
        "forge": "github",
        "repository": "acme/prompts",
        "repository_id": 7,
        "ref": "feature",
        "head_sha": FIRST,
        "pull_request": 12,
    }
    return Change(**usual | changes)
