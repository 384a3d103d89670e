"""Ends an image's build when an installed package would run code at every start of Python.

    python -I -S check_start_hooks.py FOLDER

`.pth` files and `sitecustomize` are how stolen releases of popular packages hid their code. Ours need none of them.
Standard library only, and never run by the environment that it looks at.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

# Names below `site-packages` that may be there, each with the reason why. None is needed today.
ALLOWED: frozenset[str] = frozenset()

HOOKS = ("sitecustomize", "usercustomize")


def find_start_hooks(folder: Path) -> Iterator[Path]:
    """Files below `folder` that Python runs by itself, sorted; those that are allowed are left out."""
    for path in sorted(folder.rglob("*")):
        is_hook = path.suffix == ".pth" or path.name.split(".")[0] in HOOKS
        if is_hook and "site-packages" in path.parts and path.name not in ALLOWED:
            yield path


def main() -> int:
    """1 when there is a hook, or no site-packages to look at; else 0."""
    folder = Path(sys.argv[1])
    if not any(folder.rglob("site-packages")):
        sys.stderr.write(f"There is no site-packages below {folder}.\n")
        return 1
    hooks = list(find_start_hooks(folder))
    for hook in hooks:
        sys.stderr.write(f"{hook} runs at every start of Python. Find out who brings it and why.\n")
    return 1 if hooks else 0


if __name__ == "__main__":
    sys.exit(main())
