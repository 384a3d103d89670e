"""What every notifier promises, tried on each that the registry finds, with both drivers.

A new notifier brings `tests/standins/notifiers/<its name>.py`: `stand_in()` makes a strict stand-in of its platform,
`target_for(stand_in, mode)` a target there, `elsewhere(target, url)` the same on another server, `again(target,
receipt)` the target of a second telling (None if the platform cannot edit), `visible(stand_in)` what people see, a text
a message, and SECRETS lists what may never be shown. Nothing here is edited.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import socket
import time
import unicodedata
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from notifiers import NOTIFIERS, CannotNotify, Messages, Notice, Receipt, Request, Response
from notifiers._http import Patience
from notifiers._urllib import drive, opener
from server.services.posting import post, posting_client
from tests.notices import HOSTILE, a_change, a_failure, a_hostile_notice, a_notice, a_row, a_success
from tests.standins.web import Answer, Fault, StandIn

PATIENCE = Patience(tries=4, pauses_seconds=60.0)


class Driver:
    """Carries a notifier out, and remembers how long it would have waited."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pauses: list[float] = []
        self._send = opener(use_proxies=False)
        self._runner = asyncio.Runner()
        self._client = posting_client()

    def __call__(self, messages: Messages) -> Receipt:
        if self.kind == "urllib":
            return drive(messages, send=self._send, patience=PATIENCE, sleep=self.pauses.append)
        return self._runner.run(post(messages, client=self._client, patience=PATIENCE, sleep=self._pause))

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


@pytest.fixture(params=list(NOTIFIERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def platform(name: str) -> ModuleType:
    return importlib.import_module(f"tests.standins.notifiers.{name}")


@pytest.fixture
def server(platform: ModuleType) -> Iterator[StandIn]:
    with platform.stand_in().running() as running:
        yield running


@pytest.fixture(params=["urllib", "httpx"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    made = Driver(request.param)
    yield made
    made.close()


@pytest.fixture
def tell(name: str, platform: ModuleType, server: StandIn, driver: Driver) -> Callable[..., Receipt]:
    def run(notice: Notice, *, mode: str = "always", target: Any = None, hurry: bool = False) -> Receipt:
        chosen = target if target is not None else platform.target_for(server, mode)
        messages = NOTIFIERS[name].tell(notice, chosen)
        return driver(hurried(messages) if hurry else messages)

    return run


def hurried(messages: Messages) -> Generator[Request, Response, Receipt]:
    """The same with time limits that a test can wait for."""
    request = next(messages)
    while True:
        try:
            response = yield replace(request, timeout_seconds=0.2)
        except CannotNotify as error:
            request = messages.throw(error)
            continue
        try:
            request = messages.send(response)
        except StopIteration as done:
            receipt: Receipt = done.value
            return receipt


def refusal_of(tell: Callable[..., Receipt], platform: ModuleType, *args: Any, **options: Any) -> CannotNotify:
    with pytest.raises(CannotNotify) as caught:
        tell(*args, **options)
    assert not any(secret in caught.value.message for secret in platform.SECRETS)
    assert len(caught.value.message) < 400
    return caught.value


def test_notifier__says_in_one_line_what_it_is(name: str) -> None:
    entry = NOTIFIERS[name]

    assert entry.summary.endswith(".")
    assert len(entry.summary) < 100
    assert inspect.isgeneratorfunction(entry.tell), "a notifier opens no connection: it yields requests"


def test_notifier__tells_a_failure_once(tell: Callable[..., Receipt], platform: ModuleType, server: StandIn) -> None:
    receipt = tell(a_failure())

    assert receipt.did
    assert server.violations == []
    shown = platform.visible(server)
    assert len(shown) == 1
    assert "Says hello" in shown[0]


@pytest.mark.parametrize(
    "notice",
    [
        a_success(),
        a_notice(a_row(state="error")),
        a_notice(a_row(state="skipped")),
        a_notice(),
        a_notice(*(a_row(f"case {n}", state="failed") for n in range(120))),
        a_notice(a_row(state="failed", change=a_change("regressed")), a_row(change=a_change("fixed"))),
        replace(a_failure(), url="", ref="", head_sha="", suite_path=None),
        replace(a_failure(), url="javascript:alert(1)"),
        replace(a_failure(), url="https://testing.example/a) ![x](https://evil.example) |<b>\n"),
    ],
    ids=["passed", "errored", "skipped", "empty", "120 failures", "regressed", "bare", "script", "odd url"],
)
def test_notifier__sends_nothing_that_would_be_refused(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn, notice: Notice
) -> None:
    tell(notice)

    assert server.violations == []
    assert len(platform.visible(server)) == 1
    assert "](https://evil" not in platform.visible(server)[0]
    assert "(javascript:" not in platform.visible(server)[0]


def test_notifier__O1_to_O9_hostile_text_is_sent_harmless(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    for text in (*HOSTILE, " ".join(HOSTILE)):
        tell(a_hostile_notice(text))

        assert server.violations == [], text
        shown = platform.visible(server)[-1]
        invisible = {char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Cs") and char != "\n"}
        assert invisible == set(), "O5"


def test_notifier__O6_thousands_of_rows_stay_within_the_limits(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    rows = [a_row(f"{n} " + "x" * 400, state="failed", response="🎉" * 5000, model="m" * 300) for n in range(2000)]

    tell(a_notice(*rows))

    assert server.violations == []
    (shown,) = platform.visible(server)
    assert "https://testing.example/jobs/1" in shown


def test_notifier__never_sends_nothing_at_all(tell: Callable[..., Receipt], server: StandIn) -> None:
    receipt = tell(a_failure(), mode="never")

    assert receipt.did == ()
    assert receipt.reason
    assert server.log == []


def test_notifier__a_first_run_that_passes_is_no_news(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    tell(a_success(), mode="changes")

    assert platform.visible(server) == []


def test_notifier__telling_the_same_again_leaves_one_message(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    target = platform.target_for(server, "always")
    receipt = tell(a_failure(), target=target)
    second = platform.again(target, receipt)
    if second is None:
        pytest.skip("the platform cannot edit a message")

    tell(a_failure(), target=second)

    assert len(platform.visible(server)) == 1
    assert server.violations == []


def test_notifier__waits_as_long_as_a_429_says(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn, driver: Driver
) -> None:
    server.faults = [Fault(answer=Answer(status=429, headers={"Retry-After": "7"}))]

    tell(a_failure())

    assert driver.pauses == [7.0]
    assert len(platform.visible(server)) == 1


def test_notifier__a_429_for_an_hour_is_left_to_the_caller(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn, driver: Driver
) -> None:
    server.faults = [Fault(answer=Answer(status=429, headers={"Retry-After": "3600"}), times=100)]

    error = refusal_of(tell, platform, a_failure())

    assert (error.retryable, error.retry_after_seconds, error.gone) == (True, 3600.0, False)
    assert driver.pauses == []
    assert len(server.log) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_notifier__a_502_is_tried_again_and_told_once(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn, status: int
) -> None:
    server.faults = [Fault(answer=Answer(status=status, body=b"<html>bad gateway</html>"), methods=_writes(server))]

    tell(a_failure())

    assert len(platform.visible(server)) == 1
    assert server.violations == []


def test_notifier__a_lost_answer_leaves_one_message_where_that_can_be_seen(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    server.faults = [Fault(answer=Answer(status=502), methods=_writes(server), after=True)]
    target = platform.target_for(server, "always")

    receipt = tell(a_failure(), target=target)

    can_look = any(seen.method == "GET" for seen in server.log)
    assert receipt.did
    assert len(platform.visible(server)) == 1 if can_look else len(platform.visible(server)) >= 1


def test_notifier__endless_trouble_is_left_to_the_caller(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    server.faults = [Fault(answer=Answer(status=502), times=1000)]

    error = refusal_of(tell, platform, a_failure())

    assert error.retryable
    assert len(server.log) < 20


def test_notifier__404_ends_the_target(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn, driver: Driver
) -> None:
    server.faults = [Fault(answer=Answer(status=404, body={"message": "secret words"}), times=1000)]

    error = refusal_of(tell, platform, a_failure())

    assert (error.gone, error.retryable) == (True, False)
    assert "secret words" not in error.message, "S8"
    assert driver.pauses == []


@pytest.mark.parametrize("status", [400, 403, 422])
def test_notifier__a_refusal_is_not_repeated(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn, driver: Driver, status: int
) -> None:
    server.faults = [Fault(answer=Answer(status=status, body={"message": "secret words"}), times=1000)]

    error = refusal_of(tell, platform, a_failure())

    assert (error.retryable, error.gone) == (False, False)
    assert "secret words" not in error.message, "S8"
    assert driver.pauses == []


def test_notifier__S3_a_redirect_is_not_followed(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    with platform.stand_in().running() as trap:
        server.faults = [Fault(answer=Answer(status=307, headers={"Location": trap.url}), times=1000)]

        error = refusal_of(tell, platform, a_failure())

        assert trap.log == []
        assert (error.retryable, error.gone) == (False, False)


def test_notifier__S5_a_slow_platform_ends_in_time(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    server.faults = [Fault(answer=Answer(status=200), times=1000, delay_seconds=0.4)]
    started = time.monotonic()

    error = refusal_of(tell, platform, a_failure(), hurry=True)

    assert error.retryable
    assert time.monotonic() - started < 10


def test_notifier__S5_an_endless_answer_is_not_read(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    server.faults = [Fault(answer=Answer(status=200), times=1000, endless=True)]

    error = refusal_of(tell, platform, a_failure())

    assert error.retryable
    assert "answered more than" in error.message, "it is the size that ends it, not the time"


def test_notifier__a_closed_connection_is_worth_another_try(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    server.faults = [Fault(answer=None)]

    tell(a_failure())

    assert len(platform.visible(server)) == 1


def test_notifier__an_unreachable_platform_is_left_to_the_caller(
    tell: Callable[..., Receipt], platform: ModuleType, server: StandIn
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        target = platform.elsewhere(
            platform.target_for(server, "always"), f"http://127.0.0.1:{nobody.getsockname()[1]}"
        )

        error = refusal_of(tell, platform, a_failure(), target=target)

    assert error.retryable


ODD_BODIES = (b"", b"<html>", b"null", b"[]", b"{}", b"[1]", b'{"id": "x"}', b'[{"id": 1}]', b"[" * 50_000, b"\xff")


def test_notifier__an_answer_of_another_form_is_survived(tell: Callable[..., Receipt], server: StandIn) -> None:
    for body in ODD_BODIES:
        server.faults = [Fault(answer=Answer(status=200, body=body), times=1000)]

        with suppress(CannotNotify):  # and nothing else
            tell(a_failure())


def test_notifier__shows_no_secret_in_a_repr(name: str, platform: ModuleType, server: StandIn) -> None:
    target = platform.target_for(server, "always")
    messages = NOTIFIERS[name].tell(a_failure(), target)
    request = next(messages)
    messages.close()

    assert not any(secret in repr(target) + repr(request) + request.origin for secret in platform.SECRETS)


def test_notifier__its_example_leads_nowhere_and_shows_a_message(name: str) -> None:
    from notifiers.__main__ import sent_for

    requests = sent_for(name, a_failure())

    assert any("Says hello" in (request.body or b"").decode() for request in requests)
    assert all(json.loads(request.body) for request in requests if request.body)


def _writes(server: StandIn) -> tuple[str, ...]:
    return ("POST", "PATCH", "PUT")
