"""What `benchmarks.peers` starts: the same cases told to each contender in its own words, and its results read.

A contender is a process of its own, from its start to its end. What it prints last, or writes, is turned into counts
of states: `passed`, `failed` (a verdict against an answer that was right) and `error` (no verdict).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

PROMPTFOO = "0.123.1"
NODE = "22.23.3"  # what it needs is newer than what distributions have
INSPECT = "0.3.285"


class Wish(Struct, frozen=True, kw_only=True):
    """What every contender has to do: each case once on each of the mock's models, two fixed assertions each.

    `judge`: a model of the mock's that grades each answer as well.
    """

    url: str
    cases: int
    models: tuple[str, ...]
    concurrency: int
    judge: str | None = None

    @property
    def trials(self) -> int:
        return self.cases * len(self.models)


class Contender(Protocol):
    """A name, how it is started in an empty folder, and what its run came to."""

    name: str

    def command(self, wish: Wish, folder: Path) -> list[str]: ...

    def environment(self, folder: Path) -> Mapping[str, str]: ...

    def states(self, printed: str, folder: Path) -> dict[str, int]: ...


class _Python:
    """A program of ours in this Python; it prints its states as JSON."""

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self._program = program

    def command(self, wish: Wish, folder: Path) -> list[str]:
        return [sys.executable, "-c", self._program, msgspec.json.encode(wish).decode()]

    def environment(self, folder: Path) -> Mapping[str, str]:
        return {}

    def states(self, printed: str, folder: Path) -> dict[str, int]:
        return read_states(printed)


BARE = _Python(
    "bare client",
    """
import asyncio, json, sys
import aiohttp
wish = json.loads(sys.argv[1])
states = {"passed": 0, "failed": 0, "error": 0}

async def main():
    slots = asyncio.Semaphore(wish["concurrency"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async def call(number, model):
            messages = [{"role": "system", "content": "Answer the question."},
                        {"role": "user", "content": f"case {number:04}"}]
            body = {"model": model, "messages": messages, "max_tokens": 1024}
            async with slots, session.post(wish["url"] + "/v1/chat/completions", json=body) as response:
                reply = json.loads(await response.read())
            try:
                right = f"ANSWER-{number:04}" in reply["choices"][0]["message"]["content"]
            except KeyError:
                states["error"] += 1
            else:
                states["passed" if right else "failed"] += 1
        await asyncio.gather(*(call(n, m) for n in range(wish["cases"]) for m in wish["models"]))

asyncio.run(main())
print(json.dumps(states))
""",
)

ENGINE = _Python(
    "this engine",
    """
import asyncio, json, sys
from collections import Counter
from evals.catalogue import Catalogue, Model
from evals.models import Deployment
from evals.pool import ModelPool
from evals.runner import Plan, run
from evals.types import Assertion, Case, Instructions, Message, Price, Suite
wish = json.loads(sys.argv[1])

def model(name):
    deployment = Deployment(id=name, backend="openai_compatible", model=name, price=Price(input=1.0, output=2.0),
                            base_url=wish["url"] + "/v1")
    return Model(name=name, deployments=(deployment,))

def case(number):
    rubric = (Assertion(type="llm-rubric", value="Says ANSWER-", model=wish["judge"]),) if wish.get("judge") else ()
    fixed = (Assertion(type="contains", value=f"ANSWER-{number:04}"), Assertion(type="icontains", value="answer-"))
    text = f"case {number:04}"
    return Case(title=text, messages=(Message("user", text),), assertions=(*fixed, *rubric))

async def main():
    models = [*wish["models"], *([wish["judge"]] if wish.get("judge") else [])]
    catalogue = Catalogue(default=models[0], models=[model(name) for name in models])
    instructions = Instructions(name="p", version="1.0.0", format="claude", subtype="rule",
                                system="Answer the question.")
    plan = Plan(instructions=instructions, suite=Suite(cases=tuple(map(case, range(wish["cases"])))),
                models=tuple(wish["models"]), concurrency=wish["concurrency"])
    async with ModelPool(catalogue) as pool:
        return Counter([trial.state async for trial in run(plan, pool=pool)])

print(json.dumps(asyncio.run(main())))
""",
)


class Inspect:
    """inspect-ai in its own virtual environment, through its own `eval`."""

    name = "inspect-ai"

    def __init__(self, folder: Path) -> None:
        self._python = folder / "venv" / "bin" / "python"

    def command(self, wish: Wish, folder: Path) -> list[str]:
        told = {**msgspec.to_builtins(wish), "folder": str(folder)}
        return [str(self._python), "-c", _INSPECT, json.dumps(told)]

    def environment(self, folder: Path) -> Mapping[str, str]:
        return {"HOME": str(folder)}

    def states(self, printed: str, folder: Path) -> dict[str, int]:
        return read_states(printed)


_INSPECT = """
import json, sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes, model_graded_qa
from inspect_ai.solver import generate, system_message
wish = json.loads(sys.argv[1])
most = wish["concurrency"]

def model(name):
    config = GenerateConfig(max_connections=most, max_tokens=1024)
    return get_model(f"openai-api/mock/{name}", base_url=wish["url"] + "/v1", api_key="sk-mock", config=config)

scorers = [includes(), includes(ignore_case=False)]
if wish.get("judge"):
    asked = "Question: {question} Answer: {answer} Criterion: {criterion} {instructions}"
    form = 'Answer with {"pass": true or false, "score": 0 to 1, "reason": why}'
    scorers.append(model_graded_qa(template=asked, instructions=form, grade_pattern=r'"pass": (true|false)',
                                   model=model(wish["judge"])))
samples = [Sample(input=f"case {n:04}", target=f"ANSWER-{n:04}") for n in range(wish["cases"])]
task = Task(dataset=samples, solver=[system_message("Answer the question."), generate()], scorer=scorers)
logs = eval(task, model=[model(name) for name in wish["models"]], log_dir=wish["folder"], display="none",
            max_connections=most, max_samples=most, max_tasks=len(wish["models"]), fail_on_error=False)
states = {"passed": 0, "failed": 0, "error": 0}
for sample in (sample for log in logs for sample in log.samples or []):
    if sample.error or not sample.scores:
        states["error"] += 1
    else:
        good = all(score.value in ("C", "true", 1) for score in sample.scores.values())
        states["passed" if good else "failed"] += 1
print(json.dumps(states))
"""


class Promptfoo:
    """promptfoo on its own Node.js, through its `eval` command."""

    name = "promptfoo"

    def __init__(self, folder: Path) -> None:
        modules = folder / "node_modules"
        (self._node,) = sorted(modules.glob("node-*/bin/node"))[:1] or [modules / "node"]
        self._program = modules / "promptfoo" / "dist" / "src" / "entrypoint.js"

    def command(self, wish: Wish, folder: Path) -> list[str]:
        (folder / "config.json").write_text(json.dumps(_promptfoo_config(wish)))
        options = ["--no-cache", "--no-table", "--no-progress-bar", "--max-concurrency", str(wish.concurrency)]
        return [
            *(str(self._node), str(self._program), "eval", "-c", str(folder / "config.json")),
            *(*options, "-o", str(folder / "results.json")),
        ]

    def environment(self, folder: Path) -> Mapping[str, str]:
        quiet = ("TELEMETRY", "UPDATE", "REMOTE_GENERATION", "SHARING")
        return {
            "HOME": str(folder),
            "PROMPTFOO_CONFIG_DIR": str(folder),
            **{f"PROMPTFOO_DISABLE_{name}": "1" for name in quiet},
        }

    def states(self, printed: str, folder: Path) -> dict[str, int]:
        stats: dict[str, int] = json.loads((folder / "results.json").read_text())["results"]["stats"]
        return {"passed": stats["successes"], "failed": stats["failures"], "error": stats["errors"]}


def _promptfoo_config(wish: Wish) -> dict[str, Any]:
    def provider(name: str) -> dict[str, Any]:
        config = {"apiBaseUrl": f"{wish.url}/v1", "apiKey": "sk-mock", "max_tokens": 1024}
        return {"id": f"openai:chat:{name}", "config": config}

    rubric = {"type": "llm-rubric", "value": "Says ANSWER-", "provider": provider(wish.judge)} if wish.judge else None

    def test(number: int) -> dict[str, Any]:
        fixed = [{"type": "contains", "value": f"ANSWER-{number:04}"}, {"type": "icontains", "value": "answer-"}]
        return {"vars": {"q": f"case {number:04}"}, "assert": [*fixed, *([rubric] if rubric else [])]}

    return {
        "prompts": ["Answer the question.\n{{q}}"],
        "providers": [provider(name) for name in wish.models],
        "tests": [test(number) for number in range(wish.cases)],
    }


def read_states(printed: str) -> dict[str, int]:
    """The JSON object of the last line that is one. Raises ValueError."""
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    if not lines:
        raise ValueError("no states were printed")
    states: dict[str, int] = json.loads(lines[-1])
    return states
