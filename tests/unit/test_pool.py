"""The pool: retries, fallbacks, limits, time, prices. Its backends here are the echo and the mock server."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import pytest

from evals.catalogue import Catalogue, Model, single_proxy_catalogue
from evals.errors import ModelUnreachable, ProviderError, UnknownModel
from evals.models import CompletionRequest, Deployment
from evals.pool import ModelPool, cost_usd, storable
from evals.types import Completion, Message, Price
from tests.standins.model_server import ModelServer, model_server

PRICE = Price(input=1.0, output=10.0)


class Naps:
    """Sleeps that take no time, remembered; its clock knows them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def clock(self) -> float:
        return sum(self.seconds)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def echo(name: str = "first", *, price: Price | None = PRICE, **options: Any) -> Deployment:
    limits = {key: options.pop(key) for key in ("max_in_flight", "timeout_seconds", "rank") if key in options}
    return Deployment(id=f"echo/{name}", backend="echo", model=name, price=price, options=options, **limits)


def served(server: ModelServer, model: str, **changes: Any) -> Deployment:
    return Deployment(
        id=f"server/{model}",
        backend="openai_compatible",
        model=model,
        price=PRICE,
        base_url=server.base_url,
        **changes,
    )


def a_pool(*deployments: Deployment, naps: Naps | None = None) -> ModelPool:
    catalogue = Catalogue(default="model", models=[Model(name="model", deployments=deployments)])
    naps = naps or Naps()
    return ModelPool(catalogue, clock=naps.clock, sleep=naps, random=lambda: 0.5)


def a_request(text: str = "one two three", *, timeout_seconds: float = 5.0) -> CompletionRequest:
    return CompletionRequest(messages=(Message("user", text),), timeout_seconds=timeout_seconds)


async def test_pool__answer_has_cost_duration_and_its_one_attempt() -> None:
    async with a_pool(echo()) as pool:
        completion = await pool.complete("model", a_request())

    assert completion.text == "one two three"
    assert completion.cost_usd == pytest.approx((3 * 1.0 + 3 * 10.0) / 1e6)
    assert [(a.deployment, a.error) for a in completion.attempts] == [("echo/first", None)]
    assert completion.duration_ms >= 0


async def test_pool__retries_twice_with_growing_pauses() -> None:
    naps = Naps()

    async with a_pool(echo(fail_first=2), naps=naps) as pool:
        completion = await pool.complete("model", a_request())

    assert [attempt.status for attempt in completion.attempts] == [500, 500, None]
    assert completion.attempts[0].error == "echo/first fails as it was told to."
    assert naps.seconds == [0.5, 1.0]


async def test_pool__falls_back_when_a_deployment_fails_three_times() -> None:
    async with a_pool(echo("broken", fail_first=3), echo("sound")) as pool:
        completion = await pool.complete("model", a_request())

    assert completion.answered_by == "sound"
    assert [a.deployment for a in completion.attempts] == ["echo/broken"] * 3 + ["echo/sound"]


async def test_pool__nobody_answers_and_the_error_says_why() -> None:
    async with a_pool(echo("a", fail_first=9), echo("b", fail_first=9)) as pool:
        with pytest.raises(ProviderError) as caught:
            await pool.complete("model", a_request())

    assert caught.value.message == "model gave no answer (6 attempts): echo/b fails as it was told to."
    assert (caught.value.status, caught.value.timed_out) == (500, False)


async def test_pool__refusal_that_stays_is_not_asked_again_but_the_next_deployment_is() -> None:
    async with model_server() as server, a_pool(served(server, "status-401-a"), echo("sound")) as pool:
        completion = await pool.complete("model", a_request())

    assert [a.deployment for a in completion.attempts] == ["server/status-401-a", "echo/sound"]
    assert completion.attempts[0].status == 401


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
async def test_pool__client_errors_are_called_once(status: int) -> None:
    async with model_server() as server, a_pool(served(server, f"status-{status}-a")) as pool:
        with pytest.raises(ProviderError) as caught:
            await pool.complete("model", a_request())

    assert server.mock.requests == 1
    assert caught.value.status == status
    assert not caught.value.retryable


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
async def test_pool__passing_trouble_of_the_last_deployment_is_called_five_times(status: int) -> None:
    async with model_server() as server, a_pool(served(server, f"status-{status}-a")) as pool:
        with pytest.raises(ProviderError):
            await pool.complete("model", a_request(timeout_seconds=60.0))

    assert server.mock.requests == 5


async def test_pool__redirect_is_not_followed() -> None:
    async with model_server() as server, a_pool(served(server, "status-307-a")) as pool:
        with pytest.raises(ProviderError) as caught:
            await pool.complete("model", a_request())

    assert server.mock.requests == 1
    assert "never followed" in caught.value.message


async def test_pool__retry_after_in_seconds_is_obeyed() -> None:
    naps = Naps()
    async with model_server() as server, a_pool(served(server, "mock-a"), naps=naps) as pool:
        server.mock.fail_next, server.mock.fail_status, server.mock.retry_after = 1, 429, "3"

        await pool.complete("model", a_request())

    assert naps.seconds == [3.0]


async def test_pool__retry_after_as_a_date_is_obeyed() -> None:
    naps = Naps()
    async with model_server() as server, a_pool(served(server, "mock-a"), naps=naps) as pool:
        server.mock.fail_next, server.mock.fail_status = 1, 503
        server.mock.retry_after = formatdate(time.time() + 4, usegmt=True)

        await pool.complete("model", a_request())

    assert naps.seconds == [pytest.approx(3.5, abs=1.0)]


@pytest.mark.parametrize("far", ["31", "120", "6"])
async def test_pool__deployment_that_asks_for_more_time_than_there_is_gives_way_at_once(far: str) -> None:
    naps = Naps()
    async with (
        model_server() as server,
        a_pool(served(server, "status-429-a"), echo("sound"), naps=naps) as pool,
    ):
        server.mock.retry_after = far

        completion = await pool.complete("model", a_request(timeout_seconds=5.0 if far == "6" else 300.0))

    assert completion.answered_by == "sound"
    assert server.mock.requests == 1
    assert naps.seconds == []


@pytest.mark.parametrize("nonsense", ["soon", "nan", "inf", "-5", "Mon, 99 Foo 2026 99:99:99 GMT", "9" * 400])
async def test_pool__unreadable_retry_after_breaks_nothing(nonsense: str) -> None:
    naps = Naps()
    async with model_server() as server, a_pool(served(server, "mock-a"), naps=naps) as pool:
        server.mock.fail_next, server.mock.fail_status, server.mock.retry_after = 1, 429, nonsense

        await pool.complete("model", a_request())

    assert naps.seconds == [0.0 if nonsense == "-5" else 0.5]


async def test_pool__total_time_ends_waits_and_calls() -> None:
    catalogue = Catalogue(
        default="model", models=[Model(name="model", deployments=(echo(latency_ms=60_000), echo("b")))]
    )
    started = time.monotonic()

    async with ModelPool(catalogue) as pool:
        with pytest.raises(ProviderError) as caught:
            await pool.complete("model", a_request(timeout_seconds=0.2))

    assert caught.value.timed_out
    assert caught.value.message.startswith("model gave no answer")
    assert "0.2 s" in caught.value.message
    assert time.monotonic() - started < 1.0


async def test_pool__slow_deployment_leaves_time_for_the_next() -> None:
    async with a_pool(echo("slow", latency_ms=60_000, timeout_seconds=0.05), echo("sound")) as pool:
        completion = await pool.complete("model", a_request())

    assert completion.answered_by == "sound"
    assert completion.attempts[0].error == "echo/slow did not answer within 0.05 s."


async def test_pool__in_flight_limit_of_a_deployment_is_held() -> None:
    async with (
        model_server(latency_ms=10) as server,
        a_pool(served(server, "mock-a", max_in_flight=3)) as pool,
    ):
        await asyncio.gather(*(pool.complete("model", a_request(f"case {n}")) for n in range(20)))

    assert server.mock.max_in_flight == 3
    assert server.mock.requests == 20


async def test_pool__pause_frees_the_slot_for_others() -> None:
    waiting = asyncio.Event()
    resume = asyncio.Event()

    async def nap(_: float) -> None:
        waiting.set()
        await resume.wait()

    deployment = echo(fail_first=1, max_in_flight=1)
    catalogue = Catalogue(default="model", models=[Model(name="model", deployments=(deployment,))])
    async with ModelPool(catalogue, sleep=nap) as pool:
        first = asyncio.create_task(pool.complete("model", a_request("first")))
        await waiting.wait()

        second = await pool.complete("model", a_request("second"))
        resume.set()

        assert second.text == "second"
        assert (await first).text == "first"


@pytest.mark.parametrize("model", ["slow-60000-a", "endless-a", "status-500-a"])
async def test_pool__cancellation_leaves_nothing_behind(model: str) -> None:
    never = asyncio.Event()

    async def nap(_: float) -> None:
        await never.wait()

    async with model_server() as server:
        only = Model(name="model", deployments=(served(server, model, max_in_flight=1),))
        async with ModelPool(Catalogue(default="model", models=[only]), sleep=nap) as pool:
            before = asyncio.all_tasks()
            call = asyncio.create_task(pool.complete("model", a_request()))
            await asyncio.sleep(0.1)

            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

            asked = server.mock.requests
            with pytest.raises(ProviderError):
                await pool.complete("model", a_request(timeout_seconds=0.2))
            assert server.mock.requests == asked + 1, "its slot was not freed"
            async with asyncio.timeout(2):
                while server.mock.in_flight:
                    await asyncio.sleep(0.01)
            assert {task.get_coro().__name__ for task in asyncio.all_tasks() - before} <= {"start"}


async def test_pool__unknown_and_unreachable_models_are_named() -> None:
    async with a_pool() as pool:
        with pytest.raises(UnknownModel):
            await pool.complete("other", a_request())
        with pytest.raises(ModelUnreachable):
            await pool.complete("model", a_request())


async def test_pool__users_own_proxy_has_no_known_cost() -> None:
    async with model_server() as server, ModelPool(single_proxy_catalogue(server.url)) as pool:
        completion = await pool.complete("mock-a", a_request("case 0007"))

    assert completion.text.startswith("ANSWER-0007")
    assert completion.cost_usd is None
    assert completion.input_tokens is not None


async def test_pool__is_prepared_and_closed_twice_without_harm() -> None:
    pool = a_pool(echo())
    await pool.prepare()
    await pool.prepare()

    assert (await pool.complete("model", a_request())).text == "one two three"

    await pool.aclose()
    await pool.aclose()


@pytest.mark.parametrize(
    ("price", "counts", "cost"),
    [
        (PRICE, (1000, 100), 0.002),
        (PRICE, (None, 100), None),
        (PRICE, (1000, None), None),
        (None, (1000, 100), None),
        (Price(input=0, output=0), (None, None), 0.0),
        (PRICE, (0, 0), 0.0),
    ],
)
def test_cost__unknown_is_never_free(
    price: Price | None, counts: tuple[int | None, int | None], cost: float | None
) -> None:
    completion = Completion(text="", answered_by="m", input_tokens=counts[0], output_tokens=counts[1])

    assert cost_usd(completion, echo(price=price)) == cost


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"),
        ("nul\0", "nul\ufffd"),
        ("\ud83d", "\ufffd"),
        ("a\ud800b\udfffc", "a\ufffdb\ufffdc"),
        ("\U0001f600 é\0", "\U0001f600 é\ufffd"),
        ("\ufeffé", "\ufeffé"),
    ],
)
def test_storable__I17_text_that_no_database_takes_is_marked(text: str, stored: str) -> None:
    assert storable(Completion(text=text, answered_by="m"), echo()).text == stored


def test_storable__I17_flood_is_a_provider_error() -> None:
    with pytest.raises(ProviderError, match="more than 4 MB"):
        storable(Completion(text="x" * (4 * 2**20 + 1), answered_by="m"), echo())


async def test_pool__I17_nul_of_a_server_reaches_nobody() -> None:
    async with model_server() as server, a_pool(served(server, "nul-a")) as pool:
        completion = await pool.complete("model", a_request())

    assert completion.text == "before\ufffdafter"


async def test_pool__calls_are_spread_over_deployments_of_equal_rank() -> None:
    async with model_server(latency_ms=20) as server:
        pool = a_pool(served(server, "mock-a", rank=1), served(server, "mock-b", rank=1))
        async with pool:
            await asyncio.gather(*(pool.complete("model", a_request(f"case {n}")) for n in range(40)))

    assert min(server.mock.by_model.values()) >= 15


async def test_pool__equal_deployment_steps_in_without_a_pause() -> None:
    naps = Naps()

    async with a_pool(echo("broken", fail_first=9, rank=1), echo("sound", rank=1), naps=naps) as pool:
        completion = await pool.complete("model", a_request())

    assert completion.answered_by == "sound"
    assert [a.deployment for a in completion.attempts] == ["echo/broken", "echo/sound"]
    assert naps.seconds == []


async def test_pool__next_rank_is_asked_at_once_while_the_first_one_rests() -> None:
    async with a_pool(echo("broken", fail_first=99), echo("sound")) as pool:
        for _ in range(10):
            last = await pool.complete("model", a_request())

    # Three calls of it each, until eight had failed in a row.
    assert [a.deployment for a in last.attempts] == ["echo/sound"]


async def test_pool__lone_deployment_that_rests_is_waited_for() -> None:
    naps = Naps()

    async with a_pool(echo("back soon", fail_first=8), naps=naps) as pool:
        with pytest.raises(ProviderError):
            await pool.complete("model", a_request(timeout_seconds=60.0))
        completion = await pool.complete("model", a_request(timeout_seconds=60.0))

    assert completion.answered_by == "back soon"
    # Its own pause after the eighth failure, and what is left of the rest.
    assert naps.seconds[-2:] == [2.0, 3.0]


async def test_pool__dead_provider_ends_calls_at_once_and_says_when_it_is_asked_again() -> None:
    naps = Naps()
    async with model_server() as server, a_pool(served(server, "status-500-a"), naps=naps) as pool:
        for _ in range(8):
            with pytest.raises(ProviderError):
                await pool.complete("model", a_request(timeout_seconds=120.0))
        asked, slept = server.mock.requests, sum(naps.seconds)

        with pytest.raises(ProviderError, match=r"failed too often and is left alone; it is asked again in \d+ s"):
            await pool.complete("model", a_request(timeout_seconds=120.0))

    assert server.mock.requests == asked < 20
    assert sum(naps.seconds) == slept


async def test_pool__requests_own_faults_do_not_make_a_deployment_rest() -> None:
    async with model_server() as server, a_pool(served(server, "status-400-a")) as pool:
        for _ in range(20):
            with pytest.raises(ProviderError, match="refused the request"):
                await pool.complete("model", a_request())

    assert server.mock.requests == 20


async def test_pool__who_gives_too_little_time_does_not_make_a_deployment_rest() -> None:
    async with a_pool(echo("slow", latency_ms=40)) as pool:
        for _ in range(10):
            with pytest.raises(ProviderError, match="no answer within"):
                await pool.complete("model", a_request(timeout_seconds=0.01))

        assert (await pool.complete("model", a_request())).answered_by == "slow"


async def test_pool__refusal_for_one_stops_the_calls_of_all() -> None:
    naps = Naps()
    async with model_server() as server, a_pool(served(server, "mock-a"), naps=naps) as pool:
        server.mock.fail_next, server.mock.fail_status, server.mock.retry_after = 1, 429, "3"
        await asyncio.gather(*(pool.complete("model", a_request(f"case {n}", timeout_seconds=60)) for n in range(2)))
        await pool.complete("model", a_request())

    assert server.mock.by_status[429] == 1
    assert sum(naps.seconds) >= 3.0


@pytest.mark.parametrize("model", ["err-0.2-a", "flaky-1.0-a"])
async def test_pool__one_error_in_five_costs_no_answer(model: str) -> None:
    async with model_server() as server, a_pool(served(server, model)) as pool:
        completions = [await pool.complete("model", a_request(f"case {n}", timeout_seconds=60)) for n in range(60)]

    assert all(f"ANSWER-{n}" in completion.text for n, completion in enumerate(completions))
