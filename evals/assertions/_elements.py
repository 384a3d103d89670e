"""Elements that `is-xml` and `contains-xml` ask for: their paths, and whether a tree of names has them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from evals.assertions import Answer
from evals.errors import CannotJudge, InvalidAssertion
from evals.javascript import strip
from evals.types import Assertion

# Each path may lead through all elements.
_MOST_PATHS = 50
_MOST_STEPS = 50
_MOST_PATH_CHARACTERS = 1_000
_MOST_CHARACTERS = 100_000

Path = tuple[str, ...]


class Element:
    """One element of a document that is being read: its name, and the elements in it by their names."""

    __slots__ = ("children", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.children: dict[str, list[Element]] = {}

    def add(self, child: Element) -> None:
        self.children.setdefault(child.name, []).append(child)


def require_paths(spec: Assertion) -> list[Path]:
    """The paths in the value: `{requiredElements: [...]}`, a list, or a text with commas. Raises InvalidAssertion."""
    value = spec.value
    if isinstance(value, dict) and value.keys() == {"requiredElements"}:
        value = value["requiredElements"]
    if value is UNSET or value is None:
        return []
    paths = value.split(",") if isinstance(value, str) else value
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) for path in paths):
        raise InvalidAssertion(
            f"{spec.type}: `value` must be a list of paths of elements, such as root.child, or one text with commas "
            "between them, or an object with such a list in `requiredElements`"
        )
    steps = [_steps(path, type_=spec.type) for path in map(strip, paths) if path]
    if len(steps) > _MOST_PATHS:
        raise InvalidAssertion(f"{spec.type}: `value` holds {len(steps):,} paths; {_MOST_PATHS} are the most")
    return steps


def _steps(path: str, *, type_: str) -> Path:
    steps = tuple(path.split("."))
    if not all(steps) or len(steps) > _MOST_STEPS or len(path) > _MOST_PATH_CHARACTERS:
        raise InvalidAssertion(f"{type_}: {path[:80]!r} is no path of elements; write it like root.child")
    return steps


def require_readable(answer: Answer, spec: Assertion) -> str:
    """The answer's text without the white space around it. Raises CannotJudge when it is too long."""
    if len(answer.text) > _MOST_CHARACTERS:
        raise CannotJudge(f"{spec.type}: the answer has more than {_MOST_CHARACTERS:,} characters")
    return strip(answer.text)


def missing_paths(document: Element, paths: Iterable[Path]) -> list[str]:
    """The paths that lead to no element below `document`. Of several elements of one name, `item.1` is the second."""
    return [".".join(path) for path in paths if not _leads_somewhere(document, path)]


def _leads_somewhere(document: Element, path: Path) -> bool:
    groups = [[document]]  # elements of one name, side by side
    for step in path:
        if step.isdecimal():  # no name begins with a digit
            at = int(step)
            groups = [[group[at]] for group in groups if len(group) > 1 and at < len(group)]
        else:
            groups = [found for group in groups for element in group if (found := element.children.get(step))]
    return bool(groups)
