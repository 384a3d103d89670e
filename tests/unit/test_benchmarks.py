"""The benchmarks' tables and their page. What they measure is shown by `make bench`, not here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import INTRODUCTION, find_benchmarks, updated_page
from benchmarks.peer_programs import read_states
from benchmarks.tables import Line, Table, markdown


def a_line(*, holds: bool | None = None, ratio: float | None = None, bound: str = "") -> Line:
    return Line(
        what="start", measured=1.5, against="nothing", control=0.5, unit="s", ratio=ratio, bound=bound, holds=holds
    )


def test_table__shows_each_figure_beside_its_control() -> None:
    table = Table(
        title="demo",
        how="Three rounds.",
        lines=(a_line(bound="≤ 2 s", holds=True), a_line(ratio=0.25, bound="ratio ≥ 0.5", holds=False), a_line()),
        notes=("a note",),
    )

    assert markdown(table) == (
        "## demo\n\n"
        "Three rounds.\n\n"
        "| what | median | bare control | its median | ratio | bound | holds |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| start | 1.50 s | nothing | 0.50 s | 3.00 | ≤ 2 s | yes |\n"
        "| start | 1.50 s | nothing | 0.50 s | 0.25 | ratio ≥ 0.5 | **no** |\n"
        "| start | 1.50 s | nothing | 0.50 s | 3.00 |  |  |\n\n"
        "- a note"
    )


def test_table__holds_when_no_bound_is_broken() -> None:
    assert Table(title="demo", how="", lines=(a_line(holds=True), a_line())).holds
    assert not Table(title="demo", how="", lines=(a_line(holds=True), a_line(holds=False))).holds


def test_find_benchmarks__lists_modules_that_measure_and_no_others() -> None:
    assert {"engine", "service", "startup"} <= set(find_benchmarks())
    assert not {"tables", "load", "bare", "programs", "mock_model"} & set(find_benchmarks())


def test_updated_page__keeps_the_sections_that_were_not_measured() -> None:
    page = updated_page("", {"b": "## b\n\nold b", "c": "## c\n\nold c"})

    assert updated_page(page, {"a": "## a\n\nnew a", "b": "## b\n\nnew b"}) == (
        f"{INTRODUCTION.strip()}\n\n## a\n\nnew a\n\n## b\n\nnew b\n\n## c\n\nold c\n"
    )


def test_peers__without_npm_says_so_and_ends_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.peers", "--folder", str(tmp_path / "peers")]

    ran = subprocess.run(
        command, env={"PATH": str(tmp_path)}, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )

    assert ran.returncode == 2
    assert ran.stderr.startswith("npm is not installed, so promptfoo is not to be had")
    assert ran.stdout == ""


def test_peers__states_are_the_last_line_that_is_an_object() -> None:
    assert read_states('starting\n{"passed": 0}\n{"passed": 2, "error": 1}\nbye\n') == {"passed": 2, "error": 1}
    with pytest.raises(ValueError, match="no states"):
        read_states("it broke\n")
