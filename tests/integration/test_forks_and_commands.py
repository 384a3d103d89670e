"""Strangers' changes, and commands in comments: who may have what run, and that an approval is for one commit."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tests.forge_stories import ANN, BOB, EVE, LONG_SUITE, SUITE, Story, a_package
from tests.standins.repository import Content

WAITS = ("action_required", "Waits for approval")


def opened_by_a_stranger(story: Story, *, rules: bytes = b"", files: dict[str, Content] | None = None) -> str:
    """A fork's pull request; its head."""
    base = story.commit(a_package("one") | ({".prpm-testing.yml": rules} if rules else {}), branch="main")
    head = story.commit(files or {"prompt.md": b"Mine."}, on=base)
    story.propose(head, base, fork=True)
    story.ended(story.tell_of(head, action="opened"))
    return head


def pushed_by_a_stranger(story: Story, head: str, text: bytes = b"Worse.") -> str:
    new = story.commit({"prompt.md": text}, on=head)
    story.propose(new, story.forge.pulls[12]["base"]["sha"], fork=True)
    return new


def test_fork__W20_nothing_is_run_before_somebody_approves(story: Story):
    head = opened_by_a_stranger(story)

    assert (story.jobs(), story.charges()) == ([], 0)
    conclusion, title, summary = story.check(head)
    assert (conclusion, title) == WAITS
    assert "comment" in summary
    assert "prpm-test" in summary


def test_fork__a_comment_of_somebody_who_may_write_approves_the_head(story: Story):
    head = opened_by_a_stranger(story)

    ended = story.ended(story.comment("/prpm test"))

    assert ended == ("handled", "1 job submitted.")
    (job,) = story.jobs_ended(1)
    assert (job["change"]["head_sha"], job["change"]["cause"], job["framework"]) == (head, "head", "litellm")
    assert float(job["max_cost_usd"]) == 0.10
    assert story.check(head)[:2] == ("success", "1 package passed")
    assert story.check(head, "prpm / one / default")[0] == "success"


def test_fork__the_label_approves_the_head_that_it_was_set_on(story: Story):
    head = opened_by_a_stranger(story, rules=b"forks: {label: safe to test}")

    assert story.ended(story.label(head, "prpm-test")) == ("ignored", "This label starts nothing.")
    assert story.ended(story.label(head, "Safe to test")) == ("handled", "1 job submitted.")


@pytest.mark.parametrize("who", [BOB, EVE, ("ann", 66), ("acme-ci[bot]", 9)])
def test_fork__W20_nobody_else_approves(story: Story, who: tuple[str, int]):
    head = opened_by_a_stranger(story)

    by_comment = story.ended(story.comment("/prpm test", by=who))
    by_label = story.ended(story.label(head, by=who))

    assert (by_comment[0], by_label[0]) == ("ignored", "ignored")
    assert story.jobs() == []
    assert story.check(head)[:2] == WAITS


def test_fork__an_approval_that_came_twice_is_one_run(story: Story):
    opened_by_a_stranger(story)

    first = story.comment("/prpm test", comment_id=700)
    story.ended(first)
    body = story.service.fetch("SELECT body FROM deliveries WHERE delivery_id = $1", first)[0]["body"]
    again = story.send("issue_comment", json.loads(body))

    assert story.ended(again) == ("handled", "1 known already.")
    assert story.charges() == 1


def test_fork__a_push_clears_the_approval(story: Story):
    head = opened_by_a_stranger(story)
    story.ended(story.comment("/prpm test"))

    new = pushed_by_a_stranger(story, head)
    story.ended(story.tell_of(new))

    assert [job["change"]["head_sha"] for job in story.jobs()] == [head]
    assert story.check(new)[:2] == WAITS
    # Nor does the way back to what was approved bring the approval back.
    story.propose(head, story.forge.pulls[12]["base"]["sha"], fork=True)
    story.ended(story.tell_of(head))
    assert story.check(head)[:2] == WAITS


def test_fork__a_push_that_comes_between_the_comment_and_its_handling_is_not_approved(story: Story):
    head = opened_by_a_stranger(story)
    said_at = story.now()
    new = pushed_by_a_stranger(story, head)
    story.ended(story.tell_of(new))

    # The comment was made before the push, and is delivered after it.
    story.now = lambda: said_at  # type: ignore[method-assign] -- the forge's clock as it stood
    ended = story.ended(story.comment("/prpm test"))

    assert ended[1].startswith("A newer commit came after the comment, so it was not approved")
    assert story.jobs() == []
    assert story.check(new)[:2] == WAITS


def test_fork__a_push_whose_delivery_is_still_on_its_way_is_not_approved(story: Story):
    head = opened_by_a_stranger(story)
    new = pushed_by_a_stranger(story, head)

    ended = story.ended(story.comment("/prpm test"))

    assert ended[1].startswith("A newer commit came after the comment")
    assert story.jobs() == []
    # Who looks again, and says so again, means what is there now.
    assert story.ended(story.comment("/prpm test")) == ("handled", "1 job submitted.")
    assert story.jobs()[0]["change"]["head_sha"] == new


def test_fork__an_older_head_that_came_back_unseen_is_not_approved(story: Story):
    worse = opened_by_a_stranger(story, files={"prompt.md": b"Worse."})
    head = pushed_by_a_stranger(story, worse, b"Mine.")
    story.ended(story.tell_of(head))
    comment = story.now()
    # It is back before the comment is handled, and the delivery of that is still on its way.
    story.propose(worse, story.forge.pulls[12]["base"]["sha"], fork=True)

    story.now = lambda: comment  # type: ignore[method-assign] -- the forge's clock as it stood
    ended = story.ended(story.comment("/prpm test"))

    assert ended[1].startswith("A newer commit came after the comment, so it was not approved")
    assert story.jobs() == []


def test_fork__a_push_between_the_approval_and_the_submit_stops_it(story: Story):
    head = opened_by_a_stranger(story)

    def push(seen):
        if "/git/blobs/" in seen.path:
            story.forge.before_answer = None
            with story.forge.lock:
                new = story.forge.repository.commit({"prompt.md": b"Worse."}, parent=head)
                story.forge.pulls[12]["head"]["sha"] = new

    story.forge.before_answer = push
    ended = story.ended(story.comment("/prpm test"))

    assert ended == ("ignored", "A newer commit is there, which is tested by itself.")
    assert story.jobs() == []


def test_fork__a_label_of_an_older_head_approves_nothing(story: Story):
    head = opened_by_a_stranger(story)
    new = pushed_by_a_stranger(story, head)
    story.ended(story.tell_of(new))

    late = story.ended(story.label(head))

    assert late == ("ignored", "The label was set on another commit than the present one.")
    assert story.jobs() == []


def test_fork__may_not_choose_its_own_rules_or_reach_for_an_agent(story: Story):
    own = b"forks: {max-cost-usd: 1000}\nmodels: [priced]\n"
    opened_by_a_stranger(
        story, rules=b"forks: {max-cost-usd: 0.02}", files={"prompt.md": b"Mine.", ".prpm-testing.yml": own}
    )

    story.ended(story.comment("/prpm test"))

    (job,) = story.jobs()
    assert (float(job["max_cost_usd"]), job["models_requested"], job["framework"]) == (0.02, ["echo"], "litellm")


GRADED = SUITE + "- description: kind\n  input: hi\n  assert: [{type: llm-rubric, value: is kind}]\n"


def test_fork__deterministic_runs_leave_out_what_a_model_judges_and_nothing_else(story: Story):
    base = story.commit(
        a_package("one", suite=GRADED) | {".prpm-testing.yml": b"forks: {run: deterministic}"}, branch="main"
    )
    head = story.commit({"prompt.md": b"Mine."}, on=base)
    story.propose(head, base, fork=True)
    story.ended(story.tell_of(head))

    story.ended(story.comment("/prpm test"))

    (job,) = story.jobs_ended(1)
    outcome = story.outcome(job)
    assert len(outcome["test_cases"]) == 1
    assert [row for row in outcome["test_cases"] if "greets" in row.values()]
    assert outcome["comparison"].get("cases", []) == []
    assert job["conclusion"] == "passed"


def test_fork__that_was_deleted_is_still_a_strangers(story: Story):
    base = story.commit(a_package("one"), branch="main")
    head = story.commit({"prompt.md": b"x"}, on=base)
    story.propose(head, base)
    story.forge.pulls[12]["head"]["repo"] = None

    story.ended(story.tell_of(head))

    assert story.check(head)[:2] == WAITS
    assert story.jobs() == []


def test_fork__a_check_that_is_asked_for_again_needs_the_approval_too(story: Story):
    head = opened_by_a_stranger(story)

    story.ended(story.ask_again(head))

    assert story.jobs() == []


@pytest.mark.parametrize("who", [BOB, EVE, ("ann", 66), ("acme-ci[bot]", 9)])
def test_check__is_run_again_for_nobody_who_may_not_write(story: Story, who: tuple[str, int]):
    head = opened_by_a_stranger(story)
    story.ended(story.comment("/prpm test"))
    story.jobs_ended(1)

    assert story.ended(story.ask_again(head, by=who))[0] == "ignored"
    assert len(story.jobs()) == 1
    assert story.ended(story.ask_again(head)) == ("handled", "1 job submitted.")


def opened(story: Story) -> str:
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(1)
    return head


def test_comment__test_runs_again_on_the_models_that_it_names(story: Story):
    head = opened(story)

    story.ended(story.comment("Once more:\n/prpm test slow\nthank you", comment_id=41))

    again = story.jobs()[1]
    assert (again["models_requested"], again["change"]["head_sha"], again["change"]["cause"]) == (
        ["slow"], head, "comment:41",
    )  # fmt: skip
    assert story.charges() == 2


def test_comment__an_unknown_model_is_said(story: Story):
    head = opened(story)

    story.ended(story.comment("/prpm test gpt-9"))

    assert len(story.jobs()) == 1
    assert "there is no model 'gpt-9'" in story.check(head, "prpm / one / default")[2]


@pytest.mark.parametrize("who", [BOB, EVE, ("prpm-testing[bot]", 5)])
@pytest.mark.parametrize("command", ["/prpm test", "/prpm cancel", "/prpm help"])
def test_comment__of_those_who_may_not_write_gets_silence(story: Story, who: tuple[str, int], command: str):
    opened(story)
    story.settle()
    told = len([seen for seen in story.forge.log if seen.method in ("POST", "PATCH") and "/check-runs" in seen.path])

    state, _ = story.ended(story.comment(command, by=who))

    story.settle()
    assert (state, len(story.jobs())) == ("ignored", 1)
    assert told == len(
        [seen for seen in story.forge.log if seen.method in ("POST", "PATCH") and "/check-runs" in seen.path]
    )


def test_comment__that_holds_no_command_asks_the_forge_nothing(story: Story):
    opened(story)
    story.settle()
    before = len(story.forge.log)

    state, _ = story.ended(story.comment("> /prpm test\n\nWhat does this do?"))

    assert (state, len(story.forge.log)) == ("ignored", before)


def test_comment__cancel_ends_what_runs(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", suite=LONG_SUITE), on=base)
    story.propose(head, base)
    story.forge.repository.branches["main"] = story.commit({".prpm-testing.yml": b"models: [slow]"}, on=base)
    story.ended(story.tell_of(head))

    ended = story.ended(story.comment("/prpm cancel", by=ANN))

    assert ended == ("handled", "1 job cancelled.")
    (job,) = story.jobs_ended(1)
    assert (job["status"], job["error_code"]) == ("failed", "cancelled")


def test_comment__cancel_that_is_delivered_late_ends_nothing_that_came_since(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", suite=LONG_SUITE), on=base)
    story.propose(head, base)
    story.forge.repository.branches["main"] = story.commit({".prpm-testing.yml": b"models: [slow]"}, on=base)
    story.ended(story.tell_of(head))
    story.began_at -= timedelta(hours=1)

    ended = story.ended(story.comment("/prpm cancel"))

    assert ended == ("handled", "0 jobs cancelled.")
    assert story.jobs()[0]["status"] in ("queued", "running")
    story.began_at += timedelta(hours=1)
    story.ended(story.comment("/prpm cancel"))


def test_comment__help_lists_the_commands_beside_the_other_checks(story: Story):
    head = opened(story)

    story.ended(story.comment("/prpm help"))

    conclusion, title, summary = story.check(head, "prpm / commands / help")
    assert (conclusion, title) == ("neutral", "What can be said in comments")
    assert "/prpm cancel" in summary
    assert story.check(head, "prpm / one / default")[0] == "success"


def test_check__asked_for_again_is_another_run_each_time(story: Story):
    head = opened(story)

    first = story.ended(story.ask_again(head, check_id=5))
    twice = story.ended(story.ask_again(head, check_id=5))
    other = story.ended(story.ask_again(head, check_id=6))

    assert (first, twice, other) == (
        ("handled", "1 job submitted."), ("handled", "1 known already."), ("handled", "1 job submitted."),
    )  # fmt: skip
    assert [job["change"]["cause"] for job in story.jobs()] == ["head", "check_run:5", "check_run:6"]


def test_check__of_one_package_runs_that_one(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head))
    job = next(job for job in story.jobs() if job["package"] == "two")

    story.ended(story.ask_again(head, key=str(job["id"])))

    assert [job["package"] for job in story.jobs()[2:]] == ["two"]


def test_check__of_a_commit_that_nobody_told_of_starts_nothing(story: Story):
    base = story.commit(a_package("one"), branch="main")

    assert story.ended(story.ask_again(base)) == ("ignored", "Nothing is known of this commit.")
