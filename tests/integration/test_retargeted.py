"""A pull or merge request that is for another branch now: the same head is judged by what that branch has and says."""

from __future__ import annotations

import json
import time

from tests.forge_stories import LONG_SUITE, SUITE, Story, a_package

STRICT = b"gate: {fail-on: failures}"


def proposed(story: Story, *, fork: bool = False) -> str:
    """A change for `main`, which has one suite more in `release`; its head, of which one run has ended."""
    base = story.commit(a_package("one"), branch="main")
    more = SUITE + "- description: stays\n  input: hello\n  assert: [{type: contains, value: hello}]\n"
    story.commit({"prpm.test.yaml": more.encode()}, on=base, branch="release")
    head = story.commit({"prompt.md": b"Other."}, on=base)
    story.propose(head, base, fork=fork)
    story.ended(story.tell_of(head))
    story.jobs_ended(0 if fork else 1)  # one that waits yet would be given back
    return head


def test_retargeted__the_same_head_is_tested_against_the_new_base(story: Story):
    head = proposed(story)

    delivery = story.retarget("release")

    assert story.ended(delivery) == ("handled", "1 job submitted.")
    first, second = story.jobs_ended(2)
    assert [job["change"]["base_ref"] for job in (first, second)] == ["main", "release"]
    assert (second["change"]["head_sha"], second["conclusion"]) == (head, "passed")
    assert second["change"]["cause"].startswith("base:")
    assert story.charges() == 2


def test_retargeted__W6_W7_a_delivery_that_comes_again_starts_nothing_and_the_way_back_does(story: Story):
    proposed(story)
    first = story.retarget("release")
    story.ended(first)
    (row,) = story.service.fetch("SELECT body FROM deliveries WHERE delivery_id = $1", first)

    assert story.ended(story.retarget("main")) == ("handled", "1 job submitted.")
    # What is delivered once more is not what it is for by now.
    assert story.ended(story.send("pull_request", json.loads(row["body"])))[0] == "ignored"
    assert [job["change"]["base_ref"] for job in story.jobs()] == ["main", "release", "main"]


def test_retargeted__a_title_alone_starts_nothing(story: Story):
    head = proposed(story)

    title = story.tell_of(head, action="edited", changes={"title": {"from": "Before"}})

    assert story.ended(title) == ("ignored", "This action of the event starts nothing.")
    assert len(story.jobs()) == 1


def test_attack__a_strangers_other_base_needs_another_approval(story: Story):
    proposed(story, fork=True)
    story.ended(story.comment("/prpm test"))
    assert len(story.jobs()) == 1

    for branch in ("release", "main", "release"):
        story.ended(story.retarget(branch))

    head = story.forge.pulls[12]["head"]["sha"]
    assert len(story.jobs()) == 1
    assert story.check(head)[:2] == ("action_required", "Waits for approval")
    story.ended(story.comment("/prpm test"))
    assert [job["change"]["base_ref"] for job in story.jobs()] == ["main", "release"]


def test_attack__rules_of_the_branch_that_a_change_is_for_count_whenever_it_was_chosen(story: Story):
    base = story.commit(a_package("one") | {".prpm-testing.yml": STRICT}, branch="main")
    story.commit({".prpm-testing.yml": b"gate: {fail-on: never}"}, on=base, branch="loose")
    head = story.commit({"prompt.md": b"Other."}, on=base)
    story.propose(head, base)
    story.forge.pulls[12]["base"]["ref"] = "loose"
    story.ended(story.tell_of(head, action="opened"))

    story.ended(story.retarget("main"))

    first, second = story.jobs_ended(2)
    assert [json.loads(job["against"])["gate"] for job in (first, second)] == ["never", "failures"]


def test_retargeted__while_it_was_closed_is_found_when_it_is_reopened(story: Story):
    head = proposed(story)
    story.forge.pulls[12]["state"] = "closed"
    story.ended(story.retarget("release"))
    assert len(story.jobs()) == 1
    story.forge.pulls[12]["state"] = "open"

    assert story.ended(story.tell_of(head, action="reopened")) == ("handled", "1 job submitted.")
    assert story.ended(story.tell_of(head, action="reopened")) == ("handled", "1 known already.")

    assert [job["change"]["base_ref"] for job in story.jobs()] == ["main", "release"]


def proposed_slowly(story: Story, *, waits: bool = False) -> str:
    """A change for `main` whose test goes on, or waits for a slot; nothing of it goes on in `release`. Its head."""
    base = story.commit({"readme.md": b"x", ".prpm-testing.yml": b"models: [slow]"}, branch="main")
    story.commit({".prpm-testing.yml": b"models: [echo]"}, on=base, branch="release")
    for number in (40, 41, 42) if waits else ():
        other = story.commit(a_package(f"p{number}", suite=LONG_SUITE), on=base)
        story.propose(other, base, number=number)
        story.ended(story.tell_of(other, number=number, action="opened"))
    head = story.commit(a_package("one", suite=LONG_SUITE), on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    return head


def of(story: Story, package: str) -> list[dict[str, object]]:
    return [job for job in story.jobs() if job["package"] == package]


def ended_of(story: Story, package: str, count: int) -> list[dict[str, object]]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        jobs = of(story, package)
        if sum(job["status"] in ("completed", "failed") for job in jobs) >= count:
            return jobs
        time.sleep(0.05)
    raise AssertionError(of(story, package))


def test_retargeted__Q15_the_run_for_the_branch_before_ends_and_the_new_one_alone_counts(story: Story):
    head = proposed_slowly(story)
    while of(story, "one")[0]["status"] != "running":
        time.sleep(0.05)

    assert story.ended(story.retarget("release")) == ("handled", "1 job submitted.")

    first, second = story.jobs_ended(2)
    assert (first["status"], first["error_code"], first["superseded_by"]) == ("failed", "superseded", None)
    assert first["error_message"].startswith("The change is for another branch now.")
    assert (second["conclusion"], second["change"]["base_ref"]) == ("passed", "release")
    assert story.check(head)[:2] == ("success", "1 package passed")
    assert story.check(head, "prpm / one / default")[0] == "success"
    with story.forge.lock:
        runs = [run for run in story.forge.reported.check_runs.values() if run["head_sha"] == head]
    assert {run["status"] for run in runs} == {"completed"}


def test_retargeted__Q15_a_run_that_waited_is_given_back(story: Story):
    proposed_slowly(story, waits=True)
    assert of(story, "one")[0]["status"] == "queued"

    story.ended(story.retarget("release"))

    (first, *_) = ended_of(story, "one", 1)
    assert (first["status"], first["error_code"]) == ("failed", "superseded")
    assert first["error_message"] == "The change is for another branch now. The run was given back."
    entries = story.service.fetch("SELECT kind FROM usage_ledger WHERE job_id = $1 ORDER BY id", first["id"])
    assert [row["kind"] for row in entries] == ["charge", "refund"]
    for number in (40, 41, 42):
        story.ended(story.comment("/prpm cancel", number=number))
    story.jobs_ended(5)


def test_retargeted__Q15_there_and_back_is_tested_for_the_branch_that_it_is_for(story: Story):
    head = proposed_slowly(story)
    story.ended(story.retarget("release"))

    story.ended(story.retarget("main"))

    jobs = story.jobs_ended(3)
    assert [job["change"]["base_ref"] for job in jobs] == ["main", "release", "main"]
    assert (jobs[0]["error_code"], jobs[2]["conclusion"]) == ("superseded", "passed")
    assert story.check(head)[:2] == ("success", "1 package passed")


def test_retargeted__what_failed_for_the_branch_before_goes_on_to_count(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    story.commit({".prpm-testing.yml": b"gate: {fail-on: never}"}, on=base, branch="release")
    head = story.commit(a_package("one", suite=SUITE.replace("value: hello", "value: nowhere")), on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(1)

    story.ended(story.retarget("release"))

    story.jobs_ended(2)
    assert story.check(head)[:2] == ("failure", "1 of 1 package failed")
