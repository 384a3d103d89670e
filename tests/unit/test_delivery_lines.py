"""What an operator reads of deliveries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from server.domain.deliveries import ListedDelivery
from server.operator.deliveries import delivery_line, delivery_lines, what_of
from tests.webhooks import a_payload, encoded

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_delivery(**changes: Any) -> ListedDelivery:
    usual: dict[str, Any] = {
        "id": 17, "source": "github", "hook_id": None, "delivery_id": "one", "event": "push", "bytes": 2,
        "state": "handled", "reason": "Done.", "attempts": 1, "received_at": AT, "next_at": AT,
    }  # fmt: skip
    return ListedDelivery(**usual | changes)


def test_line__says_what_came_of_it():
    assert delivery_line(a_delivery()) == "      17  2026-01-02 03:04:05  github push  handled  Done."


def test_line__L1_what_a_repository_called_something_is_no_command_to_the_terminal():
    one = a_delivery(reason="The tag v1\x1b[2J\u009b2J\u202e\nforged line names nothing.")

    for shown in (delivery_line(one), *delivery_lines(one)):
        assert shown.isprintable()
    assert delivery_line(one).endswith("handled  The tag v12J ⏎ forged line names nothing.")


def test_what__says_where_to_look_for_what_failed():
    """A comment's command that failed for good is seen nowhere else: who asked, and where."""
    changes = {"issue__number": 12, "issue__pull_request": {}, "comment__user__login": "ann\x1b"}
    comment = encoded(a_payload("github/issue_comment.created", **changes))
    one = a_delivery(event="issue_comment", state="failed", reason="GitHub does not answer.")

    about = what_of(one, comment)

    assert about == "Codertocat/Hello-World #12, by ann\x1b"
    assert "about           Codertocat/Hello-World #12, by ann" in delivery_lines(one, about=about)
    assert what_of(one, b"{") == what_of(one, b"") == what_of(a_delivery(source="none"), comment) == ""
