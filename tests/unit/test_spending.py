"""Models within a budget: what each kind of ending counts for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from evals.catalogue import Catalogue, Model
from evals.errors import CapReached, ProviderError
from evals.models import CompletionRequest, Deployment
from evals.pool import ModelPool
from evals.pricing import most_usd
from evals.types import Message, Price
from server.domain.money import MoneyHeld, MoneyWish, nano_usd
from server.services.spending import Budget, SpendingModels

PRICE = Price(input=10, output=20)
REQUEST = CompletionRequest(messages=(Message("user", "one two three"),), max_tokens=50, timeout_seconds=5)
CAP = nano_usd(1)


def a_model(name: str, price: Price | None = PRICE, **options: object) -> Model:
    deployment = Deployment(id=f"echo/{name}", backend="echo", model=name, price=price, options=options)
    return Model(name=name, deployments=(deployment,))


MODELS = (
    a_model("fine"),
    a_model("slow", latency_ms=60_000),
    a_model("broken", fail_first=100),
    a_model("unpriced", None),
    a_model("free", Price(input=0.0, output=0.0)),
)
MOST = nano_usd(most_usd(MODELS[0], REQUEST) or 0)


async def no_sleep(_: float) -> None:
    return None


async def plenty(wish: MoneyWish) -> MoneyHeld:
    return MoneyHeld(held=wish.wanted, is_granted=True, others_hold=False)


@pytest.fixture
async def pool() -> AsyncIterator[ModelPool]:
    async with ModelPool(Catalogue(default="fine", models=MODELS), sleep=no_sleep) as models:
        yield models


def spending(pool: ModelPool, *, cap: int = CAP) -> tuple[SpendingModels, Budget]:
    budget = Budget(cap=cap, spent=0, settle=plenty)
    return SpendingModels(pool, budget), budget


async def test_spending__an_answer_costs_what_it_cost(pool: ModelPool) -> None:
    models, budget = spending(pool)

    completion = await models.complete("fine", REQUEST)

    assert completion.cost_usd is not None
    assert budget.spent == nano_usd(completion.cost_usd) == nano_usd((3 * 10 + 3 * 20) / 1e6)


async def test_spending__a_refusal_costs_nothing(pool: ModelPool) -> None:
    models, budget = spending(pool)

    with pytest.raises(ProviderError):
        await models.complete("broken", REQUEST)

    assert budget.spent == 0


async def test_spending__a_time_out_is_taken_at_its_most(pool: ModelPool) -> None:
    models, budget = spending(pool)

    with pytest.raises(ProviderError):
        await models.complete("slow", CompletionRequest(messages=REQUEST.messages, max_tokens=50, timeout_seconds=0.05))

    assert budget.spent == MOST


async def test_spending__a_call_that_is_cut_off_is_taken_at_its_most(pool: ModelPool) -> None:
    models, budget = spending(pool)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await models.complete("slow", REQUEST)

    assert budget.spent == MOST


async def test_spending__no_price_is_not_free(pool: ModelPool) -> None:
    models, budget = spending(pool)

    with pytest.raises(ProviderError, match="unpriced has no known price"):
        await models.complete("unpriced", REQUEST)

    assert budget.spent == 0


async def test_spending__free_models_need_no_money(pool: ModelPool) -> None:
    models, _ = spending(pool, cap=0)

    assert (await models.complete("free", REQUEST)).text == "one two three"
    with pytest.raises(CapReached):
        await models.complete("fine", REQUEST)


async def test_spending__once_stopped_nothing_with_a_price_is_called(pool: ModelPool) -> None:
    models, budget = spending(pool, cap=MOST)
    long = CompletionRequest(messages=REQUEST.messages, max_tokens=51)

    with pytest.raises(CapReached):
        await models.complete("fine", long)
    with pytest.raises(CapReached):
        await models.complete("fine", REQUEST)

    assert budget.spent == 0
