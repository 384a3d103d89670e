"""Registries under threads: the API parses suites in several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evals.plugins import Registry

SLOW_PLUGIN = """
import time
from slow_family import FAMILY
time.sleep(0.1)
FAMILY.register("slow", 1)
"""


def test_registry__a_second_thread_never_sees_half_a_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "slow_family"
    folder.mkdir()
    (folder / "__init__.py").write_text("from evals.plugins import Registry\nFAMILY = Registry('slow_family')\n")
    (folder / "plugin.py").write_text(SLOW_PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    import slow_family

    family: Registry[int] = slow_family.FAMILY
    with ThreadPoolExecutor(4) as threads:
        seen = list(threads.map(lambda _: sorted(family), range(4)))

    assert seen == [["slow"]] * 4
