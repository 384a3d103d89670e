"""The judge: JSON found in whatever it says, checked, asked for once more, and paid for."""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from referencing.exceptions import Unresolvable

from evals.catalogue import Catalogue, Model
from evals.errors import CannotJudge
from evals.judging import FREE_ASKS, OPINIONS_FOR_AN_ASK, ModelJudge, read_opinion
from evals.models import Deployment
from evals.pool import ModelPool
from evals.types import Message, Price
from tests.standins.model_server import ModelServer, model_server

SCHEMA = {
    "type": "object",
    "properties": {
        "pass": {"type": "boolean"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "reason": {"type": "string"},
    },
    "required": ["pass", "score", "reason"],
}
GOOD = {"pass": True, "score": 0.75, "reason": "fits"}
QUESTION = (Message("system", "You grade."), Message("user", "Is this GOLD?"))


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as running:
        yield running


@pytest_asyncio.fixture
async def judge(server: ModelServer) -> AsyncIterator[ModelJudge]:
    names = ("judge-a", "judge-b", "status-401-a", "status-500-a", "slow-60000-a", "filtered-a", "toy")
    models = [a_model(name, server) for name in names]
    async with ModelPool(Catalogue(default="judge-a", models=models), sleep=no_sleep) as pool:
        yield ModelJudge(pool, default_model="judge-a")


async def no_sleep(_: float) -> None:
    return None


def a_model(name: str, server: ModelServer) -> Model:
    deployment = Deployment(
        id=f"server/{name}",
        backend="openai_compatible",
        model=name,
        price=Price(input=1.0, output=2.0),
        base_url=server.base_url,
        timeout_seconds=0.1 if name.startswith("slow") else 5.0,
    )
    return Model(name=name, deployments=(deployment,), can_judge=name != "toy")


async def test_judge__opinion_is_what_the_model_said(judge: ModelJudge) -> None:
    opinion = await judge.ask(QUESTION, schema=SCHEMA, model=None)

    assert opinion == {"pass": True, "score": 1.0, "reason": "as the mock sees it"}


async def test_judge__asks_the_model_that_the_assertion_names(judge: ModelJudge, server: ModelServer) -> None:
    await judge.ask(QUESTION, schema=SCHEMA, model="judge-b")

    assert server.mock.by_model == {"judge-b": 1}


async def test_judge__asks_for_json_at_temperature_0(judge: ModelJudge, server: ModelServer) -> None:
    await judge.ask(QUESTION, schema=SCHEMA, model=None)

    (body,) = server.mock.last_bodies
    assert (body["temperature"], body["response_format"]) == (0.0, {"type": "json_object"})


async def test_judge__unusable_opinion_is_asked_for_again_with_the_finding(
    judge: ModelJudge, server: ModelServer
) -> None:
    server.mock.answers = ["I would say it passes.", f"Sorry! {json.dumps(GOOD)}"]

    opinion = await judge.ask(QUESTION, schema=SCHEMA, model=None)

    assert opinion == GOOD
    said = [message["content"] for message in server.mock.last_bodies[1]["messages"]]
    assert said[:3] == ["You grade.", "Is this GOLD?", "I would say it passes."]
    assert said[3] == (
        "That answer could not be used: there is no JSON object in it. Answer again with one JSON object "
        "that fits what was asked for, and with nothing before or after it."
    )


async def test_judge__breaking_one_time_in_five_loses_no_opinion(judge: ModelJudge, server: ModelServer) -> None:
    good = json.dumps(GOOD)
    server.mock.answers = [*[good] * 5, "no idea", "none", "nothing", "what?", good, good]

    opinions = [await judge.ask(QUESTION, schema=SCHEMA, model=None) for _ in range(7)]

    assert opinions == [GOOD] * 7
    assert server.mock.requests == 11


async def test_judge__finding_and_question_are_sent_by_turns(judge: ModelJudge, server: ModelServer) -> None:
    server.mock.answers = ["no idea", "none", "nothing", "what?", json.dumps(GOOD)]

    await judge.ask(QUESTION, schema=SCHEMA, model=None)

    said = [[message["content"] for message in body["messages"]] for body in server.mock.last_bodies]
    assert [len(texts) for texts in said] == [2, 4, 2, 4, 2]
    assert (said[1][2], said[3][2]) == ("no idea", "nothing")


async def test_judge__five_unusable_opinions_are_the_judges_trouble(judge: ModelJudge, server: ModelServer) -> None:
    broken = '{"pass": true, "score": 3, "reason": "x"}'
    server.mock.answers = ["no idea", *[broken] * 4, json.dumps(GOOD)]

    with pytest.raises(CannotJudge) as caught:
        await judge.ask(QUESTION, schema=SCHEMA, model=None)

    assert caught.value.kind == "judge"
    assert caught.value.message == (
        'The judge judge-a gave no usable answer in 5 tries: score does not fit {"maximum": 1}. Try another judge.'
    )
    assert server.mock.requests == 5


async def test_judge__only_breaking_is_given_up_on_soon(judge: ModelJudge, server: ModelServer) -> None:
    server.mock.answers = ["no idea"] * 100

    for _ in range(10):
        with pytest.raises(CannotJudge, match="gave no usable answer"):
            await judge.ask(QUESTION, schema=SCHEMA, model=None)

    # Two each, and what a run has for a judge that it does not know yet.
    assert server.mock.requests == 10 * 2 + FREE_ASKS


async def test_judge__usable_opinions_earn_further_asks_and_for_itself_alone(
    judge: ModelJudge, server: ModelServer
) -> None:
    server.mock.answers = [json.dumps(GOOD)] * (5 * OPINIONS_FOR_AN_ASK)
    for _ in range(5 * OPINIONS_FOR_AN_ASK):
        await judge.ask(QUESTION, schema=SCHEMA, model="judge-b")

    requests = []
    for name in ("judge-a", "judge-b"):
        before = server.mock.requests
        server.mock.answers = ["no idea"] * 100
        for _ in range(10):
            with pytest.raises(CannotJudge):
                await judge.ask(QUESTION, schema=SCHEMA, model=name)
        requests.append(server.mock.requests - before)

    assert requests == [20 + FREE_ASKS, 20 + FREE_ASKS + 5]


async def test_judge__empty_opinion_is_asked_for_again(judge: ModelJudge, server: ModelServer) -> None:
    with pytest.raises(CannotJudge, match="no JSON object"):
        await judge.ask(QUESTION, schema=SCHEMA, model="filtered-a")

    assert server.mock.last_bodies[1]["messages"][2] == {"role": "assistant", "content": "(nothing)"}


@pytest.mark.parametrize(
    ("model", "kind"),
    [("status-401-a", "judge"), ("status-500-a", "judge"), ("slow-60000-a", "timeout"), ("nobody", "judge")],
)
async def test_judge__trouble_with_the_model_is_an_error_and_no_verdict(
    judge: ModelJudge, model: str, kind: str
) -> None:
    with pytest.raises(CannotJudge) as caught:
        await judge.ask(QUESTION, schema=SCHEMA, model=model)

    assert caught.value.kind == kind
    assert "GOLD" not in caught.value.message


async def test_judge__demo_model_is_refused_before_it_is_asked(judge: ModelJudge, server: ModelServer) -> None:
    with pytest.raises(CannotJudge) as caught:
        await judge.ask(QUESTION, schema=SCHEMA, model="toy")

    assert caught.value.message == "The model toy is too small to judge; name another one for graded assertions."
    assert server.mock.requests == 0


async def test_judge__session_counts_every_call_and_others_none_of_it(judge: ModelJudge, server: ModelServer) -> None:
    server.mock.answers = ["no idea"]
    session, other = judge.session(), judge.session()

    await session.ask(QUESTION, schema=SCHEMA, model=None)

    first, second = (sum(len(m["content"]) for m in body["messages"]) for body in server.mock.last_bodies)
    asked = (first + 1) // 4 + (second + 3) // 4
    answered = len("no idea") // 4 + 61 // 4
    assert session.tokens == pytest.approx(asked + answered, abs=3)
    assert session.cost_usd == pytest.approx((asked + 2 * answered) / 1e6, abs=1e-5)
    assert session.cost_usd > 0
    assert (other.tokens, other.cost_usd) == (0, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"  {json.dumps(GOOD, indent=2)}\n",
        f"```json\n{json.dumps(GOOD)}\n```",
        f"Here you are:\n```\n{json.dumps(GOOD)}\n```\nAnything else?",
        f"The set {{a, b}} is fine. {json.dumps(GOOD)} Regards {{}}",
        f'{{"thinking": "first"}}\n{json.dumps(GOOD)}',
        f"<think>{{ {{ {{</think>{json.dumps(GOOD)}",
    ],
)
def test_opinion__is_found_in_whatever_stands_around_it(text: str) -> None:
    assert read_opinion(text, SCHEMA).value == GOOD


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", "there is no JSON object in it"),
        ("[1, 2]", "there is no JSON object in it"),
        ("{'pass': True}", "there is no JSON object in it"),
        ('{"pass": true, "score": NaN, "reason": ""}', "there is no JSON object in it"),
        ("{" * 100_000, "there is no JSON object in it"),
        ('{"a":' * 100_000, "there is no JSON object in it"),
        (
            '{"pass": true, "score": 1}',
            'the object does not fit {"required": ["pass", "score", "reason"]}',
        ),
        ('{"pass": "yes", "score": 1, "reason": ""}', 'pass does not fit {"type": "boolean"}'),
    ],
)
def test_opinion__finding_says_what_is_wrong_and_quotes_nothing(text: str, finding: str) -> None:
    opinion = read_opinion(text, SCHEMA)

    assert opinion.value is None
    assert opinion.finding == finding


def test_opinion__R4_remote_reference_is_never_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, warnings.catch_warnings():
        # The library warns before it fetches, where it fetches; here only the connection counts.
        warnings.simplefilter("ignore")
        listener.setblocking(False)
        schema: dict[str, Any] = {"$ref": f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"}
        socket.setdefaulttimeout(0.3)
        try:
            with pytest.raises(Unresolvable):
                read_opinion(json.dumps(GOOD), schema)
        finally:
            socket.setdefaulttimeout(None)

        with pytest.raises(BlockingIOError):
            listener.accept()
