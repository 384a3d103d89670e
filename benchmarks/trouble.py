"""What the engine makes of providers in trouble: 500s, limits, nonsense, endless and slow bodies, one of two broken.

    python -m benchmarks.trouble [--rounds 3]

Each line runs the same cases on the mock model server (benchmarks/mock_model.py, in a process of its own). The control
is a plain client that asks once for each case, so that its time is what the calls take without any trouble being met.
A wasted call is one that brought no answer. The notes give what was recorded of peers in the same trouble.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from benchmarks.engine import INSTRUCTIONS, bare_client, mock_process
from benchmarks.engine import Workload as BareWorkload
from benchmarks.tables import Line, Table, markdown
from evals.catalogue import Catalogue, Model
from evals.models import Deployment
from evals.pool import ModelPool
from evals.runner import Plan, run
from evals.types import Assertion, Case, Message, Price, Suite, Trial

CASES = 100
CONCURRENCY = 50
LATENCY_MS = 200.0
PEERS = (
    "Recorded with 100 cases, 50 at a time (not measured here): at 10 requests a second promptfoo 0.123.1 took 14.2 s "
    "with 239 wasted calls, inspect-ai 0.3.285 21.2 s with 227; of 20 % HTTP 500 promptfoo made 20 errors, "
    "inspect none in 12.6 s."
)


class Trouble(Struct, frozen=True, kw_only=True):
    """One kind of trouble. `models` are names of the mock's, of equal rank; `judge` grades where there is one."""

    what: str
    models: tuple[str, ...]
    judge: str | None = None
    most_seconds: float | None = None
    most_wasted: int | None = None
    timeout_seconds: float = 120.0


TROUBLES = (
    Trouble(what="none", models=("mock-a",)),
    Trouble(what="10 requests a second", models=("rl-10-a",), most_seconds=12.0, most_wasted=14),
    Trouble(what="20 % HTTP 500", models=("err-0.2-a",)),
    Trouble(what="20 % HTTP 500, the judge breaks 20 % too", models=("err-0.2-a",), judge="broken-0.2-judge"),
    Trouble(what="one of two deployments answers HTTP 500", models=("mock-a", "status-500-a")),
    Trouble(what="one of two sends nonsense", models=("mock-a", "nonsense-a")),
    Trouble(what="one of two never ends", models=("mock-a", "endless-a"), timeout_seconds=1.0),
    Trouble(what="one of two takes 3 s", models=("mock-a", "slow-3000-a")),
)


class Result(Struct, frozen=True):
    """One run."""

    seconds: float
    states: Counter[str]
    calls: int
    useful: int  # answers that were asked for and came

    @property
    def wasted(self) -> int:
        return self.calls - self.useful


async def ask_all(url: str, trouble: Trouble) -> Result:
    """Every case once, through runner and pool."""
    control(url, "__reset", {})
    suite = make_suite(CASES, judged=trouble.judge is not None)
    plan = Plan(instructions=INSTRUCTIONS, suite=suite, models=("model",), concurrency=CONCURRENCY)
    started = time.monotonic()
    async with ModelPool(make_catalogue(url, trouble)) as pool:
        await pool.prepare()
        trials = [trial async for trial in run(plan, pool=pool)]
    seconds = time.monotonic() - started
    calls: int = control(url, "__stats")["requests"]
    return Result(seconds, Counter(trial.state for trial in trials), calls, useful_calls(trials, trouble))


def useful_calls(trials: Sequence[Trial], trouble: Trouble) -> int:
    """An answer for each trial that has one, and one opinion where there is a judge."""
    answered = sum(trial.completion is not None for trial in trials)
    judged = sum(trial.state in ("passed", "failed") for trial in trials) if trouble.judge else 0
    return answered + judged


def make_catalogue(url: str, trouble: Trouble) -> Catalogue:
    models = [Model(name="model", deployments=tuple(make_deployment(url, m, trouble) for m in trouble.models))]
    if trouble.judge:
        models.append(Model(name="judge", deployments=(make_deployment(url, trouble.judge, trouble),)))
    return Catalogue(default="model", models=models)


def make_deployment(url: str, model: str, trouble: Trouble) -> Deployment:
    return Deployment(
        id=f"mock/{model}",
        backend="openai_compatible",
        model=model,
        price=Price(input=1.0, output=2.0),
        base_url=f"{url}/v1",
        timeout_seconds=trouble.timeout_seconds,
        rank=1,
    )


def make_suite(cases: int, *, judged: bool) -> Suite:
    rubric = (Assertion(type="llm-rubric", value="Says ANSWER-", model="judge"),) if judged else ()
    return Suite(
        cases=tuple(
            Case(
                title=f"case {number:04}",
                messages=(Message("user", f"case {number:04}"),),
                assertions=(Assertion(type="contains", value=f"ANSWER-{number:04}"), *rubric),
            )
            for number in range(cases)
        )
    )


def control(url: str, path: str, body: object = None) -> dict[str, int]:
    """What the mock says to its controls."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{url}/{path}", data=data) as response:  # noqa: S310 - our own mock
        answer: dict[str, int] = json.load(response)
        return answer


def plain_seconds(url: str) -> float:
    """What the same calls take where nothing is in trouble."""
    workload = BareWorkload(url=url, trials=CASES, latency_ms=LATENCY_MS, concurrency=CONCURRENCY)
    started = time.monotonic()
    asyncio.run(_bare(workload))
    return time.monotonic() - started


async def _bare(workload: BareWorkload) -> None:
    await bare_client(workload)


def measure(*, rounds: int = 1, troubles: Sequence[Trouble] = TROUBLES) -> Table:
    """Each trouble `rounds` times; medians."""
    with mock_process(latency_ms=LATENCY_MS) as url:
        bare = statistics.median(plain_seconds(url) for _ in range(3))
        lines: list[Line] = []
        for trouble in troubles:
            results = [asyncio.run(ask_all(url, trouble)) for _ in range(rounds)]
            lines += _lines(trouble, results, bare=bare)
    return Table(
        title="trouble",
        how=f"{CASES} cases, {CONCURRENCY} at a time, on a mock model that takes {LATENCY_MS:g} ms; in two deployments "
        "of equal rank where it says so. A wasted call brought no answer.",
        lines=tuple(lines),
        notes=(PEERS,),
    )


def _lines(trouble: Trouble, results: Sequence[Result], *, bare: float) -> list[Line]:
    seconds = statistics.median(result.seconds for result in results)
    wasted = statistics.median(result.wasted for result in results)
    verdicts = min(result.states["passed"] for result in results)
    return [
        Line(
            what=f"{trouble.what}: time",
            measured=seconds,
            against="bare client, no trouble",
            control=bare,
            unit="s",
            bound=f"≤ {trouble.most_seconds:g} s" if trouble.most_seconds else "",
            holds=seconds <= trouble.most_seconds if trouble.most_seconds else None,
        ),
        Line(
            what=f"{trouble.what}: wasted calls",
            measured=wasted,
            against="useful calls",
            control=statistics.median(result.useful for result in results),
            unit="calls",
            bound=f"< {trouble.most_wasted + 1}" if trouble.most_wasted else "",
            holds=wasted <= trouble.most_wasted if trouble.most_wasted else None,
        ),
        Line(
            what=f"{trouble.what}: right verdicts",
            measured=verdicts,
            against="cases",
            control=CASES,
            unit="verdicts",
            bound=f"= {CASES}",
            holds=verdicts == CASES,
        ),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The engine and providers in trouble.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="troubles with this in their name")
    wanted = parser.parse_args()
    troubles = [trouble for trouble in TROUBLES if wanted.only in trouble.what]
    print(markdown(measure(rounds=wanted.rounds, troubles=troubles)))


if __name__ == "__main__":
    main()
