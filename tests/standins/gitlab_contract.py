"""What GitLab's REST API takes, operation by operation: what the contract has not is refused, whatever GitLab ignores.

`gitlab_contract.json` is recorded: 19 operations written by hand from GitLab's documentation of notes, commits, files,
repositories and merge requests. `gitlab_contract_more.json` has the others that are used here, in the same form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.standins.web import Answer, Refused, Seen

FILES = ("gitlab_contract.json", "gitlab_contract_more.json")
API = "/api/v4"
METHODS = ("get", "head", "post", "put", "patch", "delete")
# Beside those that each operation names: a state that cannot follow on another, and two writers at once.
# https://docs.gitlab.com/api/commits/#set-commit-pipeline-status
MORE_STATUSES = {"setCommitStatus": (400, 409)}
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path, as the contract has it."""

    name: str
    method: str
    path: re.Pattern[str]
    parameters: tuple[Mapping[str, Any], ...]
    body: Mapping[str, Any] | None
    statuses: frozenset[int]

    def of(self, where: str) -> dict[str, Mapping[str, Any]]:
        """Its parameters that stand in the `path` or the `query`, by name."""
        return {one["name"]: one for one in self.parameters if one["in"] == where}


def _operations() -> Iterator[Operation]:
    for file in FILES:
        paths = json.loads((Path(__file__).parent / file).read_text(encoding="utf-8"))["paths"]
        for path, methods in paths.items():
            for method, told in methods.items():
                yield _operation(path, method, told)


def _operation(path: str, method: str, told: Mapping[str, Any]) -> Operation:
    pattern = re.sub(r"\\\{(\w+)\\\}", lambda found: f"(?P<{found[1]}>[^/]+)", re.escape(API + path))
    content = told.get("requestBody", {}).get("content", {})
    return Operation(
        name=told["operationId"],
        method=method.upper(),
        path=re.compile(pattern),
        parameters=tuple(told.get("parameters", ())),
        body=content["application/json"]["schema"] if content else None,
        statuses=frozenset(map(int, told["responses"])) | frozenset(MORE_STATUSES.get(told["operationId"], ())),
    )


OPERATIONS = tuple(_operations())


def require(seen: Seen) -> Operation:
    """The operation that the request is. Raises Refused for anything that the contract does not have."""
    here = [(one, found) for one in OPERATIONS if (found := one.path.fullmatch(seen.path))]
    if not here:
        raise refused(404, "no such operation")
    operation, found = next(((one, found) for one, found in here if one.method == seen.method), (None, None))
    if operation is None or found is None:
        raise refused(405, f"only {', '.join(sorted(one.method for one, _ in here))} here")
    wrong = [*_headers(seen, operation), *_path(operation, found.groupdict()), *_query(operation, seen)]
    wrong += _body(operation, seen)
    if wrong:
        raise refused(400, f"{operation.name}: {'; '.join(wrong)}")
    return operation


def answered(operation: Operation, answer: Answer) -> Answer:
    """The answer, which has to be one that the contract gives: the stand-in is held to it, too."""
    assert answer.status in operation.statuses, f"{operation.name} never answers {answer.status}"
    return answer


def refused(status: int, why: str) -> Refused:
    """As GitLab says no."""
    return Refused(Answer(status=status, body={"message": why}), why)


def _headers(seen: Seen, operation: Operation) -> Iterator[str]:
    if not seen.headers.get("user-agent", "").startswith("prpm-testing"):
        yield "no User-Agent of our own"
    if "private-token" in seen.headers and "authorization" in seen.headers:
        yield "two proofs at once"
    if "authorization" in seen.headers and not seen.headers["authorization"].startswith("Bearer "):
        yield "Authorization is not a Bearer's"
    if operation.body is not None and seen.headers.get("content-type") != "application/json":
        yield "a body that is not JSON"
    if operation.body is None and seen.body:
        yield "a body where none is read"


def _path(operation: Operation, found: Mapping[str, str]) -> Iterator[str]:
    for name, one in operation.of("path").items():
        yield from _text_of(name, found[name], one["schema"])


def _query(operation: Operation, seen: Seen) -> Iterator[str]:
    known = operation.of("query")
    given: dict[str, list[str]] = {}
    for name, value in seen.pairs:
        given.setdefault(name, []).append(value)
    yield from (f"{name} is unknown in the query" for name in given if name not in known)
    yield from (
        f"{name} is missing in the query" for name, one in known.items() if one["required"] and not given.get(name)
    )
    for name, values in given.items():
        schema = known.get(name, {}).get("schema", {})
        is_array = schema.get("type") == "array"
        if len(values) > 1 and not is_array:
            yield f"{name} comes twice in the query"
        if is_array and len(values) < schema.get("minItems", 0):
            yield f"{name} has too few values"
        for value in values:
            yield from _text_of(name, value, schema.get("items", schema) if is_array else schema)


def _text_of(name: str, value: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a value that stands in an address, where all is text."""
    kind = schema.get("type")
    if not value:
        yield f"{name} is empty"
    elif kind == "integer" and not re.fullmatch(r"-?\d+", value):
        yield f"{name} is no whole number"
    elif kind == "boolean" and value not in ("true", "false"):
        yield f"{name} is neither true nor false"
    else:
        typed: object = int(value) if kind == "integer" else value == "true" if kind == "boolean" else value
        yield from _value(name, typed, schema)


def _body(operation: Operation, seen: Seen) -> Iterator[str]:
    if operation.body is None:
        return
    try:
        body = seen.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        yield "the body is no object"
        return
    fields = operation.body["properties"]
    if operation.body.get("additionalProperties") is False:
        yield from (f"{name} is unknown" for name in body if name not in fields)
    yield from (f"{name} is missing" for name in operation.body.get("required", ()) if name not in body)
    for name, value in body.items():
        yield from _value(name, value, fields.get(name, {}))


def _value(name: str, value: object, schema: Mapping[str, Any]) -> Iterator[str]:
    kind = schema.get("type")
    if kind in KINDS and (not isinstance(value, KINDS[kind]) or (kind != "boolean" and isinstance(value, bool))):
        yield f"{name} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{name} is none of {schema['enum']}"
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{name} is out of its range"
    if isinstance(value, str):
        yield from _string(name, value, schema)


def _string(name: str, value: str, schema: Mapping[str, Any]) -> Iterator[str]:
    # In UTF-16 units, which are never fewer than characters.
    length = len(value.encode("utf-16-le", "surrogatepass")) // 2
    if length < schema.get("minLength", 0):
        yield f"{name} is too short"
    if length > schema.get("maxLength", length):
        yield f"{name} is longer than {schema['maxLength']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{name} is not of the form that is wanted"
    if schema.get("format") == "uri" and not (urlsplit(value).scheme and urlsplit(value).netloc):
        yield f"{name} is no address"
    if schema.get("format") == "date-time" and not DATE_TIME.fullmatch(value):
        yield f"{name} is no moment"
