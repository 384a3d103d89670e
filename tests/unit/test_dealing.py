"""How tests are dealt to processes."""

from __future__ import annotations

from tests.dealing import deal


def dealt(names: str, *, shares: int) -> str:
    """Files are letters, slow ones are capitals; X to Z take three times as long and share a server."""
    return "".join(
        deal(
            names,
            shares=shares,
            seconds=lambda name: 0 if name.islower() else 3 if name in "XYZ" else 1,
            file=str,
            servers=lambda name: "a server" if name in "XYZ" else "",
        )
    )


def test_deal__each_share_begins_with_slow_ones():
    assert dealt("ABCuvwxyz", shares=3) == "AuvBwxCyz"


def test_deal__files_of_slow_ones_stay_whole():
    assert dealt("AAABBCuvwxyz", shares=2) == "AAAuvwBBCxyz"


def test_deal__files_that_share_a_server_lie_together():
    assert dealt("XABYCZDabcdefg", shares=3) == "ABCDXYabcZdefg"


def test_deal__loses_and_adds_none_however_they_are():
    for names in ("", "A", "u", "AAAAAu", "uuuuuA", "AAABCDEFuv", "XXXXXAYYu"):
        for shares in (1, 2, 3, 4, 20):
            assert sorted(dealt(names, shares=shares)) == sorted(names)
