"""What is told beside finished jobs: a warning about an account, a check whether a target works."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from notifiers._urls import linkable

SIGNS = {"good": "✅", "warning": "⚠️", "bad": "❌"}


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """One sentence and what explains it, in words of ours; names of accounts and packages may stand in `text`.

    `event_id` is the same for every try, `event` names the kind for programs: "account.warning".
    """

    event_id: str
    event: str
    title: str
    at: datetime  # with its zone
    told_at: datetime | None = None  # the moment of this try, for signatures; else `at`
    text: str = ""
    url: str = ""
    mood: str = "good"  # good, warning or bad

    def __post_init__(self) -> None:
        if self.at.tzinfo is None or (self.told_at is not None and self.told_at.tzinfo is None):
            raise ValueError("at and told_at need a zone, such as UTC")

    @property
    def headline(self) -> str:
        return f"{SIGNS.get(self.mood, SIGNS['warning'])} {self.title}"

    @property
    def link(self) -> str:
        """Our own page, or "" where there is none that people may be led to."""
        return linkable(self.url)
