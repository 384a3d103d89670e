"""`prpm models`: what a line says of a model that its vendor ends."""

from __future__ import annotations

import pytest

from cli.answers import ModelEntry, ModelList
from cli.commands.models import model_lines


@pytest.mark.parametrize(
    ("today", "said"),
    [
        ("2026-11-22", "retires 2027-01-14, then gpt-6-luna answers"),
        ("2027-01-14", "retired 2027-01-14, answered by gpt-6-luna"),
    ],
)
def test_models__say_when_a_vendor_ends_one(today: str, said: str) -> None:
    entry = ModelEntry(name="gpt-4o", reachable=True, retired="2027-01-14", successor="gpt-6-luna")

    assert model_lines(ModelList(models=(entry,)), today=today)[2] == f"   gpt-4o  ✅  {said}"
