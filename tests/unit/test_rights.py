"""The table of rights is the one that people read, and nothing in it grows by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.domain.nearing import level_of_runs, nearing
from server.domain.rights import (
    EVERYTHING,
    ROLE_RIGHTS,
    SCOPE_RIGHTS,
    SCOPES,
    may_change_role,
    rights_of_role,
    rights_of_scopes,
)

PAGE = (Path(__file__).parents[2] / "docs" / "organisations.md").read_text()


def rows(first_cell: str) -> list[list[str]]:
    """The cells of the table whose head begins so."""
    table = PAGE.split(f"| {first_cell} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in table]


def test_page__has_the_table_of_roles():
    roles = ["member", "maintainer", "admin", "owner"]
    told = {role: {row[0] for row in rows("right") if row[2 + place] == "yes"} for place, role in enumerate(roles)}

    assert told == {role: set(rights) for role, rights in ROLE_RIGHTS.items()}


def test_page__has_the_table_of_scopes():
    told = {row[0]: set(row[1].replace("`", "").split(", ")) for row in rows("scope")}

    assert told == {scope: set(SCOPE_RIGHTS[scope]) for scope in SCOPES}


def test_rights__of_nobody_are_none():
    for role in (None, "", "emperor"):
        assert rights_of_role(role) == frozenset()
    assert rights_of_scopes([]) == rights_of_scopes(["write"]) == frozenset()
    assert rights_of_scopes(["read:packages", "write:packages"]) == EVERYTHING
    # No scope that an organisation's token may have makes it whole.
    assert rights_of_scopes(SCOPES) != EVERYTHING


@pytest.mark.parametrize(
    ("who", "before", "after", "may"),
    [
        ("owner", None, "owner", True),
        ("owner", "owner", None, True),
        ("admin", None, "admin", True),
        ("admin", "owner", "admin", False),
        ("admin", "member", "owner", False),
        ("admin", "owner", None, False),
        ("maintainer", None, "member", False),
        ("member", "member", "admin", False),
    ],
)
def test_role__is_changed_from_above(who: str, before: str | None, after: str | None, may: bool):
    assert may_change_role(rights_of_role(who), before=before, after=after) is may


@pytest.mark.parametrize(
    ("used", "most", "level"),
    [(0, 100, 0), (49, 100, 0), (50, 100, 50), (79, 100, 50), (80, 100, 80), (99, 100, 80), (100, 100, 100),
     (101, 100, 100), (1, 1, 100), (1, 3, 0), (2, 3, 50), (5, None, 0), (5, 0, 0)],
)  # fmt: skip
def test_level__is_the_highest_that_is_reached(used: int, most: int | None, level: int):
    assert level_of_runs(used, most) == level


def test_nearing__tells_of_runs_and_money():
    assert nearing(runs_used=1, run_limit=None, money_level=0) == []
    assert nearing(runs_used=100, run_limit=100, money_level=100) == [
        "This was the last of this month's 100 test runs.",
        "All of this month's money for models is spent; only free models are asked.",
    ]
