"""Graded assertions: what the judge is shown, and what is made of its answer."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from evals.assertions import Answer
from evals.errors import InvalidAssertion
from evals.grading import Graded, check_assertion, grade
from evals.types import Assertion, Case, Message
from tests.standins.judges import WillingJudge, fence_of, quoted_pieces


class SayingJudge(WillingJudge, frozen=True):
    """Says what it is told to say, and keeps what it was shown."""

    says: dict[str, Any] = msgspec.field(default_factory=dict)
    vectors: dict[str, tuple[float, ...]] = msgspec.field(default_factory=dict)
    shown: list[list[str]] = msgspec.field(default_factory=list)
    embedders: list[str | None] = msgspec.field(default_factory=list)

    async def ask(self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None) -> dict[str, Any]:
        self.shown.append(quoted_pieces(messages))
        return self.says

    async def embed(self, texts: tuple[str, ...], *, model: str | None) -> tuple[tuple[float, ...], ...]:
        self.embedders.append(model)
        return tuple(self.vectors[text] for text in texts)


async def judged(
    type_: str, judge: WillingJudge, value: Any = msgspec.UNSET, *, text: str = "Paris.", **fields: Any
) -> Graded:
    variables = fields.pop("vars", {})
    spec = Assertion(type=type_, value=value, **fields)
    check_assertion(spec)
    answer = Answer(text=text, question="What is the capital?", vars=variables)
    return await grade(Case(title="t", messages=(), assertions=(spec,)), answer, judge)


@pytest.mark.parametrize(("category", "score"), [("A", 1.0), ("B", 1.0), ("C", 1.0), ("D", 0.0), ("E", 1.0)])
async def test_factuality__each_category_has_its_score(category: str, score: float) -> None:
    judge = SayingJudge(says={"category": category, "reason": "So it is."})

    graded = await judged("factuality", judge, "It is Paris.")

    assert (graded.state, graded.score) == ("passed" if score else "failed", score)
    assert graded.assertions[0].reason == "So it is."
    assert judge.shown == [["What is the capital?", "It is Paris.", "Paris."]]


async def test_factuality__scores_can_be_set() -> None:
    judge = SayingJudge(says={"category": "B", "reason": ""})
    value = {"reference": "It is Paris.", "scores": {"superset": 0.5, "subset": 0}}

    assert (await judged("factuality", judge, value)).score == 0.5
    assert (await judged("factuality", judge, value, threshold=0.6)).state == "failed"
    judge = SayingJudge(says={"category": "A", "reason": ""})
    graded = await judged("factuality", judge, value)
    assert (graded.state, graded.score) == ("failed", 0.0)
    assert graded.assertions[0].reason == "the answer has some of the reference's facts and no others"


@pytest.mark.parametrize(
    "value", ["", 7, {}, {"reference": ""}, {"reference": "a", "scores": {"good": 1}}, {"reference": "a", "x": 1},
              {"reference": "a", "scores": {"agree": 2}}]
)  # fmt: skip
def test_factuality__value_that_cannot_be_used(value: Any) -> None:
    with pytest.raises(InvalidAssertion, match=r"^factuality: "):
        check_assertion(Assertion(type="factuality", value=value))


@pytest.mark.parametrize("passed", [True, False])
async def test_closedqa__is_yes_or_no(passed: bool) -> None:
    judge = SayingJudge(says={"pass": passed, "reason": "r"})

    graded = await judged("model-graded-closedqa", judge, "Names a city.")

    assert (graded.state == "passed", graded.score) == (passed, float(passed))


@pytest.mark.parametrize(
    ("mark", "threshold", "state"),
    [(7, None, "passed"), (7.0, None, "passed"), (6, None, "failed"), (6, 0.6, "passed")],
)
async def test_g_eval__a_tenth_of_the_mark_reaches_the_threshold(
    mark: float, threshold: float | None, state: str
) -> None:
    judge = SayingJudge(says={"steps": ["a"], "score": mark, "reason": "r"})

    graded = await judged("g-eval", judge, "is kind", threshold=threshold)

    assert (graded.state, graded.score) == (state, mark / 10)


async def test_g_eval__several_criteria_are_asked_one_by_one_and_the_mean_counts() -> None:
    class Marking(SayingJudge, frozen=True):
        async def ask(
            self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None
        ) -> dict[str, Any]:
            is_first = "is kind" in messages[1].content
            return {"steps": [], "score": 10 if is_first else 5, "reason": "first" if is_first else "second"}

    graded = await judged("g-eval", Marking(), ["is kind", "is short"])

    assert (graded.state, graded.score, graded.assertions[0].reason) == ("passed", 0.75, "second")


async def test_answer_relevance__is_the_mean_similarity_of_questions_to_the_one_that_was_asked() -> None:
    judge = SayingJudge(
        says={"questions": ["a", "b", "c"]},
        vectors={"What is the capital?": (1.0, 0.0), "a": (2.0, 0.0), "b": (0.0, 1.0), "c": (1.0, 1.0)},
    )

    graded = await judged("answer-relevance", judge, threshold=0.6, model="judge-1")

    assert graded.score == pytest.approx((1 + 0 + math.sqrt(0.5)) / 3)
    assert graded.state == "failed"
    assert judge.shown == [["Paris."]], "who makes up questions does not know the one that was asked"
    assert judge.embedders == [None], "the judge makes no embeddings"


async def test_answer_relevance__var_query_is_the_question() -> None:
    judge = SayingJudge(says={"questions": ["a", "a", "a"]}, vectors={"Which city?": (1.0, 0.0), "a": (1.0, 0.0)})

    assert (await judged("answer-relevance", judge, vars={"query": "Which city?"})).score == 1.0


VECTORS = {"Paris.": (1.0, 0.0), "near": (0.8, 0.6), "far": (0.0, 1.0), "opposite": (-1.0, 0.0), "nothing": (0.0, 0.0)}


@pytest.mark.parametrize(
    ("type_", "value", "threshold", "state", "score"),
    [
        ("similar", "near", None, "passed", 0.8),
        ("similar:cosine", "near", None, "passed", 0.8),
        ("similar", "near", 0.81, "failed", 0.8),
        ("similar", "near", 0.8, "passed", 0.8),
        ("similar", "far", None, "failed", 0.0),
        ("similar", "opposite", 0.0, "failed", 0.0),
        ("similar", ["far", "near"], None, "passed", 0.8),
        ("not-similar", "far", None, "passed", 1.0),
        ("not-similar", ["far", "near"], None, "failed", 0.2),
        ("similar:dot", "near", None, "passed", 0.8),
        ("similar:euclidean", "near", None, "passed", 1 / (1 + math.sqrt(0.4))),
        ("similar:euclidean", "near", 0.6, "failed", 1 / (1 + math.sqrt(0.4))),
    ],
)  # fmt: skip
async def test_similar__measures(type_: str, value: Any, threshold: float | None, state: str, score: float) -> None:
    graded = await judged(type_, SayingJudge(vectors=VECTORS), value, threshold=threshold)

    assert (graded.state, graded.score) == (state, pytest.approx(score))


async def test_similar__vector_without_direction_is_the_models_trouble() -> None:
    graded = await judged("similar", SayingJudge(vectors=VECTORS), "nothing")

    assert graded.error is not None
    assert (graded.state, graded.error.kind) == ("error", "judge")


async def test_similar__asks_the_embedding_model_that_it_names() -> None:
    judge = SayingJudge(vectors=VECTORS)

    await judged("similar", judge, "near", model="my-embedder")

    assert judge.embedders == ["my-embedder"]


STATEMENTS = {"statements": [{"statement": "a", "supported": True}, {"statement": "b", "supported": False}]}


async def test_context_recall__is_the_share_of_the_truth_that_the_context_holds() -> None:
    judge = SayingJudge(says=STATEMENTS)

    graded = await judged("context-recall", judge, "a. b.", vars={"context": ["doc 1", "doc 2"]}, threshold=0.5)

    assert (graded.state, graded.score) == ("passed", 0.5)
    assert graded.assertions[0].reason == "the context bears out 1 of 2 statements; not 'b'"
    assert judge.shown == [["doc 1\n\ndoc 2", "a. b."]]
    assert (await judged("context-recall", judge, "a. b.", threshold=0.6)).state == "failed"
    assert judge.shown[1][0] == "What is the capital?", "without a context, the prompt is one"


async def test_context_faithfulness__is_the_share_of_the_answer_that_the_context_bears_out() -> None:
    judge = SayingJudge(says=STATEMENTS)

    graded = await judged("context-faithfulness", judge, vars={"context": "doc"}, threshold=0.6)

    assert (graded.state, graded.score) == ("failed", 0.5)
    assert judge.shown == [["doc", "What is the capital?", "Paris."]]
    assert (await judged("context-faithfulness", judge, "other doc", threshold=0.5)).state == "passed"
    assert judge.shown[1][0] == "other doc"


async def test_context_faithfulness__an_answer_that_states_nothing_is_faithful() -> None:
    graded = await judged("context-faithfulness", SayingJudge(says={"statements": []}), "doc")

    assert (graded.state, graded.score) == ("passed", 1.0)


async def test_context_faithfulness__without_a_context_is_an_error_that_says_what_to_do() -> None:
    graded = await judged("context-faithfulness", SayingJudge(says=STATEMENTS))

    assert graded.error is not None
    assert "give the case a var `context`" in graded.error.message


async def test_context_relevance__is_the_share_of_sentences_that_the_question_needs() -> None:
    needed = {"sentences": [{"number": 1, "needed": True}, {"number": 1, "needed": True}]}
    judge = SayingJudge(says=needed)

    graded = await judged("context-relevance", judge, vars={"context": "It is Paris. It rains! Or not?\nWho knows"})

    assert graded.score == 0.25, "a sentence that is named twice counts once, one that is left out is not needed"
    assert judge.shown == [["What is the capital?", "1. It is Paris.\n2. It rains!\n3. Or not?\n4. Who knows"]]


@pytest.mark.parametrize("type_", ["context-recall", "context-faithfulness"])
async def test_context__without_a_threshold_a_score_of_0_still_fails(type_: str) -> None:
    """Elsewhere the default is 0, which every score reaches: a check that cannot fail is none."""
    nothing = {"statements": [{"statement": "a", "supported": False}]}

    assert (await judged(type_, SayingJudge(says=nothing), "x", vars={"context": "y"})).state == "failed"


async def test_rubric_prompt__is_the_question_and_has_the_answer_as_data() -> None:
    class Reading(SayingJudge, frozen=True):
        asked: list[str] = msgspec.field(default_factory=list)

        async def ask(
            self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None
        ) -> dict[str, Any]:
            self.asked.append(messages[1].content.replace(fence_of(messages), "FENCE"))
            return {"pass": True, "score": 1.0, "reason": ""}

    judge = Reading()
    await judged("llm-rubric", judge, "is {{x}}", rubric_prompt="By {{ rubric }}: {{ output }}!", vars={"x": "1"})

    assert judge.asked == ["By is {{x}}: \nFENCE\nParis.\nFENCE\n!"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "similar", "value": "x", "rubric_prompt": "p"}, "similar: takes no `rubricPrompt`"),
        ({"type": "select-best", "value": "x", "rubric_prompt": "p"}, "select-best: takes no `rubricPrompt`"),
        ({"type": "contains", "value": "x", "rubric_prompt": "p"}, "contains: takes no `rubricPrompt`"),
        ({"type": "llm-rubric", "value": "x", "rubric_prompt": "p" * 20_001}, "at most 20,000 characters"),
        ({"type": "llm-rubric", "value": "x", "threshold": 2.0}, "lies between 0 and 1"),
        ({"type": "answer-relevance", "value": "x"}, "answer-relevance: takes no `value`"),
        ({"type": "g-eval", "value": []}, "g-eval: `value` must be a text, or a list"),
    ],
)
def test_graded__that_cannot_be_used_says_why(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidAssertion) as caught:
        check_assertion(Assertion(**fields))

    assert said in caught.value.message
