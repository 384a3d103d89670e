"""From GitLab's delivery to the last note and status on the merge request, on a whole service and a strict stand-in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.forge_stories import LONG_SUITE, SUITE, a_package
from tests.gitlab_stories import GitLabStory, HookStory, a_gitlab_story, a_hook_story, gitlab_service
from tests.service import Service
from tests.standins.gitlab_forge import GitLabForge

FAILING = SUITE.replace("value: hello", "value: nowhere")
CHECK = "prpm / one / default"
NO_DRAFT = {"draft": {"previous": True, "current": False}}
DRAFT = {"draft": {"previous": False, "current": True}}

Site = tuple[Service, GitLabForge]


@pytest.fixture(scope="module")
def gitlab_site(admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from gitlab_service(admin_dsn, redis_url, tmp_path_factory.mktemp("gitlab"))


@pytest.fixture
def story(gitlab_site: Site) -> Iterator[GitLabStory]:
    yield from told(a_gitlab_story(*gitlab_site))


@pytest.fixture
def by_hook(gitlab_site: Site) -> Iterator[HookStory]:
    yield from told(a_hook_story(*gitlab_site))


@pytest.fixture
def by_group(gitlab_site: Site) -> Iterator[HookStory]:
    yield from told(a_hook_story(*gitlab_site, is_of_group=True))


def told(story: Any) -> Iterator[Any]:
    """At its end everything was told, and nothing was sent that GitLab would refuse."""
    yield story
    story.settle()
    assert story.forge.violations == []


def proposed(story: GitLabStory, suite: str = SUITE, **more: Any) -> str:
    """The head of a merge request that adds the one package."""
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", suite=suite), on=base)
    story.propose(head, base, **more)
    return head


def pushed(story: GitLabStory, head: str, *, suite: str = SUITE, text: bytes = b"Better.", **more: Any) -> str:
    """Another head on top, or instead, of this one."""
    new = story.commit({"prpm.test.yaml": suite.encode(), "prompt.md": text}, on=head)
    story.propose(new, story.forge.repository.branches["main"], **more)
    return new


def within(look: Callable[[], Any], *, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing of it was seen")


def states(story: GitLabStory, head: str, name: str = CHECK) -> list[str]:
    """All states that the status went through."""
    with story.forge.lock:
        return [one["state"] for one in story.forge.reported.statuses if (one["sha"], one["name"]) == (head, name)]


def is_running(story: GitLabStory, head: str) -> Callable[[], bool]:
    return lambda: states(story, head)[-1:] == ["running"]


# From draft to ready, closed and open again.


def test_draft__is_tested_when_it_is_ready(story: GitLabStory):
    head = proposed(story, draft=True)

    assert story.ended(story.tell_of(head, action="open")) == ("handled", "A draft is tested when it is ready.")
    assert (story.check(head)[:2], story.jobs(), story.notes()) == (("skipped", "A draft"), [], [])
    story.propose(head, story.forge.repository.branches["main"], draft=False)
    assert story.ended(story.tell_of(head, changes=NO_DRAFT)) == ("handled", "1 job submitted.")

    (job,) = story.jobs_ended(1)
    assert (job["conclusion"], story.check(head, CHECK)[0]) == ("passed", "success")
    assert story.check(head)[:2] == ("success", "1 package passed")


def test_draft__that_it_becomes_again_starts_and_ends_nothing(story: GitLabStory):
    head = proposed(story)
    story.ended(story.tell_of(head, action="open"))
    story.propose(head, story.forge.repository.branches["main"], draft=True)

    assert story.ended(story.tell_of(head, changes=DRAFT))[0] == "ignored"

    (job,) = story.jobs_ended(1)
    assert (job["conclusion"], story.check(head, CHECK)[0]) == ("passed", "success")


def test_draft__that_somebody_who_may_write_wants_tested_is(story: GitLabStory):
    head = proposed(story, draft=True)
    story.ended(story.tell_of(head, action="open"))

    assert story.ended(story.comment("/prpm test")) == ("handled", "1 job submitted.")

    story.jobs_ended(1)
    assert story.check(head, CHECK)[0] == "success"


def test_ready__with_a_label_at_once_is_tested(story: GitLabStory):
    """GitLab tells both in one delivery."""
    head = proposed(story)
    changes = NO_DRAFT | {"labels": {"previous": [], "current": [{"title": "bug"}]}}

    assert story.ended(story.tell_of(head, changes=changes)) == ("handled", "1 job submitted.")


@pytest.mark.parametrize("action", ["open", "update"])
def test_labels__that_are_listed_beside_a_push_or_the_opening_hide_neither(story: GitLabStory, action: str):
    head = proposed(story)
    changes = {"labels": {"previous": [], "current": [{"title": "bug"}]}}

    delivery = story.tell_of(head, action=action, changes=changes, **({"is_push": True} if action == "update" else {}))

    assert story.ended(delivery) == ("handled", "1 job submitted.")


def test_package__tests_that_go_with_it_are_named_in_a_note(story: GitLabStory):
    """A status has no room for them."""
    files = a_package("gone", folder="gone")
    base = story.commit(files, branch="main")
    head = story.commit(dict.fromkeys(files), on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head, action="open"))
    story.settle()

    (note,) = story.notes()
    assert "The change removes this package, and 1 test with it." in note
    assert "- greets" in note


def test_reopened__what_was_tested_is_paid_for_once_and_what_came_since_is_tested(story: GitLabStory):
    head = proposed(story, FAILING)
    story.ended(story.tell_of(head, action="open"))
    story.jobs_ended(1)
    story.forge.requests[12]["state"] = "closed"
    assert story.ended(story.tell_of(head, action="close"))[0] == "ignored"
    assert story.ended(story.comment("/prpm test"))[0] == "ignored"

    story.forge.requests[12]["state"] = "opened"
    assert story.ended(story.tell_of(head, action="reopen")) == ("handled", "1 known already.")
    new = pushed(story, head)
    assert story.ended(story.tell_of(new, action="reopen")) == ("handled", "1 job submitted.")

    story.jobs_ended(2)
    assert (story.check(new, CHECK)[0], len(story.notes())) == ("success", 1)


def test_opened__a_moment_before_gitlab_knows_its_base_it_is_tested_all_the_same(story: GitLabStory):
    head = proposed(story, diff_refs=None)

    delivery = story.tell_of(head, action="open")

    assert story.ended(delivery) == ("handled", "1 job submitted.")
    (row,) = story.service.fetch("SELECT attempts FROM deliveries WHERE delivery_id = $1", delivery)
    assert row["attempts"] == 1
    (job,) = story.jobs_ended(1)
    assert job["change"]["base_sha"] == story.forge.repository.branches["main"]


# Pushes.


def test_note__is_edited_and_never_doubled(story: GitLabStory):
    head = proposed(story, FAILING)
    story.ended(story.tell_of(head, action="open"))
    story.jobs_ended(1)
    (first,) = story.notes()
    number = next(iter(story.forge.reported.notes))

    for count, text in enumerate((b"Second.", b"Third."), start=2):
        head = pushed(story, head, suite=FAILING, text=text)
        story.ended(story.tell_of(head))
        story.jobs_ended(count)
        (note,) = story.notes()
    repaired = pushed(story, head)
    story.ended(story.tell_of(repaired))
    story.jobs_ended(4)

    (last,) = story.notes()
    assert "### ❌ Prompt tests: 1 failure" in first
    assert (f"commit `{head[:7]}`" in note, f"commit `{repaired[:7]}`" in last) == (True, True)
    assert "### ✅" in last
    assert list(story.forge.reported.notes) == [number]


def test_forced_push__ends_the_older_heads_run_and_the_new_one_is_told_of(story: GitLabStory):
    story.commit({".prpm-testing.yml": b"models: [slow]"}, branch="main")
    main = story.forge.repository.branches["main"]
    old = story.commit(a_package("one", suite=LONG_SUITE), on=main)
    story.propose(old, main)
    story.ended(story.tell_of(old, action="open"))
    within(is_running(story, old))

    new = story.commit(a_package("one", suite=SUITE), on=main)  # knows nothing of the old one
    story.propose(new, main)
    assert story.ended(story.tell_of(new)) == ("handled", "1 job submitted.")

    first, second = story.jobs_ended(2)
    assert (first["status"], first["error_code"], second["conclusion"]) == ("failed", "superseded", "passed")
    # It ran, and what runs can only be canceled at GitLab: the merge request waits for nothing.
    assert (story.check(new, CHECK)[0], states(story, old)[-1]) == ("success", "canceled")
    assert states(story, old, "prpm")[-1] in ("canceled", "skipped")
    assert all(f"commit `{old[:7]}`" not in note for note in story.notes())


def test_retargeted__Q15_the_run_for_the_branch_before_ends_and_the_new_one_alone_counts(story: GitLabStory):
    main = story.commit({".prpm-testing.yml": b"models: [slow]"}, branch="main")
    story.commit({".prpm-testing.yml": b"models: [echo]"}, on=main, branch="release")
    head = story.commit(a_package("one", suite=LONG_SUITE), on=main)
    story.propose(head, main)
    story.ended(story.tell_of(head, action="open"))
    within(is_running(story, head))
    story.forge.requests[12]["target_branch"] = "release"

    moved = story.update({"target_branch": {"previous": "main", "current": "release"}})

    assert story.ended(moved) == ("handled", "1 job submitted.")
    first, second = story.jobs_ended(2)
    assert (first["status"], first["error_code"], second["conclusion"]) == ("failed", "superseded", "passed")
    assert (story.check(head, CHECK)[0], story.check(head)[0]) == ("success", "success")


def test_push__to_the_default_branch_is_what_merge_requests_are_compared_with(story: GitLabStory):
    five = SUITE.replace("input: hello", "input: hello\n  repeat: 5")
    base = story.commit(a_package("one", suite=five), branch="main")
    assert story.ended(story.push(base)) == ("handled", "1 job submitted.")
    story.jobs_ended(1)
    assert (story.check(base, CHECK)[0], story.notes()) == ("success", [])
    head = story.commit({"prompt.md": b"Other."}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head, action="open"))

    job = story.jobs_ended(2)[1]
    source = story.outcome(job)["comparison"]["source"]
    assert (source["kind"], source["name"], source["jobs"]) == ("branch", "main", 1)
    assert story.check(head, CHECK)[0] == "success"


def test_push__to_another_branch_and_its_end_start_nothing(story: GitLabStory):
    commit = story.commit(a_package("one"), branch="feature")

    assert story.ended(story.push(commit, ref="refs/heads/feature"))[0] == "ignored"
    assert story.ended(story.push("0" * 40, before=commit, ref="refs/heads/feature"))[0] == "ignored"
    assert story.jobs() == []


def test_tag__on_no_branch_is_tested_and_its_commit_has_a_status(story: GitLabStory):
    main = story.commit({"readme.md": b"x"}, branch="main")
    tagged = story.commit(a_package("one"), on=main)

    assert story.ended(story.push(tagged, ref="refs/tags/v1.0.0")) == ("handled", "1 job submitted.")

    story.jobs_ended(1)
    assert story.check(tagged, CHECK)[0] == "success"
    assert {one["ref"] for one in story.forge.reported.statuses} == {"v1.0.0"}


# Forks.


def test_fork__W20_approved_by_a_comment_then_pushed_waits_again(story: GitLabStory):
    head = proposed(story, FAILING, fork=True)
    story.ended(story.tell_of(head, action="open"))
    (asks,) = story.notes()
    assert "`Waits for approval`" in asks
    assert "comment `/prpm test`" in asks.replace("'", "`")

    assert story.ended(story.comment("/prpm test")) == ("handled", "1 job submitted.")
    story.jobs_ended(1)
    approved, result = story.notes()
    assert "`1 of 1 package failed`" in approved
    assert "### ❌ Prompt tests: 1 failure" in result

    new = pushed(story, head, text=b"Spend more.", fork=True)
    assert story.ended(story.tell_of(new)) == ("handled", "A stranger's change waits for approval.")
    waits, _ = story.notes()
    assert "`Waits for approval`" in waits
    assert [job["change"]["head_sha"] for job in story.jobs()] == [head]

    assert story.ended(story.comment("/prpm test")) == ("handled", "1 job submitted.")
    assert [job["change"]["head_sha"] for job in story.jobs_ended(2)] == [head, new]
    assert len(story.notes()) == 2
    assert story.forge.reported.statuses == []  # its commits are in no branch of this project


def test_fork__W20_a_push_with_the_label_still_on_approves_nothing(story: GitLabStory):
    """Some servers list the labels as new beside each push, in the name of whoever pushed; here, of a developer."""
    head = proposed(story, fork=True)
    assert story.ended(story.label(head)) == ("handled", "1 job submitted.")
    new = pushed(story, head, fork=True)

    changes = {"labels": {"previous": [], "current": [{"title": "prpm-test"}]}}
    ended = story.ended(story.tell_of(new, changes=changes, is_push=True, user={"username": "ann", "id": 5}))

    assert ended == ("handled", "A stranger's change waits for approval.")
    assert [job["change"]["head_sha"] for job in story.jobs()] == [head]


@pytest.mark.parametrize(
    ("action", "label", "user", "is_run"),
    [
        ("open", "prpm-test", ("ann", 5), True),
        ("open", "prpm-test", ("eve", 66), False),  # may not write
        ("open", "bug", ("ann", 5), False),
        ("reopen", "prpm-test", ("ann", 5), False),  # it was there before, and nobody set it now
    ],
)
def test_fork__W20_the_label_that_it_is_opened_with_approves_if_who_opens_it_may_write(
    story: GitLabStory, action: str, label: str, user: tuple[str, int], is_run: bool
):
    """GitHub tells of such a label in a delivery of its own, GitLab in none."""
    head = proposed(story, fork=True)
    told = {"username": user[0], "id": user[1]}

    ended = story.ended(story.tell_of(head, action=action, user=told, labels=[label]))

    assert ended == ("handled", "1 job submitted." if is_run else "A stranger's change waits for approval.")
    if is_run:
        new = pushed(story, head, fork=True)
        again = story.ended(story.tell_of(new, user=told, labels=[label]))
        assert again == ("handled", "A stranger's change waits for approval.")


# Commands.


def test_cancel__ends_what_runs_and_the_status_says_so(story: GitLabStory):
    head = proposed(story, LONG_SUITE)
    story.ended(story.comment("/prpm test slow"))
    within(is_running(story, head))

    assert story.ended(story.comment("/prpm cancel")) == ("handled", "1 job cancelled.")

    (job,) = story.jobs_ended(1)
    assert (job["error_code"], story.check(head, CHECK)[0]) == ("cancelled", "canceled")


def test_help__is_a_note_that_can_be_read_and_comes_once(story: GitLabStory):
    head = proposed(story)

    for _ in range(2):
        assert story.ended(story.comment("/prpm help")) == ("handled", "The commands were listed.")
        story.settle()

    (note,) = story.notes()
    assert "`/prpm cancel: end what waits or runs`" in note
    assert (story.check(head, "prpm / commands / help")[0], story.jobs()) == ("skipped", [])


def test_command__an_unknown_model_is_answered_with_those_that_there_are(story: GitLabStory):
    head = proposed(story)

    story.ended(story.comment("/prpm test no-such-model"))

    (note,) = story.notes()
    assert "no-such-model" in note
    assert "echo" in note
    assert (story.check(head, CHECK)[0], story.jobs()) == ("skipped", [])


# Webhooks with a token of their own.


def test_group__one_webhook_has_each_of_its_projects_tested_and_no_other(by_group: HookStory):
    second, third = by_group.with_project("acme/deep/second"), by_group.with_project("elsewhere/third")
    heads = [proposed(one, FAILING) for one in (by_group, second, third)]

    said = [
        one.ended(one.tell_of(head, action="open")) for one, head in zip((by_group, second, third), heads, strict=True)
    ]

    assert said[:2] == [("handled", "1 job submitted.")] * 2
    assert said[2][0] == "ignored"
    assert "given to another owner" in said[2][1]
    for one, head in ((by_group, heads[0]), (second, heads[1])):
        (job,) = one.jobs_ended(1)
        assert (job["user_id"], one.check(head, CHECK)[0], len(one.notes())) == (by_group.account.id, "failed", 1)
    assert (third.jobs(), third.forge.reported.notes, third.forge.reported.statuses) == ([], {}, [])


def test_W19_renamed__the_next_delivery_is_tested_under_the_new_name(by_hook: HookStory):
    head = proposed(by_hook, FAILING)
    by_hook.ended(by_hook.tell_of(head, action="open"))
    by_hook.jobs_ended(1)
    by_hook.forge.name = f"{by_hook.forge.name}-renamed"
    new = pushed(by_hook, head)

    assert by_hook.ended(by_hook.tell_of(new)) == ("handled", "1 job submitted.")

    second = by_hook.jobs_ended(2)[1]
    assert (second["change"]["repository"], len(by_hook.notes())) == (by_hook.forge.name, 1)
    (row,) = by_hook.service.fetch("SELECT name FROM hooks WHERE account_id = $1", by_hook.account.id)
    assert row["name"] == by_hook.forge.name


def test_W19_moved_out_of_the_group__nothing_is_spent_or_told_there_any_more(by_group: HookStory):
    head = proposed(by_group)
    by_group.ended(by_group.tell_of(head, action="open"))
    by_group.jobs_ended(1)
    by_group.settle()
    before = len(by_group.forge.reported.statuses)
    by_group.forge.name = "elsewhere/prompts"
    new = pushed(by_group, head, suite=FAILING)

    state, reason = by_group.ended(by_group.tell_of(new))

    assert (state, "given to another owner" in reason, len(by_group.jobs())) == ("ignored", True, 1)
    assert (len(by_group.forge.reported.statuses), by_group.notes()) == (before, [])


def test_W19_a_token_that_is_revoked_while_it_runs_ends_with_a_reason_and_no_storm(by_hook: HookStory):
    head = proposed(by_hook, LONG_SUITE)
    by_hook.ended(by_hook.comment("/prpm test slow"))
    within(is_running(by_hook, head))

    with by_hook.forge.lock:
        by_hook.forge.tokens.clear()
        by_hook.forge.log.clear()
    (job,) = by_hook.jobs()
    assert by_hook.account.client.post(f"/api/v1/test-jobs/{job['id']}/cancel").status_code in (200, 202)
    by_hook.jobs_ended(1)
    by_hook.settle()

    (row,) = by_hook.service.fetch(
        "SELECT state, last_error FROM outbox WHERE account_id = $1 AND event = 'job'", by_hook.account.id
    )
    assert row["state"] == "dead"
    assert "(HTTP 401). The token or address is not accepted; make a new one." in row["last_error"]
    again = by_hook.ended(by_hook.tell_of(head))
    assert (again[0], "HTTP 401" in again[1]) == ("ignored", True)
    assert len(by_hook.forge.log) <= 6
    by_hook.forge.violations.clear()  # of a token that is none any more


def test_outage__what_was_opened_meanwhile_is_tested_when_we_are_back(by_hook: HookStory):
    """Nobody noted for an hour that deliveries could be kept; GitLab tells each of them once."""
    head = proposed(by_hook, FAILING)
    by_hook.service.fetch("UPDATE linked_repositories SET caught_up_at = NOW() - INTERVAL '1 hour'")
    by_hook.service.fetch("UPDATE door_watch SET open_at = NOW() - INTERVAL '1 hour'")

    within(by_hook.jobs, seconds=40)

    (job,) = by_hook.jobs_ended(1)
    assert (job["change"]["head_sha"], by_hook.check(head, CHECK)[0], len(by_hook.notes())) == (head, "failed", 1)
    assert by_hook.ended(by_hook.tell_of(head, action="open")) == ("handled", "1 known already.")
