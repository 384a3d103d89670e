"""The check `prpm` is one that an organisation can require: each head has it, it ends, and nobody turns it green."""

from __future__ import annotations

import json

import pytest

from evals.archives import pack
from tests.forge_stories import SUITE, Story, a_package
from tests.standins.repository import Content

FAILING = SUITE.replace("value: hello", "value: nowhere")
LENIENT = b"gate: {fail-on: never}"


def two_packages(story: Story, *, second: str = SUITE) -> tuple[str, str]:
    """Base and head of a pull request that adds two packages."""
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", folder="one") | a_package("two", folder="two", suite=second), on=base)
    story.propose(head, base)
    return base, head


def sent_by_a_workflow(story: Story, head: str, files: dict[str, Content]) -> None:
    """A run of these files for the pull request's event, without anything of the repository's rules."""
    client, gzip = story.account.client, {"Content-Type": "application/gzip"}
    snapshot = client.post("/api/v1/package-snapshots", content=pack(files), headers=gzip).json()
    change = {
        "forge": "github", "repository": story.forge.name, "repository_id": story.forge.id, "ref": "feature",
        "head_sha": head, "base_ref": "main", "pull_request": 12,
    }  # fmt: skip
    sent = client.post("/api/v1/test-jobs/run", json={"snapshot_id": snapshot["snapshot_id"], "change": change})
    assert sent.status_code == 202, sent.text


def check_runs(story: Story, head: str) -> list[str]:
    """Conclusions of the check runs `prpm`, oldest first."""
    with story.forge.lock:
        found = [run for _, run in sorted(story.forge.reported.check_runs.items())]
    return [run.get("conclusion", "") for run in found if run["name"] == "prpm" and run["head_sha"] == head]


def test_required__two_packages_one_of_which_fails_and_is_mended(story: Story):
    base, head = two_packages(story, second=FAILING)
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(2)

    conclusion, title, summary = story.check(head)
    assert (conclusion, title) == ("failure", "1 of 2 packages failed")
    for job in story.jobs():
        assert f"({story.service.url}/jobs/{job['id']})" in summary

    mended = story.commit({"two/prpm.test.yaml": SUITE.encode()}, on=head)
    story.propose(mended, base)
    story.ended(story.tell_of(mended))
    story.jobs_ended(4)
    assert story.check(mended)[:2] == ("success", "2 packages passed")


def statuses(story: Story, head: str) -> dict[str, str]:
    """The newest state of each commit status."""
    with story.forge.lock:
        return {one["context"]: one["state"] for one in story.forge.reported.statuses if one["sha"] == head}


def test_required__commit_statuses_that_are_asked_for_have_one_for_the_whole_commit(story: Story):
    """For whoever reads statuses alone: what a tool or a rule waits for has one name that each commit has."""
    base = story.commit({".prpm-testing.yml": b"commit-status: true"}, branch="main")
    unreadable: dict[str, Content] = {"two/prpm.json": b"no manifest"}
    head = story.commit(a_package("one", folder="one") | unreadable, on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(1)
    story.settle()

    assert story.check(head)[0] == "failure"
    assert statuses(story, head) == {
        "prpm": "failure", "prpm / one / default": "success", "prpm / two / default": "failure",
    }  # fmt: skip

    mended = story.commit({"two/prpm.json": None}, on=head)
    story.propose(mended, base, fork=True)
    story.ended(story.tell_of(mended))
    story.settle()
    assert statuses(story, mended) == {"prpm": "pending"}  # it waits for approval
    story.ended(story.comment("/prpm test"))
    story.jobs_ended(2)
    story.settle()
    assert statuses(story, mended) == {"prpm": "success", "prpm / one / default": "success"}


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("/prpm test no-such-model", ("handled", "0 jobs submitted. one: The tests were not run.")),
        ("/prpm test slow", ("handled", "1 job submitted.")),
    ],
)
def test_required__naming_models_in_a_comment_turns_no_failure_green(
    story: Story, command: str, answer: tuple[str, str]
):
    """A package counts by its run by the repository's rules, whichever models whoever may write would rather have."""
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", folder="one", suite=FAILING), on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(1)
    assert story.check(head)[:2] == ("failure", "1 of 1 package failed")

    assert story.ended(story.comment(command)) == answer
    jobs = story.jobs_ended(2 if "1 job" in answer[1] else 1)

    assert story.check(head)[:2] == ("failure", "1 of 1 package failed")
    assert f"/jobs/{jobs[0]['id']}" in story.check(head)[2]
    # What repeats the run by the rules counts.
    story.ended(story.comment("/prpm test"))
    last = story.jobs_ended(len(jobs) + 1)[-1]
    assert f"/jobs/{last['id']}" in story.check(head)[2]


def test_required__commit_statuses_that_nobody_asked_for_are_not_set(story: Story):
    _, head = two_packages(story)

    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(2)
    story.settle()

    assert story.check(head)[0] == "success"
    assert statuses(story, head) == {}


def test_required__a_re_run_of_it_runs_all_packages_and_of_one_the_one(story: Story):
    _, head = two_packages(story)
    story.ended(story.tell_of(head, action="opened"))
    one = next(job for job in story.jobs_ended(2) if job["package"] == "one")
    story.settle()

    story.ended(story.ask_again(head, check_id=70, key="state"))
    assert len(story.jobs_ended(4)) == 4
    assert story.check(head)[:2] == ("success", "2 packages passed")
    story.ended(story.ask_again(head, check_id=71, key=str(one["id"])))
    assert [job["package"] for job in story.jobs_ended(5)[4:]] == ["one"]
    assert story.check(head)[:2] == ("success", "2 packages passed")


def test_required__tests_that_are_removed_fail_it_though_the_other_package_passes(story: Story):
    base = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), branch="main")
    head = story.commit({"one/prompt.md": b"Greet very politely.", "two/prpm.test.yaml": None}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    story.jobs_ended(1)
    conclusion, title, summary = story.check(head)
    assert (conclusion, title) == ("failure", "1 of 2 packages failed")
    assert "The tests were removed" in summary


def test_required__rules_of_the_head_do_not_turn_it_green(story: Story):
    base = story.commit(a_package("one"), branch="main")
    head = story.commit(
        {"prpm.test.yaml": FAILING.encode(), ".prpm-testing.yml": LENIENT + b"\npackages: [nowhere]"}, on=base
    )
    story.propose(head, base)

    story.ended(story.tell_of(head))

    story.jobs_ended(1)
    assert story.check(head)[0] == "failure"


def test_required__a_detour_to_a_branch_with_other_rules_does_not_turn_it_green(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    loose = story.commit({".prpm-testing.yml": LENIENT}, on=base, branch="loose")
    head = story.commit(a_package("one", suite=FAILING), on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(1)
    assert story.check(head)[0] == "failure"

    story.propose(head, loose)
    story.forge.pulls[12]["base"]["ref"] = "loose"
    story.ended(story.tell_of(head, action="edited", changes={"base": {"ref": {"from": "main"}}}))
    story.jobs_ended(2)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="edited", changes={"base": {"ref": {"from": "loose"}}}))

    jobs = story.jobs_ended(3)
    assert [(job["change"]["base_ref"], job["conclusion"]) for job in jobs] == [
        ("main", "failed"), ("loose", "passed"), ("main", "failed"),
    ]  # fmt: skip
    assert story.check(head)[0] == "failure"


def test_required__a_change_that_was_passed_for_a_branch_without_rules_is_tested_for_the_other(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    loose = story.commit({".prpm-testing.yml": LENIENT}, on=base, branch="loose")
    head = story.commit(a_package("one", suite=FAILING), on=base)
    story.propose(head, loose)
    story.forge.pulls[12]["base"]["ref"] = "loose"
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(1)
    assert story.check(head)[:2] == ("success", "1 package passed")

    story.propose(head, base)
    story.ended(story.tell_of(head, action="edited", changes={"base": {"ref": {"from": "loose"}}}))

    story.jobs_ended(2)
    assert story.check(head)[:2] == ("failure", "1 of 1 package failed")


def test_required__a_stranger_who_proposes_the_same_commit_once_more_changes_nothing(story: Story):
    _, head = two_packages(story, second=FAILING)
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(2)
    copied = json.loads(json.dumps(story.forge.pulls[12]))
    story.propose(head, copied["base"]["sha"], number=13, fork=True)

    story.ended(story.tell_of(head, number=13, action="opened"))

    assert story.check(head)[:2] == ("failure", "1 of 2 packages failed")
    assert set(check_runs(story, head)) == {"failure"}


def test_required__a_run_that_a_workflow_sent_first_by_its_own_rules_is_not_joined(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", suite=FAILING), on=base)
    story.propose(head, base)
    sent_by_a_workflow(story, head, a_package("one"))

    ended = [story.ended(story.tell_of(head, action=action)) for action in ("opened", "reopened")]

    jobs = story.jobs_ended(2)
    assert [job["conclusion"] for job in jobs] == ["passed", "failed"]
    assert ended == [("handled", "1 job submitted."), ("handled", "1 known already.")]
    assert story.check(head)[:2] == ("failure", "1 of 1 package failed")
