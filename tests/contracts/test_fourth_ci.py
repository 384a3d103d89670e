"""A CI system that is dropped in as one file is found, and held to the family's contract, with nothing else edited."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = re.compile(r"^```python\n# (?P<path>\S*woodpecker\.py)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_fourth_ci__passes_the_contract_as_one_file(tmp_path: Path) -> None:
    for folder in ("action_entry", "notifiers", "tests/standins", "tests/contracts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/notices.py", "tests/runners.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    (found,) = RECIPE.finditer((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    (tmp_path / found["path"]).write_text(found["text"], encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/contracts/test_ci.py", "-k", "woodpecker"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT))), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert int((re.search(r"(\d+) passed", ran.stdout) or ["0", "0"])[1]) > 20
