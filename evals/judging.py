"""Asking a model for a graded opinion, in JSON that is checked before anybody believes it; and for embeddings."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

from msgspec import Struct

from evals.errors import CannotJudge, ModelUnreachable, ProviderError, UnknownModel
from evals.models import CompletionRequest
from evals.pool import ModelPool
from evals.types import Completion, Message

JUDGE_TIMEOUT_SECONDS = 60.0
JUDGE_MAX_TOKENS = 1024
ASKS = 2  # for one opinion, of any judge
# Of a judge that mostly gives usable ones: where one answer in five breaks by chance, one opinion in 25 is lost after
# two asks and one in 3,125 after five, as with a provider's errors (evals/pool.py).
MOST_ASKS = 5
# How many asks beyond `ASKS` a run has for a judge: some to begin with, and one more for so many usable opinions. A
# judge that only breaks is given up on soon, and a run costs at most a tenth more than with two asks each.
FREE_ASKS = 5
OPINIONS_FOR_AN_ASK = 5
# Between the samples of a judge's first and its next opinion on the same, so that no kept answer stands for both: more
# than a case has trials.
_SAMPLES_APART = 1_000_000
_LONGEST_OPINION = 50_000  # characters that are searched for JSON
_MOST_BRACES = 200  # places that are tried, as an answer may be nothing but braces

# A graded assertion that quotes an answer names its fence in the system message, in this form.
_FENCE = re.compile(r"\bDATA-[0-9a-f]{24}\b")
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_BROKE_TWICE = "the judge's answers before this one could not be used"
_ANSWER_AGAIN = (
    "That answer could not be used: {finding}. Answer again with one JSON object that fits what was asked "
    "for, and with nothing before or after it."
)


class ModelJudge:
    """Judges with the models of a pool. Each trial opens a session, which keeps its own account."""

    def __init__(self, pool: ModelPool, *, default_model: str, patience: Patience | None = None) -> None:
        """`default_model` judges for assertions that name no model; `patience` is one run's."""
        self._pool = pool
        self._default_model = default_model
        self._patience = patience or Patience()

    def session(self, *, sample: int = 0, fresh: str = "") -> JudgeSession:
        """A judge that counts what it uses. `sample` and `fresh` as in CompletionRequest."""
        return JudgeSession(
            self._pool, default_model=self._default_model, patience=self._patience, sample=sample, fresh=fresh
        )

    async def ask(self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None) -> dict[str, Any]:
        """As JudgeSession.ask, with nobody counting."""
        return await self.session().ask(messages, schema=schema, model=model)


class Patience:
    """How often a run asks each judge once more for an opinion that it broke twice."""

    def __init__(self, *, free: int = FREE_ASKS, opinions_for_one: int = OPINIONS_FOR_AN_ASK) -> None:
        """`free` asks are there from the start; with `opinions_for_one` 0 none is added."""
        self._free = free
        self._opinions_for_one = opinions_for_one
        self._taken: Counter[str] = Counter()
        self._opinions: Counter[str] = Counter()

    @staticmethod
    def most(opinions: int) -> int:
        """Asks beyond the first `ASKS` that a run has for one judge, of which it wants so many opinions."""
        return min(FREE_ASKS + opinions // OPINIONS_FOR_AN_ASK, (MOST_ASKS - ASKS) * opinions)

    def usable(self, judge: str) -> None:
        """The judge gave an opinion that could be used."""
        self._opinions[judge] += 1

    def take(self, judge: str) -> bool:
        """Whether the judge may be asked once more, which then counts as done."""
        earned = self._opinions[judge] // self._opinions_for_one if self._opinions_for_one else 0
        if self._taken[judge] >= self._free + earned:
            return False
        self._taken[judge] += 1
        return True


class Account:
    """What the judges of one trial used so far; unknown prices add nothing."""

    def __init__(self) -> None:
        self.tokens = 0
        self.cost_usd = 0.0

    def add(self, completion: Completion) -> None:
        """One more call was answered."""
        self.tokens += (completion.input_tokens or 0) + (completion.output_tokens or 0)
        self.cost_usd = round(self.cost_usd + (completion.cost_usd or 0.0), 9)


class JudgeSession:
    """The judge of one trial. `tokens` and `cost_usd` are what it used so far, further opinions included."""

    def __init__(
        self,
        pool: ModelPool,
        *,
        default_model: str,
        patience: Patience,
        sample: int = 0,
        fresh: str = "",
        account: Account | None = None,
    ) -> None:
        self._pool = pool
        self._default_model = default_model
        self._patience = patience
        self._sample = sample
        self._fresh = fresh
        self._account = account or Account()

    @property
    def tokens(self) -> int:
        return self._account.tokens

    @property
    def cost_usd(self) -> float:
        return self._account.cost_usd

    def again(self, times: int) -> JudgeSession:
        """The same judge, which gives one more opinion on the same; with 0, itself."""
        if times == 0:
            return self
        return JudgeSession(
            self._pool,
            default_model=self._default_model,
            patience=self._patience,
            sample=self._sample + times * _SAMPLES_APART,
            fresh=self._fresh,
            account=self._account,
        )

    async def ask(self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None) -> dict[str, Any]:
        """The judge's answer, valid by `schema`; asked again with what was wrong.

        Twice, and up to five times where the run has patience left with this judge. Raises CannotJudge: "timeout" when
        time ran out, "judge" for every other trouble.
        """
        name = model or self._default_model
        asked, fresh = messages, self._fresh
        for number in range(1, MOST_ASKS + 1):
            completion = await self._complete(name, asked, fresh=fresh)
            opinion = read_opinion(completion.text, schema)
            if opinion.value is not None:
                self._patience.usable(name)
                return opinion.value
            if number >= ASKS and (number == MOST_ASKS or not self._patience.take(name)):
                break
            # By turns what was wrong with the last answer, and the question anew: a model may cling to its own form.
            asked = (*messages, *_again(completion, opinion.finding)) if number % 2 else messages
            if number >= ASKS:
                fresh = fresh or _BROKE_TWICE
        raise CannotJudge(
            f"The judge {name} gave no usable answer in {number} tries: {opinion.finding}. Try another judge.",
            kind="judge",
        )

    async def embed(self, texts: tuple[str, ...], *, model: str | None) -> tuple[tuple[float, ...], ...]:
        """A vector for each text, all equally long, by an embedding model. Raises CannotJudge, as `ask`."""
        name = model or self._pool.catalogue.embedder
        if name is None:
            raise CannotJudge(
                "No embedding model is there to compare texts; add one to `embedders` in the models file.", kind="judge"
            )
        vectors = (await self._embedded(name, texts)).vectors
        lengths = {len(vector) for vector in vectors}
        if len(vectors) != len(texts) or len(lengths) != 1 or lengths == {0}:
            raise CannotJudge(
                f"The model {name} gave no embeddings; name an embedding model as `provider`.", kind="judge"
            )
        return vectors

    async def _embedded(self, name: str, texts: tuple[str, ...]) -> Completion:
        request = CompletionRequest(
            # Some providers refuse an empty text.
            messages=tuple(Message("user", text or " ") for text in texts),
            max_tokens=0,
            timeout_seconds=JUDGE_TIMEOUT_SECONDS,
            embeddings=True,
            fresh=self._fresh,
        )
        try:
            if not self._pool.catalogue.resolve(name).embeds:
                raise CannotJudge(
                    f"The model {name} makes no embeddings; name an embedding model as `provider`.", kind="judge"
                )
            completion = await self._pool.complete(name, request)
        except (ProviderError, UnknownModel, ModelUnreachable) as error:
            _cannot_judge(error)
        self._account.add(completion)
        return completion

    async def _complete(self, name: str, messages: tuple[Message, ...], *, fresh: str) -> Completion:
        try:
            if not self._pool.catalogue.resolve(name).can_judge:
                raise CannotJudge(
                    f"The model {name} is too small to judge; name another one for graded assertions.",
                    kind="judge",
                )
            completion = await self._pool.complete(name, self._request(messages, fresh=fresh))
        except (ProviderError, UnknownModel, ModelUnreachable) as error:
            _cannot_judge(error)
        self._account.add(completion)
        return completion

    def _request(self, messages: tuple[Message, ...], *, fresh: str) -> CompletionRequest:
        return CompletionRequest(
            messages=messages,
            temperature=0.0,
            max_tokens=JUDGE_MAX_TOKENS,
            timeout_seconds=JUDGE_TIMEOUT_SECONDS,
            json_object=True,
            sample=self._sample,
            nonce=_fence(messages),
            fresh=fresh,
        )


class Opinion(Struct, frozen=True):
    """What was found in a judge's answer: a value that fits, or what is wrong with it."""

    value: dict[str, Any] | None
    finding: str = ""


def read_opinion(text: str, schema: dict[str, Any]) -> Opinion:
    """The first JSON object in the text that fits `schema`, however much talk there is around it."""
    finding = "there is no JSON object in it"
    for position, value in enumerate(_objects(text[:_LONGEST_OPINION])):
        misfit = _misfit(value, schema)
        if misfit is None:
            return Opinion(value)
        if position == 0:
            finding = misfit
    return Opinion(None, finding)


def _fence(messages: tuple[Message, ...]) -> str:
    """The fence that the instructions name. It is new each time, so that no answer can foresee it."""
    instructions = messages[0].content if messages and messages[0].role == "system" else ""
    found = _FENCE.search(instructions)
    return found[0] if found else ""


def _again(completion: Completion, finding: str) -> tuple[Message, Message]:
    # Some providers refuse an empty turn.
    said = completion.text[:_LONGEST_OPINION] or "(nothing)"
    return Message("assistant", said), Message("user", _ANSWER_AGAIN.format(finding=finding))


def _cannot_judge(error: ProviderError | UnknownModel | ModelUnreachable) -> NoReturn:
    timed_out = isinstance(error, ProviderError) and error.timed_out
    raise CannotJudge(f"The judge did not answer: {error.message}", kind="timeout" if timed_out else "judge") from None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects in the text: the whole, then fenced blocks, then whatever starts with a brace."""
    for candidate in (text, *_FENCED.findall(text)):
        value = _decoded(candidate.strip())
        if value is not None:
            yield value
    start = text.find("{")
    for _ in range(_MOST_BRACES):
        if start < 0:
            return
        value = _decoded(text, start)
        if value is not None:
            yield value
        start = text.find("{", start + 1)


def _decoded(text: str, start: int | None = None) -> dict[str, Any] | None:
    """The object that is the text, or with `start` the one that begins there."""
    try:
        value = _DECODER.decode(text) if start is None else _DECODER.raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _misfit(value: dict[str, Any], schema: dict[str, Any]) -> str | None:
    """The most telling reason why the value does not fit; None if it does. Never quotes the value."""
    # Imported here, as most suites have no graded assertion.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry

    error = best_match(Draft202012Validator(schema, registry=Registry()).iter_errors(value))
    if error is None:
        return None
    path = ".".join(str(part) for part in error.absolute_path) or "the object"
    return f"{path} does not fit {json.dumps({str(error.validator): error.validator_value})[:300]}"
