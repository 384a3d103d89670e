"""`python3 -I -S action_entry/__main__.py`, or `python3 -m action_entry` where the project is installed."""

import sys
import time

_BEGAN = time.monotonic()

if __package__ in (None, ""):
    # Started by its path, in isolation: our own folder comes last, so that nothing in it stands in for the library.
    from os.path import abspath, dirname

    sys.path.append(dirname(dirname(abspath(__file__))))

if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 -- a runner of somebody's own may have an older one
        sys.exit("Prompt tests need Python 3.10 or newer. Add actions/setup-python before this step.")
    # Windows gives a pipe its code page, which lacks our signs.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace", newline="\n")

    from action_entry.program import main

    sys.exit(main(began=_BEGAN))
