"""How often a comparison with a baseline cries wolf, and how often it finds the wolf, beside the naive rule.

    python -m benchmarks.regressions [--comparisons 500] [--history 30]

No server and no clock: verdicts are drawn in this process from the truth of the mock's `flaky-P` models, so every
figure is the same on each machine. The functions that decide are the engine's own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from hashlib import sha256

from msgspec import Struct

from benchmarks.tables import Line, Table, markdown
from evals.comparison import RERUNS, Past, Present, RowKey, compare, rerun_calls, suspects
from evals.statistics import Counts

CASES = 100
COMPARISONS = 500
HISTORY = 30
GOOD, BAD = 0.95, 0.2


class Setting(Struct, frozen=True, kw_only=True):
    """One kind of change: how many of the cases it breaks, from `good` to `bad`."""

    broken: int = 0
    good: float = GOOD
    bad: float = BAD
    history: int = HISTORY
    comparisons: int = COMPARISONS


class Found(Struct, frozen=True, kw_only=True):
    """Shares of all comparisons or of all broken cases, 0..1; `calls` is trials made per trial of the first run."""

    alarms: float
    naive_alarms: float
    detected: float
    naive_detected: float
    calls: float


class Site:
    """One package's past and present: each case's verdicts, drawn as the mock model draws them."""

    def __init__(self, setting: Setting, *, seed: int) -> None:
        self._setting = setting
        self._good = [Draws(setting.good, f"case {case:04}", seed=seed) for case in range(CASES)]
        self._bad = [Draws(setting.bad, f"case {case:04}", seed=seed) for case in range(setting.broken)]

    def count(self, case: int, times: int, *, changed: bool) -> Counts:
        """So many trials of a case, before the change or after it."""
        draws = self._bad[case] if changed and case < self._setting.broken else self._good[case]
        passed = sum(draws.next() for _ in range(times))
        return Counts(passed, times - passed)

    def passes(self, case: int, *, changed: bool) -> bool:
        """One trial."""
        return self.count(case, 1, changed=changed).passed == 1


class Draws:
    """The verdicts that `flaky-RATE-a` gives to one prompt, call by call; what the server says, without it."""

    def __init__(self, rate: float, prompt: str, *, seed: int) -> None:
        self._limit = rate * 2**64
        self._hash = sha256(f"{seed}\x1fflaky\x1fflaky-{rate:g}-a\x1f{prompt}\x1f".encode())
        self._calls = 0

    def next(self) -> bool:
        whole = self._hash.copy()
        whole.update(b"%d" % self._calls)
        self._calls += 1
        return int.from_bytes(whole.digest()[:8], "big") < self._limit


class Round(Struct, frozen=True):
    """The cases that one comparison accused, by both rules, and the trials that it added."""

    accused: frozenset[int]
    naively_accused: frozenset[int]
    added: int


def compare_once(setting: Setting, *, seed: int) -> Round:
    """A run of every case once, against its history, with new trials for the suspected ones."""
    site = Site(setting, seed=seed)
    keys = [RowKey(f"case {case:04}", "flaky") for case in range(CASES)]
    baseline = {key: Past(counts=site.count(case, setting.history, changed=False)) for case, key in enumerate(keys)}
    passed_last_time = [site.passes(case, changed=False) for case in range(CASES)]
    rows = [a_row(key, passed=site.passes(case, changed=True)) for case, key in enumerate(keys)]
    tried = suspects(rows, baseline, calls=rerun_calls(CASES))
    for case in tried:
        rows[case] = a_row(
            keys[case], passed=rows[case].state == "passed", again=site.count(case, RERUNS, changed=True)
        )
    changes = compare(rows, baseline)
    return Round(
        frozenset(case for case, change in enumerate(changes) if change.status == "regressed"),
        frozenset(case for case, row in enumerate(rows) if row.state == "failed" and passed_last_time[case]),
        len(tried) * RERUNS,
    )


def a_row(key: RowKey, *, passed: bool, again: Counts = Counts()) -> Present:  # noqa: B008 - frozen
    """A row of one trial."""
    return Present(
        key=key, state="passed" if passed else "failed", first=Counts(int(passed), int(not passed)), again=again
    )


def explore(setting: Setting, *, first_seed: int = 0) -> Found:
    """What both rules do over all comparisons of one setting."""
    rounds = [compare_once(setting, seed=first_seed + number) for number in range(setting.comparisons)]
    return Found(
        alarms=_share(rounds, lambda round_: _wrong(round_.accused, setting)),
        naive_alarms=_share(rounds, lambda round_: _wrong(round_.naively_accused, setting)),
        detected=_right([round_.accused for round_ in rounds], setting),
        naive_detected=_right([round_.naively_accused for round_ in rounds], setting),
        calls=1 + sum(round_.added for round_ in rounds) / (CASES * len(rounds)),
    )


def _share(rounds: list[Round], holds: Callable[[Round], bool]) -> float:
    return sum(map(holds, rounds)) / len(rounds)


def _wrong(accused: frozenset[int], setting: Setting) -> bool:
    return any(case >= setting.broken for case in accused)


def _right(accused: list[frozenset[int]], setting: Setting) -> float:
    broken = setting.broken * len(accused)
    return sum(case < setting.broken for cases in accused for case in cases) / broken if broken else 0.0


def measure(*, comparisons: int = COMPARISONS, history: int = HISTORY) -> Table:
    """Harmless changes, and changes that break one case or five, of a hundred."""
    harmless = explore(Setting(history=history, comparisons=comparisons))
    one = explore(Setting(broken=1, history=history, comparisons=comparisons), first_seed=10_000)
    five = explore(Setting(broken=5, history=history, comparisons=comparisons), first_seed=20_000)
    return Table(
        title="regressions",
        how=(
            f"{CASES} cases that pass with probability {GOOD}, {history} stored trials each; a run tries each case "
            f"once and suspected ones {RERUNS} times more. {comparisons:,} comparisons a line, verdicts drawn from "
            "the mock's `flaky` models. The naive rule accuses a case that passed last time and fails now."
        ),
        lines=(
            _line("harmless change: a false alarm", harmless.alarms, harmless.naive_alarms, "≤ 2 %", 0.02),
            _calls("harmless change: calls", harmless.calls),
            _line(f"5 cases drop to {BAD}: found", five.detected, five.naive_detected, "≥ 75 %", 0.75, most=False),
            _calls("5 cases drop: calls", five.calls),
            _line(f"1 case drops to {BAD}: found", one.detected, one.naive_detected, "≥ 75 %", 0.75, most=False),
            _calls("1 case drops: calls", one.calls),
        ),
        notes=(_ceiling(), _company(five)),
    )


def _ceiling() -> str:
    return (
        f"A case that drops to {BAD} fails its one trial in {1 - BAD:.0%} of all runs: no rule that looks at failures "
        "only can find more in one run."
    )


def _company(five: Found) -> str:
    return (
        f"With 5 cases broken, another case was accused in {five.alarms:.1%} of the comparisons, by the naive rule in "
        f"{five.naive_alarms:.1%}: the method bounds the share of false claims among all claims, at 5 %."
    )


def _line(what: str, share: float, naive: float, bound: str, limit: float | None, *, most: bool = True) -> Line:
    return Line(
        what=what, measured=share * 100, against="naive rule", control=naive * 100, unit="%", bound=bound,
        holds=None if limit is None else share <= limit if most else share >= limit,
    )  # fmt: skip


def _calls(what: str, calls: float) -> Line:
    return Line(
        what=what, measured=calls * CASES, against="every case once", control=CASES, unit="calls",
        bound="ratio ≤ 1.7", holds=calls <= 1.7,
    )  # fmt: skip


def main() -> int:
    """Print the table; exit code 1 when a bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regressions", description=__doc__)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS)
    parser.add_argument("--history", type=int, default=HISTORY)
    options = parser.parse_args()
    table = measure(comparisons=options.comparisons, history=options.history)
    print(markdown(table))
    return 0 if table.holds else 1


if __name__ == "__main__":
    sys.exit(main())
