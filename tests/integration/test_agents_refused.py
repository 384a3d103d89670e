"""A service and a command on a machine without a sandbox: agents are refused by name, and `auto` goes on without."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from evals.archives import pack
from server.store.migrations import migrate
from tests.agents import a_claude_agent, needs_sandbox
from tests.conftest import with_database
from tests.service import Service, finished_job, in_loop, start_service
from tests.standins.model_server import model_server_in_thread

CATALOGUE = """
default: claude
models:
  claude:
    context_tokens: 100000
    deployments:
      - {backend: echo, model: echo-1, free: true}
      - {backend: claude_agent, model: c, base_url: "http://127.0.0.1:9", free: true}
"""
SUITE = {"tests": [{"input": "Hello", "assert": [{"type": "contains", "value": "Hello"}]}]}


@pytest.fixture(scope="module")
def service(admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that finds no bubblewrap, as it has no PATH."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"

    async def create() -> None:
        connection = await asyncpg.connect(admin_dsn)
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()

    in_loop(create())
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    folder = tmp_path_factory.mktemp("bare")
    (folder / "agents.yaml").write_text(CATALOGUE)
    yield from start_service(
        dsn=dsn, redis_url=redis_url, folder=folder, PATH=str(folder), PRPM_CATALOGUE=str(folder / "agents.yaml")
    )


def test_service__without_a_sandbox_refuses_agents_and_auto_says_what_it_did(service: Service) -> None:
    alice = service.an_account()
    snapshot_id = alice.client.post(
        "/api/v1/package-snapshots",
        content=pack(a_claude_agent("Help.")),
        headers={"Content-Type": "application/gzip"},
    ).json()["snapshot_id"]
    request = {"snapshot_id": snapshot_id, "suite": SUITE}

    refused = alice.client.post("/api/v1/test-jobs/run", json=request | {"framework": "claude-agent"})
    plugins = alice.client.post("/api/v1/test-jobs/run", json=request | {"plugins": ["calculator"]})
    taken = alice.client.post("/api/v1/test-jobs/run", json=request | {"framework": "auto"})

    assert (refused.status_code, refused.json()["code"]) == (400, "framework_unavailable")
    assert refused.json()["error"] == (
        "framework: no agent can be run on claude by this service. Use `litellm` or `auto`."
    )
    assert (plugins.status_code, plugins.json()["code"]) == (400, "unknown_plugin")
    job = finished_job(alice, taken.json()["job_id"])
    assert job["config"]["framework"] == "litellm"
    (note,) = job["results"]["notes"]
    assert note.startswith("Run without tools, by the framework litellm: ")
    assert "bubblewrap" in note or "Claude Agent SDK" in note
    assert alice.client.get("/api/v1/users/me/test-usage").json()["remaining"]["test_runs"] == 99


def test_local__without_a_sandbox_an_agent_is_refused_with_the_reason(tmp_path: Path) -> None:
    for path, content in a_claude_agent("Help.").items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "prpm.test.json").write_text('{"tests": [{"input": "hi"}]}')

    with model_server_in_thread() as models:
        prpm = Path(sys.executable).with_name("prpm")
        ran = subprocess.run(
            [prpm, "test", ".", "--local", "--framework", "claude-agent", "-m", "mock-a"],
            env={"PATH": "", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "PRPM_LOCAL_URL": models.url},
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert ran.returncode == 2
    assert "The framework claude-agent cannot run this: " in ran.stderr
    assert ran.stderr.rstrip().endswith("Use litellm or auto.")


@needs_sandbox
@pytest.mark.parametrize(("framework", "code"), [("auto", 0), ("claude-agent", 2)])
def test_local__a_server_that_knows_no_agents_is_found_out_before_the_run(
    tmp_path: Path, framework: str, code: int
) -> None:
    for path, content in a_claude_agent("Help.").items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "prpm.test.json").write_text('{"tests": [{"input": "hi"}]}')

    with model_server_in_thread() as models:
        prpm = Path(sys.executable).with_name("prpm")
        ran = subprocess.run(
            [prpm, "test", ".", "--local", "--framework", framework, "-m", "mock-a"],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "PRPM_LOCAL_URL": models.url},
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert f"{models.url} does not speak Anthropic's Messages API, which agents need" in ran.stderr
    assert ran.returncode == code
