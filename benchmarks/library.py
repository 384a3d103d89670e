"""What the engine adds to LiteLLM, beside the library's bare `acompletion`, both after their first calls.

python -m benchmarks.library [--trials 400] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import statistics
import time
from collections.abc import Sequence

from benchmarks.engine import INSTRUCTIONS, mock_process
from benchmarks.tables import Line, Table, markdown
from benchmarks.trouble import make_suite
from evals.catalogue import Catalogue, Model
from evals.models import CompletionRequest, Deployment, Secret
from evals.models.litellm import call_arguments
from evals.pool import ModelPool
from evals.runner import Plan, run
from evals.types import Message, Price

CONCURRENCY = 50
LATENCY_MS = 200.0


async def bare(deployment: Deployment, *, trials: int) -> None:
    """The library's function alone, with the same arguments."""
    library = importlib.import_module("litellm")
    slots = asyncio.Semaphore(CONCURRENCY)

    async def call(number: int) -> bool:
        messages = (Message("system", INSTRUCTIONS.system), Message("user", f"case {number:04}"))
        async with slots:
            reply = await library.acompletion(**call_arguments(CompletionRequest(messages=messages), deployment))
        return f"ANSWER-{number:04}" in reply.choices[0].message.content

    assert all(await asyncio.gather(*(call(number) for number in range(trials))))


async def engine(pool: ModelPool, *, trials: int) -> None:
    """Runner, pool, library, grading."""
    suite = make_suite(trials, judged=False)
    plan = Plan(instructions=INSTRUCTIONS, suite=suite, models=("model",), concurrency=CONCURRENCY)
    assert [trial.state async for trial in run(plan, pool=pool)] == ["passed"] * trials


async def compare(url: str, *, trials: int, rounds: int) -> list[tuple[float, float]]:
    """Seconds of the bare calls and of the engine, by turns in one process, after a first round of each."""
    deployment = Deployment(
        id="mock/a",
        backend="litellm",
        model="hosted_vllm/mock-a",
        price=Price(input=1.0, output=2.0),
        base_url=f"{url}/v1",
        key=Secret("sk-mock"),
    )
    catalogue = Catalogue(default="model", models=[Model(name="model", deployments=(deployment,))])
    found = []
    async with ModelPool(catalogue) as pool:
        await pool.prepare()
        for number in range(rounds + 1):
            started = time.monotonic()
            await bare(deployment, trials=trials)
            between = time.monotonic()
            await engine(pool, trials=trials)
            if number:
                found.append((between - started, time.monotonic() - between))
    return found


def measure(*, trials: int = 400, rounds: int = 3) -> Table:
    """The median round."""
    with mock_process(latency_ms=LATENCY_MS) as url:
        found = asyncio.run(compare(url, trials=trials, rounds=rounds))
    return table(found, trials=trials)


def table(found: Sequence[tuple[float, float]], *, trials: int) -> Table:
    """One line."""
    ratio = statistics.median(ours / theirs for theirs, ours in found)
    return Table(
        title="library",
        how=f"{trials} trials by LiteLLM on a mock model that takes {LATENCY_MS:g} ms, {CONCURRENCY} at a time, "
        f"{len(found)} rounds by turns in one process, after one that does not count.",
        lines=(
            Line(
                what="engine by litellm: time",
                measured=statistics.median(ours for _, ours in found),
                against="bare acompletion",
                control=statistics.median(theirs for theirs, _ in found),
                unit="s",
                ratio=ratio,
                bound="≤ 1.3 ×",
                holds=ratio <= 1.3,
            ),
        ),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The engine by LiteLLM beside the library alone.")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    print(markdown(measure(trials=wanted.trials, rounds=wanted.rounds)))


if __name__ == "__main__":
    main()
