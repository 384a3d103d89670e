"""From GitHub's delivery to what people see on the pull request, on a whole service and a strict stand-in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import runners
from tests.forge_stories import SUITE, Story, a_package, a_story, forge_service
from tests.runners import Step
from tests.service import Service
from tests.standins.github import GitHub
from tests.standins.github_forge import GitHubForge
from tests.webhooks import a_payload

FAILING = SUITE.replace("value: hello", "value: nowhere")
CHECK = "prpm / greeter / default"


@pytest.fixture(scope="module")
def site(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, template_dsn: str
) -> Iterator[tuple[Service, GitHubForge]]:
    yield from forge_service(admin_dsn, redis_url, tmp_path_factory.mktemp("reports"))


@pytest.fixture
def story(site: tuple[Service, GitHubForge]) -> Iterator[Story]:
    service, forge = site
    forge.forget_reports()
    made = a_story(service, forge)
    yield made
    assert made.forge.violations == []


def proposed(story: Story, suite: str = SUITE, **more: Any) -> str:
    """The head of a pull request that adds the one package."""
    base = story.commit({"README.md": b"hi"}, branch="main")
    return pushed(story, base, suite=suite, **more)


def pushed(story: Story, base: str, *, text: str = "Greet very politely.", suite: str = SUITE) -> str:
    head = story.commit(a_package("greeter", folder="greeter", suite=suite, text=text), on=base)
    story.propose(head, base)
    return head


def seen_check(story: Story, head: str, name: str = CHECK, *, until: str = "completed") -> dict[str, Any]:
    """The check once it stands so."""
    return within(lambda: (check := story.forge.checks(head).get(name)) and check["status"] == until and check)


def within(look: Callable[[], Any], *, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing of it was seen")


def test_pull_request__has_a_check_at_the_suites_line_and_one_comment_that_a_repair_edits(story: Story):
    head = proposed(story, FAILING)
    story.tell_of(head, action="opened")

    check = seen_check(story, head)
    (comment,) = within(lambda: story.forge.reported.ours(pull=12))

    assert (check["conclusion"], check["output"]["title"]) == ("failure", "❌ 1 failure, score 0 %")
    assert [(one["path"], one["start_line"]) for one in check["annotations"]] == [("greeter/prpm.test.yaml", 2)]
    (job,) = story.jobs_ended(1)
    assert check["details_url"] == f"{story.service.url}/jobs/{job['id']}"
    assert "### ❌ Prompt tests: 1 failure" in comment
    assert f"commit `{head[:7]}`" in comment

    repaired = pushed(story, story.forge.repository.branches["main"], suite=SUITE, text="Say hello.")
    story.tell_of(repaired)

    assert seen_check(story, repaired)["conclusion"] == "success"
    within(lambda: f"commit `{repaired[:7]}`" in story.forge.reported.ours(pull=12)[0])
    assert len(story.forge.reported.ours(pull=12)) == 1


def test_pull_request__the_button_of_a_check_runs_it_again_in_a_check_of_its_own(story: Story):
    head = proposed(story, FAILING)
    story.tell_of(head, action="opened")
    first = seen_check(story, head)

    payload = a_payload("github/check_run.rerequested", action="requested_action", **story.about())
    payload["requested_action"] = {"identifier": "rerun"}
    payload["check_run"] |= {"id": first["id"], "head_sha": head, "external_id": first["external_id"]}
    for _ in range(2):  # pressed twice
        delivery = story.send("check_run", payload)
        story.ended(delivery)

    second = within(lambda: (check := seen_check(story, head)) and check["id"] != first["id"] and check)
    assert second["external_id"] != first["external_id"]
    assert len(story.jobs_ended(2)) == 2
    assert len(story.forge.reported.ours(pull=12)) == 1


def test_pull_request__that_touches_no_package_has_a_check_that_lets_it_pass(story: Story):
    base = story.commit(a_package("greeter", folder="greeter"), branch="main")
    head = story.commit({"README.md": b"hi"}, on=base)
    story.propose(head, base)
    story.tell_of(head, action="opened")

    check = seen_check(story, head, "prpm")

    assert (check["conclusion"], check["output"]["title"]) == ("neutral", "Nothing to test")
    assert story.jobs() == []
    assert story.forge.reported.comments == {}


def test_action__beside_the_app_joins_its_job_and_leaves_the_report_to_it(story: Story, tmp_path: Path):
    head = proposed(story, FAILING)
    story.tell_of(head, action="opened")
    seen_check(story, head)
    step = Step(folder=tmp_path)
    with GitHub().running() as workflows:
        files = a_package("greeter", folder="greeter", suite=FAILING, text="Greet very politely.")
        for path, content in files.items():
            (step.workspace / path).parent.mkdir(parents=True, exist_ok=True)
            (step.workspace / path).write_bytes(content)
        step.event = runners.a_pull_request(head=head)
        for side in ("head", "base"):
            step.event["pull_request"][side]["repo"] = {"id": story.forge.id, "full_name": story.forge.name}
        step.event["repository"] = {"id": story.forge.id, "full_name": story.forge.name}
        step.event["pull_request"]["base"]["sha"] = story.forge.repository.branches["main"]
        step.inputs = {
            "server-url": story.service.url, "github-token": workflows.token, "api-token": story.account.token,
            "path": "greeter",
        }  # fmt: skip
        step.environ = {"GITHUB_API_URL": workflows.url, "GITHUB_REPOSITORY": story.forge.name}

        ran = step.run()

        (job,) = story.jobs()
        assert ran.outputs["job-id"] == str(job["id"]), ran.log
        assert "The prpm App reports on this change." in ran.summary
        assert (workflows.comments, workflows.check_runs, workflows.statuses) == ({}, {}, [])
    assert story.charges() == 1
    assert len(story.forge.reported.ours(pull=12)) == 1
    story.settle()
    assert sorted(run["name"] for run in story.forge.reported.check_runs.values()) == ["prpm", CHECK]
