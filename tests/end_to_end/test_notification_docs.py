"""The messages that the documentation shows are those that its commands print."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/notifications.md").read_text(encoding="utf-8")
SHOWN = re.compile(
    r"^```console\n\$ python (?P<command>-m notifiers [^\n]*)\n```\n\n(?P<fence>`{3,})\w+\n(?P<output>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
COMMANDS = [(found["command"], found["output"]) for found in SHOWN.finditer(DOCUMENT)]


@pytest.mark.parametrize(("command", "output"), COMMANDS, ids=[shlex.split(command)[2] for command, _ in COMMANDS])
def test_notification_docs__show_what_the_command_prints(command: str, output: str) -> None:
    ran = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == output


def test_notification_docs__show_a_message_of_each_kind() -> None:
    assert [shlex.split(command)[2] for command, _ in COMMANDS] == ["github", "slack", "discord", "webhook"]
