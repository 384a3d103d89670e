"""What people see while they wait: a bar on a terminal, else a dot for each look, both on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from cli.answers import Progress


class Display(Protocol):
    """Shows how far the work is. `None`: running, nothing counted yet."""

    def show(self, progress: Progress | None) -> None: ...


@contextmanager
def waiting(terminal: Terminal, *, dots: bool = True) -> Iterator[Display]:
    """A display for the time of the block; afterwards the cursor stands at the start of a line."""
    if terminal.shows_bars:
        with _bar() as bar:
            yield bar
        return
    display = Dots(visible=dots)
    try:
        yield display
    finally:
        display.close()


class Dots:
    """One dot per look while the job runs."""

    def __init__(self, *, visible: bool) -> None:
        self._visible = visible
        self._shown = 0

    def show(self, progress: Progress | None) -> None:
        """A dot, at once."""
        if self._visible:
            sys.stderr.write(".")
            sys.stderr.flush()
            self._shown += 1

    def close(self) -> None:
        """End the line of dots, if there is one."""
        if self._shown:
            sys.stderr.write("\n")
            sys.stderr.flush()


class Bar:
    """Trials done out of all, with the verdicts so far."""

    def __init__(self, rich_progress: RichProgress, task: TaskID) -> None:
        self._rich = rich_progress
        self._task = task

    def show(self, progress: Progress | None) -> None:
        """Redraw."""
        if progress is not None:
            self._rich.update(
                self._task,
                total=progress.trials_total or None,
                completed=progress.trials_finished,
                verdicts=verdicts(progress),
            )


def verdicts(progress: Progress) -> str:
    """`2 ✅  1 ❌`, leaving out what has not happened."""
    counts = ((progress.passed, "✅"), (progress.failed, "❌"), (progress.errored, "⚠️"))
    return "  ".join(f"{count} {sign}" for count, sign in counts if count)


@contextmanager
def _bar() -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[verdicts]}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as rich_progress:
        yield Bar(rich_progress, rich_progress.add_task("", total=None, verdicts=""))
