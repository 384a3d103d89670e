"""What comes of merge requests, notes, labels, pushes and tags of GitLab, on a whole service and a strict stand-in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.forge_stories import BOB, LONG_SUITE, SUITE, a_package
from tests.gitlab_stories import GitLabStory, a_gitlab_story, gitlab_service
from tests.service import Service
from tests.standins.gitlab_forge import GitLabForge


@pytest.fixture(scope="module")
def gitlab_site(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, GitLabForge]]:
    yield from gitlab_service(admin_dsn, redis_url, tmp_path_factory.mktemp("gitlab"))


@pytest.fixture
def story(gitlab_site: tuple[Service, GitLabForge]) -> Iterator[GitLabStory]:
    made = a_gitlab_story(*gitlab_site)
    yield made
    made.settle()
    assert made.forge.violations == []


@pytest.mark.parametrize("action", ["open", "update", "reopen"])
def test_merge_request__the_packages_that_it_touches_are_tested_at_its_head(story: GitLabStory, action: str):
    base = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), branch="main")
    head = story.commit({"two/prompt.md": b"Greet very politely."}, on=base)
    story.propose(head, base)

    assert story.ended(story.tell_of(head, action=action)) == ("handled", "1 job submitted.")

    (job,) = story.jobs_ended(1)
    assert (job["package"], job["conclusion"], job["change"]["forge"]) == ("two", "passed", "gitlab")
    assert (job["change"]["pull_request"], job["change"]["base_sha"], job["change"]["base_ref"]) == (12, base, "main")
    assert story.check(head, "prpm / two / default")[0] == "success"


def test_merge_request__W6_W7_a_delivery_that_comes_again_under_any_name_starts_nothing(story: GitLabStory):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)

    first = story.tell_of(head, action="open")
    story.ended(first)
    body = json.loads(story.service.fetch("SELECT body FROM deliveries WHERE delivery_id = $1", first)[0]["body"])

    assert story.send("Merge Request Hook", body, delivery=first) == first
    assert story.ended(story.send("Merge Request Hook", body)) == ("handled", "1 known already.")
    assert len(story.jobs()) == 1


def test_merge_request__whose_title_alone_changed_starts_nothing(story: GitLabStory):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    payload = json.loads(
        story.service.fetch("SELECT body FROM deliveries WHERE delivery_id = $1", story.tell_of(head))[0]["body"]
    )
    payload["object_attributes"]["oldrev"] = None

    assert story.ended(story.send("Merge Request Hook", payload))[0] == "ignored"


def test_merge_request__cases_that_it_drops_fail_it_and_its_own_rules_do_not_count(story: GitLabStory):
    two = SUITE + "- description: stays\n  input: polite\n  assert: [{type: contains, value: polite}]\n"
    base = story.commit(a_package("one", suite=two) | {".prpm-testing.yml": b"max-cost-usd: 0.07"}, branch="main")
    head = story.commit(
        {"prpm.test.yaml": SUITE.encode(), ".prpm-testing.yml": b"gate: {fail-on: never}\nmax-cost-usd: 9"}, on=base
    )
    story.propose(head, base)

    story.ended(story.tell_of(head))

    (job,) = story.jobs_ended(1)
    assert [case["title"] for case in story.outcome(job)["comparison"]["cases"]] == ["stays"]
    assert (job["conclusion"], float(job["max_cost_usd"])) == ("failed", 0.07)


def test_merge_request__W20_of_a_fork_waits_for_a_developer(story: GitLabStory):
    base = story.commit(a_package("one"), branch="main")
    head = story.commit({"prompt.md": b"Mine."}, on=base)
    story.propose(head, base, fork=True)

    story.ended(story.tell_of(head, action="open"))
    by_reporter = story.ended(story.comment("/prpm test", by=BOB))
    by_stranger = story.ended(story.label(head, by=("eve", 66)))

    assert (by_reporter[0], by_stranger[0], story.jobs()) == ("ignored", "ignored", [])
    assert story.ended(story.comment("/prpm test")) == ("handled", "1 job submitted.")
    (job,) = story.jobs_ended(1)
    assert (job["framework"], float(job["max_cost_usd"])) == ("litellm", 0.1)


def test_merge_request__the_label_approves_one_head_and_a_push_clears_it(story: GitLabStory):
    base = story.commit(a_package("one"), branch="main")
    head = story.commit({"prompt.md": b"Mine."}, on=base)
    story.propose(head, base, fork=True)
    assert story.ended(story.label(head)) == ("handled", "1 job submitted.")

    new = story.commit({"prompt.md": b"Worse."}, on=head)
    story.propose(new, base, fork=True)
    story.ended(story.tell_of(new))

    assert [job["change"]["head_sha"] for job in story.jobs()] == [head]


def test_note__commands_are_carried_out(story: GitLabStory):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", suite=LONG_SUITE), on=base)
    story.propose(head, base)

    assert story.ended(story.comment("/prpm test slow", comment_id=9)) == ("handled", "1 job submitted.")
    assert story.ended(story.comment("/prpm cancel")) == ("handled", "1 job cancelled.")

    (job,) = story.jobs_ended(1)
    assert (job["models_requested"], job["change"]["cause"], job["error_code"]) == (["slow"], "comment:9", "cancelled")


def test_push__and_tag_are_tested(story: GitLabStory):
    commit = story.commit(a_package("one"), branch="main")

    assert story.ended(story.push(commit)) == ("handled", "1 job submitted.")
    assert story.ended(story.push(commit, ref="refs/tags/v1.0.0")) == ("handled", "1 job submitted.")

    pushed, tagged = story.jobs()
    assert (pushed["change"]["ref"], pushed["cause"]) == ("main", "baseline")
    assert (tagged["change"]["ref"], tagged["cause"]) == ("refs/tags/v1.0.0", "submit")


def test_merge_request__one_status_sums_up_its_packages_and_can_be_required(story: GitLabStory):
    failing = SUITE.replace("value: hello", "value: nowhere")
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", folder="one") | a_package("two", folder="two", suite=failing), on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="open"))
    story.jobs_ended(2)
    failed = story.check(head)

    mended = story.commit({"two/prpm.test.yaml": SUITE.encode()}, on=head)
    story.propose(mended, base)
    story.ended(story.tell_of(mended))
    story.jobs_ended(4)

    assert failed[:2] == ("failed", "1 of 2 packages failed")
    assert story.check(mended)[:2] == ("success", "2 packages passed")
    assert [note for note in story.forge.reported.ours(request=12) if "packages" in note] == []


def test_merge_request__that_is_for_another_branch_now_is_tested_against_that(story: GitLabStory):
    base = story.commit(a_package("one"), branch="main")
    story.commit({"readme.md": b"x"}, on=base, branch="release")
    head = story.commit({"prompt.md": b"Other."}, on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="open"))
    story.forge.requests[12]["target_branch"] = "release"

    delivery = story.update({"target_branch": {"previous": "main", "current": "release"}})

    assert story.ended(delivery) == ("handled", "1 job submitted.")
    assert [job["change"]["base_ref"] for job in story.jobs()] == ["main", "release"]


@pytest.mark.parametrize(
    ("action", "more"), [("open", {}), ("update", {"draft": {"previous": True, "current": False}})]
)
def test_merge_request__labels_that_come_with_something_else_hide_nothing(
    story: GitLabStory, action: str, more: dict[str, Any]
):
    base = story.commit(a_package("one"), branch="main")
    head = story.commit({"prompt.md": b"Other."}, on=base)
    story.propose(head, base)

    changes = {"labels": {"previous": [], "current": [{"title": "bug"}]}, **more}
    delivery = story.tell_of(head, action=action, changes=changes)

    assert story.ended(delivery) == ("handled", "1 job submitted.")


def test_merge_request__the_label_approves_among_others_that_were_set_with_it(story: GitLabStory):
    base = story.commit(a_package("one"), branch="main")
    head = story.commit({"prompt.md": b"Mine."}, on=base)
    story.propose(head, base, fork=True)
    story.ended(story.tell_of(head, action="open"))
    labels = [{"title": title} for title in ("bug", "prpm-test", "zebra")]

    assert story.ended(story.update({"labels": {"previous": [], "current": labels}}, by=BOB))[0] == "ignored"
    assert story.jobs() == []
    delivery = story.update({"labels": {"previous": [], "current": labels}})

    assert story.ended(delivery) == ("handled", "1 job submitted.")


def test_tag__an_annotated_one_is_its_commits(story: GitLabStory):
    commit = story.commit(a_package("one"), branch="main")

    story.ended(story.push(commit, ref="refs/tags/v1.0.0", tag_object="a" * 40))

    (job,) = story.jobs_ended(1)
    assert job["change"]["head_sha"] == commit
    assert story.check(commit, "prpm / one / default")[0] == "success"
