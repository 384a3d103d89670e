"""What an outcome rests on: which package, suite, parameters and models, so that it can be made and judged again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from evals.agents.tasks import AgentTask
from evals.digests import instructions_digest
from evals.grading import parts_of
from evals.suites import suite_digest
from evals.types import Instructions, Suite, Trial


class Provenance(Struct, frozen=True, kw_only=True):
    """Digests are SHA-256 in hex. `answered_by` has the ids that each model's deployments reported, sorted."""

    package: str
    version: str
    snapshot: str | UnsetType = UNSET  # of the package's files; outcomes of earlier local runs have none
    instructions_digest: str  # of what the package tells the model
    suite_digest: str
    max_tokens: int
    answered_by: dict[str, tuple[str, ...]]
    temperature: float | UnsetType = UNSET  # left out: each model's own default
    judge: str | UnsetType = UNSET  # of several that vote, all names with commas between
    framework: Literal["claude-agent"] | UnsetType = UNSET  # left out: models were asked by themselves
    tools: tuple[str, ...] | UnsetType = UNSET  # what an agent was granted, in Claude Code's words
    generated_by: str | UnsetType = UNSET  # the model that wrote the cases
    early_stop: Literal[True] | UnsetType = UNSET  # repeats were skipped where they could change no verdict


class Record(Struct, frozen=True, kw_only=True):
    """All that is needed to judge the answers again. The texts of the answers stand in the rows, once."""

    suite: Suite
    models: tuple[str, ...]
    trials: tuple[Trial, ...]
    base_trials: tuple[Trial, ...] | UnsetType = UNSET  # of the package as it was, with their answers


def provenance_of(
    instructions: Instructions,
    suite: Suite,
    models: Sequence[str],
    trials: Iterable[Trial],
    *,
    snapshot: str | UnsetType = UNSET,
    agent: AgentTask | None = None,
    early_stop: bool = False,
) -> Provenance:
    """What these trials rest on. `early_stop` as in the plan."""
    answered: dict[str, set[str]] = {model: set() for model in models}
    for trial in trials:
        if trial.completion is not None:
            answered[trial.model].add(trial.completion.answered_by)
    return Provenance(
        package=instructions.name,
        version=instructions.version,
        snapshot=snapshot,
        instructions_digest=instructions_digest(instructions),
        suite_digest=suite_digest(suite),
        temperature=UNSET if suite.temperature is None else suite.temperature,
        max_tokens=suite.max_tokens,
        judge=_judges(suite) or UNSET,
        framework=UNSET if agent is None else "claude-agent",
        tools=UNSET if agent is None else agent.rules,
        generated_by=suite.generated_by or UNSET,
        early_stop=True if early_stop and any(case.repeat > 1 for case in suite.cases) else UNSET,
        answered_by={model: tuple(sorted(ids)) for model, ids in answered.items()},
    )


def _judges(suite: Suite) -> str:
    """The suite's judge, or the names of all that vote in it, with commas between."""
    singles = (single for case in suite.cases for part in parts_of(case) for single in part.singles)
    voting = {name for single in singles if single.panel for name in single.panel.models}
    return suite.judge or ", ".join(sorted(voting))


def record_of(
    suite: Suite, models: Sequence[str], trials: Iterable[Trial], *, base_trials: Sequence[Trial] = ()
) -> Record:
    """The record, with trials in the outcome's order."""
    order = {name: position for position, name in enumerate(models)}
    kept = sorted(trials, key=lambda t: (t.case_index, order[t.model], t.repeat_index))
    return Record(
        suite=suite,
        models=tuple(models),
        trials=tuple(map(_without_text, kept)),
        base_trials=tuple(base_trials) or UNSET,
    )


def _without_text(trial: Trial) -> Trial:
    if trial.completion is None:
        return trial
    return with_text(trial, "")


def with_text(trial: Trial, text: str) -> Trial:
    """The trial with this answer; its completion must be there."""
    assert trial.completion is not None  # noqa: S101 - callers have looked
    return msgspec.structs.replace(trial, completion=msgspec.structs.replace(trial.completion, text=text))
