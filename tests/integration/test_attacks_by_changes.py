"""What somebody who proposes a change, or delivers for another, tries; and that nothing of it is found in a log."""

from __future__ import annotations

from typing import Any

import pytest

from evals.archives import pack
from tests.forge_stories import LONG_SUITE, SECRET, SUITE, Story, a_package, a_story
from tests.service import Service, finished_job
from tests.standins.github_app import PRIVATE_KEY
from tests.standins.github_forge import GitHubForge
from tests.standins.repository import Content, Link

TWO_CASES = SUITE + "- description: stays polite\n  input: polite\n  assert: [{type: contains, value: polite}]\n"
BOMB = b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nmodels: *c\n"


def test_quota__that_ends_in_the_middle_of_a_change_is_said_of_each_package_that_is_left(
    forge_site: tuple[Service, GitHubForge],
):
    story = a_story(*forge_site)
    base = story.commit({"readme.md": b"x"}, branch="main")
    packages: dict[str, Content] = {}
    for name in "abcde":
        packages |= a_package(name, folder=name)
    head = story.commit(packages, on=base)
    story.propose(head, base)
    story.service.fetch(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count) "
        "VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 97)",
        story.account.id,
    )

    state, reason = story.ended(story.tell_of(head, action="opened"))

    assert state == "handled"
    assert reason == "3 jobs submitted. d: The tests were not run. e: The tests were not run."
    assert [job["package"] for job in story.jobs_ended(3)] == ["a", "b", "c"]
    assert story.charges() == 100
    checks = {name: story.check(head, f"prpm / {name} / default")[0] for name in "abcde"}
    assert checks == {"a": "success", "b": "success", "c": "success", "d": "neutral", "e": "neutral"}


@pytest.mark.parametrize(
    ("case", "content"),
    [
        ("a link", Link("../../etc/passwd")),
        ("huge", b"# " + b"x" * 70_000),
        ("no UTF-8", b"models: [\xff\xfe]"),
        ("aliases", BOMB),
        ("nested", b"models: " + b"[" * 3000),
    ],
)
def test_rules__that_are_hostile_let_nothing_through_at_the_base_and_change_nothing_at_the_head(
    story: Story, case: str, content: Content
):
    base = story.commit(a_package("one"), branch="main")
    by_change = story.commit({"prompt.md": b"x", ".prpm-testing.yml": content}, on=base)
    story.propose(by_change, base)
    story.ended(story.tell_of(by_change, action="opened"))
    (job,) = story.jobs_ended(1)
    assert job["conclusion"] == "passed"
    assert story.check(by_change)[:2] == ("failure", "This change breaks the repository's rules")

    merged = story.commit({".prpm-testing.yml": content}, on=base, branch="main")
    other = story.commit({"prompt.md": b"y"}, on=merged)
    story.propose(other, merged, number=13)
    story.ended(story.tell_of(other, number=13, action="opened"))

    assert story.check(other)[:2] == ("failure", "The rules of this repository cannot be read")
    assert len(story.jobs()) == 1


@pytest.mark.parametrize("place", ["tests/prpm.yaml", "prpm.test.yml"])
def test_suite__that_moves_into_another_file_still_drops_what_it_drops(story: Story, place: str):
    base = story.commit(a_package("one", suite=TWO_CASES), branch="main")
    head = story.commit({"prpm.test.yaml": None, place: SUITE.encode()}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head, action="opened"))

    (job,) = story.jobs_ended(1)
    assert job["conclusion"] == "failed"
    cases = story.outcome(job)["comparison"]["cases"]
    assert [(case["title"], case["change"]) for case in cases] == [("stays polite", "removed")]


@pytest.mark.parametrize("cause", ["head", "check_run:5"])
def test_gate__a_job_that_a_workflow_submitted_first_is_not_taken_for_the_services_own(story: Story, cause: str):
    """The workflow of a change is the change's: it may say that it tested this commit, with a suite that says yes."""
    base = story.commit(a_package("one", suite=TWO_CASES), branch="main")
    head = story.commit({"prpm.test.yaml": SUITE.encode()}, on=base)
    story.propose(head, base)
    if cause != "head":
        story.ended(story.tell_of(head, action="opened"))
        story.jobs_ended(1)
    theirs = submitted_by_a_workflow(story, head, cause=cause)

    ended = story.ended(story.tell_of(head, action="opened") if cause == "head" else story.ask_again(head, check_id=5))

    assert ended == ("handled", "1 job submitted.")
    jobs = story.jobs_ended(2 if cause == "head" else 3)
    ours = jobs[-1]
    assert (str(ours["id"]) != theirs, ours["change"]["cause"]) == (True, f"own:{cause}")
    assert ours["conclusion"] == "failed"
    assert story.check(head, "prpm / one / default")[0] == "failure"
    # Delivered again it is the same run, whoever was first.
    if cause == "head":
        assert story.ended(story.tell_of(head, action="reopened")) == ("handled", "1 known already.")


def test_gate__what_a_workflow_submits_later_takes_no_checks_place(story: Story):
    base = story.commit(a_package("one", suite=TWO_CASES), branch="main")
    head = story.commit({"prpm.test.yaml": SUITE.encode()}, on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(1)
    assert story.check(head, "prpm / one / default")[0] == "failure"
    comments, runs = story.forge.reported.ours(pull=12), len(story.forge.reported.check_runs)

    submitted_by_a_workflow(story, head, cause="another-attempt")

    assert story.check(head, "prpm / one / default")[0] == "failure"
    assert story.check(head)[0] == "failure"
    assert story.forge.reported.ours(pull=12) == comments
    assert len(story.forge.reported.check_runs) == runs


def test_gate__tests_that_were_removed_stay_removed_whatever_a_workflow_submits(story: Story):
    base = story.commit(a_package("one"), branch="main")
    head = story.commit({"prpm.test.yaml": None}, on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    assert story.check(head, "prpm / one / default")[:2] == ("failure", "The tests were removed")

    submitted_by_a_workflow(story, head, cause="head")

    assert story.check(head, "prpm / one / default")[:2] == ("failure", "The tests were removed")
    assert story.check(head)[0] == "failure"


def test_supersede__Q15_a_token_that_names_a_newer_commit_ends_no_run_of_the_services_own(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", suite=LONG_SUITE), on=base)
    story.propose(head, base)
    story.forge.repository.branches["main"] = story.commit({".prpm-testing.yml": b"models: [slow]"}, on=base)
    story.ended(story.tell_of(head, action="opened"))

    submitted_by_a_workflow(story, "f" * 40, cause="head")

    ours, _ = story.jobs()
    assert (ours["superseded_by"], ours["error_code"], ours["status"]) == (None, None, "running")
    # A newer commit of the change does, and of what a token submitted as well.
    newer = story.commit({"prompt.md": b"Other."}, on=head)
    story.propose(newer, base)
    story.ended(story.tell_of(newer))
    assert story.jobs()[0]["superseded_by"] == story.jobs()[2]["id"]
    story.ended(story.comment("/prpm cancel"))


def test_submit__the_words_for_the_services_own_runs_are_not_a_tokens(story: Story):
    base = story.commit(a_package("one"), branch="main")
    answer = story.account.client.post("/api/v1/test-jobs/run", json=a_run(story, base, cause="own:head"))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_change")
    assert story.jobs() == []


def submitted_by_a_workflow(story: Story, head: str, *, cause: str) -> str:
    answer = story.account.client.post("/api/v1/test-jobs/run", json=a_run(story, head, cause=cause))
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["job_id"]
    finished_job(story.account, job_id)
    return job_id


def a_run(story: Story, head: str, *, cause: str) -> dict[str, Any]:
    """Package `one`, with one case that passes, in the name of a commit."""
    files = {path: content for path, content in a_package("one").items() if isinstance(content, bytes)}
    headers = {"Content-Type": "application/gzip"}
    kept = story.account.client.post("/api/v1/package-snapshots", content=pack(files), headers=headers).json()
    change = {
        "forge": "github", "repository": story.forge.name, "repository_id": story.forge.id, "ref": "feature",
        "head_sha": head, "pull_request": 12, "base_ref": "main", "cause": cause,
    }  # fmt: skip
    return {"snapshot_id": kept["snapshot_id"], "change": change, "gate": "never"}


def test_logs__L2_L8_after_a_whole_story_hold_no_token_key_or_text(story: Story):
    canary = "canary-of-a-prompt"
    base = story.commit(a_package("one", text=canary), branch="main")
    head = story.commit({"prompt.md": f"{canary} again".encode()}, on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    story.ended(story.comment(f"/prpm test echo\n{canary}"))
    story.ended(story.ask_again(head))
    story.jobs_ended(3)
    story.settle()

    logged = "".join(path.read_text() for path in story.service.folder.glob("*.log"))
    rows = str(story.service.fetch("SELECT * FROM outbox")) + str(story.service.fetch("SELECT reason FROM deliveries"))
    tokens = list(story.forge.tokens)
    assert tokens
    for secret in (*tokens, SECRET, story.account.token, PRIVATE_KEY.splitlines()[1], "Bearer ", canary):
        assert secret not in logged
        assert secret not in rows
