"""How fast the engine runs trials, beside a bare client that makes the same calls in the same run.

    python -m benchmarks.engine [--trials 1000] [--latency-ms 200] [--concurrency 50] [--rounds 3]

The mock model server runs in a process of its own. Prints a Markdown table; the figures are medians, and the
ratios are what to compare between machines.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
from msgspec import Struct

from evals.catalogue import Catalogue, Model
from evals.models import Deployment
from evals.pool import ModelPool
from evals.runner import Plan, run
from evals.types import Assertion, Case, Instructions, Message, Price, Suite

INSTRUCTIONS = Instructions(
    name="@bench/engine", version="1.0.0", format="claude", subtype="rule", system="Answer the question."
)


class Workload(Struct, frozen=True, kw_only=True):
    """What every contender has to do."""

    url: str
    trials: int
    latency_ms: float
    concurrency: int


class Figure(Struct, frozen=True):
    """Seconds of one round."""

    wall: float
    cpu: float


Contender = Callable[[Workload], Awaitable[None]]


async def bare_client(workload: Workload) -> None:
    """The calls alone: one aiohttp session, one semaphore, JSON in and out, the word looked for."""
    slots = asyncio.Semaphore(workload.concurrency)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call(number: int) -> bool:
            messages = [
                {"role": "system", "content": INSTRUCTIONS.system},
                {"role": "user", "content": f"case {number:04}"},
            ]
            body = {"model": "mock-a", "messages": messages, "max_tokens": 1024}
            async with slots, session.post(f"{workload.url}/v1/chat/completions", json=body) as response:
                reply = json.loads(await response.read())
            return f"ANSWER-{number:04}" in reply["choices"][0]["message"]["content"]

        answers = await asyncio.gather(*(call(number) for number in range(workload.trials)))
    assert all(answers)


async def engine(workload: Workload) -> None:
    """The whole way of a trial: runner, pool, openai_compatible, grading."""
    async with ModelPool(_catalogue(workload)) as pool:
        await pool.prepare()
        plan = Plan(
            instructions=INSTRUCTIONS,
            suite=_suite(workload),
            models=("mock",),
            concurrency=workload.concurrency,
        )
        states = [trial.state async for trial in run(plan, pool=pool)]
    assert states == ["passed"] * workload.trials


CONTENDERS: dict[str, Contender] = {"bare aiohttp client": bare_client, "engine": engine}


def _catalogue(workload: Workload) -> Catalogue:
    deployment = Deployment(
        id="mock/a",
        backend="openai_compatible",
        model="mock-a",
        price=Price(input=1.0, output=2.0),
        base_url=f"{workload.url}/v1",
        max_in_flight=workload.concurrency,
    )
    return Catalogue(default="mock", models=[Model(name="mock", deployments=(deployment,))])


def _suite(workload: Workload) -> Suite:
    return Suite(
        cases=tuple(
            Case(
                title=f"case {number:04}",
                messages=(Message("user", f"case {number:04}"),),
                assertions=(Assertion(type="contains", value=f"ANSWER-{number:04}"),),
            )
            for number in range(workload.trials)
        )
    )


@contextlib.contextmanager
def mock_process(*, latency_ms: float) -> Iterator[str]:
    """The mock model server's address; it runs in its own process, which is ended on the way out."""
    command = [sys.executable, "-m", "benchmarks.mock_model", "--port", "0", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(10)


def measure(contender: Contender, workload: Workload) -> Figure:
    """One round in a fresh event loop."""
    wall, cpu = time.monotonic(), _cpu_seconds()
    asyncio.run(_awaited(contender, workload))
    return Figure(time.monotonic() - wall, _cpu_seconds() - cpu)


async def _awaited(contender: Contender, workload: Workload) -> None:
    await contender(workload)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def table(figures: dict[str, list[Figure]], workload: Workload) -> str:
    """Markdown: one line a contender, the first one being the control."""
    walls = {name: statistics.median(figure.wall for figure in rounds) for name, rounds in figures.items()}
    cpus = {name: statistics.median(figure.cpu for figure in rounds) for name, rounds in figures.items()}
    control = next(iter(figures))
    ideal = workload.trials / workload.concurrency * workload.latency_ms / 1000
    what = (
        f"{workload.trials:,} trials of {workload.latency_ms:g} ms, {workload.concurrency} at a time "
        f"(ideal {ideal:.1f} s), median of {len(figures[control])}:"
    )
    lines = [
        what,
        "",
        "| contender | wall s | ratio to the control | CPU ms per trial | ratio to the control |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in figures:
        per_trial = cpus[name] * 1000 / workload.trials
        lines.append(
            f"| {name} | {walls[name]:.2f} | {walls[name] / walls[control]:.2f} | {per_trial:.2f} "
            f"| {cpus[name] / cpus[control]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure by turns, so that a busy machine is busy for all, and print the table."""
    parser = argparse.ArgumentParser(description="The engine beside a bare client.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    figures: dict[str, list[Figure]] = {name: [] for name in CONTENDERS}
    with mock_process(latency_ms=wanted.latency_ms) as url:
        workload = Workload(url=url, trials=wanted.trials, latency_ms=wanted.latency_ms, concurrency=wanted.concurrency)
        for contender in CONTENDERS.values():
            measure(contender, Workload(url=url, trials=50, latency_ms=0, concurrency=50))  # imports, first pages
        for _ in range(wanted.rounds):
            for name, contender in CONTENDERS.items():
                figures[name].append(measure(contender, workload))
    print(table(figures, workload))


if __name__ == "__main__":
    main()
