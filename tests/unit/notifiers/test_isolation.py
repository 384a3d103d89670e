"""The notifiers start on a bare Python: no packages, no site, nothing of the environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import notifiers
import notifiers._urllib
import notifiers.__main__
found = sorted(notifiers.NOTIFIERS)
rooms = {name.partition(".")[0] for name in sys.modules}
print(json.dumps([found, sorted(rooms - set(sys.stdlib_module_names) - {"__main__"})]))
"""


def test_notifiers__start_with_the_standard_library_alone() -> None:
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", PROGRAM, str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    kinds, foreign = json.loads(ran.stdout)

    assert foreign == ["notifiers"]
    assert {"discord", "github", "gitlab", "slack", "webhook"} <= set(kinds)


@pytest.mark.parametrize("kind", ["github", "slack"])
def test_notifiers__show_a_message_without_sending_it(kind: str) -> None:
    program = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('notifiers', run_name='__main__')"
    )
    outcome = ROOT / "docs/notifications/outcome.json"

    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(ROOT), kind, str(outcome)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "regression" in ran.stdout


def test_notifiers__an_outcome_that_is_none_is_a_sentence() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "notifiers", "github", str(ROOT / "README.md")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ran.returncode == 2
    assert "This is no JSON" in ran.stderr
    assert "Traceback" not in ran.stderr
