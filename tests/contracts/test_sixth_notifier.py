"""A notifier that is dropped in as one file is found, and held to the family's contract, with nothing else edited."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The recipe's own example: the notifier, and the stand-in that its contract needs.
RECIPE = re.compile(r"^```python\n# (?P<path>\S*mattermost\.py)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_sixth_notifier__passes_the_contract_as_one_file(tmp_path: Path) -> None:
    for folder in ("notifiers", "tests/standins", "tests/contracts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/notices.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    for found in RECIPE.finditer((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        target = tmp_path / found["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(found["text"], encoding="utf-8")

    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "tests/contracts/test_notifiers.py",
            "-k",
            "mattermost",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT))), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert "no tests ran" not in ran.stdout
    assert int((re.search(r"(\d+) passed", ran.stdout) or ["0", "0"])[1]) > 50
