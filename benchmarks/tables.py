"""What a benchmark says: figures beside a bare control of the same run, each with its bound."""

from __future__ import annotations

from msgspec import Struct


class Line(Struct, frozen=True, kw_only=True):
    """One figure. `measured` and `control` are medians in `unit`; times and sizes alone say nothing about the code.

    `ratio` may be the median of the ratios of single rounds; None: measured / control.
    `bound` is empty and `holds` None where nothing was promised.
    """

    what: str
    measured: float
    against: str  # what the control does
    control: float
    unit: str
    ratio: float | None = None
    bound: str = ""
    holds: bool | None = None


class Table(Struct, frozen=True, kw_only=True):
    """One benchmark's result; `how` says in Markdown what was done, `notes` what explains the figures."""

    title: str
    how: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every bound does."""
        return all(line.holds is not False for line in self.lines)


def markdown(table: Table) -> str:
    """The table as it stands in docs/benchmarks.md."""
    rows = [_row(line) for line in table.lines]
    parts = [
        f"## {table.title}",
        table.how,
        "\n".join(["| what | median | bare control | its median | ratio | bound | holds |", f"|{' --- |' * 7}", *rows]),
        "\n".join(f"- {note}" for note in table.notes),
    ]
    return "\n\n".join(part for part in parts if part)


def _row(line: Line) -> str:
    ratio = line.measured / line.control if line.ratio is None else line.ratio
    holds = {True: "yes", False: "**no**", None: ""}[line.holds]
    cells = (
        line.what,
        _figure(line.measured, line.unit),
        line.against,
        _figure(line.control, line.unit),
        f"{ratio:.2f}",
        line.bound,
        holds,
    )
    return f"| {' | '.join(cells)} |"


def _figure(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"
