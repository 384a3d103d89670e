"""Who the Action is and what it refuses to do: identities, forks, hostile repositories, hostile words. G1 to G11."""

from __future__ import annotations

import random
import re
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from action_entry.ci.github_actions import output_text
from tests.notices import HOSTILE
from tests.runners import ROOT, IdTokens, Step, a_package, a_pull_request, read_outputs, with_token
from tests.standins.github import GitHub
from tests.standins.testing_service import SHORT_TOKEN, HostedTesting, a_failed_row
from tests.standins.web import Answer, Fault


@pytest.fixture
def service() -> Iterator[HostedTesting]:
    with HostedTesting().running() as running:
        yield running


@pytest.fixture
def github() -> Iterator[GitHub]:
    stand_in = GitHub()
    stand_in.login = "github-actions[bot]"
    with stand_in.running() as running:
        yield running


@pytest.fixture
def issuer() -> Iterator[IdTokens]:
    with IdTokens().running() as running:
        yield running


@pytest.fixture
def step(tmp_path: Path, service: HostedTesting, github: GitHub) -> Step:
    """Without any token of the service."""
    made = Step(folder=tmp_path)
    a_package(made.workspace)
    made.inputs = {"server-url": service.url, "github-token": github.token}
    made.environ = {"GITHUB_API_URL": github.url, "WORKFLOW_TOKEN": github.token}
    return made


def test_keyless__the_runs_identity_is_exchanged(step: Step, service: HostedTesting, issuer: IdTokens) -> None:
    step.environ |= issuer.environ

    ran = step.run()

    assert ran.code == 0, ran.log
    assert (len(service.exchanged), service.violations, issuer.violations) == (1, [], [])
    assert issuer.log[0].query["audience"] == service.url
    masked = [one.value for one in ran.of("add-mask")]
    assert f"{SHORT_TOKEN}1" in masked
    assert service.exchanged[0] in masked


def test_keyless__a_token_that_ends_meanwhile_is_renewed_with_a_new_identity(
    step: Step, service: HostedTesting, issuer: IdTokens
) -> None:
    """A7: an id token is used once."""
    step.environ |= issuer.environ
    service.short_calls = 2

    ran = step.run()

    assert ran.code == 0, ran.log
    assert (len(service.exchanged), service.violations) == (2, [])


def test_keyless__a_repository_that_nobody_registered(step: Step, service: HostedTesting, issuer: IdTokens) -> None:
    """A9."""
    service.registered = False
    step.environ |= issuer.environ

    ran = step.run()

    assert ran.code == 2
    assert "belongs to no account" in ran.of("error")[0].value


def test_keyless__neither_token_nor_identity(step: Step, service: HostedTesting) -> None:
    ran = step.run()

    assert (ran.code, service.log) == (2, [])
    assert "id-token: write" in ran.of("error")[0].value


@pytest.mark.parametrize("on_error", ["neutral", "fail"])
def test_action__G7_a_fork_is_green_and_says_why(
    step: Step, github: GitHub, service: HostedTesting, on_error: str
) -> None:
    step.event = a_pull_request(fork=True)
    step.inputs |= {"on-error": on_error, "github-token": github.token}
    github.read_only = ("/",)

    ran = step.run()

    assert (ran.code, service.log, github.log) == (0, [], [])
    assert "comes from a fork" in ran.summary
    assert "prpm App" in ran.summary
    assert ran.of("error") + ran.of("warning") == []
    assert ran.outputs["passed"] == "false"


def test_action__G7_a_fork_with_a_token_never_fails_on_a_403(
    step: Step, github: GitHub, service: HostedTesting
) -> None:
    step.event = a_pull_request(fork=True)
    step.inputs = with_token(**step.inputs)
    github.read_only = ("/",)
    service.rows = [a_failed_row("Says hello")]
    step.inputs["fail-on"] = "never"

    ran = step.run()

    assert ran.code == 0
    assert ran.of("warning") == []
    assert "The comment was not written: the token may not do it." in ran.summary


def test_action__G7_a_fork_lacks_the_chats_address_too(step: Step) -> None:
    step.event = a_pull_request(fork=True)
    step.inputs["notify"] = "slack: \ndiscord:"

    ran = step.run()

    assert (ran.code, ran.of("error")) == (0, [])


def test_action__G7_dependabot_is_green_and_says_why(step: Step, service: HostedTesting) -> None:
    step.environ["GITHUB_ACTOR"] = "dependabot[bot]"

    ran = step.run()

    assert (ran.code, service.log) == (0, [])
    assert "Dependabot" in ran.summary


@pytest.mark.parametrize("event_name", ["pull_request_target", "workflow_run"])
def test_action__G2_refuses_events_with_the_bases_rights(step: Step, service: HostedTesting, event_name: str) -> None:
    step.event_name = event_name
    step.inputs = with_token(**step.inputs)

    ran = step.run()

    assert (ran.code, service.log) == (2, [])
    assert "allow-pull-request-target" in ran.of("error")[0].value


def test_action__G2_runs_on_them_when_asked(step: Step, service: HostedTesting) -> None:
    step.event_name = "pull_request_target"
    step.inputs = with_token(**step.inputs, **{"allow-pull-request-target": "true"})

    assert step.run().code == 0


HOSTILE_REFS = [
    "$(touch pwned)",
    "`touch pwned`",
    '";touch pwned;"',
    "a'b\"c",
    "feature\n::error::x",
    "${{ secrets.X }}",
]


@pytest.mark.parametrize("text", HOSTILE_REFS)
def test_action__G1_hostile_inputs_and_branches_run_nothing(step: Step, service: HostedTesting, text: str) -> None:
    """The step's own script under bash, with the text in every place that others can write to."""
    script = next(line for line in (ROOT / "action.yml").read_text().splitlines() if "run: exec" in line)
    step.inputs = with_token(**step.inputs, suite=text, account=text)
    step.event["pull_request"]["head"]["ref"] = text
    environment = step.environment() | {"GITHUB_ACTION_PATH": str(ROOT), "GITHUB_HEAD_REF": text}

    ran = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script.partition("run: ")[2]],
        env=environment,
        cwd=step.workspace,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert not list(step.folder.rglob("pwned"))


def test_action_yml__G1_no_expression_within_a_script() -> None:
    text = (ROOT / "action.yml").read_text()

    scripts = re.findall(r"^\s+run: (.*)$", text, re.MULTILINE)

    assert len(scripts) == 1
    assert "${{" not in scripts[0]


def test_action__G3_any_value_stays_one_output() -> None:
    """A thousand values, read as the runner does."""
    chance = random.Random(3)  # noqa: S311 -- the same thousand values each time
    pieces = [*HOSTILE, "\n", "\r\n", "EOF", "<<", "=", "prpm-", "name<<EOF\nx\nEOF", "a=b", *string.printable]

    for _ in range(1000):
        value = "".join(chance.choices(pieces, k=chance.randint(0, 12))).encode("utf-8", "replace").decode()
        found = read_outputs(output_text("url", value) + output_text("score", "1"))
        assert set(found) == {"url", "score"}
        assert found["url"] == value.replace("\r\n", "\n").replace("\r", "\n")


COMMANDS = (
    "::add-mask::ordinary", "::error::no", "::set-output name=passed::true", "::stop-commands::x", "##[error]no",
    "text ##[add-path]/tmp/x", "\n::error::no", "\r::error::no", "\u2028::error::no", "  ::warning::no",
)  # fmt: skip


def test_action__G4_words_of_models_and_people_command_nothing(step: Step, service: HostedTesting) -> None:
    text = "\n".join([*COMMANDS, *COMMANDS])
    service.package = text
    service.warnings = list(COMMANDS)
    service.knows = {"suite_path": text}
    (step.workspace / "prpm.json").unlink()
    service.rows = [
        a_failed_row(f"{command}{text}", model=f"{command}{text}") | {"response": f"{command}{text}"}
        for command in COMMANDS
    ]
    service.failure = None
    step.inputs = with_token(**step.inputs)

    ran = step.run()

    names = {command.name for command in ran.commands}
    assert names <= {"group", "endgroup", "add-mask", "error", "warning"}
    assert "ordinary" not in [one.value for one in ran.of("add-mask")]
    assert not [one for one in ran.of("error") if one.value.strip() == "no"]
    assert len(ran.of("add-mask")) == 1  # our own token


def test_action__G4_a_failed_jobs_words_command_nothing(step: Step, service: HostedTesting) -> None:
    service.failure = ("provider_down", "\n".join(COMMANDS))
    step.inputs = with_token(**step.inputs)

    ran = step.run()

    assert {command.name for command in ran.commands} <= {"group", "endgroup", "add-mask", "warning"}
    assert "##[" not in ran.log.replace("# #[", "")


def test_action__G8_a_prpmrc_in_the_repository_is_not_read(step: Step, service: HostedTesting) -> None:
    with HostedTesting().running() as thief:
        for folder in (step.workspace, step.folder):
            (folder / ".prpmrc").write_text(f'{{"registryUrl": "{thief.url}", "token": "stolen"}}')
        step.environ |= {"PRPM_REGISTRY_URL": thief.url, "PRPM_SERVER_URL": thief.url}
        step.inputs = with_token(**step.inputs)

        ran = step.run()

        assert (ran.code, thief.log) == (0, [])
    assert f"Testing on {service.url}" in ran.log


@pytest.mark.parametrize("url", ["http://registry.example", "https://user@registry.example", "ftp://x", "//x", "x"])
def test_action__G8_only_https_and_no_user_name(step: Step, url: str) -> None:
    step.inputs = with_token(**step.inputs) | {"server-url": url}

    ran = step.run()

    assert ran.code == 2
    assert "https://" in ran.of("error")[0].value


def test_action__G9_neither_git_nor_links_are_packed(step: Step, service: HostedTesting) -> None:
    (step.folder / "secret.txt").write_text("of the runner")
    (step.workspace / ".git").mkdir()
    (step.workspace / ".git" / "config").write_text("[http] extraheader = AUTHORIZATION: basic c2VjcmV0")
    (step.workspace / ".env").write_text("KEY=secret")
    (step.workspace / "prpm.json").unlink()
    (step.workspace / "link.md").symlink_to(step.folder / "secret.txt")
    (step.workspace / "linked").symlink_to(step.folder, target_is_directory=True)
    step.inputs = with_token(**step.inputs)

    ran = step.run()

    assert ran.code == 0, ran.log
    (files,) = service.snapshots.values()
    assert sorted(files) == ["greeter.md", "prpm.test.yaml"]


@pytest.mark.parametrize(
    "path", ["..", "../other", "/etc", "~", "packages/../../x", "C:\\Users", "linked", "linked/inner"]
)
def test_action__G9_no_path_leads_out_of_the_workspace(step: Step, service: HostedTesting, path: str) -> None:
    a_package(step.folder / "outside")
    a_package(step.folder / "outside" / "inner")
    (step.workspace / "linked").symlink_to(step.folder / "outside", target_is_directory=True)
    step.inputs = with_token(**step.inputs, path=path)

    ran = step.run()

    assert (ran.code, service.snapshots) == (2, {})


def test_action__G9_a_listed_file_that_is_a_link_is_refused(step: Step, service: HostedTesting) -> None:
    (step.workspace / "greeter.md").unlink()
    (step.workspace / "greeter.md").symlink_to("/etc/hostname")
    step.inputs = with_token(**step.inputs)

    ran = step.run()

    assert (ran.code, service.snapshots) == (2, {})
    assert "symbolic link" in ran.of("error")[0].value


def test_action__G11_nothing_of_the_repository_is_imported(step: Step) -> None:
    for name in ("json.py", "sitecustomize.py", "usercustomize.py", "notifiers.py", "action_entry.py", "ssl.py"):
        (step.workspace / name).write_text("open('pwned', 'w')\n")
    (step.workspace / "evil.pth").write_text("import os; open('pwned', 'w')\n")
    step.environ |= {"PYTHONPATH": str(step.workspace), "PYTHONSTARTUP": str(step.workspace / "json.py")}
    step.environ |= {"PYTHONHOME": "/nonexistent", "PYTHONWARNINGS": "error", "PYTHONINSPECT": "1"}
    step.inputs = with_token(**step.inputs)

    ran = step.run()

    assert ran.code == 0, ran.errors
    assert not (step.workspace / "pwned").exists()


def test_action__a_hostile_event_is_a_sentence(step: Step) -> None:
    step.inputs = with_token(**step.inputs)
    for event in ([], {"pull_request": "x"}, {"pull_request": {"head": None}, "repository": 7}):
        step.event = event  # type: ignore[assignment]  # what GitHub never sends
        ran = step.run()
        assert ran.code == 0, ran.log


def test_action__an_answer_with_a_hostile_job_is_no_command(step: Step, service: HostedTesting) -> None:
    service.faults = [Fault(answer=Answer(status=400, body={"error": "::error::x\n::error::y", "details": [7, {}]}))]
    step.inputs = with_token(**step.inputs)

    ran = step.run()

    assert ran.code == 2
    assert len(ran.of("error")) == 1
