"""`prpm test --watch`: run, wait until the package or its tests say something else, run again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from cli.errors import CommandError, Interrupted, InvalidUse
from cli.main import as_command_error
from cli.request import RunRequest
from cli.subject import Folder
from cli.terminal import Terminal

LOOK_SECONDS = 0.5


def watch(
    request: RunRequest,
    run: Callable[[], int],
    *,
    terminal: Terminal,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """The exit code of the last run, once Ctrl-C ends the waiting. Raises InvalidUse for what cannot be watched.

    What ends a run early is told, and the next change is waited for: the mistake may be in the file that changes.
    """
    if not isinstance(request.subject, Folder):
        raise InvalidUse("--watch looks at a folder: name the package's folder.")
    if terminal.machine:
        raise InvalidUse("--watch is for people; leave out --json.")
    folder = request.subject.path
    while True:
        seen = fingerprint(folder, request.suite_file)
        code = _run_once(run, terminal)
        terminal.say()
        # Many watch the folder where they stand, and `.` with a full stop behind it reads as its parent.
        terminal.say(f"👀 Watching {folder}: a change runs the tests again, Ctrl-C ends it.")
        try:
            while fingerprint(folder, request.suite_file) == seen:
                sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            return code
        terminal.say()
        terminal.say("🔁 Changed; running again")
        terminal.say()


def _run_once(run: Callable[[], int], terminal: Terminal) -> int:
    try:
        return run()
    except Exception as error:
        expected: CommandError = as_command_error(error)
        if isinstance(expected, Interrupted):
            raise
        terminal.explain(expected)
        return expected.exit_code


def fingerprint(folder: Path, suite_file: Path | None) -> str:
    """Says whether anything that a run would read is different: the contents, not the times, as editors touch files."""
    from evals.errors import EngineError
    from evals.folders import read_folder

    sums = hashlib.sha256()
    try:
        for path, content in sorted(read_folder(folder).items()):
            sums.update(f"{len(path)} {path} {len(content)} ".encode())
            sums.update(content)
        if suite_file is not None:
            sums.update(suite_file.read_bytes())
    except (EngineError, OSError) as error:  # half-way through an editor's writing, or what the author will mend
        return str(error)
    return sums.hexdigest()
