"""Several opinions -> one: a majority of votes decides, the median is the score. A tie has no verdict."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from evals.assertions import Judgement
from evals.errors import CannotJudge
from evals.types import Panel

MAX_VOTES: Final = 9
MAX_JUDGES: Final = 5

# What one vote says: a judgement of each answer that is judged together, mostly one.
Opinion = Sequence[Judgement]


class Vote(NamedTuple):
    """Who is asked (None: the default), and how often that judge was asked for the same before."""

    model: str | None
    times: int


def votes_of(panel: Panel, *, model: str | None) -> list[Vote]:
    """The panel's votes: round the models, each time for a new opinion. `model` judges where the panel names none."""
    models = panel.models or (model,)
    return [Vote(models[number % len(models)], number // len(models)) for number in range(panel.votes)]


async def ask_panel(votes: Sequence[Vote], ask: Callable[[Vote], Awaitable[Opinion]]) -> list[Judgement]:
    """What the votes say together; all are asked at once.

    Raises CannotJudge when no more than half of them have a usable opinion or the votes are tied, and what `ask` raises
    besides.
    """
    said = await asyncio.gather(*map(ask, votes), return_exceptions=True)
    opinions: list[Opinion] = []
    troubles: list[CannotJudge] = []
    for answer in said:
        if isinstance(answer, CannotJudge):
            troubles.append(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            opinions.append(answer)
    if len(opinions) * 2 <= len(votes):
        raise CannotJudge(
            f"Only {len(opinions)} of {len(votes)} votes could be counted: {troubles[0].message}",
            kind=troubles[0].kind,
        )
    return _majority(opinions) if len(opinions[0]) == 1 else _most_chosen(opinions)


def _majority(opinions: Sequence[Opinion]) -> list[Judgement]:
    judgements = [opinion[0] for opinion in opinions]
    yes = sum(judgement.passed for judgement in judgements)
    if yes * 2 == len(judgements):
        raise CannotJudge(f"The judges are divided, {yes} to {yes}; ask an odd number of them.", kind="judge")
    passed = yes * 2 > len(judgements)
    score = statistics.median(judgement.score for judgement in judgements)
    speaks = min(
        (judgement for judgement in judgements if judgement.passed == passed),
        key=lambda judgement: abs(judgement.score - score),
    )
    counted = f"{yes} of {len(judgements)} votes for it, median score {score:.2f}"
    return [Judgement(passed=passed, score=score, reason=f"{counted}: {speaks.reason}")]


def _most_chosen(opinions: Sequence[Opinion]) -> list[Judgement]:
    """The answer that most votes chose wins."""
    choices = Counter(index for opinion in opinions for index, judgement in enumerate(opinion) if judgement.passed)
    (winner, most), *others = choices.most_common()
    if others and others[0][1] == most:
        raise CannotJudge(f"The judges are divided: {most} votes each for two answers.", kind="judge")
    speaks = next(opinion for opinion in opinions if opinion[winner].passed)
    reason = f"{most} of {len(opinions)} votes for it: {speaks[winner].reason}"
    return [
        Judgement(
            passed=index == winner,
            score=float(index == winner),
            reason=reason if index == winner else f"{choices[index]} of {len(opinions)} votes for it",
        )
        for index in range(len(opinions[0]))
    ]
