"""The family of model backends. To add one, put a file here; nothing else is edited.

    @backend("echo")
    class Echo:
        async def prepare(self) -> None: ...
        async def complete(self, request: CompletionRequest, deployment: Deployment) -> Completion: ...
        async def aclose(self) -> None: ...

A backend with options for its deployments names their Struct in an attribute `Options`; the catalogue then refuses
options that do not fit. One that runs agents says `runs_agents = True`: it answers requests with an `agent`, and the
others those without. A request may ask for `embeddings`: a backend that can gives them as the completion's `vectors`,
another one answers. Its file `tests/standins/backends/<name>.py` brings a backend under the family's contract test.
A backend makes one call and reports it. Retries, fallbacks, limits and prices are the pool's (evals/pool.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from evals.plugins import Registry
from evals.types import Completion, Message, Price

if TYPE_CHECKING:
    from evals.agents.tasks import AgentTask, Meter


class Secret:
    """A key that shows itself to nobody by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


class Deployment(Struct, frozen=True, kw_only=True):
    """One way to reach a model."""

    id: str  # unique in the catalogue, shown to people: "anthropic/claude-sonnet-4-6"
    backend: str
    model: str  # the id that the backend sends
    price: Price | None  # None: unknown, as for a user's own proxy; never taken for free
    base_url: str | None = None
    key: Secret | None = None
    max_in_flight: int = 50
    timeout_seconds: float = 120.0
    options: dict[str, Any] = {}
    rank: int | None = None  # equal ones share the calls, higher ones step in; None: its place in the list
    rpm: int | None = None  # requests a minute; None: found out when the provider refuses
    tpm: int | None = None  # tokens a minute, both ways

    @property
    def fingerprint(self) -> str:
        """64 hex digits that change when another model, or the same one otherwise, may answer. No key is in it."""
        parts = [self.backend, self.model, self.base_url, self.options]
        return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


class CompletionRequest(Struct, frozen=True, kw_only=True):
    """What is asked of a model. `timeout_seconds` bounds the whole call."""

    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int = 1024
    timeout_seconds: float = 120.0
    json_object: bool = False  # ask for a JSON object where the backend can
    embeddings: bool = False  # no answer is wanted, but a vector for each message's text
    # For a cache alone; nobody sends these.
    sample: int = 0  # tells equal requests of one run apart
    nonce: str = ""  # a random word in the messages that changes nothing about what is asked
    fresh: str = ""  # why a kept answer will not do; empty: it will
    # For backends that run agents alone: a model asked by itself has neither.
    agent: AgentTask | None = None
    meter: Meter | None = None  # who pays; None: nobody counts money
    # Awaited once more when the connection is there, by backends that can: a process may have been stopped since the
    # pool asked, and another may have made the call meanwhile.
    allowed: Callable[[], Awaitable[None]] | None = None


class Backend(Protocol):
    """Speaks one protocol. Made once per process and event loop; safe for concurrent calls."""

    async def prepare(self) -> None:
        """Load what is slow to load. Called in the background before the first call; safe to call twice."""

    async def complete(self, request: CompletionRequest, deployment: Deployment) -> Completion:
        """One call, no retries, cost left None. Raises ProviderError and nothing else (but cancellation)."""

    async def aclose(self) -> None:
        """Close connections. Safe to call twice."""


BACKENDS: Registry[Callable[[], Backend]] = Registry("evals.models")


def runs_agents(backend_name: str) -> bool:
    """Whether the backend runs agents, and so no model by itself. Raises KeyError for an unknown one."""
    return getattr(BACKENDS[backend_name], "runs_agents", False) is True


BackendClass = TypeVar("BackendClass", bound=type)


def backend(name: str) -> Callable[[BackendClass], BackendClass]:
    """Register a class, made without arguments, as the backend `name`."""

    def register(cls: BackendClass) -> BackendClass:
        BACKENDS.register(name, cls)
        return cls

    return register
