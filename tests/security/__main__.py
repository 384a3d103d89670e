"""`python -m tests.security`: every checker; exit code 1 if one finds something, 2 if a tool is missing, by name."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from tests.security import tools


def main() -> int:
    checkers = [
        importlib.import_module(f"{tools.__name__}.{module.name}") for module in pkgutil.iter_modules(tools.__path__)
    ]
    missing = [sentence for checker in checkers for sentence in checker.missing()]
    if missing:
        sys.stderr.writelines(f"❌ {sentence}\n" for sentence in missing)
        return 2
    results = []
    for checker in checkers:
        print(f"{checker.__name__.rpartition('.')[2]}: {(checker.__doc__ or '').partition(chr(10))[0]}", flush=True)
        results.append(checker.check())
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
