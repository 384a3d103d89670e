"""The LiteLLM library beyond the backends' contract: what it must not do by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evals.catalogue import bundled_catalogue_text, load_catalogue, vendor_key_variables
from evals.models import BACKENDS, CompletionRequest, Secret
from evals.models.litellm import call_arguments
from evals.pool import ModelPool
from evals.types import Message
from tests.standins.model_server import model_server, model_server_in_thread

CATALOGUE = """
default: hosted
models:
  hosted:
    context_tokens: 1000
    deployments:
      - backend: litellm
        model: hosted_vllm/MODEL
        base_url: "{url}"
        key_variable: KEY
        price: {{input: 1, output: 2}}
"""

PROGRAM = """
import asyncio, logging, sys
from evals.catalogue import load_catalogue
from evals.models import CompletionRequest
from evals.pool import ModelPool
from evals.types import Message

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
logging.getLogger("asyncio").setLevel(logging.WARNING)

async def main() -> None:
    assert "litellm" not in sys.modules
    async with ModelPool(load_catalogue(sys.argv[1], environ={"KEY": "sk-very-secret-1"})) as pool:
        await pool.prepare()
        try:
            request = CompletionRequest(messages=(Message("user", "private words"),), timeout_seconds=3)
            print("TEXT", (await pool.complete("hosted", request)).text)
        except Exception as error:
            print("ERROR", error)

asyncio.run(main())
"""


async def test_litellm__answer_is_priced_by_our_own_table() -> None:
    async with model_server() as server:
        text = CATALOGUE.format(url=server.base_url).replace("MODEL", "mock-a")
        async with ModelPool(load_catalogue(text, environ={"KEY": "sk-1"})) as pool:
            completion = await pool.complete(
                "hosted", CompletionRequest(messages=(Message("user", "case 0042: " + "x" * 389),))
            )

    assert completion.text.startswith("ANSWER-0042")
    assert completion.input_tokens == 100
    assert completion.cost_usd == (100 * 1 + (completion.output_tokens or 0) * 2) / 1e6
    assert list(server.mock.last_keys) == ["Bearer sk-1"]


async def test_litellm__server_error_makes_three_calls_in_all_and_none_by_the_library() -> None:
    async def no_sleep(_: float) -> None:
        return None

    async with model_server() as server:
        text = CATALOGUE.format(url=server.base_url).replace("MODEL", "mock-a")
        server.mock.fail_next = 2
        async with ModelPool(load_catalogue(text, environ={"KEY": "sk-1"}), sleep=no_sleep) as pool:
            completion = await pool.complete("hosted", CompletionRequest(messages=(Message("user", "hi"),)))

    assert server.mock.requests == 3
    assert [attempt.status for attempt in completion.attempts] == [500, 500, None]


async def test_litellm__knows_every_id_of_the_bundled_catalogue_at_our_price() -> None:
    text = bundled_catalogue_text()
    catalogue = load_catalogue(text, environ=dict.fromkeys(vendor_key_variables(text), "k"))
    await BACKENDS["litellm"]().prepare()
    library = sys.modules["litellm"]

    for name in catalogue.reachable:
        for deployment in catalogue.resolve(name).deployments:
            model, provider, _, _ = library.get_llm_provider(deployment.model)
            known = library.model_cost.get(f"{provider}/{model}") or library.model_cost[model]
            assert known["mode"] == "chat", deployment.id
            assert deployment.price is not None
            assert deployment.price.input == pytest.approx(known["input_cost_per_token"] * 1e6), deployment.id
            assert deployment.price.output == pytest.approx(known["output_cost_per_token"] * 1e6), deployment.id


def test_litellm__says_nothing_by_itself_and_reads_no_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-from-a-file\n", encoding="utf-8")
    with model_server_in_thread() as server:
        text = CATALOGUE.format(url=server.base_url).replace("MODEL", "status-401-a")
        run = subprocess.run(
            [
                sys.executable,
                "-c",
                PROGRAM + "\nimport os; print('ENV', 'OPENAI_API_KEY' in os.environ)",
                text,
            ],
            cwd=tmp_path,
            env={},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert run.stdout.splitlines() == [
        (
            "ERROR hosted gave no answer (1 attempt): hosted_vllm/status-401-a refused our key (HTTP 401); "
            "check the key of this deployment."
        ),
        "ENV False",
    ]
    assert "private words" not in run.stderr
    assert "sk-very-secret-1" not in run.stderr
    assert "Traceback" not in run.stderr
    assert list(server.mock.last_keys) == ["Bearer sk-very-secret-1"]


def test_litellm__call_switches_off_retries_and_leaves_out_what_nobody_asked_for() -> None:
    catalogue = load_catalogue(CATALOGUE.format(url="http://127.0.0.1:1"), environ={"KEY": "sk-1"})

    arguments = call_arguments(
        CompletionRequest(messages=(Message("user", "hi"),), timeout_seconds=9.0),
        catalogue.resolve("hosted").deployments[0],
    )

    assert arguments == {
        "model": "hosted_vllm/MODEL",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1024,
        "timeout": 9.0,
        "max_retries": 0,
        "num_retries": 0,
        "api_key": "sk-1",
        "api_base": "http://127.0.0.1:1",
    }
    assert repr(Secret("sk-1")) == "***"
