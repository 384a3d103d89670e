"""Each attack on quotas, and on what the queue stands on, has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NAMED = {
    name
    for path in TESTS.rglob("test_*.py")
    for test in re.findall(r"def (test_\w+)", path.read_text())
    for name in re.findall(r"(?<=_)[QD]\d+(?=_)", test)
}


@pytest.mark.parametrize("attack", [*(f"Q{number}" for number in range(1, 16)), "D6", "D7", "D8"])
def test_attack__is_named_by_a_test(attack: str):
    assert attack in NAMED
