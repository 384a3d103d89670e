"""What holds for every assertion that asks a judge, those included that are added later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evals.assertions import ASSERTIONS, Answer
from evals.errors import CannotJudge
from evals.grading import Graded, check_assertion, grade
from evals.types import Assertion, Case, Message, Panel
from tests.contracts.test_assertions import usable
from tests.standins.judges import LiteralJudge, WillingJudge, fence_of, instructions_of

ASKING = [name for name in ASSERTIONS if ASSERTIONS[name].asks]
READING = [name for name in ASKING if not ASSERTIONS[name].compares]
CORPUS = json.loads((Path(__file__).parents[1] / "samples/injections/judges.json").read_text())
ORDER = "MELON"  # stands in every text of the corpus, and in no instruction of ours


async def asked(assertion: Assertion, judge: WillingJudge, *, text: str = "It is Paris.", **changes: Any) -> Graded:
    case = Case(title="t", messages=(), assertions=(assertion,))
    answer = Answer(text=text, question=changes.pop("question", "Where?"), **changes)
    return await grade(case, answer, judge, rivals=(Answer(text="It is Lyon."),))


@pytest.mark.parametrize("name", ASKING)
async def test_graded__P7_no_text_of_the_corpus_steers_a_judge_that_reads_literally(name: str) -> None:
    """The judge does what it reads anywhere outside of the fences. 50 answers, questions and contexts."""
    assert len(CORPUS) == 50
    judge = LiteralJudge(order=ORDER)
    obeyed = LiteralJudge(order="Answer with one JSON object")
    await asked(usable(name), obeyed)
    assert obeyed.steered == [True]

    for text in CORPUS:
        graded = await asked(usable(name), judge, text=text, question=text, vars={"context": text, "query": text})

        assert graded.state in ("passed", "failed")
        assert judge.steered.pop() is False, text


@pytest.mark.parametrize("name", READING)
async def test_graded__P7_the_same_holds_behind_the_authors_own_question(name: str) -> None:
    prompt = "Is {{ output | upper }} right by {{ rubric }}?"
    assertion = Assertion(type=name, value=usable(name).value, threshold=0.5, rubric_prompt=prompt)
    plain = await asked(assertion, LiteralJudge(order=ORDER))

    for text in CORPUS:
        steered = await asked(assertion, LiteralJudge(order=ORDER), text=text)

        assert (steered.state, steered.score) == (plain.state, plain.score), text


class Remembering(WillingJudge, frozen=True):
    """Keeps what it was told."""

    told: list[tuple[Message, ...]] = msgspec.field(default_factory=list)

    async def ask(self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None) -> dict[str, Any]:
        self.told.append(messages)
        return await WillingJudge.ask(self, messages, schema=schema, model=model)


@pytest.mark.parametrize("name", ASKING)
async def test_graded__P7_the_fence_is_new_each_time_and_the_answer_stands_behind_it(name: str) -> None:
    told: list[tuple[Message, ...]] = []
    for _ in range(2):
        await asked(usable(name), Remembering(told=told), text="KIWI", vars={"context": "KIWI"})

    first, second = told[0], told[-1]
    assert fence_of(first) != fence_of(second)
    assert "KIWI" in first[-1].content
    assert "KIWI" not in instructions_of(first)


class Broken(WillingJudge, frozen=True):
    """Gives what does not fit, whatever was asked for."""

    said: Any = None

    async def ask(self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None) -> dict[str, Any]:
        if isinstance(self.said, CannotJudge):
            raise self.said
        answer: dict[str, Any] = self.said
        return answer


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("prefix", ["", "not-"])
@pytest.mark.parametrize(
    "said", [{}, None, {"pass": "yes"}, CannotJudge("away", kind="judge"), CannotJudge("late", kind="timeout")]
)
async def test_graded__judges_trouble_is_an_error_never_a_failure(name: str, prefix: str, said: Any) -> None:
    assertion = Assertion(type=prefix + name, value=usable(name).value)

    graded = await asked(assertion, Broken(said=said))

    assert (graded.state, graded.score) == ("error", 0.0)
    assert graded.error is not None
    assert graded.error.kind in ("judge", "timeout")


@pytest.mark.parametrize("name", ASKING)
async def test_graded__a_panel_of_equal_judges_says_what_one_says(name: str) -> None:
    plain = usable(name)
    panel = Assertion(type=name, value=plain.value, threshold=0.5, panel=Panel(models=("a", "b"), votes=3))
    check_assertion(panel)

    for likes in (True, False):
        one = await asked(plain, WillingJudge(likes=likes))
        three = await asked(panel, WillingJudge(likes=likes))

        assert (three.state, three.score) == (one.state, one.score)
