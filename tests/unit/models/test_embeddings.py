"""Embeddings: what backends are asked, what they give, and what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from evals.assertions import Answer
from evals.catalogue import Catalogue, Model, load_catalogue, single_proxy_catalogue, vendor_key_variables
from evals.errors import CannotJudge, InvalidCatalogue
from evals.grading import grade
from evals.judging import JudgeSession, ModelJudge
from evals.models import BACKENDS, CompletionRequest, Deployment
from evals.models._embeddings import decode_embeddings
from evals.models.litellm import embedding_arguments
from evals.pool import ModelPool
from evals.types import Assertion, Case, Message, Price
from tests.standins.model_server import ModelServer, model_server
from tests.unit.test_runner import no_sleep

TEXTS = ("red apples", "apples, red", "a blue bus")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as running:
        yield running


def deployment(backend: str, server: ModelServer, model: str = "embed-a") -> Deployment:
    return Deployment(
        id=f"server/{model}", backend=backend, model=model, price=Price(input=1.0, output=0.0), base_url=server.base_url
    )


@asynccontextmanager
async def a_judge(server: ModelServer, *, model: str = "embed-a") -> AsyncIterator[JudgeSession]:
    embedder = Model(name="e", deployments=(deployment("openai_compatible", server, model),), embeds=True)
    plain = Model(name="plain", deployments=(deployment("echo", server),))
    catalogue = Catalogue(default="plain", models=[plain], embedders=[embedder])
    async with ModelPool(catalogue, sleep=no_sleep) as pool:
        yield ModelJudge(pool, default_model="plain").session()


@pytest.mark.parametrize("name", ["openai_compatible", "echo"])
async def test_embeddings__a_vector_for_each_text_in_their_order(name: str, server: ModelServer) -> None:
    backend = BACKENDS[name]()
    request = CompletionRequest(messages=tuple(Message("user", text) for text in TEXTS), embeddings=True)

    completion = await backend.complete(request, deployment(name, server))

    await backend.aclose()
    one, two, three = completion.vectors
    assert one == two != three
    assert (completion.text, completion.input_tokens, completion.output_tokens) == ("", 7, 0)


async def test_embeddings__are_asked_for_as_openai_does(server: ModelServer) -> None:
    backend = BACKENDS["openai_compatible"]()
    await backend.complete(CompletionRequest(messages=(Message("user", "x"),), embeddings=True),
                           deployment("openai_compatible", server))  # fmt: skip
    await backend.aclose()

    assert list(server.mock.last_bodies) == [{"model": "embed-a", "input": ["x"], "encoding_format": "float"}]


def test_embeddings__by_the_library_are_asked_for_once_without_its_retries(server: ModelServer) -> None:
    request = CompletionRequest(messages=(Message("user", "x"),), embeddings=True, timeout_seconds=3)

    arguments = embedding_arguments(request, deployment("litellm", server))

    assert arguments == {
        "model": "embed-a", "input": ["x"], "encoding_format": "float", "timeout": 3, "max_retries": 0,
        "num_retries": 0, "api_base": server.base_url,
    }  # fmt: skip


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"data": []},
        {"data": [{"embedding": [1.0]}]},
        {"data": [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}]},
        {"data": [{"embedding": "AAAA"}, {"embedding": "AAAA"}]},
        {"data": [{"embedding": [1.0]}, {"embedding": [1e400]}]},
        {"choices": [{"message": {"content": "hello"}}]},
    ],
)
def test_embeddings__anything_else_is_refused(reply: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^no"):
        decode_embeddings(json.dumps(reply).replace("Infinity", "1e400").encode(), count=2, model="m")


async def test_embeddings__are_paid_by_what_is_read_and_retried_as_answers_are(server: ModelServer) -> None:
    server.mock.fail_next, server.mock.fail_status = 1, 500
    async with a_judge(server) as session:
        await session.embed(TEXTS, model=None)

    assert server.mock.requests == 2
    assert (session.tokens, session.cost_usd) == (7, pytest.approx(7e-6))


async def test_similar__by_a_real_server(server: ModelServer) -> None:
    spec = Assertion(type="similar", value="apples red")
    case = Case(title="t", messages=(), assertions=(spec,))

    async with a_judge(server) as session:
        near = await grade(case, Answer(text="Red apples!"), session)
        far = await grade(case, Answer(text="A blue bus."), session)

    assert (near.state, near.score, far.state) == ("passed", pytest.approx(1), "failed")


@pytest.mark.parametrize(
    ("judge", "model", "said"),
    [
        ({"model": "status-401-a"}, None, "The judge did not answer: e gave no answer"),
        ({}, "plain", "The model plain makes no embeddings; name an embedding model as `provider`."),
        ({}, "nobody", "There is no model named 'nobody'."),
    ],
)
async def test_embeddings__trouble_is_the_judges_and_says_what_to_do(
    server: ModelServer, judge: dict[str, Any], model: str | None, said: str
) -> None:
    async with a_judge(server, **judge) as session:
        with pytest.raises(CannotJudge) as caught:
            await session.embed(("a",), model=model)

    assert said in caught.value.message
    assert caught.value.kind == "judge"


async def test_embeddings__without_an_embedding_model_the_operator_is_told_where_one_goes(server: ModelServer) -> None:
    plain = Model(name="plain", deployments=(deployment("echo", server),))
    judge = ModelJudge(ModelPool(Catalogue(default="plain", models=[plain])), default_model="plain")

    with pytest.raises(CannotJudge, match="add one to `embedders` in the models file"):
        await judge.session().embed(("a",), model=None)


EMBEDDERS = """
default: one
models:
  one: {context_tokens: 10, deployments: [{backend: echo, model: m, free: true}]}
embedders:
  first: {deployments: [{backend: litellm, model: openai/e, key_variable: E_KEY, price: 0.02}]}
  second: {deployments: [{backend: echo, model: e, free: true}]}
"""


def test_catalogue__embedders_are_found_by_name_and_nowhere_listed() -> None:
    without, with_key = load_catalogue(EMBEDDERS, environ={}), load_catalogue(EMBEDDERS, environ={"E_KEY": "k"})

    assert (without.embedder, with_key.embedder) == ("second", "first")
    assert with_key.resolve("first").deployments[0].price == Price(input=0.02, output=0.0)
    assert with_key.resolve("first").embeds
    assert [info.name for info in with_key.describe()] == ["one"]
    assert with_key.reachable == ("one",)
    assert "litellm" in with_key.backends
    assert vendor_key_variables(EMBEDDERS) == {"E_KEY"}
    assert single_proxy_catalogue("http://127.0.0.1:1").embedder == "text-embedding-3-small"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", price: 0.02", "", "embedders.first.deployments[0]: it needs a price"),
        ("  second:", "  one:", "embedders.one: a model has that name too"),
        ("price: 0.02", "price: {input: 1, output: 2}", "embedders"),
        ("backend: litellm", "backend: litelm", "embedders.first.deployments[0]: there is no backend 'litelm'"),
    ],
)
def test_catalogue__embedders_that_cannot_be_used(old: str, new: str, said: str) -> None:
    with pytest.raises(InvalidCatalogue) as caught:
        load_catalogue(EMBEDDERS.replace(old, new), environ={})

    assert said in "\n".join(caught.value.details)
