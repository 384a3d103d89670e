"""The replayer of recorded verdicts, and the recorded verdicts themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evals.conformance import main

RECORDED = Path(__file__).parents[1] / "samples" / "conformance"

GOOD = {
    "id": "r1",
    "tier": "exact",
    "type": "contains",
    "value": "a",
    "output": "abc",
    "expect_pass": True,
    "expect_score": 1,
    "expect_error": False,
}


def written(folder: Path, *rows: Any) -> str:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def counts(line: str) -> dict[str, tuple[int, int]]:
    words = line.split()
    return {
        tier: (int(count.split("/")[0]), int(count.split("/")[1]))
        for tier, count in zip(words[::2], words[1::2], strict=True)
    }


@pytest.mark.parametrize("name", ["assertions.jsonl", "aggregation.jsonl"])
def test_recorded_verdicts__every_exact_row_matches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = main([str(RECORDED / name)])

    same, all_ = counts(last_line(capsys))["exact"]
    assert (exit_code, same) == (0, all_)
    assert all_ > 100


def test_recorded_verdicts__every_row_that_depends_on_a_parser_matches(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(RECORDED / "assertions.jsonl")])

    assert counts(last_line(capsys))["parser"] == (38, 38)


def test_recorded_verdicts__quirks_that_we_do_not_share(capsys: pytest.CaptureFixture[str]) -> None:
    """A text that is no pattern is refused, and `not-perplexity` without a limit fails."""
    main([str(RECORDED / "assertions.jsonl")])

    different = {line.split()[0] for line in capsys.readouterr().out.splitlines() if "(quirk)" in line}
    assert {name.rpartition("-")[0].removeprefix("not-") for name in different} == {
        "regex",
        "perplexity",
        "perplexity-score",
    }
    assert len(different) == 15


def test_recorded_verdicts__R2_patterns_that_re2_cannot_run_match(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(RECORDED / "unbounded_patterns.jsonl")]) == 0

    line = counts(last_line(capsys))
    assert line["exact"] == (6, 6)
    assert line["parser"] == (6, 6)


def test_replay__differing_row_is_shown_with_what_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = main([written(tmp_path, GOOD, {**GOOD, "id": "r2", "value": "z"})])

    assert exit_code == 1
    assert capsys.readouterr().out == (
        "r2 (exact): expected pass 1, got fail 0 (the answer does not contain 'z')\n"
        "exact 1/2 parser 0/0 optional 0/0 quirk 0/0\n"
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tier": "parser"}, "exact 0/0 parser 0/1 optional 0/0 quirk 0/0"),
        ({"tier": "optional"}, "exact 0/0 parser 0/0 optional 0/1 quirk 0/0"),
        ({"tier": "exact", "quirk": "odd"}, "exact 0/0 parser 0/0 optional 0/0 quirk 0/1"),
    ],
)
def test_replay__only_exact_rows_decide_the_exit_code(
    changes: dict[str, Any], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([written(tmp_path, {**GOOD, "value": "z", **changes})]) == 0
    assert last_line(capsys) == line


@pytest.mark.parametrize(
    "changes",
    [
        {"expect_score": 0.999},
        {"expect_error": True},
        {"value": ""},
        {"threshold": "high"},
        {"weight": "heavy"},
    ],
)
def test_replay__row_differs_by_score_or_error(changes: dict[str, Any], tmp_path: Path) -> None:
    assert main([written(tmp_path, {**GOOD, **changes})]) == 1


def test_replay__row_without_a_tier_is_exact_and_values_are_templates(tmp_path: Path) -> None:
    row = {**GOOD, "value": "{{v}}", "vars": {"v": "a"}}
    del row["tier"]

    assert main([written(tmp_path, row)]) == 0


def test_replay__output_that_is_json_is_compared_as_compact_text(tmp_path: Path) -> None:
    assert main([written(tmp_path, {**GOOD, "value": '{"k":1}', "type": "equals", "output": {"k": 1.0}})]) == 0


def test_replay__unknown_type_differs_even_where_an_error_is_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = {**GOOD, "type": "not-here-yet"}
    nobodys = {**GOOD, "id": "r3", "type": "Equals", "expect_error": True, "expect_pass": None, "expect_score": None}

    assert main([written(tmp_path, later, {**later, "id": "r2", "expect_error": True}, nobodys)]) == 1
    assert capsys.readouterr().out == (
        "r1 (exact): unknown type not-here-yet\n"
        "r2 (exact): unknown type not-here-yet\n"
        "exact 1/3 parser 0/0 optional 0/0 quirk 0/0\n"
    )


def test_replay__types_restrict_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = [{"type": "contains", "value": "a"}, {"type": "new", "value": 1}]
    whole = {"id": "a", "assert": mixed, "output": "a", "expect_pass": True}
    path = written(tmp_path, GOOD, {**GOOD, "id": "r2", "type": "not-contains"}, {**GOOD, "type": "equals"}, whole)

    main([path, "--types", "contains,regex"])

    assert last_line(capsys) == "exact 1/2 parser 0/0 optional 0/0 quirk 0/0"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["{"], "line 1: not a JSON object"),
        ([GOOD, "", "[1]"], "line 3: not a recorded row; it needs an `id` and either"),
        ([{"id": "x"}], "line 1: not a recorded row"),
        ([""], "holds no rows"),
    ],
)
def test_replay__file_that_holds_something_else(
    rows: list[Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([written(tmp_path, *rows)]) == 2
    assert said in capsys.readouterr().err


def test_replay__csv_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = {"id": "c1", "expected_column": "contains:a", "assert": [{"type": "contains", "value": "a"}]}

    assert main([written(tmp_path, cell)]) == 0
    assert main([written(tmp_path, {**cell, "expected_column": "contains:b"})]) == 1
    assert last_line(capsys) == "exact 0/1 parser 0/0 optional 0/0 quirk 0/0"


def test_recorded_cells__every_one_matches_or_is_refused_on_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/suite-format.md lists the reasons."""
    assert main([str(RECORDED / "csv_expected.jsonl")]) == 0

    *differing, line = capsys.readouterr().out.splitlines()
    assert {row.split()[0] for row in differing if "refused on purpose" in row} == {
        "csv-0022", "csv-0037", "csv-0039", "csv-0041", "csv-0060", "csv-0064",
    }  # fmt: skip
    assert {row.split()[0] for row in differing if "refused on purpose" not in row} == {"csv-0007"}
    assert counts(line) == {"exact": (20, 20), "parser": (0, 0), "optional": (0, 0), "quirk": (0, 7)}


def test_command__missing_file_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evals.conformance", str(tmp_path / "none.jsonl")]

    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"cannot read {tmp_path / 'none.jsonl'}: No such file or directory\n"
