"""How fast the engine runs trials, beside a bare client that makes the same calls in the same run.

    python -m benchmarks.engine [--trials 1000] [--latency-ms 200] [--concurrency 50] [--rounds 3]

The mock model server runs in a process of its own. Prints a Markdown table; the figures are medians, and the
ratios are what to compare between machines. Four calls at a time take 50 s, so that is done once, by all contenders at
the same time: it keeps no processor busy.
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
from msgspec import Struct, structs

from benchmarks.tables import Line, Table, markdown
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


# What the engine promises for 1,000 trials of 200 ms, by calls at a time, and for the CPU of a trial.
MOST_SECONDS = {50: 4.6, 4: 51.5}
MOST_CPU_MS = 2.0
FEW_AT_A_TIME = 4

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
                assertions=(
                    Assertion(type="contains", value=f"ANSWER-{number:04}"),
                    Assertion(type="icontains", value="answer-"),
                ),
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


def one_round(contender: Contender, workload: Workload) -> Figure:
    """One round in a fresh event loop."""
    wall, cpu = time.monotonic(), _cpu_seconds()
    asyncio.run(_awaited(contender, workload))
    return Figure(time.monotonic() - wall, _cpu_seconds() - cpu)


async def _awaited(contender: Contender, workload: Workload) -> None:
    await contender(workload)


async def side_by_side(workload: Workload) -> dict[str, list[Figure]]:
    """One round of all contenders at once; whose CPU is whose cannot be told then."""

    async def timed(contender: Contender) -> list[Figure]:
        started = time.monotonic()
        await contender(workload)
        return [Figure(time.monotonic() - started, 0.0)]

    figures = await asyncio.gather(*map(timed, CONTENDERS.values()))
    return dict(zip(CONTENDERS, figures, strict=True))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(*, trials: int = 1000, latency_ms: float = 200.0, concurrency: int = 50, rounds: int = 3) -> Table:
    """By turns, so that a busy machine is busy for all. `latency_ms` is the mock model's."""
    figures: dict[str, list[Figure]] = {name: [] for name in CONTENDERS}
    with mock_process(latency_ms=latency_ms) as url:
        workload = Workload(url=url, trials=trials, latency_ms=latency_ms, concurrency=concurrency)
        for contender in CONTENDERS.values():
            # Imports and first pages.
            one_round(contender, Workload(url=url, trials=50, latency_ms=0, concurrency=50))
        for _ in range(rounds):
            for name, contender in CONTENDERS.items():
                figures[name].append(one_round(contender, workload))
        lines = [*_times(figures, workload), *_cpu(figures, workload)]
        if concurrency != FEW_AT_A_TIME:
            few = structs.replace(workload, concurrency=FEW_AT_A_TIME)
            lines += _times(asyncio.run(side_by_side(few)), few)
    ideal = trials / concurrency * latency_ms / 1000
    return Table(
        title="engine",
        how=f"{trials:,} trials with two assertions each on a mock model that takes {latency_ms:g} ms, "
        f"{concurrency} at a time (at best {ideal:.1f} s), {rounds} rounds.",
        lines=tuple(lines),
    )


def _times(figures: dict[str, list[Figure]], workload: Workload) -> list[Line]:
    """Every contender beside the first one, which is the control."""
    is_promised = (workload.trials, workload.latency_ms) == (1000, 200.0)
    most = MOST_SECONDS.get(workload.concurrency) if is_promised else None
    what = f"{workload.concurrency} at a time: time"
    return _lines(figures, what=what, unit="s", pick=_wall, most=most)


def _cpu(figures: dict[str, list[Figure]], workload: Workload) -> list[Line]:
    return _lines(figures, what="CPU a trial", unit="ms", pick=_cpu_ms(workload.trials), most=MOST_CPU_MS)


def _lines(
    figures: dict[str, list[Figure]], *, what: str, unit: str, pick: Callable[[Figure], float], most: float | None
) -> list[Line]:
    control, *contenders = figures
    medians = {name: statistics.median(map(pick, found)) for name, found in figures.items()}
    return [
        Line(
            what=f"{name}, {what}",
            measured=medians[name],
            against=control,
            control=medians[control],
            unit=unit,
            bound=f"≤ {most:g} {unit}" if most is not None else "",
            holds=medians[name] <= most if most is not None else None,
        )
        for name in contenders
    ]


def _wall(figure: Figure) -> float:
    return figure.wall


def _cpu_ms(trials: int) -> Callable[[Figure], float]:
    return lambda figure: figure.cpu * 1000 / trials


def main() -> None:
    """Print the table for this workload."""
    parser = argparse.ArgumentParser(description="The engine beside a bare client.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    print(
        markdown(
            measure(
                trials=wanted.trials,
                latency_ms=wanted.latency_ms,
                concurrency=wanted.concurrency,
                rounds=wanted.rounds,
            )
        )
    )


if __name__ == "__main__":
    main()
