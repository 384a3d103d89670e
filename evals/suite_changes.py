"""What a newer suite asks less than an older one: cases that are gone, or that are easier to pass. Pure.

Whoever changes the package may change its tests with it; a test that was taken out of the way must not look like one
that passes. What asks more, or only has another name, is nobody's business here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from evals.digests import case_digest
from evals.types import Assertion, AssertionSet, Case, Suite


class CaseChange(Struct, frozen=True, kw_only=True):
    """A case of the baseline's suite that the run does not have as it was. Part of the public JSON.

    `number` counts cases of one title from 0; `gates` says whether the conclusion rests on it.
    """

    title: str
    number: int = 0
    change: Literal["removed", "changed"]
    reason: str
    gates: bool


class _Name(Struct, frozen=True):
    title: str
    number: int


def changed_cases(base: Suite, head: Suite, *, gates: bool) -> tuple[CaseChange, ...]:
    """The base's cases that are missing in head or easier to pass there, in the base's order."""
    now = dict(_named(head.cases))
    by_digest = {case_digest(head, case): case for case in head.cases}
    found = []
    for name, case in _named(base.cases):
        # The same question under another title is the same case.
        same = by_digest.get(case_digest(base, case)) or now.get(name)
        reason = _looser(base, case, head, same) if same is not None else "it is not in the suite any more"
        if reason:
            found.append(
                CaseChange(
                    title=name.title,
                    number=name.number,
                    change="removed" if same is None else "changed",
                    reason=reason,
                    gates=gates and not case.quarantine,
                )
            )
    return tuple(found)


def _named(cases: Sequence[Case]) -> Iterator[tuple[_Name, Case]]:
    seen: Counter[str] = Counter()
    for case in cases:
        yield _Name(case.title, seen[case.title]), case
        seen[case.title] += 1


def _looser(base: Suite, before: Case, head: Suite, now: Case) -> str:
    """Why the case may be easier to pass now; empty if it is not."""
    return next(_findings(base, before, head, now), "")


def _findings(base: Suite, before: Case, head: Suite, now: Case) -> Iterator[str]:
    if now.quarantine and not before.quarantine:
        yield "it is in quarantine now, and decides nothing"
    if now.pass_rate < before.pass_rate or now.repeat < before.repeat:
        rates = [f"{case.pass_rate:.0%} of {case.repeat}" for case in (now, before)]
        yield f"it has to pass {rates[0]} times, before {rates[1]}"
    if (now.messages, now.vars) != (before.messages, before.vars):
        yield "it asks something else"
    if (head.temperature, head.max_tokens, head.judge) != (base.temperature, base.max_tokens, base.judge):
        yield "the suite's parameters for the model are others"
    if now.threshold != before.threshold and not _is_stricter_score(before, now):
        yield "its threshold is another"
    if missing := _missing(before.assertions, now.assertions):
        yield f"it no longer asserts {', '.join(missing)} as before"


def _is_stricter_score(before: Case, now: Case) -> bool:
    """Without a threshold every assertion has to hold; with one only the score counts."""
    return now.threshold is None or (before.threshold is not None and now.threshold >= before.threshold)


def _missing(before: Sequence[Assertion | AssertionSet], now: Sequence[Assertion | AssertionSet]) -> list[str]:
    left = Counter(map(_spelled, now))
    lost = Counter(map(_spelled, before)) - left
    return sorted({_type(item) for item in before if lost[_spelled(item)]})


def _spelled(item: Assertion | AssertionSet) -> bytes:
    return msgspec.json.encode(item, order="sorted")


def _type(item: Assertion | AssertionSet) -> str:
    return item.type if isinstance(item, Assertion) else "assert-set"


def count_gating(changes: Sequence[CaseChange]) -> Mapping[str, int]:
    """How many removed and changed cases gate."""
    return Counter(change.change for change in changes if change.gates)
