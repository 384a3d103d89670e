"""The Action's step as its users see it: a real process in a runner's environment, strict stand-ins around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runners import BASE, HEAD, Step, a_merge_group, a_package, a_pull_request, a_push, with_token
from tests.standins.discord import PATH as DISCORD_PATH
from tests.standins.discord import Discord
from tests.standins.github import GitHub
from tests.standins.slack import PATH as SLACK_PATH
from tests.standins.slack import Slack
from tests.standins.testing_service import MARKER, TOKEN, HostedTesting, a_failed_row, a_row

WORKFLOW_LOGIN = "github-actions[bot]"


@pytest.fixture
def service() -> Iterator[HostedTesting]:
    with HostedTesting().running() as running:
        yield running
        assert running.violations == []


@pytest.fixture
def github() -> Iterator[GitHub]:
    stand_in = GitHub()
    stand_in.login = WORKFLOW_LOGIN
    with stand_in.running() as running:
        yield running
        assert running.violations == []


@pytest.fixture
def step(tmp_path: Path, service: HostedTesting, github: GitHub) -> Step:
    made = Step(folder=tmp_path)
    a_package(made.workspace)
    made.inputs = with_token(**{"server-url": service.url, "github-token": github.token})
    made.environ = {"GITHUB_API_URL": github.url, "WORKFLOW_TOKEN": github.token}
    return made


def test_action__a_pull_request_whose_tests_pass(step: Step, service: HostedTesting, github: GitHub) -> None:
    ran = step.run()

    assert ran.code == 0, ran.log
    assert ran.outputs["passed"] == "true"
    assert (ran.outputs["total"], ran.outputs["failed"], ran.outputs["score"]) == ("2", "0", "1")
    assert ran.outputs["url"] == f"{service.url}/jobs/{ran.outputs['job-id']}"
    assert "✅ Prompt tests: all 2 rows passed" in ran.summary
    assert [command.name for command in ran.commands if command.name in ("error", "warning")] == []
    assert github.ours() == []  # no comment where nothing changed
    (run,) = github.check_runs.values()
    assert (run["conclusion"], run["head_sha"]) == ("success", HEAD)


def test_action__says_what_is_tested(step: Step, service: HostedTesting) -> None:
    step.inputs |= {"models": "gpt-4o, claude-sonnet-4\nllama-3.1-8b", "framework": "litellm", "account": "acme"}
    step.inputs |= {"baseline": "branch:main", "upload": "true", "plugins": "search"}

    step.run()

    (sent,) = service.submitted()
    assert sent.pop("snapshot_id") in service.snapshots
    assert sent == {
        "models": ["gpt-4o", "claude-sonnet-4", "llama-3.1-8b"],
        "plugins": ["search"],
        "framework": "litellm",
        "baseline": "branch:main",
        "gate": "regressions",
        "account": "acme",
        "upload_results": True,
        "verify_results": False,
        "suite_name": "default",
        "change": {
            "forge": "github",
            "repository": "acme/prompts",
            "repository_id": 7,
            "ref": "feature",
            "head_sha": HEAD,
            "base_ref": "main",
            "base_sha": BASE,
            "pull_request": 12,
            "cause": "head",
        },
    }


def test_action__failures_fail_the_step_and_stand_at_their_lines(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    service.rows = [a_row("Says hello"), a_failed_row("Says goodbye")]

    ran = step.run()

    assert ran.code == 1
    assert (ran.outputs["passed"], ran.outputs["failed"]) == ("false", "1")
    place, end = ran.of("error")
    assert place.properties == {
        "file": "prpm.test.yaml",
        "line": "5",
        "title": "Failed: Says goodbye on claude-sonnet-4",
    }
    assert "Looks good to me!" in place.value
    assert "1 failure" in end.value
    (comment,) = github.ours()
    assert comment.startswith(f"<!-- prpm-testing:v1 mac={MARKER} ")
    (annotations,) = github.annotations.values()
    assert [(one["path"], one["start_line"]) for one in annotations] == [("prpm.test.yaml", 5)]


def test_action__the_log_is_a_group_with_each_trial(step: Step, service: HostedTesting) -> None:
    ran = step.run()

    lines = ran.log.splitlines()
    begin, end = lines.index("::group::@acme/greeter · prpm.test.yaml"), lines.index("::endgroup::")
    assert any("✅ Says hello · claude-sonnet-4 100 %" in line for line in lines[begin:end])
    assert any("1 job submitted after" in line for line in lines[:begin])


def test_action__the_same_comment_is_edited_by_the_next_push_and_by_a_rerun(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    """G12."""
    service.rows = [a_failed_row("Says hello")]
    step.run()
    service.rows = [a_row("Says hello")]
    step.event = a_pull_request(head="2" * 40)
    step.run()
    step.environ |= {"GITHUB_RUN_ATTEMPT": "2"}
    step.run()

    (comment,) = github.ours()
    assert "the one row passed" in comment
    assert [sent["change"]["cause"] for sent in service.submitted()] == ["head", "head", "run:4711.2"]
    assert len(service.jobs) == 3


def test_action__a_matrix_of_five_leaves_one_job_and_one_comment(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    """G12: the run, its attempt and the suite are the key; who comes second joins."""
    service.rows = [a_failed_row("Says hello")]

    for _ in range(5):
        step.run()

    assert (len(service.jobs), len(github.ours())) == (1, 1)


@pytest.mark.parametrize("others", [35, 300])
def test_action__finds_its_comment_among_many(step: Step, service: HostedTesting, github: GitHub, others: int) -> None:
    service.rows = [a_failed_row("Says hello")]
    step.run()
    for number in range(others):
        github.add_comment("somebody", f"comment {number}")

    step.run()

    assert len(github.ours()) == 1


def test_action__the_app_reports_alone(step: Step, service: HostedTesting, github: GitHub) -> None:
    service.rows = [a_failed_row("Says hello")]
    service.report = {"marker": MARKER, "reporter": "app"}

    ran = step.run()

    assert ran.code == 1
    assert (github.ours(), github.check_runs) == ([], {})
    assert "The prpm App reports on this change." in ran.summary


def test_action__the_app_reports_alone_on_a_job_without_results(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    service.failure = ("provider_down", "No provider answered.")
    service.report = {"marker": MARKER, "reporter": "app"}

    ran = step.run()

    assert ran.code == 0
    assert (github.ours(), github.check_runs) == ([], {})
    assert "The prpm App reports on this change." in ran.summary


def test_action__a_service_that_gives_no_marker_leaves_no_comment(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    service.rows, service.report = [a_failed_row("Says hello")], None

    ran = step.run()

    assert (ran.code, github.ours()) == (1, [])
    assert len(github.check_runs) == 1


def test_action__a_token_that_is_not_the_workflows_own_is_asked_for_its_name(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    github.login = "acme-bot[bot]"
    step.environ |= {"WORKFLOW_TOKEN": "another", "GITHUB_GRAPHQL_URL": f"{github.url}/graphql"}
    service.rows = [a_failed_row("Says hello")]

    step.run()
    step.run()

    assert len(github.ours()) == 1


def test_action__a_push_has_a_check_and_no_comment(step: Step, service: HostedTesting, github: GitHub) -> None:
    step.event_name, step.event = "push", a_push()
    service.rows = [a_failed_row("Says hello")]

    ran = step.run()

    assert (ran.code, github.ours()) == (1, [])
    assert [run["head_sha"] for run in github.check_runs.values()] == [HEAD]
    (sent,) = service.submitted()
    assert (sent["change"]["ref"], sent["change"]["base_sha"]) == ("refs/heads/main", BASE)
    assert "pull_request" not in sent["change"]


def test_action__a_group_of_a_merge_queue_has_a_check_and_no_comment(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    step.event_name, step.event = "merge_group", a_merge_group()
    service.rows = [a_failed_row("Says hello")]

    ran = step.run()

    assert (ran.code, github.ours()) == (1, [])
    assert [run["head_sha"] for run in github.check_runs.values()] == [HEAD]
    (sent,) = service.submitted()
    assert sent["change"] == {
        "forge": "github", "repository": "acme/prompts", "repository_id": 7, "head_sha": HEAD, "base_sha": BASE,
        "ref": f"refs/heads/gh-readonly-queue/main/pr-12-{BASE}", "base_ref": "main", "cause": "head",
    }  # fmt: skip


def test_action__a_group_of_a_monorepo_tests_what_differs_from_the_branch_and_not_from_the_group_ahead(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    step.event_name, step.event = "merge_group", a_merge_group()
    for name in ("greeter", "writer"):
        a_package(step.workspace / "packages" / name, f"@acme/{name}")
    github.files = ["packages/greeter/greeter.md"]
    step.inputs["path"] = "packages/*"

    ran = step.run()

    assert ran.code == 0, ran.log
    assert [name for name, _ in service.kept.values()] == ["@acme/greeter"]
    assert [seen.path for seen in github.log if "/compare/" in seen.path] == [
        f"/repos/acme/prompts/compare/main...{HEAD}"
    ]


def test_action__a_deleted_branch_has_nothing_to_test(step: Step, service: HostedTesting) -> None:
    step.event_name, step.event = "push", a_push(deleted=True)

    ran = step.run()

    assert (ran.code, service.submitted()) == (0, [])
    assert "The branch was deleted." in ran.summary


def test_action__a_monorepo_tests_what_changed(step: Step, service: HostedTesting, github: GitHub) -> None:
    for name in ("greeter", "writer", "reader"):
        a_package(step.workspace / "packages" / name, f"@acme/{name}")
    github.files = ["packages/greeter/greeter.md", "README.md", "packages/writer/prpm.test.yaml"]
    step.inputs["path"] = "packages/*"
    service.rows = [a_failed_row("Says hello")]

    ran = step.run()

    assert [files["prpm.json"].count(b"@acme/") for files in service.snapshots.values()] == [1, 1]
    names = sorted(json.loads(files["prpm.json"])["name"] for files in service.snapshots.values())
    assert names == ["@acme/greeter", "@acme/writer"]
    assert (ran.outputs["total"], ran.outputs["job-id"].count("\n")) == ("2", 1)
    assert len(github.check_runs) == 2
    assert [one.properties.get("file") for one in ran.of("error")][:2] == [
        "packages/greeter/prpm.test.yaml",
        "packages/writer/prpm.test.yaml",
    ]
    assert sorted(path.name for path in ran.reports.iterdir())[:4] == [
        "acme-greeter.html", "acme-greeter.json", "acme-greeter.md", "acme-greeter.xml",
    ]  # fmt: skip


def test_action__a_monorepo_in_which_nothing_changed_is_green(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    a_package(step.workspace / "packages" / "greeter")
    github.files = ["README.md"]
    step.inputs |= {"path": "packages/*", "on-error": "fail"}

    ran = step.run()

    assert (ran.code, service.submitted()) == (0, [])
    assert "touches none of 1 package" in ran.summary


def several_packages(step: Step, *names: str, folder: str = "") -> None:
    """One prpm.json that describes several packages, each with a file of its own, and a suite for all."""
    place = step.workspace / folder
    a_package(place)
    (place / "greeter.md").unlink()
    about = {"version": "1.0.0", "description": "Greets", "format": "generic", "subtype": "prompt"}
    entries = [{"name": f"@acme/{name}", **about, "files": [f"{name}.md"]} for name in names]
    (place / "prpm.json").write_text(json.dumps({"packages": entries}))
    for name in names:
        (place / f"{name}.md").write_text(f"You are {name}.\n")


def test_action__a_folder_with_three_packages_gives_three_jobs(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    several_packages(step, "one", "two", "three")
    service.rows = [a_failed_row("Says hello")]
    github.files = ["prpm.json"]

    ran = step.run()

    assert (ran.code, len(service.jobs)) == (1, 3)
    assert sorted(name for name, _ in service.kept.values()) == ["@acme/one", "@acme/three", "@acme/two"]
    assert "3 jobs submitted" in ran.log
    assert len(ran.outputs["job-id"].split()) == 3
    names = sorted(check["name"] for check in github.check_runs.values())
    assert names == [f"prpm / @acme/{name} / prpm.test.yaml" for name in ("one", "three", "two")]
    assert sorted(path.name for path in ran.reports.glob("*.json")) == [
        "acme-one.json", "acme-three.json", "acme-two.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "tested"),
    [
        (["prompts/two.md"], ["two"]),
        (["prompts/prpm.json"], ["one", "two"]),
        (["prompts/prpm.test.yaml"], ["one", "two"]),
        (["src/main.py", "prompts/notes.md"], []),
    ],
)
def test_action__of_several_packages_in_a_folder_those_that_a_change_touches(
    step: Step, service: HostedTesting, github: GitHub, changed: list[str], tested: list[str]
) -> None:
    several_packages(step, "one", "two", folder="prompts")
    step.inputs["path"] = "prompts"
    github.files = changed

    ran = step.run()

    assert ran.code == 0, ran.log
    assert sorted(name for name, _ in service.kept.values()) == [f"@acme/{name}" for name in tested]


def test_action__skills_without_a_manifest_are_packages_of_their_own(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    for path in step.workspace.iterdir():
        path.unlink()
    for name in ("alpha", "beta"):
        (step.workspace / f".claude/skills/{name}").mkdir(parents=True)
        (step.workspace / f".claude/skills/{name}/SKILL.md").write_text("You help.\n")
    github.files = [".claude/skills/beta/old.md"]

    ran = step.run()

    assert ran.code == 0, ran.log
    assert [name for name, _ in service.kept.values()] == ["beta"]


def test_action__tests_everything_where_the_changed_files_are_not_known(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    a_package(step.workspace / "packages" / "greeter")
    step.environ["GITHUB_API_URL"] = "http://127.0.0.1:9"
    step.inputs |= {"path": "packages/*", "check-run": "false", "comment": "never"}

    ran = step.run()

    assert (ran.code, len(service.submitted())) == (0, 1)


def test_action__saves_the_reports(step: Step) -> None:
    ran = step.run()

    assert json.loads((ran.reports / "acme-greeter.json").read_bytes())["summary"]["total_tests"] == 2
    assert (ran.reports / "acme-greeter.xml").read_text() == "the report as xml"
    assert ran.outputs["report-path"] == str(ran.reports)


def test_action__a_suite_of_the_workflows_own(step: Step, service: HostedTesting) -> None:
    (step.workspace / "checks").mkdir()
    (step.workspace / "checks" / "strict.yaml").write_text("tests:\n  - description: Only this\n    input: x\n")
    step.inputs["suite"] = "checks/strict.yaml"
    service.rows = [a_failed_row("Only this")]

    ran = step.run()

    (files,) = service.snapshots.values()
    assert b"Only this" in files["prpm.test.yaml"]
    assert service.submitted()[0]["suite_name"] == "checks/strict"
    assert ran.of("error")[0].properties["file"] == "checks/strict.yaml"
    assert ran.of("error")[0].properties["line"] == "2"


def test_action__a_published_package(step: Step, service: HostedTesting) -> None:
    step.inputs["package"] = "@acme/greeter@1.2.0"

    ran = step.run()

    assert ran.code == 0
    (sent,) = service.submitted()
    assert (sent["package_id"], sent["package_version"], service.snapshots) == ("@acme/greeter", "1.2.0", {})


def test_action__chats_are_told(step: Step, service: HostedTesting) -> None:
    service.rows = [a_failed_row("Says hello")]
    with Slack().running() as slack, Discord().running() as discord:
        step.inputs["notify"] = f"slack: {slack.url}{SLACK_PATH}\ndiscord: {discord.url}{DISCORD_PATH}\n"
        step.environ["PRPM_NOTIFY_ALLOWED_ORIGINS"] = f"{slack.url},{discord.url}"
        ran = step.run()

        assert (len(slack.messages), len(discord.messages)) == (1, 1)
        assert slack.violations + discord.violations == []
    assert SLACK_PATH not in "\n".join(line for line in ran.log.splitlines() if not line.startswith("::add-mask::"))


def test_action__a_chat_that_is_gone_is_a_warning(step: Step, service: HostedTesting) -> None:
    service.rows = [a_failed_row("Says hello")]
    with Slack().running() as slack:
        step.inputs["notify"] = f"slack: {slack.url}/services/T0AAAAAA/B0BBBBBB/another0another0another0"
        step.environ["PRPM_NOTIFY_ALLOWED_ORIGINS"] = slack.url
        ran = step.run()

    assert ran.code == 1
    (warning,) = ran.of("warning")
    assert "Slack does not know this webhook any more" in warning.value


def test_action__a_kind_of_message_that_does_not_exist(step: Step, service: HostedTesting) -> None:
    step.inputs["notify"] = "pager: https://pager.example/secret-address"

    ran = step.run()

    assert (ran.code, service.log) == (2, [])
    (error,) = ran.of("error")
    assert "Choose one of: discord, slack, webhook" in error.value
    assert "secret-address" not in error.value


def test_action__a_report_of_200_kilobytes_and_120_annotations(
    step: Step, service: HostedTesting, github: GitHub
) -> None:
    service.rows = [a_failed_row(f"Case {number}") | {"response": "x" * 1500} for number in range(120)]
    step.inputs["comment"] = "always"

    ran = step.run()

    assert ran.code == 1
    (annotations,) = github.annotations.values()
    assert len(annotations) == 120
    assert len(ran.of("error")) == 11  # GitHub shows ten errors of a step; the last one is the verdict
    (comment,) = github.ours()
    assert len(comment) < 65_536
    assert len(ran.summary.encode()) < 1_048_576


def test_action__an_organisation_that_is_billed_and_warnings_are_seen(step: Step, service: HostedTesting) -> None:
    service.warnings = ["80 % of this month's runs are used."]

    ran = step.run()

    assert [one.value for one in ran.of("warning")] == ["80 % of this month's runs are used."]


def test_action__tokens_are_masked_and_never_told(step: Step) -> None:
    ran = step.run()

    assert TOKEN in [one.value for one in ran.of("add-mask")]
    rest = [line for line in ran.log.splitlines() if not line.startswith("::add-mask::")]
    assert TOKEN not in "\n".join(rest)
    assert TOKEN not in ran.summary
