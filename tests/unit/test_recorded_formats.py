"""Recorded verdicts on formats, scores and tool calls: what matches, and each row that does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from evals.conformance import Outcome, read_rows, replay

RECORDED = Path(__file__).parents[1] / "samples" / "conformance" / "formats_and_scores.jsonl"

# SQLite runs `SELECT [a] FROM t`; the recorded parser does not know that.
MORE_EXACT_THAN_RECORDED = {"is-sql-0047"}
# `hello` and `hi` are one word to a dictionary of synonyms, which is left out.
SYNONYMS = {"meteor-0152", "not-meteor-0002"}


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return asyncio.run(replay(read_rows(RECORDED)))


def differing(outcomes: list[Outcome], tier: str) -> set[str]:
    return {outcome.id for outcome in outcomes if outcome.tier == tier and outcome.difference}


@pytest.mark.parametrize(
    ("tier", "count", "different"),
    [("exact", 434, set()), ("parser", 267, MORE_EXACT_THAN_RECORDED), ("optional", 63, SYNONYMS)],
)
def test_recorded_formats__differ_in_the_rows_that_the_suite_format_lists(
    outcomes: list[Outcome], tier: str, count: int, different: set[str]
) -> None:
    assert sum(outcome.tier == tier for outcome in outcomes) == count
    assert differing(outcomes, tier) == different


def test_recorded_formats__quirks_that_we_do_not_share(outcomes: list[Outcome]) -> None:
    """YAML is no JSON, a `not-` that turns nothing round is none, what passes has its full score, and no assertion
    decides for its whole case (the case of agg-0384).
    """
    types = {name.rpartition("-")[0] for name in differing(outcomes, "quirk")}

    assert types == {
        "agg",
        "contains-json",
        "not-contains-json",
        "is-refusal",
        "not-is-valid-openai-tools-call",
        "not-tool-call-f1",
    }
