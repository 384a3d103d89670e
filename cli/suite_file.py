"""The file of `--suite`: read once, checked here, so that an error names its line before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import InvalidUse

if TYPE_CHECKING:
    from evals.suites import FoundSuite

# Larger than any suite that is accepted; the reader says the exact limit.
MAX_READ_BYTES = 8 * 1024 * 1024


def find_suite_file(path: Path) -> FoundSuite:
    """The file, unparsed. Raises InvalidUse if it cannot be read."""
    from evals.suites import FoundSuite

    try:
        with path.open("rb") as file:
            return FoundSuite(str(path), file.read(MAX_READ_BYTES))
    except OSError as error:
        raise InvalidUse(f"--suite: {path} cannot be read: {error.strerror}.") from error


def suite_as_written(path: Path, *, note: Callable[[str], None]) -> dict[str, Any]:
    """The suite as a JSON object, in the author's own words; the service parses it by the same rules.

    `note` gets the sentences about what the file says in vain. Raises InvalidUse or InvalidSuite.
    """
    from evals.suites import read_suite

    found = find_suite_file(path)
    for sentence in read_suite(found).notes:
        note(sentence)
    value = _value(found)
    return {"tests": value} if isinstance(value, list) else dict(value)


def _value(found: FoundSuite) -> Any:
    from evals.json_reader import InvalidText, read_json
    from evals.yaml_reader import read_yaml

    if found.path.lower().endswith((".yaml", ".yml")):
        return read_yaml(found.text).value
    try:
        return read_json(found.text).value
    except InvalidText:
        return read_yaml(found.text).value
