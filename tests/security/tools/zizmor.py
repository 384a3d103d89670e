"""Workflows and action.yml: what others could do with them, at its strictest (zizmor)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PLANTED = ROOT / "tests" / "samples" / "workflows" / "planted.yml"


def program() -> str | None:
    beside = Path(sys.executable).parent / "zizmor"
    return str(beside) if beside.exists() else shutil.which("zizmor")


def missing() -> list[str]:
    return [] if program() else ["zizmor is not installed: pip install zizmor==1.32.0"]


def findings(paths: list[Path], *, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """zizmor's run over these files; its exit code is 0 only if it finds nothing."""
    command = [
        str(program()),
        "--offline",
        "--persona",
        "pedantic",
        "--no-progress",
        "--config",
        str(ROOT / "zizmor.yml"),
    ]
    return subprocess.run([*command, *map(str, paths)], cwd=folder, capture_output=True, text=True, check=False)


def check() -> bool:
    ran = findings([ROOT / "action.yml", *sorted((ROOT / "examples" / "workflows").glob("*.yml"))])
    print(ran.stdout + ran.stderr)
    return ran.returncode == 0 and sees_what_is_planted()


def sees_what_is_planted() -> bool:
    """Whether the checker works at all: it must find what is wrong on purpose."""
    said = findings([PLANTED]).stdout
    unseen = [word for word in ("dangerous-triggers", "template-injection", "unpinned-uses") if word not in said]
    if unseen:
        print(f"❌ zizmor does not find what is planted: {', '.join(unseen)}")
    return not unseen
