"""Test files -> Suite: where a suite may live, what its words mean, and errors that name file, line and path.

The words are promptfoo's (https://www.promptfoo.dev/docs/configuration/reference/) with `input`, `messages`,
`repeat` and `pass_rate` added. What promptfoo knows and this engine does not is refused by name.

    reading.py      the way from a text to a Suite
    finding.py      where a package keeps its suite
    findings.py     what is wrong, and where
    fields.py       single values of a known kind
    sources.py      `file://`: other files of the same package
    expansion.py    tests and scenarios, from wherever they stand, made flat
    tables.py       CSV files; cells.py: what stands in their `__expected`
    cases.py        one test -> its cases, by lists of vars and prompts
    prompts.py      what is said to the model
    assertions.py   what is asked of the answer
    rendering.py    templates, within a budget
    providers.py    promptfoo's names of models
    digest.py       the name of what a suite says
    selecting.py    some of its cases only
"""

from __future__ import annotations

from evals.suites.digest import suite_digest
from evals.suites.finding import FoundSuite, find_suite
from evals.suites.reading import ReadSuite, parse_suite, parse_suite_value, read_suite
from evals.suites.selecting import select_cases, without_judges

__all__ = [
    "FoundSuite",
    "ReadSuite",
    "find_suite",
    "parse_suite",
    "parse_suite_value",
    "read_suite",
    "select_cases",
    "suite_digest",
    "without_judges",
]
