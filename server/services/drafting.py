"""What a model said while it wrote a job's cases is paid for once, whoever held the job then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from evals.generating import CannotGenerate
from evals.models import CompletionRequest
from evals.pool import ModelPool
from evals.types import Completion
from server.store.suite_drafts import Draft

# A worker that dies while the model writes has paid for an answer that nobody has. Once that may happen.
MOST_LOST = 1


class DraftStore(Struct, frozen=True, kw_only=True):
    """How tries are noted and answers kept. Both are done when they return, or raise because the job is another's."""

    begin: Callable[[int, str], Awaitable[None]]  # number of the try, model
    keep: Callable[[int, Completion], Awaitable[None]]


class DraftedModels(ModelPool):
    """Whoever writes a job's cases. What was answered to earlier leases is answered again at once, in the same order.

    For one call after the other. What the models hold open stays theirs: it needs no closing.
    """

    def __init__(self, models: ModelPool, earlier: Sequence[Draft], *, store: DraftStore) -> None:
        super().__init__(models.catalogue)
        self._models = models
        self._store = store
        self._earlier = [draft for draft in earlier if draft.completion is not None]
        self._lost = len(earlier) - len(self._earlier)
        self._tries = max((draft.number for draft in earlier), default=0)

    async def complete(self, model_name: str, request: CompletionRequest) -> Completion:
        """As ModelPool.complete, and CannotGenerate when too many answers were lost."""
        while self._earlier:
            draft = self._earlier.pop(0)
            # What another model said is no part of this conversation: the server's default may have changed.
            if draft.completion is not None and draft.model == model_name:
                return draft.completion
        if self._lost > MOST_LOST:
            raise CannotGenerate(
                f"The worker ended {self._lost} times while the model {model_name} wrote cases, so it is not asked "
                "again."
            )
        self._tries += 1
        number = self._tries
        await self._store.begin(number, model_name)
        completion = await self._models.complete(model_name, request)
        await self._store.keep(number, completion)
        return completion
