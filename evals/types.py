"""The engine's words as frozen Structs: what a suite says, what a model answered, what was decided."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

# Any value that JSON can hold. `Any`, as a recursive alias buys nothing after the edge has parsed it.
JsonValue = Any

Role = Literal["system", "user", "assistant"]
State = Literal["passed", "failed", "error", "skipped"]
Conclusion = Literal["passed", "failed", "inconclusive"]
ErrorKind = Literal["provider", "judge", "timeout", "assertion", "internal", "cap"]
Framework = Literal["litellm", "claude-agent", "auto"]
StoppedBy = Literal["money_cap", "time_cap"]
CacheState = Literal["hit", "miss", "bypass"]


class Message(Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Panel(Struct, frozen=True, kw_only=True):
    """Several judges, or one that is asked several times. Votes go round the models; more than half decide."""

    models: tuple[str, ...] = ()  # empty: the suite's judge, else the default model
    votes: int


class Assertion(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="one"):
    """One check on an answer, as the suite wrote it: `type` keeps its `not-`, `value` is already rendered."""

    type: str
    value: JsonValue | UnsetType = UNSET
    threshold: float | None = None
    weight: float = 1.0
    metric: str | None = None
    model: str | None = None  # who judges, for graded assertions; promptfoo calls it `provider`
    panel: Panel | None = None  # who judges, where one opinion is not enough
    rubric_prompt: str | None = None  # a template in place of the question that the judge is asked
    transform: str | None = None  # JavaScript that turns the answer into what is judged


class AssertionSet(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="set"):
    """Assertions that count as one component of the case; sets do not nest."""

    assertions: tuple[Assertion, ...]
    threshold: float | None = None
    weight: float = 1.0
    metric: str | None = None


class Turn(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that the user says in a conversation with the model, and what is asked of the answer to it."""

    content: str
    assertions: tuple[Assertion | AssertionSet, ...] = ()


class Case(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One test: what is said to the model and what is asked of its answer."""

    title: str
    messages: tuple[Message, ...]  # the last one is the user's; a slash command reads it as its arguments
    turns: tuple[Turn, ...] = ()  # all that the user says, the first of `messages` included; empty: said at once
    assertions: tuple[Assertion | AssertionSet, ...] = ()  # of the last answer
    threshold: float | None = None
    vars: dict[str, JsonValue] = {}
    repeat: int = 1
    pass_rate: float = 1.0  # share of the repeats that must pass, 0..1
    quarantine: bool = False  # runs and reports, decides nothing
    contest: int | None = None  # cases with the same number are one test with several prompts, compared as one
    line: int | None = None  # where it stands in its file, counted from 1


class DerivedMetric(Struct, frozen=True):
    """A figure made of named scores after the run; `formula` is an expression (evals/derived.py)."""

    name: str
    formula: str


class Suite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A parsed test file."""

    cases: tuple[Case, ...]
    description: str = ""
    temperature: float | None = None  # None: the model's default
    max_tokens: int = 1024  # output tokens of one trial
    judge: str | None = None  # model name for graded assertions that name none
    derived_metrics: tuple[DerivedMetric, ...] = ()  # in order; a later one may use an earlier one
    framework: Framework | None = None  # how its packages are run, where the one who runs it does not say
    cache: bool | None = None  # False: ask anew each time; True: keep answers at any temperature
    generated_by: str | None = None  # the model that wrote the cases, if no person has


class Instructions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a package tells the model. `system` for rules, skills, agents and prompts; `template` for slash commands."""

    name: str
    version: str
    format: str
    subtype: str
    system: str = ""
    template: str | None = None  # holds $ARGUMENTS or $1, $2 ...
    allowed_tools: tuple[str, ...] = ()  # asked for by a skill, agent or command; granted by the agent framework only
    files: tuple[str, ...] = ()  # paths whose text went into it


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of one deployment; `error` is our own sentence, never the provider's."""

    deployment: str
    duration_ms: int
    error: str | None = None
    status: int | None = None  # HTTP status, where there was one
    timed_out: bool = False  # nobody knows whether the provider charges for it


class ToolCall(Struct, frozen=True, omit_defaults=True):
    """One call of a tool, as the provider reported it; `arguments` is the JSON text that the model wrote."""

    name: str
    arguments: str
    # Told where an agent ran: the tool answered with an error; there was no such tool for it.
    failed: bool = False
    refused: bool = False


class Guardrails(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the provider's own safety checks said; `reason` is the provider's word for it."""

    flagged: bool = False
    flagged_input: bool = False
    flagged_output: bool = False
    reason: str = ""


class CacheUse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a cache did for one answer: `hit` it was kept, `miss` it was not, `bypass` nobody looked. Public JSON."""

    state: CacheState
    reason: str
    saved_usd: float | None = None  # of a hit: what the answer cost when it was asked for


class Completion(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model's answer with what it took. Unknown counts and costs are None, never 0."""

    text: str
    answered_by: str  # the id that the deployment reports or is configured with
    duration_ms: int = 0
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    logprobs: tuple[float, ...] | None = None
    attempts: tuple[Attempt, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tools: tuple[JsonValue, ...] = ()  # that the model could call, in OpenAI's form
    guardrails: Guardrails | None = None
    turns: int | None = None  # of an agent: how often its model was asked
    cache: CacheUse | None = None  # None: there is no cache. A hit costs nothing and keeps all else as it was
    vectors: tuple[tuple[float, ...], ...] = ()  # one for each message, where embeddings were asked for

    @property
    def is_cached(self) -> bool:
        """Whether the answer was kept from an earlier call. Such answers are no new evidence."""
        return self.cache is not None and self.cache.state == "hit"


class AssertionResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one assertion said. Part of the public JSON."""

    type: str
    passed: bool
    score: float
    reason: str
    weight: float = 1.0
    metric: str | None = None
    turn: int | None = None  # which answer of a conversation it judged, counted from 1; None: the last one


class TrialError(Struct, frozen=True, kw_only=True):
    """Why a trial has no verdict; `message` says what to do and carries nothing of the provider's own text.

    The kind `cap` alone makes it skipped: it was not tried, as a cap was reached.
    """

    kind: ErrorKind
    message: str


class Trial(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One case on one model once."""

    case_index: int
    model: str
    repeat_index: int
    state: State
    score: float = 0.0
    completion: Completion | None = None
    earlier: tuple[Completion, ...] = ()  # answers of a conversation before that one
    assertions: tuple[AssertionResult, ...] = ()
    named_scores: dict[str, float] = {}
    error: TrialError | None = None
    attempts: tuple[Attempt, ...] = ()  # calls that were made in vain, where there is no completion
    duration_ms: int = 0
    # What graded assertions cost on top of the answer itself.
    judge_tokens: int = 0
    judge_cost_usd: float = 0.0

    @property
    def completions(self) -> tuple[Completion, ...]:
        """Every answer that was paid for, in order; opinions of judges are not among them."""
        return self.earlier if self.completion is None else (*self.earlier, self.completion)

    @property
    def is_cached(self) -> bool:
        """Whether every answer of it was kept from an earlier call."""
        return all(completion.is_cached for completion in self.completions)

    @property
    def key(self) -> TrialKey:
        return TrialKey(self.case_index, self.model, self.repeat_index)


class TrialKey(Struct, frozen=True):
    """Names a trial within its job."""

    case_index: int
    model: str
    repeat_index: int


class RowIndex(Struct, frozen=True, order=True):
    """Names a row within its job."""

    case_index: int
    model: str


class Agreement(Struct, frozen=True, kw_only=True):
    """A run's judges asked again about answers that they had judged: the share of equal verdicts. Public JSON."""

    share: float  # 0 to 1
    n: int  # verdicts that were asked for again
    tokens: int = 0
    cost_usd: float = 0.0  # of asking again; unknown prices add nothing


class RowHistory(Struct, frozen=True, kw_only=True):
    """What one row of a run brings to later comparisons. `case_digest` as in evals.digests."""

    case_index: int
    model: str
    title: str
    case_digest: str
    passed: int
    failed: int


class Price(Struct, frozen=True, kw_only=True):
    """USD per million tokens."""

    input: float
    output: float

    def cost_usd(self, *, input_tokens: int, output_tokens: int) -> float:
        """USD for these counts, rounded to a billionth."""
        return round((input_tokens * self.input + output_tokens * self.output) / 1_000_000, 9)
