"""Our `prpm` hides no other one: a command that is not ours goes to the next `prpm` in PATH."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Real paths that have had their turn: two copies of this command in PATH would pass the work on for ever.
SEEN_VARIABLE = "PRPM_HANDED_OVER_BY"


def next_prpm(environ: Mapping[str, str], *, own: Sequence[str]) -> str | None:
    """The first executable `prpm` in PATH that is none of `own` (real paths) and has had no turn yet."""
    had_turn = set(own) | set(environ.get(SEEN_VARIABLE, "").split(os.pathsep))
    for folder in environ.get("PATH", "").split(os.pathsep):
        candidate = Path(folder or ".") / "prpm"
        # An empty or relative entry is the working folder, which may be somebody else's repository.
        if not candidate.is_absolute() or not candidate.is_file() or not os.access(candidate, os.X_OK):
            continue
        if os.path.realpath(candidate) not in had_turn:
            return str(candidate)
    return None


def hand_over(arguments: Sequence[str]) -> None:
    """This process becomes the next `prpm`. Returns only if there is none."""
    own = own_paths()
    found = next_prpm(os.environ, own=own)
    if found is None:
        return
    seen = [path for path in os.environ.get(SEEN_VARIABLE, "").split(os.pathsep) if path]
    sys.stdout.flush()
    sys.stderr.flush()
    environ = os.environ | {SEEN_VARIABLE: os.pathsep.join([*seen, *own])}
    # No shell: the arguments are the user's own, passed on one by one.
    os.execve(found, [found, *arguments], environ)  # noqa: S606 - replacing this process is the point


def own_paths() -> list[str]:
    """Real paths of this command: as it was started, and as it lies beside the interpreter."""
    return [os.path.realpath(path) for path in (sys.argv[0], Path(sys.executable).parent / "prpm")]
