"""Several opinions: a majority decides, the median is the score, and a tie is an error."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from evals.assertions import Judgement
from evals.errors import CannotJudge, CapReached
from evals.panels import Vote, ask_panel, votes_of
from evals.types import Panel

TROUBLE = CannotJudge("away", kind="judge")


async def said(*opinions: float | Exception | int) -> Judgement:
    """What votes with these scores say; those of at least 0.5 are passed."""
    left = iter(opinions)

    async def ask(vote: Vote) -> Sequence[Judgement]:
        opinion = next(left)
        if isinstance(opinion, Exception):
            raise opinion
        return [Judgement(passed=opinion >= 0.5, score=opinion, reason=f"it is {opinion}")]

    (judgement,) = await ask_panel([Vote("m", n) for n in range(len(opinions))], ask)
    return judgement


def test_votes__go_round_the_models_each_time_for_a_new_opinion() -> None:
    assert votes_of(Panel(models=("a", "b"), votes=3), model="x") == [Vote("a", 0), Vote("b", 0), Vote("a", 1)]
    assert votes_of(Panel(votes=2), model=None) == [Vote(None, 0), Vote(None, 1)]


async def test_panel__majority_decides_and_the_median_is_the_score() -> None:
    assert await said(0.9, 0.2, 0.6) == Judgement(
        passed=True, score=0.6, reason="2 of 3 votes for it, median score 0.60: it is 0.6"
    )
    assert await said(0.9, 0.2, 0.1) == Judgement(
        passed=False, score=0.2, reason="1 of 3 votes for it, median score 0.20: it is 0.2"
    )


async def test_panel__one_vote_that_cannot_be_counted_leaves_the_others() -> None:
    assert (await said(0.9, TROUBLE, 0.7)).passed
    assert (await said(0.9, TROUBLE, 0.7)).score == pytest.approx(0.8)


@pytest.mark.parametrize("opinions", [(0.9, 0.1), (0.9, TROUBLE, 0.1)])
async def test_panel__tie_is_an_error(opinions: tuple[float | Exception, ...]) -> None:
    with pytest.raises(CannotJudge, match=r"^The judges are divided, 1 to 1; ask an odd number of them\.$"):
        await said(*opinions)


@pytest.mark.parametrize("opinions", [(0.9, TROUBLE, TROUBLE), (0.9, 0.9, TROUBLE, TROUBLE), (TROUBLE,)])
async def test_panel__too_few_valid_votes_are_an_error(opinions: tuple[float | Exception, ...]) -> None:
    with pytest.raises(CannotJudge, match=r"^Only \d of \d votes could be counted: away$") as caught:
        await said(*opinions)

    assert caught.value.kind == "judge"


async def test_panel__cap_that_is_reached_is_no_vote_and_no_error_of_the_judge() -> None:
    with pytest.raises(CapReached):
        await said(0.9, 0.9, CapReached("cap"))


async def choice(*winners: int) -> list[bool]:
    left = iter(winners)

    async def ask(vote: Vote) -> Sequence[Judgement]:
        winner = next(left)
        return [Judgement(passed=index == winner, score=float(index == winner), reason="r") for index in range(3)]

    return [judgement.passed for judgement in await ask_panel([Vote("m", n) for n in range(len(winners))], ask)]


async def test_panel__of_several_answers_the_one_that_most_votes_chose_wins() -> None:
    assert await choice(2, 0, 2) == [False, False, True]
    assert await choice(1, 0, 2, 1) == [False, True, False]
    with pytest.raises(CannotJudge, match=r"^The judges are divided: 1 votes each for two answers\.$"):
        await choice(0, 1, 2)
