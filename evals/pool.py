"""The deployments that answer for a model: whom to ask, retries, fallbacks, the time limit, and what it cost."""

from __future__ import annotations

import asyncio
import random as randomness
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from evals.catalogue import FREE, Catalogue, Model, ranks_of
from evals.errors import ProviderError
from evals.limits import Ask, Ending, Grant, Limits, LocalLimits, Report, Wait
from evals.models import BACKENDS, Backend, CompletionRequest, Deployment
from evals.types import Attempt, Completion, Message

RETRIES = 2  # of one deployment, after its first call, while others may step in
# Of the last ones. Of calls that fail one time in five by chance, one in 125 fails three times in a row and one in
# 3,125 five times: an error of a provider should not cost a verdict.
LAST_RETRIES = 4
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
# For a deployment with no other beside it: through a restart, but no test hangs on a provider that is down.
LONGEST_REST_WAIT_SECONDS = 10.0
LONGEST_ANSWER = 4 * 2**20  # characters, whatever the backend let through
FAIR_SECONDS = 10.0  # who gave a deployment less time than this must not blame it
_LONGEST_WORD = 200  # characters of an id or a reason that a provider reports
# What a request itself can be refused for: the deployment is as good as before.
_REQUESTS_OWN = {400, 409, 413, 422, 425}


class ModelPool:
    """Calls models by their public names. One per process and event loop; safe for concurrent calls."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        """`limits` says how much each deployment may be asked, by default for this process alone; the pool closes it.

        `clock` gives seconds, `sleep` takes seconds, `random` gives 0..1: all there for tests.
        """
        self.catalogue = catalogue
        self._limits = limits or LocalLimits(clock=clock)
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._backends: dict[str, Backend] = {}
        self._queues: dict[tuple[str, ...], asyncio.Lock] = {}

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
        ranks = ranks_of(model.ways(request))
        try:
            async with asyncio.timeout(request.timeout_seconds):
                for place, rank in enumerate(ranks, 1):
                    call.retries = LAST_RETRIES if place == len(ranks) else RETRIES
                    completion = await self._ask(rank, call, is_last=place == len(ranks))
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
        await self._limits.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(self, rank: Sequence[Deployment], call: _Call, *, is_last: bool) -> Completion | None:
        """An answer from one of equal deployments, or None when it is time for the next rank."""
        while still_open := [deployment for deployment in rank if deployment.id not in call.given_up]:
            ready = [deployment for deployment in still_open if deployment.id not in call.pauses]
            if not ready:
                await self._pause(call)
                continue
            grant = await self._admitted(ready, call, may_rest=is_last)
            if grant is None:
                call.given_up.update(deployment.id for deployment in ready)
                continue
            try:
                return await self._attempt(grant, call)
            except ProviderError as error:
                call.last_error = error
        return None

    async def _pause(self, call: _Call) -> None:
        """The shortest of the call's pauses is over. Outside any slot: who waits must not keep others from calling."""
        shortest = min(call.pauses, key=call.pauses.__getitem__)
        await self._sleep(max(0.0, call.pauses[shortest] - self._clock()))
        del call.pauses[shortest]

    async def _admitted(self, ready: Sequence[Deployment], call: _Call, *, may_rest: bool) -> Grant | None:
        """Leave for a call of one of these, or None when that would take too long; `call` then knows why.

        Who comes first is first: each later one waits in a queue, and the first alone asks the limits again.
        """
        ask = Ask(
            deployments=tuple(ready),
            tokens=_most_tokens(ready, call.request),
            seconds=min(max(d.timeout_seconds for d in ready), call.deadline - self._clock()),
        )
        async with self._queue(ready):
            while True:
                taken = await self._limits.take(ask)
                if isinstance(taken, Grant):
                    return taken
                if taken.why == "room":
                    await self._limits.room(taken.seconds)
                elif not self._is_worth(taken.seconds, call) or (
                    taken.why == "rest" and (not may_rest or taken.seconds > LONGEST_REST_WAIT_SECONDS)
                ):
                    call.held_back(ready, taken)
                    return None
                else:
                    await self._sleep(taken.seconds)

    async def _attempt(self, grant: Grant, call: _Call) -> Completion:
        report = Report("neither")
        try:
            await call.allowed()
            started = self._clock()
            try:
                completion = await self._call_backend(grant.deployment, call, started)
            except ProviderError as error:
                call.note(grant.deployment, self._clock() - started, error)
                report = self._blame(error, grant.deployment, call)
                raise
            call.note(grant.deployment, self._clock() - started)
            report = Report("answered", tokens=_tokens_of(completion))
        finally:
            self._limits.give_back(grant, report)
        return msgspec.structs.replace(
            completion,
            duration_ms=round((self._clock() - started) * 1000),
            cost_usd=cost_usd(completion, grant.deployment),
            attempts=tuple(call.attempts),
        )

    async def _call_backend(self, deployment: Deployment, call: _Call, started: float) -> Completion:
        seconds = call.seconds_for(deployment, now=started)
        request = msgspec.structs.replace(call.request, timeout_seconds=seconds, allowed=call.allowed)
        try:
            # A second guard: a backend that forgets its time limit must not hold the slot.
            async with asyncio.timeout(seconds):
                completion = await self._backend(deployment.backend).complete(request, deployment)
        except TimeoutError:
            raise ProviderError(
                f"{deployment.id} did not answer within {seconds:g} s.", retryable=True, timed_out=True
            ) from None
        return storable(completion, deployment)

    def _blame(self, error: ProviderError, deployment: Deployment, call: _Call) -> Report:
        """What the failure means for the deployment; `call` then knows when it may ask it again, if at all."""
        pause = self._pause_seconds(error, call.failures_of(deployment) - 1)
        ending = _ending(error, had_seconds=call.seconds_for(deployment, now=call.begun))
        if not error.retryable or call.failures_of(deployment) > call.retries or not self._is_worth(pause, call):
            call.given_up.add(deployment.id)
        else:
            call.pauses[deployment.id] = self._clock() + pause
        return Report(ending, pause if ending == "refused" else error.retry_after_seconds or 0.0)

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

    def _queue(self, ready: Sequence[Deployment]) -> asyncio.Lock:
        return self._queues.setdefault(tuple(deployment.id for deployment in ready), asyncio.Lock())


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
        self.begun = deadline - request.timeout_seconds
        self.attempts: list[Attempt] = []
        self.last_error: ProviderError | None = None
        self.retries = RETRIES
        self.given_up: set[str] = set()  # ids of deployments that this call asks no more
        self.pauses: dict[str, float] = {}  # until when this call leaves a deployment alone

    def failures_of(self, deployment: Deployment) -> int:
        return sum(attempt.deployment == deployment.id for attempt in self.attempts)

    def seconds_for(self, deployment: Deployment, *, now: float) -> float:
        """How long the deployment may take for its answer."""
        return max(0.0, min(deployment.timeout_seconds, self.deadline - now))

    def held_back(self, deployments: Sequence[Deployment], wait: Wait) -> None:
        """No call was made, as none would have been of use. A failure that was seen says more than this."""
        if self.last_error is None:
            why = "failed too often and is left alone" if wait.why == "rest" else "takes no further calls"
            self.last_error = ProviderError(
                f"{deployments[0].id} {why}; it is asked again in {wait.seconds:.0f} s.",
                retryable=True,
                retry_after_seconds=wait.seconds,
            )

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


def _ending(error: ProviderError, *, had_seconds: float) -> Ending:
    """Whose fault it was: the deployment's limit, the deployment itself, or neither."""
    if error.status == 429:
        return "refused"
    if error.status in _REQUESTS_OWN or (error.timed_out and error.status is None and had_seconds < FAIR_SECONDS):
        return "neither"
    return "failed"


def _most_tokens(deployments: Sequence[Deployment], request: CompletionRequest) -> int:
    """That the call may take, where somebody counts them: about four characters a token, and the whole answer."""
    if all(deployment.tpm is None for deployment in deployments):
        return 0
    return sum(_length(message) for message in request.messages) // 4 + request.max_tokens


def _length(message: Message) -> int:
    return len(message.content)


def _tokens_of(completion: Completion) -> int | None:
    if completion.input_tokens is None or completion.output_tokens is None:
        return None
    return completion.input_tokens + completion.output_tokens


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
