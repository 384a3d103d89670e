"""The Action's program starts on a bare Python: no packages, no site, nothing of the environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runners import other_pythons

ROOT = Path(__file__).parents[3]
PROGRAM = """
import json, sys
sys.path.append(sys.argv[1])
import action_entry.program, action_entry.ci
found = sorted(action_entry.ci.providers())
rooms = {name.partition(".")[0] for name in sys.modules}
print(json.dumps([found, sorted(rooms - set(sys.stdlib_module_names) - {"__main__"})]))
"""


@pytest.mark.parametrize("python", [sys.executable, *other_pythons()])
def test_action__starts_with_the_standard_library_alone(python: str) -> None:
    ran = subprocess.run(
        [python, "-I", "-S", "-W", "error", "-c", PROGRAM, str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    providers, foreign = json.loads(ran.stdout)

    assert foreign == ["action_entry", "notifiers"]
    assert {"github-actions", "gitlab-ci", "local"} <= set(providers)


def test_action__in_a_terminal_without_a_token_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("Be brief.\n")

    ran = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "action_entry" / "__main__.py")],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )

    assert (ran.returncode, ran.stderr) == (2, "")
    assert "neither an api-token nor an identity" in ran.stdout
