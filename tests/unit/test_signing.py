"""Canonical JSON and signatures over it: published vectors, and every changed byte is found."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.canonical import NotCanonical, canonical_json
from evals.signing import NotSigned, WrongSignature, new_private_key, public_key, read_document, sign, verify
from tests.outcomes import an_outcome

KEY = bytes(range(32))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def test_canonical__writes_what_rfc_8785_writes() -> None:
    """Section 3.2.2 and 3.2.3: numbers, escapes, and keys sorted by UTF-16."""
    sample = json.loads(
        r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
             "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
    )
    keys = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}

    assert canonical_json(sample).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert [pair[1] for pair in json.loads(canonical_json(keys), object_pairs_hook=list)] == [2, 4, 6, 7, 1, 5, 3]


@given(VALUES)
def test_canonical__one_value_has_one_spelling(value: Any) -> None:
    text = canonical_json(value)

    assert canonical_json(json.loads(text)) == text
    assert canonical_json(json.loads(json.dumps(value, indent=3))) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, -(10**400), "\ud800", {"\udfff": 1}])
def test_canonical__what_readers_would_read_differently_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonical):
        canonical_json({"a": value})


def signed() -> bytes:
    document = msgspec.json.decode(msgspec.json.encode(an_outcome("P", "PF", answer='ünïcode "q" \\ \n 1.5e300')))
    return canonical_json(sign(document, KEY))


def test_sign__names_key_and_algorithm_and_can_be_verified_offline() -> None:
    document = read_document(signed())

    assert verify(document) == public_key(KEY) == document["signature"]["key"]
    assert document["signature"]["algorithm"] == "ed25519"
    assert sign(document, KEY) == document, "signing again gives the same signature"
    assert verify(sign(document, other := new_private_key())) == public_key(other)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_verify__every_flipped_byte_is_found(mask: int) -> None:
    body = signed()

    for position in range(len(body)):
        flipped = bytearray(body)
        flipped[position] ^= mask
        # NotSigned where the byte is in the name of the signature itself.
        with pytest.raises((WrongSignature, NotSigned)):
            verify(read_document(bytes(flipped)))


def test_verify__layout_is_not_content() -> None:
    document = read_document(signed())

    assert verify(read_document(json.dumps(document, indent=2).encode())) == public_key(KEY)


def test_verify__document_without_a_signature_says_how_to_get_one() -> None:
    with pytest.raises(NotSigned, match="--output"):
        verify({"test_cases": []})


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "none"}, {"algorithm": "ED25519"}, {"key": "00" * 32}, {"key": "zz" * 32}, {"key": ""},
        {"value": ""}, {"value": "0" * 128}, {"extra": 1}, {"value": None},
    ],
)  # fmt: skip
def test_verify__signature_cannot_be_bent(change: dict[str, Any]) -> None:
    document = read_document(signed())

    with pytest.raises(WrongSignature):
        verify(document | {"signature": document["signature"] | change})
    with pytest.raises(WrongSignature):
        verify(document | {"signature": change})


@pytest.mark.parametrize("body", [b"", b"7", b"\xff", b"[" * 100_000, b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}'])
def test_read_document__twins_and_nonsense_are_refused(body: bytes) -> None:
    with pytest.raises(WrongSignature):
        read_document(body)
