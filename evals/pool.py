"""The deployments that answer for a model: limits, retries, fallbacks, the time limit, and what it cost."""

from __future__ import annotations

import asyncio
import random as randomness
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import msgspec

from evals.catalogue import FREE, Catalogue, Model
from evals.errors import ProviderError
from evals.models import BACKENDS, Backend, CompletionRequest, Deployment
from evals.types import Attempt, Completion

RETRIES = 2  # of one deployment, after its first call
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_ANSWER = 4 * 2**20  # characters, whatever the backend let through
_LONGEST_WORD = 200  # characters of an id or a reason that a provider reports


class ModelPool:
    """Calls models by their public names. One per process and event loop; safe for concurrent calls."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        """`clock` gives seconds, `sleep` takes seconds, `random` gives 0..1: all there for tests."""
        self.catalogue = catalogue
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._backends: dict[str, Backend] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def prepare(self) -> None:
        """Every backend that a reachable deployment uses is loaded. Safe to call twice, and to leave out."""
        for name in sorted(self.catalogue.backends):
            await self._backend(name).prepare()

    async def complete(self, model_name: str, request: CompletionRequest) -> Completion:
        """The first answer that a deployment of the model gives, with attempts, cost and duration.

        `request.timeout_seconds` bounds the whole, waits included. Raises UnknownModel, ModelUnreachable, and
        ProviderError when no deployment answered.
        """
        return await self.complete_while(model_name, request, allowed=_always)

    async def complete_while(
        self, model_name: str, request: CompletionRequest, *, allowed: Callable[[], Awaitable[None]]
    ) -> Completion:
        """As `complete`. `allowed` is awaited right before each attempt, after all waits for slots and pauses."""
        model = self.catalogue.resolve(model_name)
        call = _Call(model, request, allowed=allowed, deadline=self._clock() + request.timeout_seconds)
        try:
            async with asyncio.timeout(request.timeout_seconds):
                for deployment in model.ways(request):
                    completion = await self._ask(deployment, call)
                    if completion is not None:
                        return completion
        except TimeoutError:
            raise call.out_of_time() from None
        raise call.failed()

    async def aclose(self) -> None:
        """Every backend is closed. Safe to call twice."""
        backends, self._backends = self._backends, {}
        for backend in backends.values():
            await backend.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(self, deployment: Deployment, call: _Call) -> Completion | None:
        """One deployment's answer, or None when it is time for the next one; failures stand in `call`."""
        for retry in range(RETRIES + 1):
            try:
                return await self._attempt(deployment, call)
            except ProviderError as error:
                call.last_error = error
                pause = self._pause_seconds(error, retry)
                if not error.retryable or retry == RETRIES or not self._is_worth(pause, call):
                    return None
            # Outside the slot: who waits must not keep others from calling.
            await self._sleep(pause)
        return None

    async def _attempt(self, deployment: Deployment, call: _Call) -> Completion:
        async with self._slot(deployment):
            await call.allowed()
            started = self._clock()
            try:
                completion = await self._call_backend(deployment, call, started)
            except ProviderError as error:
                call.note(deployment, self._clock() - started, error)
                raise
            call.note(deployment, self._clock() - started)
        return msgspec.structs.replace(
            completion,
            duration_ms=round((self._clock() - started) * 1000),
            cost_usd=cost_usd(completion, deployment),
            attempts=tuple(call.attempts),
        )

    async def _call_backend(self, deployment: Deployment, call: _Call, started: float) -> Completion:
        seconds = max(0.0, min(deployment.timeout_seconds, call.deadline - started))
        request = msgspec.structs.replace(call.request, timeout_seconds=seconds)
        try:
            # A second guard: a backend that forgets its time limit must not hold the slot.
            async with asyncio.timeout(seconds):
                completion = await self._backend(deployment.backend).complete(request, deployment)
        except TimeoutError:
            raise ProviderError(
                f"{deployment.id} did not answer within {seconds:g} s.", retryable=True, timed_out=True
            ) from None
        return storable(completion, deployment)

    def _pause_seconds(self, error: ProviderError, retry: int) -> float:
        """What the provider asked for, or twice as long each time, by chance half to one and a half of it."""
        if error.retry_after_seconds is not None:
            return error.retry_after_seconds
        return min(FIRST_PAUSE_SECONDS * 2.0**retry * (0.5 + self._random()), LONGEST_PAUSE_SECONDS)

    def _is_worth(self, pause: float, call: _Call) -> bool:
        """Who is told to stay away for longer than there is time asks the next deployment at once."""
        return pause <= LONGEST_PAUSE_SECONDS and self._clock() + pause < call.deadline

    def _backend(self, name: str) -> Backend:
        if name not in self._backends:
            self._backends[name] = BACKENDS[name]()
        return self._backends[name]

    def _slot(self, deployment: Deployment) -> asyncio.Semaphore:
        if deployment.id not in self._slots:
            self._slots[deployment.id] = asyncio.Semaphore(deployment.max_in_flight)
        return self._slots[deployment.id]


async def _always() -> None:
    """Nobody has to be asked."""


class _Call:
    """What one call of a model has seen so far."""

    def __init__(
        self, model: Model, request: CompletionRequest, *, allowed: Callable[[], Awaitable[None]], deadline: float
    ) -> None:
        self.model = model
        self.request = request
        self.allowed = allowed
        self.deadline = deadline
        self.attempts: list[Attempt] = []
        self.last_error: ProviderError | None = None

    def note(self, deployment: Deployment, seconds: float, error: ProviderError | None = None) -> None:
        self.attempts.append(
            Attempt(
                deployment=deployment.id,
                duration_ms=round(seconds * 1000),
                error=error.message if error else None,
                status=error.status if error else None,
                timed_out=error.timed_out if error else False,
            )
        )

    def failed(self) -> ProviderError:
        """Why no deployment answered, in the words of the last one."""
        last = self.last_error
        said = last.message if last else "it has no deployment."
        return ProviderError(
            f"{self.model.name} gave no answer ({self._tries()}): {said}",
            retryable=last.retryable if last else False,
            status=last.status if last else None,
            retry_after_seconds=last.retry_after_seconds if last else None,
            timed_out=last.timed_out if last else False,
            attempts=self.attempts,
        )

    def out_of_time(self) -> ProviderError:
        """The time limit ended it, in a call or between two."""
        before = f" Before that: {self.last_error.message}" if self.last_error else ""
        return ProviderError(
            f"{self.model.name} gave no answer within {self.request.timeout_seconds:g} s.{before}",
            retryable=True,
            status=self.last_error.status if self.last_error else None,
            timed_out=True,
            attempts=self.attempts,
        )

    def _tries(self) -> str:
        return "1 attempt" if len(self.attempts) == 1 else f"{len(self.attempts)} attempts"


def cost_usd(completion: Completion, deployment: Deployment) -> float | None:
    """USD by the deployment's price and the provider's counts; None if either is unknown, 0 if it is free."""
    if deployment.price is None:
        return None
    if deployment.price == FREE:
        return 0.0
    if completion.input_tokens is None or completion.output_tokens is None:
        return None
    return deployment.price.cost_usd(input_tokens=completion.input_tokens, output_tokens=completion.output_tokens)


def storable(completion: Completion, deployment: Deployment) -> Completion:
    """The answer without what no database or file takes: NUL and halves of surrogate pairs become U+FFFD.

    Raises ProviderError for an answer that is longer than anything a model writes.
    """
    if len(completion.text) > LONGEST_ANSWER:
        raise ProviderError(f"{deployment.id} answered more than {LONGEST_ANSWER // 2**20} MB.", retryable=False)
    return msgspec.structs.replace(
        completion,
        text=_clean(completion.text),
        answered_by=_clean(completion.answered_by)[:_LONGEST_WORD],
        finish_reason=_clean(completion.finish_reason)[:_LONGEST_WORD] if completion.finish_reason else None,
    )


def _clean(text: str) -> str:
    # Most answers are fine, and then this is one pass in C.
    if text.isascii():
        return text.replace("\0", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
