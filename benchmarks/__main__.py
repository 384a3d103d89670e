"""Runs benchmarks and prints their tables; exit code 1 when a bound does not hold.

    python -m benchmarks [NAME...] [--write]

A benchmark is a module of this folder with a function `measure() -> Table`; a new one is one new file. `--write`
brings docs/benchmarks.md up to date: sections of benchmarks that did not run stay as they were.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.tables import Table, markdown

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "benchmarks.md"

INTRODUCTION = """\
# Benchmarks

How to run them: `make bench`, or `python -m benchmarks NAME... --write` for some of them and to bring this page up to
date. Every figure stands beside a bare control that was measured in the same run, by turns: compare ratios between
machines, not times. "≤" and "≥" are promises; the command ends with exit code 1 when one does not hold. Other programs
are measured by `python -m benchmarks.peers`, which installs them in a folder of their own first.
"""


def find_benchmarks() -> list[str]:
    """Names of the modules here that define `measure`, without importing any."""
    return [path.stem for path in sorted(FOLDER.glob("[!_]*.py")) if "measure" in _functions(path)]


def _functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)}


def run(name: str) -> Table:
    """One benchmark's table."""
    table: Table = importlib.import_module(f"benchmarks.{name}").measure()
    return table


def section(table: Table, *, load: float) -> str:
    """The table with the day and the machine: parts of the page may have been measured apart.

    `load` is the machine's load average before the run: much above 0, others were measured too.
    """
    where = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load:.1f} before"
    return f"{markdown(table)}\n\nMeasured on {datetime.now(UTC):%Y-%m-%d}: {where}."


def updated_page(page: str, sections: Mapping[str, str]) -> str:
    """The page with these sections new and all others kept, in the order of their names."""
    kept = {part.partition("\n")[0]: f"## {part.strip()}" for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]}
    whole = {**kept, **sections}
    return "\n\n".join([INTRODUCTION.strip(), *(whole[name] for name in sorted(whole))]) + "\n"


def main() -> int:
    """Run what was asked for, all by default."""
    known = find_benchmarks()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures against bare controls.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}; all by default")
    parser.add_argument("--write", action="store_true", help=f"bring {PAGE.relative_to(FOLDER.parent)} up to date")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(known):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    holds = True
    sections: dict[str, str] = {}
    for name in wanted.names or known:
        began, load = time.monotonic(), os.getloadavg()[0]
        table = run(name)
        holds = holds and table.holds
        sections[table.title] = section(table, load=load)
        print(f"{sections[table.title]}\n", flush=True)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if wanted.write:
        page = PAGE.read_text() if PAGE.is_file() else ""
        PAGE.write_text(updated_page(page, sections))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
