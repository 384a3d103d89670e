"""What was answered before is not paid for again: a job's models behind kept answers, and outcomes that are kept whole.

Nothing here may end a job: a cache that cannot be reached is a cache that holds nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import asyncpg
import msgspec
import structlog
from msgspec import UNSET

from evals import ENGINE_VERSION
from evals.catalogue import Catalogue, Model, ModelInfo
from evals.models import CompletionRequest, Deployment
from evals.outcome import Outcome, count_trials, summary_as_cached
from evals.pool import ModelPool
from evals.runner import why_fresh
from evals.types import CacheUse, Completion, Suite
from server.domain.jobs import ClaimedJob, KeptOutcome
from server.domain.models import AnnouncedModel
from server.store import completions
from server.store.completions import KeptCompletion, NewCompletion
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

ASKED_ANEW = "the run asks every model anew"
PATIENCE_SECONDS = 5.0  # after which asking the model is the better way
MOST_AT_ONCE = 200  # keys or answers in one statement

Ask = TypeVar("Ask")
Reply = TypeVar("Reply")


class Gathered(Generic[Ask, Reply]):
    """Asks that come while others are under way go together in the next statement."""

    def __init__(self, act: Callable[[list[Ask]], Awaitable[Sequence[Reply]]]) -> None:
        """`act` answers in the order of what it is given."""
        self._act = act
        self._waiting: list[tuple[Ask, asyncio.Future[Reply]]] = []
        self._working: asyncio.Task[None] | None = None

    async def ask(self, ask: Ask) -> Reply:
        """Raises what `act` raised for all that were in the same statement."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, reply))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await reply

    async def _work(self) -> None:
        while self._waiting:
            batch = self._waiting[:MOST_AT_ONCE]
            del self._waiting[:MOST_AT_ONCE]
            # Who was cancelled meanwhile left a reply that is done.
            try:
                replies = await self._act([ask for ask, _ in batch])
            except Exception as error:  # noqa: BLE001 - it is raised again, where it was asked
                for _, reply in batch:
                    if not reply.done():
                        reply.set_exception(error)
            else:
                for (_, reply), said in zip(batch, replies, strict=True):
                    if not reply.done():
                        reply.set_result(said)

    async def aclose(self) -> None:
        """Nothing is under way any more."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)


class CachedModels(ModelPool):
    """A job's models behind what they answered before. What they hold open stays theirs.

    An answer is looked for under the deployment that is tried first, and kept only when that one gave it: what a
    fallback said must not be taken for the model's own word once it is back.
    """

    def __init__(self, models: ModelPool, db: asyncpg.Pool, job: ClaimedJob, *, days: int) -> None:
        """`days`: how old a kept answer may be; 0 switches the cache off."""
        super().__init__(models.catalogue)
        self._models = models
        self._db = db
        self._job = job
        self._days = days
        self._finds: Gathered[bytes, KeptCompletion | None] = Gathered(self._find)
        self._stores: Gathered[NewCompletion, None] = Gathered(self._store)
        self._versions: dict[str, str] = {}  # fingerprint -> what the deployment said that it was, in this job
        self._oldest_at = datetime.now(UTC)
        self._is_plain = True  # every answer came from the deployment that is tried first, always of one version

    async def complete(self, model_name: str, request: CompletionRequest) -> Completion:
        """As ModelPool.complete; `cache` of the completion says what the cache did."""
        if not self._days:
            return await self._models.complete(model_name, request)
        model = self.catalogue.resolve(model_name)
        if request.fresh:
            completion = await self._models.complete(model_name, request)
            return msgspec.structs.replace(completion, cache=CacheUse(state="bypass", reason=request.fresh))
        key = completion_key(model.deployments[0], request)
        use = await self._look(key) if self._job.use_cache else CacheUse(state="bypass", reason=ASKED_ANEW)
        if isinstance(use, KeptCompletion):
            self._is_plain = self._is_plain and not request.embeddings
            return self._hit(use, model)
        completion = await self._models.complete(model_name, request)
        await self._keep(key, request, completion, model)
        return msgspec.structs.replace(completion, cache=use)

    async def aclose(self) -> None:
        """Nothing is looked for or written any more."""
        await self._finds.aclose()
        await self._stores.aclose()

    def kept_outcome(self, suite: Suite, outcome: Outcome) -> KeptOutcome | None:
        """What lets the outcome answer for identical jobs, or None if it must not.

        For a job that this process ran from its first trial to its last.
        """
        if not self._days or not self._is_plain or not self._versions or not may_answer_again(suite, outcome):
            return None
        deployments = tuple(sorted(self._versions))
        summary = summary_as_cached(outcome.summary, trials=count_trials(outcome))
        return KeptOutcome(
            settings=outcome_settings(announce_models(self.catalogue), self._job.models, framework=self._job.framework),
            results=msgspec.json.encode(summary).decode(),
            deployments=deployments,
            versions=tuple(self._versions[name] for name in deployments),
            asked_at=self._oldest_at,
        )

    async def _look(self, key: bytes) -> KeptCompletion | CacheUse:
        """What is kept, or why nothing can be used."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                found = await self._finds.ask(key)
        except DATABASE_TROUBLE as error:
            log.warning("cache not read", reason=type(error).__name__)
            return CacheUse(state="miss", reason="the cache could not be read")
        if found is not None and found.is_good:
            return found
        return CacheUse(state="miss", reason=self._why_not(found))

    def _why_not(self, found: KeptCompletion | None) -> str:
        if found is None:
            return "not asked before"
        if found.version != found.current_version:
            return f"asked before of {found.version}, now it is {found.current_version}"
        return f"asked more than {self._days} days ago"

    def _hit(self, found: KeptCompletion, model: Model) -> Completion:
        self._note(model.deployments[0], found.version, asked_at=found.created_at)
        use = CacheUse(
            state="hit",
            reason=f"answered on {found.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            saved_usd=found.completion.cost_usd,
        )
        return msgspec.structs.replace(found.completion, cost_usd=0.0, attempts=(), cache=use)

    async def _keep(self, key: bytes, request: CompletionRequest, completion: Completion, model: Model) -> None:
        first = model.deployments[0]
        if request.embeddings:
            # Nobody is told how embeddings are reached, so no later job could tell whether that is still so.
            self._is_plain = False
        if not completion.attempts or completion.attempts[-1].deployment != first.id:
            self._is_plain = False
            return
        is_news = self._versions.get(first.fingerprint) != completion.answered_by
        self._note(first, completion.answered_by, asked_at=None)
        bare = msgspec.structs.replace(completion, attempts=(), cache=None)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if is_news:
                    await completions.note_version(self._db, first.fingerprint, completion.answered_by)
                await self._stores.ask(NewCompletion(key=key, deployment=first.fingerprint, completion=bare))
        except DATABASE_TROUBLE as error:
            log.warning("cache not written", reason=type(error).__name__)

    def _note(self, deployment: Deployment, version: str, *, asked_at: datetime | None) -> None:
        if self._versions.setdefault(deployment.fingerprint, version) != version:
            self._is_plain = False
            self._versions[deployment.fingerprint] = version
        if asked_at is not None:
            self._oldest_at = min(self._oldest_at, asked_at)

    async def _find(self, keys: list[bytes]) -> list[KeptCompletion | None]:
        found = await completions.find_completions(
            self._db, set(keys), account_id=self._job.account_id, is_public=self._job.is_public, days=self._days
        )
        return [found.get(key) for key in keys]

    async def _store(self, answers: list[NewCompletion]) -> list[None]:
        await completions.store_completions(
            self._db, answers, account_id=self._job.account_id, is_public=self._job.is_public
        )
        return [None] * len(answers)


def completion_key(deployment: Deployment, request: CompletionRequest) -> bytes:
    """32 bytes over all that decides the answer, but for the version that the deployment only tells with it."""
    parts = [
        ENGINE_VERSION,
        deployment.fingerprint,
        # In pieces around the nonce: no text can stand for another one with the nonce in a different place.
        [[m.role, m.content.split(request.nonce) if request.nonce else [m.content]] for m in request.messages],
        request.temperature,
        request.max_tokens,
        request.json_object,
        request.sample,
        *(["embeddings"] if request.embeddings else []),
    ]
    return hashlib.sha256(msgspec.json.encode(parts)).digest()


def outcome_settings(known: Sequence[AnnouncedModel], models: Sequence[str], *, framework: str) -> str:
    """64 hex digits over how a job's models are reached and asked: equal in the API, by what workers announced.

    Every known model is part of it, as any may be a suite's judge. Which version answers is compared apart from it.
    """
    if framework == "auto" and not any(model.agents is True for model in known if model.name in models):
        framework = "litellm"  # nothing else can come of it
    reached = sorted((model.name, model.default, model.fingerprint or None, model.agents is True) for model in known)
    return hashlib.sha256(msgspec.json.encode([ENGINE_VERSION, framework, models, reached])).hexdigest()


def announce_models(catalogue: Catalogue, *, plugins: tuple[str, ...] = ()) -> tuple[AnnouncedModel, ...]:
    """Every model of the catalogue, with how it is reached and what its agents may be given."""
    return tuple(_announced(info, catalogue, plugins) for info in catalogue.describe())


def _announced(info: ModelInfo, catalogue: Catalogue, plugins: tuple[str, ...]) -> AnnouncedModel:
    plain = AnnouncedModel(plugins=plugins if info.agents is True else UNSET, **_told(info))
    if not info.reachable:
        return plain
    return msgspec.structs.replace(plain, fingerprint=catalogue.resolve(info.name).deployments[0].fingerprint)


def _told(info: ModelInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in ModelInfo.__struct_fields__}


def may_answer_again(suite: Suite, outcome: Outcome) -> bool:
    """Whether every row has a verdict, and no case asks for an answer of its own."""
    has_verdicts = all(row.state in ("passed", "failed") for row in outcome.test_cases)
    return has_verdicts and not any(why_fresh(suite, case) for case in suite.cases)
