"""This engine beside promptfoo, inspect-ai and a bare client: the same trials and the same trouble, in the same run.

    python -m benchmarks.peers [--folder FOLDER] [--only TEXT] [--rounds 1] [--write]

The peers are installed once, by npm and pip, into a folder of their own that is no part of this project (two
gigabytes; ~/.cache/prpm-testing/peers). Where a registry or npm itself is not to be had, this says so and ends with
exit code 2. It is no part of `make bench`. `--write` brings its section of docs/benchmarks.md up to date.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from resource import struct_rusage

from msgspec import Struct

from benchmarks.__main__ import PAGE, section, updated_page
from benchmarks.engine import mock_process
from benchmarks.peer_programs import BARE, ENGINE, INSPECT, NODE, PROMPTFOO, Contender, Inspect, Promptfoo, Wish
from benchmarks.programs import environment
from benchmarks.tables import Line, Table
from benchmarks.trouble import control

LATENCY_MS = 200.0
MOST_SECONDS = 180.0  # after which a contender is ended
INSTALL_SECONDS = 1800.0


class CannotInstall(Exception):
    """A peer is not to be had here; the text says why."""


class Task(Struct, frozen=True, kw_only=True):
    """One thing to do, and what of it is told."""

    what: str
    cases: int
    models: tuple[str, ...]
    judge: str | None = None
    is_trouble: bool = True


TASKS = (
    Task(what="1,000 trials", cases=500, models=("mock-a", "mock-b"), is_trouble=False),
    Task(what="10 requests a second", cases=100, models=("rl-10-a",)),
    Task(what="20 % HTTP 500", cases=100, models=("err-0.2-a",)),
    Task(what="answers take 3 s longer", cases=100, models=("slow-3000-a",)),
    Task(what="20 % of the judge's answers break", cases=100, models=("mock-a",), judge="broken-0.2-judge"),
)


class Ran(Struct, frozen=True, kw_only=True):
    """One process from start to end: its CPU seconds and peak in MB. `states` is empty where it did not end well."""

    seconds: float
    cpu: float
    peak: float
    calls: int
    states: dict[str, int]

    @property
    def right(self) -> int:
        """Trials with the verdict that is right: all answers are."""
        return self.states.get("passed", 0)


def install(folder: Path) -> tuple[Contender, ...]:
    """The peers, installed where they are not. Raises CannotInstall."""
    folder.mkdir(parents=True, exist_ok=True)
    return (Promptfoo(_install_promptfoo(folder)), Inspect(_install_inspect(folder)))


def _install_promptfoo(folder: Path) -> Path:
    stamp = folder / f"promptfoo-{PROMPTFOO}-node-{NODE}"
    npm = shutil.which("npm")
    if not stamp.exists():
        if npm is None:
            raise CannotInstall(
                "npm is not installed, so promptfoo is not to be had (Debian and Ubuntu: apt install npm)."
            )
        (folder / "package.json").write_text('{"private": true}')
        packages = [f"promptfoo@{PROMPTFOO}", f"{_node_package()}@{NODE}"]
        # Scripts of seven hundred packages are not run: none is needed.
        options = ["--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
        _run([npm, "install", *options, *packages], folder, what="promptfoo")
        stamp.touch()
    return folder


def _node_package() -> str:
    architecture = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"node-{sys.platform}-{architecture}"


def _install_inspect(folder: Path) -> Path:
    stamp = folder / f"inspect-ai-{INSPECT}"
    if not stamp.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], folder, what="inspect-ai")
        pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        _run([*pip, f"inspect-ai=={INSPECT}", "openai"], folder, what="inspect-ai")
        stamp.touch()
    return folder


def _run(command: Sequence[str], folder: Path, *, what: str) -> None:
    print(f"installing {what} in {folder} ...", file=sys.stderr, flush=True)
    # The registries' own settings (a mirror, a proxy) stand in the environment, so it is passed on.
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if ran.returncode != 0:
        said = (ran.stderr or ran.stdout).strip().splitlines()[-8:]
        raise CannotInstall(
            f"{what} could not be installed ({Path(command[0]).name} ended with {ran.returncode}); is its registry "
            "reachable?\n" + "\n".join(f"  {line}" for line in said)
        )


def run(contender: Contender, wish: Wish) -> Ran:
    """One process of the contender's in an empty folder, ended after MOST_SECONDS."""
    control(wish.url, "__reset", {})
    with tempfile.TemporaryDirectory(prefix="prpm-bench-") as name, tempfile.TemporaryFile("w+") as output:
        folder = Path(name)
        command = contender.command(wish, folder)
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            env={**environment(), **contender.environment(folder)},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        usage = _wait(process, until=started + MOST_SECONDS)
        seconds = time.monotonic() - started
        output.seek(0)
        printed = output.read()
        return Ran(
            seconds=seconds,
            cpu=usage.ru_utime + usage.ru_stime,
            peak=usage.ru_maxrss / 1024,
            calls=control(wish.url, "__stats")["requests"],
            states=_states(contender, printed, folder),
        )


def _states(contender: Contender, printed: str, folder: Path) -> dict[str, int]:
    try:
        return contender.states(printed, folder)
    except (ValueError, KeyError, OSError):
        print(f"{contender.name}: {printed[-2000:]}", file=sys.stderr)
        return {}


def _wait(process: subprocess.Popen[bytes], *, until: float) -> struct_rusage:
    """The usage of the process and of its own children that ended."""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if time.monotonic() > until:
            os.killpg(process.pid, 9)
        time.sleep(0.02)


def compare(contenders: Sequence[Contender], *, tasks: Sequence[Task], concurrency: int, rounds: int) -> Table:
    """Each task by each contender, by turns; medians."""
    lines: list[Line] = []
    with mock_process(latency_ms=LATENCY_MS) as url:
        for task in tasks:
            wish = Wish(url=url, cases=task.cases, models=task.models, judge=task.judge, concurrency=concurrency)
            found: dict[str, list[Ran]] = {}
            for _ in range(rounds):
                for contender in (BARE, *contenders):
                    found.setdefault(contender.name, []).append(run(contender, wish))
            bare = found.pop(BARE.name)
            for name, ran in found.items():
                lines += _lines(task, name, ran, bare, trials=wish.trials)
            lines += [] if not task.is_trouble else [_verdicts(task, BARE.name, bare, trials=wish.trials)]
    return Table(
        title="peers",
        how=f"Whole processes from start to end, {concurrency} calls at a time, on a mock model that takes "
        f"{LATENCY_MS:g} ms; two fixed assertions a trial, {rounds} round{'s' if rounds > 1 else ''} by turns. All "
        f"answers are right. promptfoo {PROMPTFOO} on Node.js {NODE}, inspect-ai {INSPECT}, each with its defaults "
        "but for the concurrency and no cache. The bare client asks once, judges nothing and meets no trouble.",
        lines=tuple(lines),
    )


def _lines(task: Task, name: str, ran: Sequence[Ran], bare: Sequence[Ran], *, trials: int) -> list[Line]:
    def line(what: str, unit: str, measured: list[float], against: list[float]) -> Line:
        return Line(
            what=f"{task.what}, {name}: {what}",
            measured=statistics.median(measured),
            against=BARE.name,
            control=statistics.median(against),
            unit=unit,
        )

    time_line = line("time", "s", [one.seconds for one in ran], [one.seconds for one in bare])
    if not task.is_trouble:
        cpu = line("CPU a trial", "ms", *([one.cpu * 1000 / trials for one in these] for these in (ran, bare)))
        return [time_line, cpu, line("memory", "MB", [one.peak for one in ran], [one.peak for one in bare])]
    judged = 2 if task.judge else 1
    wasted = Line(
        what=f"{task.what}, {name}: calls without a right verdict",
        measured=statistics.median(max(0, one.calls - judged * one.right) for one in ran),
        against="calls that are needed",
        control=judged * trials,
        unit="calls",
    )
    return [time_line, wasted, _verdicts(task, name, ran, trials=trials)]


def _verdicts(task: Task, name: str, ran: Sequence[Ran], *, trials: int) -> Line:
    worst = min(ran, key=lambda one: one.right)
    wrong = ", ".join(f"{count} {state}" for state, count in worst.states.items() if count and state != "passed")
    said = f" ({wrong})" if wrong else "" if worst.states else " (it did not end)"
    return Line(
        what=f"{task.what}, {name}: right verdicts{said}",
        measured=worst.right,
        against="trials",
        control=trials,
        unit="verdicts",
    )


def main() -> int:
    """Install, measure, print."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="The engine beside its peers.")
    parser.add_argument("--folder", type=Path, default=cache / "prpm-testing" / "peers", help="where the peers are")
    parser.add_argument("--only", default="", help="tasks with this in their name")
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"bring {PAGE.name} up to date")
    wanted = parser.parse_args()
    try:
        peers = install(wanted.folder.resolve())
    except (CannotInstall, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 2
    load = os.getloadavg()[0]
    table = compare(
        (ENGINE, *peers),
        tasks=[task for task in TASKS if wanted.only in task.what],
        concurrency=wanted.concurrency,
        rounds=wanted.rounds,
    )
    told = section(table, load=load)
    print(told)
    if wanted.write:
        PAGE.write_text(updated_page(PAGE.read_text(), {table.title: told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
