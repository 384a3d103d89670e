"""The API's description: a valid document, the contract's fields, and a page that shows every operation."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from tests.packages import an_archive
from tests.service import Account, Service, finished_job

# What clients were written against: operation, then the fields of its request and answer with those that are
# always there. More fields may be added, none of these may go.
CONTRACT: dict[str, dict[str, Any]] = {
    "POST /api/v1/test-jobs/run": {
        "request": {
            "package_id": "string", "package_version": "string", "models": "array", "plugins": "array",
            "framework": "string", "upload_results": "boolean", "verify_results": "boolean",
        },
        "status": "202",
        "answer": {
            "job_id": "string", "status": "string", "usage": "object", "position_in_queue": "integer",
            "estimated_wait_seconds": "integer",
        },
        "always": {"job_id", "status", "usage"},
    },
    "GET /api/v1/test-jobs/{job_id}": {
        "status": "200",
        "answer": {
            "id": "string", "status": "string", "package": "object", "config": "object", "results": "object",
            "error": "string", "created_at": "string", "started_at": "string", "completed_at": "string",
        },
        "always": {"id", "status", "package", "config", "created_at"},
    },
    "GET /api/v1/test-jobs/{job_id}/results": {
        "status": "200",
        "answer": {"test_cases": "array", "summary": "object"},
        "always": {"test_cases", "summary"},
    },
    "GET /api/v1/users/me/test-usage": {
        "status": "200",
        "answer": {"current_month": "object", "limits": "object", "remaining": "object"},
        "always": {"current_month", "limits", "remaining"},
    },
}  # fmt: skip

PARTS = {
    ("POST /api/v1/test-jobs/run", "usage"): {
        "tests_used_this_month": "integer", "tests_remaining": "integer", "tier": "string",
    },
    ("GET /api/v1/test-jobs/{job_id}", "package"): {"id": "string", "name": "string", "version": "string"},
    ("GET /api/v1/test-jobs/{job_id}", "config"): {"models": "array", "plugins": "array"},
    ("GET /api/v1/test-jobs/{job_id}", "results"): {
        "total_tests": "integer", "tests_passed": "integer", "tests_failed": "integer", "overall_score": "number",
        "total_duration_ms": "integer", "total_tokens": "integer", "total_cost_usd": "number",
        "test_result_id": "string",
    },
    ("GET /api/v1/test-jobs/{job_id}/results", "test_cases"): {
        "title": "string", "passed": "boolean", "score": "number", "response": "string", "model": "string",
        "duration_ms": "integer", "assertions": "array",
    },
    ("GET /api/v1/test-jobs/{job_id}/results", "summary"): {
        "total_tests": "integer", "tests_passed": "integer", "overall_score": "number",
    },
    ("GET /api/v1/users/me/test-usage", "current_month"): {
        "test_runs_count": "integer", "tokens_used": "integer", "cost_usd": "number",
    },
    ("GET /api/v1/users/me/test-usage", "limits"): {
        "tier": "string", "test_runs_per_month": "integer", "concurrent_jobs": "integer",
    },
    ("GET /api/v1/users/me/test-usage", "remaining"): {"test_runs": "integer"},
}  # fmt: skip


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    answer = service.visitor().get("/docs/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """The schema without references and without its null alternative."""
    while "$ref" in schema or "oneOf" in schema or "allOf" in schema:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        else:
            options = schema.get("oneOf") or schema["allOf"]
            schema = next(option for option in options if option.get("type") != "null")
    return schema


def type_of(schema: dict[str, Any], document: dict[str, Any]) -> str:
    kind = resolved(schema, document).get("type", "object")
    return next(k for k in kind if k != "null") if isinstance(kind, list) else kind


def operation(name: str, document: dict[str, Any]) -> dict[str, Any]:
    method, path = name.split(" ")
    return document["paths"][path][method.lower()]


def answer_schema(name: str, document: dict[str, Any]) -> dict[str, Any]:
    response = operation(name, document)["responses"][CONTRACT[name]["status"]]
    return resolved(response["content"]["application/json"]["schema"], document)


def test_openapi__is_version_3_1_and_says_who_it_is(document: dict[str, Any]):
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "prpm-testing"
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}


def test_openapi__every_reference_leads_somewhere_and_every_schema_is_one(document: dict[str, Any]):
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(target := node.get("$ref"), str):
                assert target.rpartition("/")[2] in document["components"]["schemas"]
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(document)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_openapi__operations_are_complete(document: dict[str, Any]):
    names = []
    for path, methods in document["paths"].items():
        for method, found in methods.items():
            names.append(found["operationId"])
            assert found["summary"], (method, path)
            assert found["tags"], (method, path)
            assert [p["name"] for p in found.get("parameters", []) if p["in"] == "path"] == re.findall(r"{(\w+)}", path)
            assert all(re.fullmatch(r"[1-5]\d\d", status) for status in found["responses"])
            assert all(response["description"] for response in found["responses"].values())
            if path.startswith("/api/v1/"):
                assert "503" in found["responses"], (method, path)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", CONTRACT)
def test_openapi__the_contracts_fields_are_there_with_their_types(document: dict[str, Any], name: str):
    wanted = CONTRACT[name]
    schema = answer_schema(name, document)

    found = {field: type_of(schema["properties"][field], document) for field in wanted["answer"]}

    assert found == wanted["answer"]
    assert wanted["always"] <= set(schema["required"])


@pytest.mark.parametrize(("name", "field"), PARTS)
def test_openapi__the_contracts_nested_fields_are_there_with_their_types(document: dict, name: str, field: str):
    schema = resolved(answer_schema(name, document)["properties"][field], document)
    schema = resolved(schema["items"], document) if "items" in schema else schema

    found = {child: type_of(schema["properties"][child], document) for child in PARTS[name, field]}

    assert found == PARTS[name, field]


def test_openapi__the_contracts_request_is_there_and_only_one_of_two_fields_is_needed(document: dict[str, Any]):
    body = operation("POST /api/v1/test-jobs/run", document)["requestBody"]["content"]["application/json"]
    schema = resolved(body["schema"], document)

    wanted = CONTRACT["POST /api/v1/test-jobs/run"]["request"]

    assert {field: type_of(schema["properties"][field], document) for field in wanted} == wanted
    assert schema["required"] == []
    framework = schema["properties"]["framework"]
    assert {choice for choice in framework["enum"] if choice} == {"litellm", "claude-agent", "auto"}


def a_finished_job(account: Account) -> str:
    snapshot = account.client.post(
        "/api/v1/package-snapshots", content=an_archive(), headers={"Content-Type": "application/gzip"}
    ).json()["snapshot_id"]
    body = {"snapshot_id": snapshot, "models": ["echo"], "upload_results": True}
    job_id = account.client.post("/api/v1/test-jobs/run", json=body).json()["job_id"]
    finished_job(account, job_id)
    return job_id


def test_openapi__true_answers_fit_their_description_and_hold_no_null(service: Service, document: dict[str, Any]):
    alice = service.an_account()
    job_id = a_finished_job(alice)

    for name in CONTRACT:
        if name.startswith("GET "):
            answer = alice.client.get(name.removeprefix("GET ").format(job_id=job_id))
            schema = answer_schema(name, document) | {"components": document["components"]}
            jsonschema.Draft202012Validator(schema).validate(answer.json())
            assert "null" not in re.sub(r'"(\\.|[^"\\])*"', "", answer.text)


class Page(HTMLParser):
    """A page's text, and what stands in each of its <pre>."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.examples: list[str] = []
        self.operations: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        if tag == "pre":
            self.examples.append("")
        if tag == "summary":
            self.operations.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("pre", "summary"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "pre":
            self.examples[-1] += data
        elif self._inside and self.operations and self._inside in ("summary", "strong", "code"):
            self.operations[-1] += data + " "


def test_docs__show_every_operation_with_an_example(service: Service, document: dict[str, Any]):
    answer = service.visitor().get("/docs")

    assert answer.headers["content-type"].startswith("text/html")
    page = Page(answer.text)
    shown = {" ".join(found.split()[:2]) for found in page.operations}
    assert shown == {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert len(page.examples) > 2 * len(shown)
    assert '"package_id": "@demo/hello"' in answer.text.replace("&#34;", '"')
    assert '"code": "job_not_found"' in answer.text.replace("&#34;", '"')


def test_docs__examples_are_the_same_at_every_look(service: Service):
    """Made-up values would change with each start, and mislead."""
    assert service.visitor().get("/docs").text == service.visitor().get("/docs").text
    assert not re.search(r"[a-zA-Z]{18,20}&#34;", service.visitor().get("/docs").text)
