"""`/docs`: the API described on a plain page, made from its OpenAPI document. Needs no script and no other host."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin
from msgspec import Struct

from server.pages.rendering import render_text


class Parameter(Struct, frozen=True, kw_only=True):
    name: str
    where: str
    type: str
    description: str


class Answer(Struct, frozen=True, kw_only=True):
    status: str
    description: str
    example: str


class Operation(Struct, frozen=True, kw_only=True):
    """One route, ready to be shown."""

    group: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Parameter]
    body: str
    body_type: str
    answers: list[Answer]


class DocsPage(OpenAPIRenderPlugin):
    """Renders at the root of the OpenAPI path."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page's HTML."""
        operations = sorted(read_operations(openapi_schema), key=lambda o: (o.group, o.path, o.method))
        groups = [(group, list(found)) for group, found in groupby(operations, key=lambda o: o.group)]
        return render_text("docs.html", api=openapi_schema, groups=groups)


def read_operations(api: dict[str, Any]) -> list[Operation]:
    """Every operation of an OpenAPI document."""
    schemas = api.get("components", {}).get("schemas", {})
    return [
        _operation(path, method, operation, schemas)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
        if isinstance(operation, dict) and "responses" in operation
    ]


def _operation(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> Operation:
    content = operation.get("requestBody", {}).get("content", {})
    body_type: str = next(iter(content), "")
    body: dict[str, Any] = content.get(body_type, {})
    return Operation(
        group=operation.get("tags", ["Other"])[0],
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        description=operation.get("description", ""),
        parameters=[
            Parameter(
                name=p["name"],
                where=p["in"],
                type=_type_name(_resolved(p.get("schema", {}), schemas)),
                description=p.get("description", ""),
            )
            for p in operation.get("parameters", [])
        ],
        body=_pretty(_example(body.get("schema", {}), schemas)) if body else "",
        body_type=body_type,
        answers=[
            Answer(
                status=status,
                description=answer.get("description", ""),
                example=_answer_example(answer, schemas),
            )
            for status, answer in sorted(operation["responses"].items())
        ],
    )


def _answer_example(answer: dict[str, Any], schemas: dict[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    return _pretty(_example(schema, schemas)) if schema else ""


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


PLAIN = {"string": "…", "integer": 0, "number": 0.0, "boolean": True, "null": None, "array": []}


def _example(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> Any:
    """A value of this shape, from the schema's own examples where it has some."""
    schema = _resolved(schema, schemas)
    if depth > 8:
        return "…"
    if schema.get("examples") or schema.get("enum"):
        return (schema.get("examples") or schema["enum"])[0]
    if "items" in schema:
        return [_example(schema["items"], schemas, depth + 1)]
    if "properties" in schema:
        return {name: _example(child, schemas, depth + 1) for name, child in schema["properties"].items()}
    return PLAIN.get(_type_name(schema), {})


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference or the first real alternative means."""
    for _ in range(8):
        if "$ref" in schema:
            schema = schemas.get(schema["$ref"].rpartition("/")[2], {})
        elif options := schema.get("oneOf") or schema.get("anyOf"):
            schema = next((option for option in options if option.get("type") != "null"), options[0])
        else:
            break
    return schema


def _type_name(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "object")
    return next((k for k in kind if k != "null"), "null") if isinstance(kind, list) else str(kind)
