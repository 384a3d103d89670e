"""Agents end to end: submitted over HTTP, run by a worker in its sandbox, against a stand-in of Anthropic's API."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from evals.archives import pack
from server.store.migrations import migrate
from tests.agents import a_claude_agent, a_command, a_skill, needs_sandbox
from tests.conftest import with_database
from tests.service import Account, Service, finished_job, in_loop, start_service
from tests.standins import calculator_plugin
from tests.standins.anthropic_server import (
    KEY,
    MODEL,
    AnthropicServer,
    anthropic_server_in_thread,
    call,
    script,
    text,
)

pytestmark = needs_sandbox

ROOT = Path(__file__).parents[2]
CATALOGUE = """
default: claude
models:
  claude:
    context_tokens: 100000
    deployments:
      - {{backend: echo, model: echo-1, price: {{input: 3, output: 15}}}}
      - backend: claude_agent
        model: {model}
        base_url: {url}
        key_variable: STANDIN_KEY
        price: {{input: 3, output: 15}}
  plain:
    context_tokens: 100000
    deployments: [{{backend: echo, model: echo-2, free: true}}]
"""
COUNTS = {
    "tests": [
        {
            "description": "counts the files",
            "input": "How many files are there?",
            "assert": [
                {"type": "contains", "value": "One file"},
                {"type": "tool-called", "value": {"name": "Glob", "arguments": {"pattern": "**/*.md"}}},
                {"type": "tool-call-f1", "value": ["Glob"]},
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def server() -> Iterator[AnthropicServer]:
    with anthropic_server_in_thread() as running:
        yield running


@pytest.fixture(scope="module")
def service(
    admin_dsn: str, redis_url: str, server: AnthropicServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    folder = tmp_path_factory.mktemp("agents")
    (folder / "agents.yaml").write_text(CATALOGUE.format(model=MODEL, url=server.base_url))
    program = folder / "calculator.py"
    program.write_bytes(Path(calculator_plugin.__file__).read_bytes())
    (folder / "plugins.yaml").write_text(json.dumps({"plugins": {"calculator": pinned(program, folder)}}))
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=folder,
        PRPM_CATALOGUE=str(folder / "agents.yaml"),
        PRPM_PLUGINS=str(folder / "plugins.yaml"),
        STANDIN_KEY=KEY,
    )


async def execute(dsn: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def pinned(program: Path, folder: Path) -> dict[str, Any]:
    """The calculator as an operator approves it: written down, looked at by `prpm-testing plugin pin`, `add` taken."""
    digest = f"sha256:{hashlib.sha256(program.read_bytes()).hexdigest()}"
    entry: dict[str, Any] = {"command": [sys.executable, "-I", str(program)], "files": {str(program): digest}}
    (folder / "draft.yaml").write_text(json.dumps({"plugins": {"calculator": entry}}))
    looked = subprocess.run(
        [sys.executable, "-m", "server.operator.main", "plugin", "pin", "calculator"],
        env={**os.environ, "PRPM_PLUGINS": str(folder / "draft.yaml")}, cwd=ROOT,
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = dict(line.strip().split(": ") for line in looked.stdout.splitlines()[1:])
    assert sorted(lines) == ["add", "drop"]
    return entry | {"tools": {"add": lines["add"].strip('"')}}


@pytest.fixture(autouse=True)
def fresh(server: AnthropicServer) -> None:
    """Each test finds a stand-in that has heard nothing."""
    server.requests.clear()
    server.headers.clear()
    server.play = script([text("I look."), call("Glob", pattern="**/*.md")], [text("One file.")])
    server.status, server.latency_seconds, server.input_tokens, server.output_tokens = 200, 0.0, 100, 10


def a_snapshot(account: Account, files: dict[str, bytes]) -> str:
    answer = account.client.post(
        "/api/v1/package-snapshots", content=pack(files), headers={"Content-Type": "application/gzip"}
    )
    assert answer.status_code in (200, 201), answer.text
    found: str = answer.json()["snapshot_id"]
    return found


def run(account: Account, files: dict[str, bytes], *, suite: dict[str, Any] | None = None, **request: Any) -> Any:
    """The answer to the submit."""
    body = {"snapshot_id": a_snapshot(account, files), "suite": suite or COUNTS, **request}
    return account.client.post("/api/v1/test-jobs/run", json=body)


def ended(account: Account, answer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job, and its outcome."""
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    job = finished_job(account, job_id, seconds=60)
    return job, account.client.get(f"/api/v1/test-jobs/{job_id}/results").json()


def test_job__a_claude_agent_is_run_as_one_and_its_calls_are_told(service: Service, server: AnthropicServer) -> None:
    alice = service.an_account()

    job, outcome = ended(alice, run(alice, a_claude_agent("You count files.")))

    assert job["config"]["framework"] == "claude-agent"
    (row,) = outcome["test_cases"]
    assert (job["status"], row["state"], row["response"]) == ("completed", "passed", "One file.")
    assert row["tool_calls"] == [{"name": "Glob", "arguments": '{"pattern": "**/*.md"}'}]
    assert row["turns"] == 2
    assert (row["input_tokens"], row["output_tokens"]) == (200, 20)
    assert row["cost_usd"] == pytest.approx((200 * 3 + 20 * 15) / 1e6)
    assert outcome["provenance"]["framework"] == "claude-agent"
    assert outcome["provenance"]["tools"] == ["Glob", "Grep", "Read"]
    assert {headers["x-api-key"] for headers in server.headers} == {KEY}


def test_job__a_skill_and_a_command_are_run_as_agents_where_that_is_asked_for(
    service: Service, server: AnthropicServer
) -> None:
    alice = service.an_account()

    for files, said in ((a_skill("Count."), "- helper: Helps"), (a_command("Count $ARGUMENTS"), "Count How many")):
        server.requests.clear()
        job, outcome = ended(alice, run(alice, files, framework="claude-agent"))

        assert job["config"]["framework"] == "claude-agent"
        assert outcome["provenance"]["framework"] == "claude-agent"
        assert said in json.dumps(server.requests[0])


def test_job__a_skill_that_needs_no_tools_is_asked_without_any(service: Service, server: AnthropicServer) -> None:
    alice = service.an_account()

    _, outcome = ended(alice, run(alice, a_skill("Count.")))

    assert "framework" not in outcome["provenance"]
    assert outcome["test_cases"][0]["answered_by"] == "echo-1"
    assert server.requests == []


def test_job__a_plugin_is_given_by_name(service: Service, server: AnthropicServer) -> None:
    alice = service.an_account()
    server.play = script([call("mcp__calculator__add", a=2, b=3)], [text("Five.")])
    suite = {"tests": [{"input": "2 + 3?", "assert": [{"type": "tool-called", "value": "mcp__calculator__add"}]}]}

    job, outcome = ended(alice, run(alice, a_skill("Count."), suite=suite, plugins=["calculator"]))

    assert job["config"]["plugins"] == ["calculator"]
    assert outcome["test_cases"][0]["state"] == "passed"
    assert outcome["provenance"]["tools"] == ["Skill", "Glob", "Grep", "Read", "mcp__calculator__add"]


def test_job__P4_a_changed_plugin_ends_the_job_unpaid(service: Service, server: AnthropicServer) -> None:
    alice = service.an_account()
    program = service.folder / "calculator.py"
    before = program.read_bytes()
    program.write_bytes(before.replace(b"Adds two numbers.", b"Adds two numbers, and more."))
    try:
        job, _ = ended(alice, run(alice, a_skill("Count."), plugins=["calculator"]))
    finally:
        program.write_bytes(before)

    assert (job["status"], job["code"]) == ("failed", "no_verdict")
    assert "The plugin calculator changed since it was approved" in job["error"]
    assert server.requests == []
    assert alice.client.get("/api/v1/users/me/test-usage").json()["remaining"]["test_runs"] == 100


@pytest.mark.parametrize(
    ("request_", "code", "sentence"),
    [
        ({"plugins": ["calculater"]}, "unknown_plugin", "there is no plugin 'calculater'. Usable plugins: calculator."),
        ({"plugins": ["calculator"], "framework": "litellm"}, "unknown_plugin", "they are for agents"),
        ({"framework": "claude-agent", "models": ["plain"]}, "framework_unavailable", "no agent can be run on plain"),
        ({"framework": "other"}, None, "framework"),
    ],
)
def test_submit__what_cannot_be_run_is_refused_at_the_door(
    service: Service, request_: dict[str, Any], code: str | None, sentence: str
) -> None:
    alice = service.an_account()

    answer = run(alice, a_skill("Count."), **request_)

    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert code is None or answer.json()["code"] == code


def test_job__auto_falls_back_where_a_model_runs_no_agents_and_says_so(service: Service) -> None:
    alice = service.an_account()

    job, outcome = ended(alice, run(alice, a_claude_agent("Count."), models=["plain"]))

    assert job["config"]["framework"] == "litellm"
    assert "framework" not in outcome["provenance"]
    assert outcome["summary"]["notes"] == [
        "Run without tools, by the framework litellm: plain has no deployment that runs agents."
    ]


def test_job__what_is_no_agent_is_given_back_with_the_reason(service: Service) -> None:
    alice = service.an_account()
    rule = {"AGENTS.md": b"Be short."}

    job, _ = ended(alice, run(alice, rule, framework="claude-agent"))

    assert (job["status"], job["code"]) == ("failed", "framework_unavailable")
    assert job["error"] == (
        "The framework claude-agent cannot run this: only Claude skills, agents and slash commands are run as agents. "
        "Use litellm or auto. The run was given back."
    )
    assert alice.client.get("/api/v1/users/me/test-usage").json()["remaining"]["test_runs"] == 100


def test_job__P9_the_money_cap_holds_in_the_middle_of_a_conversation(service: Service, server: AnthropicServer) -> None:
    alice = service.an_account()
    server.play = script([call("Glob", pattern="*")])
    server.input_tokens, server.output_tokens = 10_000, 1_000  # 0.045 USD a call

    job, outcome = ended(alice, run(alice, a_claude_agent("Count."), max_cost_usd=0.15))

    assert job["status"] == "failed"
    assert outcome["test_cases"][0]["state"] == "skipped"
    assert outcome["summary"]["stopped_by"] == "money_cap"
    assert len(server.requests) == 3
    (cost,) = service.fetch("SELECT cost_usd FROM test_jobs WHERE id = $1", uuid.UUID(job["id"]))[0]
    assert float(cost) == pytest.approx(3 * 0.045)


def test_job__cancelled_its_processes_are_gone_within_two_seconds(service: Service, server: AnthropicServer) -> None:
    alice = service.an_account()
    server.play = script([call("Bash", command="exec -a wait4811 tail -f /dev/null")])
    job_id = run(alice, a_claude_agent("Wait.", tools="Bash")).json()["job_id"]
    wait_for(lambda: processes_named("wait4811"), seconds=30)

    assert alice.client.post(f"/api/v1/test-jobs/{job_id}/cancel").status_code == 202

    # The worker looks each second whether a job was cancelled; then the processes go at once.
    wait_for(lambda: not processes_named("wait4811"), seconds=3)
    assert finished_job(alice, job_id)["code"] == "cancelled"


def test_job__a_lost_lease_ends_its_processes_within_two_seconds(service: Service, server: AnthropicServer) -> None:
    alice = service.an_account()
    server.play = script([call("Bash", command="exec -a wait4812 tail -f /dev/null")])
    job_id = run(alice, a_claude_agent("Wait.", tools="Bash")).json()["job_id"]
    wait_for(lambda: processes_named("wait4812"), seconds=30)

    # Another has it now: the next heartbeat, within 5 s, finds that out.
    service.fetch(
        "UPDATE test_jobs SET fence = NEXTVAL('lease_fence'), status = 'failed', lease_until = NULL, "
        "lease_owner = NULL, completed_at = NOW(), error_code = 'infrastructure', error_message = 'x' WHERE id = $1",
        uuid.UUID(job_id),
    )

    wait_for(lambda: not processes_named("wait4812"), seconds=5 + 2)


def test_worker__no_key_of_a_deployment_is_in_any_log(service: Service) -> None:
    logs = "".join(log.read_text() for log in service.folder.glob("*.log"))

    assert "worker started" in logs
    assert KEY not in logs
    assert "You count files" not in logs


def test_local__an_agent_runs_through_the_users_own_proxy(server: AnthropicServer, tmp_path: Path) -> None:
    for path, content in a_claude_agent("You count files.").items():
        (tmp_path / "helper" / path).parent.mkdir(parents=True)
        (tmp_path / "helper" / path).write_bytes(content)
    (tmp_path / "helper" / "prpm.test.json").write_text(json.dumps(COUNTS))

    ran = subprocess.run(
        [Path(sys.executable).with_name("prpm"), "test", "helper", "--local", "-m", MODEL, "--json"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "PRPM_LOCAL_URL": server.base_url},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    outcome = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert outcome["test_cases"][0]["tool_calls"] == [{"name": "Glob", "arguments": '{"pattern": "**/*.md"}'}]
    assert outcome["provenance"]["framework"] == "claude-agent"


SAYS = {"tests": [{"input": "Go", "assert": [{"type": "contains", "value": "One file"}]}]}


def test_local__base_that_was_no_agent_is_refused_before_anything_is_asked(
    server: AnthropicServer, tmp_path: Path
) -> None:
    for folder, files in (("helper", a_claude_agent("SAY: None.")), ("before", {"rule.md": b"Say something."})):
        for path, content in files.items():
            (tmp_path / folder / path).parent.mkdir(parents=True)
            (tmp_path / folder / path).write_bytes(content)
    (tmp_path / "helper" / "prpm.test.json").write_text(json.dumps(SAYS))

    ran = subprocess.run(
        [Path(sys.executable).with_name("prpm"), "test", "helper", "--local", "-m", MODEL, "--base", "before"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "PRPM_LOCAL_URL": server.base_url},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert ran.returncode == 2
    assert "The framework claude-agent cannot run this" in ran.stderr
    assert server.requests == []


def processes_named(word: str) -> list[int]:
    """Ids of processes that call themselves so."""
    return [process.pid for process in psutil.process_iter(["cmdline"]) if (process.info["cmdline"] or [""])[0] == word]


def wait_for(happened: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
