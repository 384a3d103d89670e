"""What the engine takes beside its calls: memory over a long stream, CPU a trial, and the command's first byte.

    python -m benchmarks.footprint [--trials 20000]

Each figure comes from a process of its own; the control is a Python that imports the HTTP client and nothing of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.engine import mock_process
from benchmarks.programs import ROOT, environment
from benchmarks.tables import Line, Table, markdown

PROGRAM = """
import asyncio, json, resource, sys
from benchmarks.engine import INSTRUCTIONS
from benchmarks.trouble import make_suite
from evals.catalogue import Catalogue, Model
from evals.models import Deployment
from evals.pool import ModelPool
from evals.runner import Plan, run
from evals.types import Assertion, Case, Message, Price, Suite
import aiohttp  # what a true run has loaded too

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

async def main(trials):
    case = Case(
        title="case",
        messages=(Message("user", "case 0042 " + "x" * 2000),),
        assertions=(Assertion(type="contains", value="0042"), Assertion(type="icontains", value="CASE")),
        repeat=trials,
    )
    echo = Deployment(id="echo", backend="echo", model="m", price=Price(input=1.0, output=1.0))
    catalogue = Catalogue(default="model", models=[Model(name="model", deployments=(echo,))])
    plan = Plan(
        instructions=INSTRUCTIONS, suite=Suite(cases=(case,)), models=("model",), concurrency=50, early_stop=False
    )
    count, early = 0, 0.0
    async with ModelPool(catalogue) as pool:
        async for _ in run(plan, pool=pool):
            count += 1
            if count == 1000:
                early = peak()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"early": early, "late": peak(), "cpu": used.ru_utime + used.ru_stime, "count": count,
                      "litellm": "litellm" in sys.modules}))

asyncio.run(main(int(sys.argv[1])))
"""

BARE = """
import aiohttp, json, resource
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"late": used.ru_maxrss / 1024, "cpu": used.ru_utime + used.ru_stime}))
"""

SUITE = 'tests:\\n  - {input: "case 0001", assert: [{type: contains, value: ANSWER-0001}]}\\n'


def told_by(program: str, *arguments: str) -> dict[str, float]:
    """What a Python that runs this prints, as JSON."""
    command = [sys.executable, "-c", program, *arguments]
    run = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(run.stdout)
    return told


def first_byte_seconds(url: str, folder: Path) -> float:
    """From the start of `prpm test --local` until it says something."""
    (folder / "rule.md").write_text("Answer.\\n")
    (folder / "prpm.json").write_text(
        '{"name": "p", "version": "1.0.0", "description": "d", "format": "claude", "subtype": "rule", '
        '"files": ["rule.md"]}'
    )
    (folder / "prpm.test.yaml").write_text(SUITE.encode().decode("unicode_escape"))
    environ = environment(PRPM_LOCAL_URL=url, PYTHONUNBUFFERED="1")
    command = [sys.executable, "-m", "cli.main", "test", str(folder), "--local", "--models", "mock-a"]
    started = time.monotonic()
    with subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        os.read(process.stdout.fileno(), 1)
        seconds = time.monotonic() - started
        process.communicate(timeout=60)
        assert process.returncode == 0
    return seconds


def python_seconds() -> float:
    """A Python that imports the command's own library, and ends."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import click"], env=environment(), check=True)
    return time.monotonic() - started


def measure(*, trials: int = 20_000) -> Table:
    """One stream; the first byte is the median of five."""
    stream, bare = told_by(PROGRAM, str(trials)), told_by(BARE)
    assert stream["count"] == trials
    assert not stream["litellm"]
    with mock_process(latency_ms=0) as url, tempfile.TemporaryDirectory() as folder:
        first = statistics.median(first_byte_seconds(url, Path(folder)) for _ in range(5))
    cpu_ms = (stream["cpu"] - bare["cpu"]) * 1000 / trials
    growth = stream["late"] - stream["early"]
    return Table(
        title="footprint",
        how=f"{trials:,} trials of 2 kB with two assertions each, as a stream on the echo model, 50 at a time.",
        lines=(
            _line("peak of memory", stream["late"], "Python with the HTTP client", bare["late"], unit="MB", most=150),
            _line("growth after the first 1,000 trials", growth, "peak", stream["late"], unit="MB", most=15),
            _line("CPU a trial, without its call", cpu_ms, "two of the promise", 2.0, unit="ms", most=2),
            _line("prpm test --local: first byte", first, "import click", python_seconds(), unit="s", most=0.5),
        ),
    )


def _line(what: str, measured: float, against: str, control: float, *, unit: str, most: float) -> Line:
    bound = f"≤ {most:g} {unit}"
    return Line(
        what=what, measured=measured, against=against, control=control, unit=unit, bound=bound, holds=measured <= most
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Memory, CPU and start of the engine.")
    parser.add_argument("--trials", type=int, default=20_000)
    print(markdown(measure(trials=parser.parse_args().trials)))


if __name__ == "__main__":
    main()
