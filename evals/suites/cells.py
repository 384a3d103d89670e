"""What stands in an `__expected` cell of a CSV file -> an assertion as a suite writes it.

promptfoo reads such a cell leniently: a misspelt type becomes `equals` of the whole text, and some numbers are moved
or dropped. A cell whose meaning would change in silence is refused here, with what to write instead.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

from evals.assertions import ASSERTIONS
from evals.assertions._values import split_at_commas
from evals.errors import EngineError, InvalidAssertion
from evals.javascript import strip
from evals.types import JsonValue

# promptfoo's types, be they known to this engine or not: https://www.promptfoo.dev/docs/configuration/expected-outputs/
_FOREIGN_TYPES: Final = frozenset((
    "agent-rubric", "answer-relevance", "bleu", "classifier", "contains-html", "contains-json", "contains-sql",
    "contains-xml", "context-faithfulness", "context-recall", "context-relevance", "conversation-relevance",
    "factuality", "g-eval", "gleu", "guardrails", "is-html", "is-refusal", "is-sql",
    "is-valid-function-call", "is-valid-openai-function-call", "is-valid-openai-tools-call", "is-xml", "javascript",
    "llm-rubric", "meteor", "model-graded-closedqa", "model-graded-factuality", "moderation", "pi", "python",
    "rouge-n", "ruby", "search-rubric", "similar", "tool-call-f1", "trace-error-spans", "trace-span-count",
    "trace-span-duration", "webhook",
))  # fmt: skip

# Other words for a type, which need their colon.
_SYNONYMS: Final = {"fn": "javascript", "eval": "javascript", "grade": "llm-rubric"}

# Whose value keeps the white space after the colon.
_VERBATIM: Final = frozenset(("llm-rubric", "is-json", "not-is-json", "contains-json", "not-contains-json"))

_LISTS: Final = frozenset(("contains-any", "contains-all", "icontains-any", "icontains-all"))

# Types that take a number in brackets, and the one that promptfoo fills in. None: it fills one in that no other
# form of the assertion has, so that a cell without a number is refused.
_THRESHOLDS: Final[dict[str, float | None]] = {
    "answer-relevance": 0.75,
    "classifier": 0.75,
    "context-faithfulness": 0.75,
    "context-recall": 0.75,
    "context-relevance": 0.75,
    "cost": None,
    "latency": None,
    "levenshtein": None,
    "perplexity": None,
    "perplexity-score": None,
    "rouge-n": 0.75,
    "similar": 0.8,
}
# Their number stands in brackets, and nothing after it.
_LIMITS: Final = frozenset(("cost", "latency", "perplexity", "perplexity-score"))

_CELL = re.compile(
    r"(?P<negation>not-)?(?P<type>[A-Za-z][\w-]*)(?:\((?P<number>[^()]*)\))?(?::(?P<value>.*))?", re.DOTALL
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


class InvalidCell(EngineError):
    """The cell would not mean what it says; the message says what to write."""


def read_cell(text: str) -> dict[str, JsonValue]:
    """The assertion in a cell: `{type, value?, threshold?}`. White space at its ends does not count.

    Raises InvalidCell.
    """
    text = strip(text)
    if text.startswith("file://"):
        return _code_file(text)
    match = _CELL.fullmatch(text)
    if match is None:
        return _whole(text)
    type_, value = match["type"], match["value"]
    if value is not None and type_ in _SYNONYMS and match["negation"] is None and match["number"] is None:
        return {"type": _SYNONYMS[type_], "value": value if type_ == "grade" else strip(value)}
    if type_ not in _known():
        _refuse_near_miss(match, text)
        return _whole(text)
    return _read_known(type_, match, shown=text)


def _known() -> frozenset[str]:
    return _FOREIGN_TYPES | frozenset(ASSERTIONS)


def _whole(text: str) -> dict[str, JsonValue]:
    return {"type": "equals", "value": text}


def _code_file(text: str) -> dict[str, JsonValue]:
    return {"type": "python" if text.endswith(".py") or ".py:" in text else "javascript", "value": text}


def _read_known(type_: str, match: re.Match[str], *, shown: str) -> dict[str, JsonValue]:
    read: dict[str, Any] = {"type": (match["negation"] or "") + type_}
    value = match["value"]
    if value is not None and read["type"] not in _VERBATIM:
        value = strip(value)
    threshold = _threshold(type_, match, shown=shown)
    if type_ in _LISTS and value:
        read["value"] = _list(value, type_=read["type"])
    elif value is not None:
        read["value"] = value
    if type_ in _LIMITS and value:
        raise InvalidCell(f"the number of {type_} stands in brackets: write `{type_}({value})`, and nothing after it")
    if type_ == "similar" and value and re.match(r"\w+\(", value):
        raise InvalidCell(
            f"{value.partition('(')[0]} is not read in a cell; write the assertion in the suite's `assert`"
        )
    if threshold is not None:
        read["threshold"] = threshold
    return read


def _threshold(type_: str, match: re.Match[str], *, shown: str) -> float | None:
    number = match["number"]
    if number is None:
        if type_ in _THRESHOLDS and _THRESHOLDS[type_] is None and (match["value"] or type_ not in _LIMITS):
            value = "" if type_ in _LIMITS else ":text"
            raise InvalidCell(f"{type_} needs its number: write `{type_}({_example(match)}){value}`")
        return _THRESHOLDS.get(type_)
    if not _NUMBER.fullmatch(number):
        raise InvalidCell(
            f"{number[:40]!r} is no number of at least 0; write for instance `{type_}(0.8):text`, "
            "or `equals:` before the cell's text if it is the answer itself"
        )
    if type_ not in _THRESHOLDS:
        raise InvalidCell(
            f"the number of {type_} would be dropped; put {number} into a column `__config:__expected:threshold`, "
            f"or leave it out"
        )
    return float(number)


def _example(match: re.Match[str]) -> str:
    value = strip(match["value"] or "")
    return value if _NUMBER.fullmatch(value) else "5"


def _list(value: str, *, type_: str) -> list[str]:
    try:
        return split_at_commas(value, type_=type_)
    except InvalidAssertion as error:
        raise InvalidCell(error.message) from None


def _refuse_near_miss(match: re.Match[str], text: str) -> None:
    """Raises InvalidCell where the author surely meant a type: promptfoo would compare with the whole text."""
    type_, value = match["type"], match["value"]
    if value is None and match["number"] is None:
        looks_meant = "-" in type_ and type_.lower() in _known()  # Is-Json; a single word is an answer
    else:
        near = difflib.get_close_matches(type_.lower(), _known(), 1, cutoff=0.75)
        # "Answer: 42" and "https://..." are texts; "foo:bar" and "foo(1)" are types that nobody knows.
        is_text = value is not None and match["number"] is None and (value[:1].isspace() or value.startswith("//"))
        looks_meant = bool(near) or not (is_text or value is None)
    if looks_meant:
        near = difflib.get_close_matches(type_.lower(), sorted(_known()), 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InvalidCell(
            f"{type_[:60]} is no assertion{hint}; write `equals:{text[:40]}` to compare with the whole text"
        )
