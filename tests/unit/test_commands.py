"""Commands in comments: what is one, and what only looks like one."""

from __future__ import annotations

import pytest

from server.domain.commands import Command, read_command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/prpm test", Command("test")),
        ("/prpm test gpt-4o claude-sonnet-4", Command("test", ("gpt-4o", "claude-sonnet-4"))),
        ("/prpm test gpt-4o gpt-4o", Command("test", ("gpt-4o",))),
        ("/prpm\ttest  \r\n", Command("test")),
        ("Looks fine to me.\n\n/prpm test\n\nThanks!", Command("test")),
        ("/prpm cancel", Command("cancel")),
        ("/prpm help", Command("help")),
        ("/prpm", Command("help")),
        ("/prpm tset", Command("help")),
        ("/prpm cancel everything", Command("help")),
        ("/prpm test $(reboot)", Command("help")),
        ("/prpm test " + "m " * 21, Command("help")),
        ("/prpm cancel\n/prpm test", Command("cancel")),
        ("```\nquoted\n```\n/prpm test", Command("test")),
    ],
)
def test_command__the_first_at_a_lines_start(text: str, command: Command):
    assert read_command(text) == command


@pytest.mark.parametrize(
    "text",
    [
        "",
        "please say /prpm test",
        " /prpm test",
        "> /prpm test",
        "    /prpm test",
        "\t/prpm test",
        "`/prpm test`",
        "```\n/prpm test\n```",
        "~~~~\n/prpm test\n~~~\n/prpm test\n~~~~",
        "```sh\n/prpm test",
        "<!-- \n/prpm test\n-->",
        "<!-- never closed\n/prpm test",
        "/prpmtest",
        "/prpm-testing test",
        "/PRPM test",
        "<!-- prpm-testing:v1 mac=00 -->\n/prpm test",
    ],
)
def test_command__quotes_code_hidden_text_and_our_own_words_hold_none(text: str):
    assert read_command(text) is None


def test_command__a_hostile_comment_is_read_at_once():
    assert read_command("`" * 60_000 + "\n<!--" * 10_000 + "\n/prpm test" * 100_000) is None
