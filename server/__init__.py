"""The testing service: API, workers, and what operators run."""

import sys

# structlog draws rich in for tracebacks on a developer's terminal. No log of ours shows those, and the import is a
# sixth of the time in which a process starts; hidden for a moment, structlog does without.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python says "not installed"
    try:
        import structlog  # noqa: F401
    except ModuleNotFoundError:
        pass  # the command line alone is installed; server/operator/main.py says so
    finally:
        del sys.modules["rich"]
