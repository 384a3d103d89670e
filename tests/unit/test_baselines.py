"""What of stored outcomes enters history, and what is left out so that it stays a fair draw."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from evals.baselines import InvalidBaseline, read_baseline
from evals.comparison import RowKey
from evals.outcome import Outcome, outcome_as_cached
from evals.statistics import Counts
from tests.outcomes import a_case, an_outcome


def body(outcome: Outcome, **changes: Any) -> bytes:
    return json.dumps(msgspec.json.decode(msgspec.json.encode(outcome)) | changes).encode()


def counts(*bodies: bytes) -> dict[str, Counts]:
    known = read_baseline([(f"{number}.json", text) for number, text in enumerate(bodies)])
    return {key.title: past.counts for key, past in known.items()}


def with_row(outcome: Outcome, **changes: Any) -> bytes:
    (row,) = msgspec.json.decode(msgspec.json.encode(outcome))["test_cases"]
    return body(outcome, test_cases=[row | changes])


def test_baseline__counts_verdicts_and_nothing_else() -> None:
    assert counts(body(an_outcome("P", "F", "E", "S", "PPFE"))) == {
        "Case 0": Counts(1, 0), "Case 1": Counts(0, 1), "Case 2": Counts(), "Case 3": Counts(), "Case 4": Counts(2, 1),
    }  # fmt: skip


def test_baseline__several_outcomes_add_up_and_one_counts_once() -> None:
    first, second = body(an_outcome("PPP")), body(an_outcome("PFP"))

    assert counts(first, second) == {"Case 0": Counts(5, 1)}
    assert counts(first, first) == {"Case 0": Counts(3, 0)}


def test_baseline__early_stopped_row_never_enters() -> None:
    """F after PP would have come or not: how many trials there are depends on what they said."""
    outcome = an_outcome("FFS", cases=(a_case("Case 0", repeat=3, pass_rate=1.0),))

    assert outcome.test_cases[0].stopped_early is True
    assert counts(body(outcome)) == {"Case 0": Counts()}


def test_baseline__where_repeats_may_stop_early_the_first_trial_alone_counts() -> None:
    """Rows that were not stopped are those that passed throughout: at a rate of 0.95 they would say 1.0."""
    stopped, whole = an_outcome("FFS", cases=(a_case("Case 0", repeat=3, pass_rate=1.0),)), an_outcome("PPP", "P")
    said = {"provenance": {"early_stop": True}}

    assert counts(body(stopped, **said)) == {"Case 0": Counts(0, 1)}
    assert counts(body(whole, **said)) == {"Case 0": Counts(1, 0), "Case 1": Counts(1, 0)}


def test_baseline__trials_made_for_a_suspicion_never_enter() -> None:
    assert counts(body(an_outcome("F|PPPPPPP"))) == {"Case 0": Counts(0, 1)}


def test_baseline__cached_trials_never_enter() -> None:
    repeats = an_outcome("PP")
    trials = msgspec.json.decode(msgspec.json.encode(repeats))["test_cases"][0]["trials"]
    one_hit = [trials[0] | {"cache": {"state": "hit"}}, trials[1] | {"cache": {"state": "miss"}}]

    assert counts(with_row(an_outcome("P"), cache={"state": "hit", "reason": "same"})) == {"Case 0": Counts()}
    assert counts(with_row(an_outcome("P"), cache={"state": "miss"})) == {"Case 0": Counts(1, 0)}
    assert counts(with_row(repeats, trials=one_hit)) == {"Case 0": Counts(1, 0)}
    whole = outcome_as_cached(an_outcome("P", "PF"), ended_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert counts(body(whole)) == {"Case 0": Counts(), "Case 1": Counts()}


def test_baseline__case_that_asks_something_else_starts_anew() -> None:
    old, new = an_outcome("PP"), an_outcome("FF", cases=(a_case("Case 0", repeat=2, threshold=0.1),))

    assert counts(body(old), body(new)) == {"Case 0": Counts(0, 2)}
    assert counts(body(new), body(old)) == {"Case 0": Counts(2, 0)}


def test_baseline__rows_of_one_title_stay_apart() -> None:
    outcome = an_outcome("P", "F", cases=(a_case("Same"), a_case("Same")))

    known = read_baseline([("a", body(outcome))])

    assert {key: past.counts for key, past in known.items()} == {
        RowKey("Same", "m", 0): Counts(1, 0),
        RowKey("Same", "m", 1): Counts(0, 1),
    }


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"test_cases": [{"title": 1}]}', b"\xff", b"[" * 100_000])
def test_baseline__what_is_no_outcome_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(InvalidBaseline, match=r"^old\.json is not an outcome"):
        read_baseline([("old.json", text)])
