"""`prpm test --local` for a package without tests: the registry's cases, or cases that a model writes for the run."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_cli_local import prpm, publish
from tests.standins.model_server import ModelServer, model_server_in_thread
from tests.standins.service import Reply, Service

CASES = {
    "test_cases": [
        {"id": "1", "title": "Greets", "input": "Hi", "expected_criteria": ["Says hello."], "confidence_score": "0.90"}
    ],
    "total": 1,
}
OPINION = '{"pass": true, "score": 1, "reason": "It says hello."}'
WRITTEN = json.dumps(
    {"tests": [{"description": "Thanks", "input": "Bye", "assert": [{"type": "icontains", "value": "thank"}]}]}
)


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with model_server_in_thread() as server:
        yield server


@pytest.fixture
def service() -> Iterator[Service]:
    """A registry with `@alice/review` 1.0.2, which has no suite."""
    with Service() as running:
        publish(running, gzip.compress(b"Say hello."))
        yield running


def run(home: Path, models: ModelServer, service: Service, *options: str):
    return prpm(
        home, "test", "@alice/review", "--local", "-m", "mock-a", "--json", *options,
        local_url=models.url, PRPM_REGISTRY_URL=service.url,
    )  # fmt: skip


def test_local__the_registrys_cases_are_run_where_the_package_has_none(
    tmp_path: Path, models: ModelServer, service: Service
) -> None:
    service.set("GET /api/v1/packages/{name}/test-cases", Reply(CASES))
    models.mock.answers.extend(["hello", OPINION])

    ran = run(tmp_path, models, service)

    (row,) = json.loads(ran.stdout)["test_cases"]
    assert (row["title"], row["passed"], row["assertions"][0]["type"]) == ("Greets", True, "llm-rubric")
    assert "The package has no tests of its own; the registry's 1 case is run." in ran.stderr


@pytest.mark.parametrize(
    "reply", [Reply({"error": "Not found"}, status=404), Reply({"test_cases": [], "total": 0})], ids=["unknown", "none"]
)
def test_local__without_any_cases_the_command_says_what_to_do(
    tmp_path: Path, models: ModelServer, service: Service, reply: Reply
) -> None:
    service.set("GET /api/v1/packages/{name}/test-cases", reply)

    ran = run(tmp_path, models, service)

    assert ran.returncode == 2
    assert json.loads(ran.stdout)["code"] == "no_suite"
    assert "--generate" in json.loads(ran.stdout)["error"]


def test_local__generate_lets_the_model_write_them_and_the_outcome_says_so(
    tmp_path: Path, models: ModelServer, service: Service
) -> None:
    models.mock.answers.extend([WRITTEN, "thank you"])

    ran = run(tmp_path, models, service, "--generate")

    outcome = json.loads(ran.stdout)
    assert ran.returncode == 0
    assert [row["title"] for row in outcome["test_cases"]] == ["Thanks"]
    assert outcome["provenance"]["generated_by"] == "mock-a"
    assert "mock-a wrote 1 case for this run" in ran.stderr
