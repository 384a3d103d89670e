"""A step of a workflow without the workflow: the environment that a runner gives, and what it reads of a step."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.standins.testing_service import ID_TOKEN, TOKEN
from tests.standins.web import Answer, Refused, Seen, StandIn

ROOT = Path(__file__).parents[1]
ENTRY = ROOT / "action_entry" / "__main__.py"
HEAD = "1a2b3c4d" * 5
BASE = "f00d" * 10
MERGE = "dead" * 10
REPOSITORY_ID = 7
SUITE = """\
tests:
  - description: Says hello
    input: Hello!
    assert: [{type: contains, value: hello}]
  - description: "Says goodbye"
    input: Bye!
    assert: [{type: contains, value: bye}]
"""


def a_package(folder: Path, name: str = "@acme/greeter", *, suite: str = SUITE) -> Path:
    """A package with a suite in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"name": name, "version": "1.0.0", "description": "Greets", "format": "generic", "subtype": "prompt",
                "files": ["greeter.md"]}  # fmt: skip
    (folder / "prpm.json").write_text(json.dumps(manifest))
    (folder / "greeter.md").write_text("You greet people.\n")
    (folder / "prpm.test.yaml").write_text(suite)
    return folder


def a_pull_request(*, fork: bool = False, number: int = 12, head: str = HEAD) -> dict[str, Any]:
    """The event of a pull request in acme/prompts."""
    repository = {"id": REPOSITORY_ID, "full_name": "acme/prompts"}
    source = {"id": 99, "full_name": "stranger/prompts"} if fork else repository
    return {
        "action": "synchronize",
        "number": number,
        "repository": repository,
        "pull_request": {
            "number": number,
            "head": {"sha": head, "ref": "feature", "repo": source},
            "base": {"sha": BASE, "ref": "main", "repo": repository},
        },
    }


def a_push(*, head: str = HEAD, deleted: bool = False) -> dict[str, Any]:
    """The event of a push to main."""
    return {
        "ref": "refs/heads/main",
        "before": BASE,
        "after": "0" * 40 if deleted else head,
        "deleted": deleted,
        "repository": {"id": REPOSITORY_ID, "full_name": "acme/prompts"},
    }


def a_merge_group(*, head: str = HEAD) -> dict[str, Any]:
    """The event of a merge queue for main: a group on top of another one."""
    return {
        "action": "checks_requested",
        "merge_group": {
            "head_sha": head,
            "head_ref": f"refs/heads/gh-readonly-queue/main/pr-12-{BASE}",
            "base_sha": BASE,
            "base_ref": "refs/heads/main",
        },
        "repository": {"id": REPOSITORY_ID, "full_name": "acme/prompts"},
    }


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What the step left behind, read as the runner reads it."""

    code: int
    log: str
    errors: str
    outputs: dict[str, str]
    summary: str
    commands: list[Command]
    reports: Path

    def of(self, name: str) -> list[Command]:
        return [one for one in self.commands if one.name == name]


@dataclass(frozen=True)
class Command:
    """One workflow command that the runner would carry out."""

    name: str
    properties: dict[str, str]
    value: str


@dataclass
class Step:
    """A step in a fresh workspace. `inputs` are by the names of action.yml; tests change what matters to them."""

    folder: Path
    event_name: str = "pull_request"
    event: dict[str, Any] = field(default_factory=a_pull_request)
    inputs: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable

    def __post_init__(self) -> None:
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.temp.mkdir(exist_ok=True)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def temp(self) -> Path:
        return self.folder / "temp"

    def environment(self) -> dict[str, str]:
        (self.folder / "event.json").write_text(json.dumps(self.event))
        for name in ("output", "summary"):
            (self.folder / name).write_text("")
        pull = "pull_request" in self.event
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG") if name in os.environ}
        usual = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": self.event_name,
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_REPOSITORY": "acme/prompts",
            "GITHUB_SHA": MERGE if pull else HEAD,
            "GITHUB_REF": "refs/pull/12/merge" if pull else "refs/heads/main",
            "GITHUB_RUN_ID": "4711",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_ACTOR": "alice",
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "RUNNER_TEMP": str(self.temp),
            "HOME": str(self.folder),
        }
        given = {f"INPUT_{name.upper().replace('-', '_')}": value for name, value in self.inputs.items()}
        return kept | usual | given | self.environ

    def begin(self, *, warnings: Sequence[str] = ()) -> subprocess.Popen[str]:
        """The step, running. All warnings are errors but these."""
        filters = [word for one in ("error", *warnings) for word in ("-W", one)]
        return subprocess.Popen(
            [self.python, "-I", "-S", *filters, str(ENTRY)],
            env=self.environment(),
            cwd=self.workspace,
            text=True,
            encoding="utf-8",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *, timeout_seconds: float = 60) -> Ran:
        with self.begin() as process:
            log, errors = process.communicate(timeout=timeout_seconds)
        assert "Traceback" not in errors, errors
        return Ran(
            code=process.returncode,
            log=log,
            errors=errors,
            outputs=read_outputs((self.folder / "output").read_text(encoding="utf-8")),
            summary=(self.folder / "summary").read_text(encoding="utf-8"),
            commands=list(read_commands(log.splitlines())),
            reports=self.temp / "prpm-reports",
        )


def with_token(**inputs: str) -> dict[str, str]:
    """Inputs with a token of the service."""
    return {"api-token": TOKEN, **inputs}


def read_outputs(text: str) -> dict[str, str]:
    """As the runner reads GITHUB_OUTPUT: `name=value`, or `name<<fence` up to a line that is the fence."""
    found: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        plain, _, fence = line.partition("<<")
        if fence and "=" not in plain:
            value: list[str] = []
            for inner in lines:
                if inner == fence:
                    break
                value.append(inner)
            else:
                raise AssertionError(f"{plain}: no end")
            found[plain] = "\n".join(value)
        elif line:
            name, equals, value_text = line.partition("=")
            assert equals, f"no output: {line!r}"
            found[name] = value_text
    return found


_V1 = re.compile(r"##\[(?P<name>[^\]\s]+)(?:\s+(?P<properties>[^\]]*))?\](?P<value>.*)")


def read_commands(lines: Sequence[str]) -> Iterator[Command]:
    """As the runner finds them: `::name k=v::value` at a line's begin, `##[name]` anywhere, until they are stopped."""
    stopped_until = ""
    for line in lines:
        found = _command_of(line)
        if found is None:
            continue
        if stopped_until:
            if found.name == stopped_until:
                stopped_until = ""
            continue
        if found.name == "stop-commands":
            stopped_until = found.value
            continue
        yield found


def _command_of(line: str) -> Command | None:
    text = line.strip()
    if text.startswith("::") and "::" in text[2:]:
        head, _, value = text[2:].partition("::")
        name, _, given = head.partition(" ")
        pairs = [part.partition("=") for part in given.split(",") if "=" in part]
        return Command(name, {key.strip(): _unescaped(said) for key, _, said in pairs}, _unescaped(value))
    if match := _V1.search(text):
        return Command(match["name"], {}, match["value"])
    return None


def _unescaped(text: str) -> str:
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, char)
    return text


class IdTokens(StandIn):
    """GitHub's issuer of id tokens for a run: each asking gives another token."""

    bearer = "runtime-token"

    def answer(self, seen: Seen) -> Answer:
        if seen.headers.get("authorization") != f"bearer {self.bearer}" or seen.query.get("api-version") != "2.0":
            raise Refused(Answer(status=401, body={"message": "Unauthorized"}), "no runtime token")
        if not seen.query.get("audience"):
            raise Refused(Answer(status=400, body={"message": "audience"}), "no audience of our own")
        return Answer(body={"value": f"{ID_TOKEN}-{len(self.log)}"})

    @property
    def environ(self) -> dict[str, str]:
        url = f"{self.url}/token?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.bearer}


@functools.cache
def other_pythons() -> tuple[str, ...]:
    """Other interpreters that the Action promises to run on, as far as this machine has them: in PATH, beside ours.

    Asked once a process, of one candidate after the other: each is started, which takes a while behind a shim.
    """
    beside = Path(sys.base_prefix).parent
    found = []
    for minor in (10, 12, 13, 14):
        in_path = shutil.which(f"python3.{minor}")
        beside_ours = [str(path) for path in beside.glob(f"*3.{minor}*/bin/python3")]
        candidates = [*reversed(beside_ours), *([in_path] if in_path else [])]
        found += [path for path in candidates if _starts(path)][:1]
    return tuple(found)


def _starts(path: str) -> bool:
    return subprocess.run([path, "-c", ""], capture_output=True, check=False, timeout=20).returncode == 0
