"""JUnit XML: a suite for each model, a test case for each row. GitLab, Jenkins and GitHub's actions read it.

The form is the one of Jenkins' schema (https://github.com/jenkinsci/xunit-plugin, junit-10.xsd) as GitLab reads it
(https://docs.gitlab.com/ci/testing/unit_test_reports/): `classname` and `name` identify a case between runs.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from evals.outcome import Row
from evals.reports import Reported, report, shown_state
from evals.reports._words import answer, headline, model_name, reasons
from evals.types import State

# XML 1.0 has no way to hold these, not even escaped: https://www.w3.org/TR/xml/#charsets
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS: dict[State, str] = {"failed": "failure", "error": "error", "skipped": "skipped"}


@report("junit", extensions=("xml",), media_type="application/xml")
def render(reported: Reported) -> bytes:
    """Each row as a test case; a failure that decides nothing is `skipped`, with the reason."""
    rows = reported.outcome.test_cases
    root = ET.Element("testsuites", {"name": "prpm test", **_counts(rows)})
    for model in dict.fromkeys(row.model for row in rows):
        of_model = [row for row in rows if row.model == model]
        suite = ET.SubElement(root, "testsuite", {"name": _clean(model), **_counts(of_model)})
        numbers: dict[str, int] = {}
        for row in of_model:
            _add_row(suite, row, numbers)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _counts(rows: Sequence[Row]) -> dict[str, str]:
    states = [shown_state(row) for row in rows]
    return {
        "tests": str(len(rows)),
        "failures": str(states.count("failed")),
        "errors": str(states.count("error")),
        "skipped": str(states.count("skipped")),
        "time": f"{sum(row.duration_ms for row in rows) / 1000:.3f}",
    }


def _add_row(suite: ET.Element, row: Row, numbers: dict[str, int]) -> None:
    # A second row of one name would replace the first in GitLab's list.
    name = _clean(headline(row))
    numbers[name] = numbers.get(name, 0) + 1
    name += f" #{numbers[name]}" if numbers[name] > 1 else ""
    case = ET.SubElement(
        suite, "testcase", classname=_clean(row.model), name=name, time=f"{row.duration_ms / 1000:.3f}"
    )
    element, why = _ELEMENTS.get(shown_state(row)), [_clean(line) for line in reasons(row)]
    if element is not None:
        ET.SubElement(case, element, message=why[0] if why else row.state).text = "\n".join(why)
    if row.response and row.state != "passed":
        said = "\n".join([f"{model_name(row)} answered:", *answer(row)])
        ET.SubElement(case, "system-out").text = _clean(said)


def _clean(text: str) -> str:
    # GitLab and Jenkins take [[ATTACHMENT|path]] in the output for a file to attach.
    return _NO_XML.sub("\ufffd", text).replace("[[", "[ [")
