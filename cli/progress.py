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

    from cli.answers import Progress, Started, TrialDone


class Display(Protocol):
    """Shows how far the work is. `None`: running, nothing counted yet."""

    def show(self, progress: Progress | None) -> None: ...


@contextmanager
def following(terminal: Terminal, *, live: bool) -> Iterator[JobDisplay]:
    """What shows a hosted job while it is waited for: a bar or dots, or with `live` a line for each trial."""
    if live:
        yield LiveLines(terminal)
        return
    with waiting(terminal) as display:
        yield JobDisplay(display)


class JobDisplay:
    """A hosted job on a display."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def queued(self, position: int | None) -> None:
        """Its place was said at the start."""

    def started(self, started: Started) -> None:
        """What is asked first."""
        self._display.show(_at_start(started))

    def trial(self, trial: TrialDone) -> None:
        """The counts come behind it."""

    def progress(self, progress: Progress | None) -> None:
        """How far it is."""
        self._display.show(progress)


class LiveLines(JobDisplay):
    """A line for each thing that happens."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(Dots(visible=False))
        self._terminal = terminal

    def queued(self, position: int | None) -> None:
        """Where it stands."""
        self._terminal.say(f"⏳ Position in queue: {position}" if position else "⏳ In the queue")

    def started(self, started: Started) -> None:
        """That it runs."""
        again = f" (attempt {started.attempt})" if started.attempt > 1 else ""
        self._terminal.say(f"▶️  Started: {started.trials_total} trials{again}")

    def trial(self, trial: TrialDone) -> None:
        """What came of it."""
        from cli.wording import COLOURS, SIGNS
        from evals.printable import shortened

        number = f" #{trial.repeat}" if trial.repeat > 1 else ""
        self._terminal.say(
            f"{SIGNS.get(trial.state, '⚠️')} {shortened(trial.case, limit=200)}{number} · {trial.model}",
            colour=COLOURS.get(trial.state),
        )


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
                asked=asked(progress),
            )


def _at_start(started: Started) -> Progress:
    from cli.answers import Progress

    return Progress(trials_total=started.trials_total, asking=started.asking)


def asked(progress: Progress) -> str:
    """`claude-sonnet-4: Review function`: what is being asked, as far as it is known."""
    if progress.asking is None:
        return ""
    from evals.printable import printable, shortened

    return printable(shortened(f"{progress.asking.model}: {progress.asking.case}", limit=60))


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
        TimeElapsedColumn(), TextColumn("{task.fields[asked]}", style="dim", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as rich_progress:
        yield Bar(rich_progress, rich_progress.add_task("", total=None, verdicts="", asked=""))
