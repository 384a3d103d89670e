"""Stored answers judged again: the same bytes by the same engine, and no model asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from evals.catalogue import Catalogue, Model
from evals.comparison import Past, RowKey
from evals.outcome import Outcome, build_outcome
from evals.pool import ModelPool
from evals.provenance import record_of
from evals.rescoring import CannotRescore, differing_rows, rescore
from evals.runner import Plan, run
from evals.statistics import Counts
from evals.types import Assertion, AssertionSet, Case, Instructions, Message, Suite
from tests.outcomes import a_case, an_outcome
from tests.standins.model_server import model_server
from tests.unit.test_pool import Naps
from tests.unit.test_runner import RUBRIC, served


async def again(outcome: Outcome) -> Outcome:
    """Through JSON, as the command does it."""
    return await rescore(msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome))


def encoded(outcome: Outcome) -> bytes:
    return msgspec.json.encode(outcome)


def patient_pool(*models: Model) -> ModelPool:
    """A pool whose pauses take no time."""
    naps = Naps()
    return ModelPool(Catalogue(default=models[0].name, models=models), clock=naps.clock, sleep=naps)


async def test_rescore__same_engine_gives_the_same_bytes() -> None:
    past = {
        RowKey("Case 1", "m"): Past(counts=Counts(30, 0)),
        RowKey("Case 2", "m"): Past(counts=Counts(28, 2)),
        RowKey("gone", "m"): Past(counts=Counts(3, 1)),
    }
    outcome = an_outcome("P", "F|FFFFFFP", "PPF", "E", "S", "PEP", "FSS", baseline=past)

    assert encoded(await again(outcome)) == encoded(outcome)


async def test_rescore__real_run_with_every_kind_of_assertion_gives_the_same_bytes() -> None:
    checks: tuple[Any, ...] = (
        Assertion(type="contains", value="ANSWER", metric="right", weight=2.0),
        Assertion(type="not-contains", value="WRONG", weight=0.0),
        AssertionSet(assertions=(RUBRIC, Assertion(type="regex", value="^A"))),
        Assertion(type="not-llm-rubric", value="rude", model="judge-a", weight=0.0, metric="kind"),
        Assertion(type="latency", threshold=60_000.0),
        Assertion(type="finish-reason", value="stop"),
    )  # fmt: skip
    cases = tuple(
        Case(title=f"case {n:04}", messages=(Message("user", f"case {n:04}"),), assertions=checks, repeat=1 + n % 3,
             pass_rate=0.5)
        for n in range(8)
    )  # fmt: skip
    suite = Suite(cases=cases)
    instructions = Instructions(name="p", version="1", format="claude", subtype="rule", system="Be kind.")
    models = ("flaky-0.6-a", "err-0.9-a")
    async with model_server() as server, patient_pool(*(served(server, name) for name in (*models, "judge-a"))) as pool:
        plan = Plan(instructions=instructions, suite=suite, models=models)
        trials = [trial async for trial in run(plan, pool=pool)]
    outcome = build_outcome(suite, models, trials, total_duration_ms=5, engine_version="0.1.0")
    outcome = msgspec.structs.replace(outcome, record=record_of(suite, models, trials))
    assert {row.state for row in outcome.test_cases} >= {"passed", "failed", "error"}

    assert encoded(await again(outcome)) == encoded(outcome)


async def test_rescore__changed_answer_changes_the_verdict_and_is_named() -> None:
    outcome = an_outcome("P", "P")
    first, second = outcome.test_cases
    changed = msgspec.structs.replace(
        outcome, test_cases=(first, msgspec.structs.replace(second, response="something else"))
    )

    after = await again(changed)

    assert [row.state for row in after.test_cases] == ["passed", "failed"]
    assert differing_rows(changed, after) == [1]


async def test_rescore__outcome_without_a_record_says_which_have_one() -> None:
    with pytest.raises(CannotRescore, match="--output"):
        await rescore(msgspec.structs.replace(an_outcome("P"), record=msgspec.UNSET))


async def test_rescore__rows_that_do_not_fit_the_record_are_refused() -> None:
    outcome = an_outcome("P", "P")

    with pytest.raises(CannotRescore, match="do not fit"):
        await rescore(msgspec.structs.replace(outcome, test_cases=outcome.test_cases[:1]))


def test_provenance__names_package_suite_parameters_and_who_answered() -> None:
    first, other = an_outcome("P"), an_outcome("P", cases=(a_case("Greets", threshold=0.5),))

    assert first.provenance
    assert (first.provenance.package, first.provenance.version) == ("@demo/polite", "1.0.0")
    assert first.provenance.answered_by == {"m": ("m-1",)}
    assert first.provenance.max_tokens == 1024
    assert len(first.provenance.instructions_digest) == len(first.provenance.suite_digest) == 64
    assert other.provenance
    assert other.provenance.suite_digest != first.provenance.suite_digest
