"""What the one check of a commit says: the sum of its packages, or what is said of a change as a whole."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from server.domain.changes import Change
from server.domain.heads import (
    Head,
    HeadPart,
    PartJob,
    Said,
    TouchedPart,
    change_key,
    known_or,
    part_key,
    with_left,
    with_rerun,
    with_run,
    with_word,
)
from server.services.head_sums import Sum, sum_up

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CHANGE = Change(
    forge="github", repository="acme/prompts", repository_id=7, ref="feature", head_sha="a" * 40, base_ref="main",
    pull_request=12,
)  # fmt: skip
APPROVAL = Said(state="action_required", title="Waits for approval")


def a_change(**changes: Any) -> Change:
    return msgspec.structs.replace(CHANGE, **changes)


def a_job(ended: str = "", **changes: Any) -> PartJob:
    """`ended`: passed, failed, inconclusive, or the code of an error; else it waits."""
    is_verdict = ended in ("passed", "failed", "inconclusive")
    usual: dict[str, Any] = {
        "id": uuid.uuid4(), "status": "completed" if is_verdict else "failed" if ended else "queued",
        "conclusion": ended if is_verdict else None, "error_code": None if is_verdict or not ended else ended,
        "started_at": NOON if ended else None, "tests_passed": 1 if is_verdict else None,
        "total_tests": 2 if is_verdict else None,
    }  # fmt: skip
    return PartJob(**usual | changes)


RUNNING = {"status": "running", "started_at": NOON}
REMOVED = Said(state="neutral", title="The package was removed")


def parts(*names: str, **changes: Any) -> list[TouchedPart]:
    return [TouchedPart(package=name, suite_name="default", at=NOON, **changes) for name in names]


def run(*found: TouchedPart, head: Head | None = None, change: Change = CHANGE, said: Said | None = None) -> Head:
    made = with_run(head or Head(), change, found, said=said, nothing="" if found else "Nothing.", at=NOON)
    assert made is not None
    return made


def summed(head: Head, jobs: dict[str, PartJob | None] | None = None, *, newer: bool = False, later: float = 1) -> Sum:
    """With the newest job of each package, in each change that touches it."""
    found = [
        HeadPart(change=key, part=name, has_newer=newer, job=(jobs or {}).get(part.package))
        for key, one in head.changes.items()
        for name, part in one.parts.items()
    ]
    return sum_up(head, found, now=NOON + timedelta(seconds=later), public_url="https://testing.example")


def said(head: Head, jobs: dict[str, PartJob | None] | None = None, **changes: Any) -> tuple[str, str]:
    standing = summed(head, jobs, **changes).standing
    return standing.state, standing.title


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (a_job(), a_job(), ("queued", "0 of 2 packages done")),
        (a_job(), a_job(**RUNNING), ("in_progress", "0 of 2 packages done")),
        (a_job("passed"), a_job(), ("in_progress", "1 of 2 packages done")),
        (a_job("failed"), a_job(), ("in_progress", "1 of 2 packages done, 1 failed so far")),
        (a_job("failed"), a_job("passed"), ("failure", "1 of 2 packages failed")),
        (a_job("failed"), a_job("cancelled"), ("failure", "1 of 2 packages failed")),
        (a_job("cancelled"), a_job("inconclusive"), ("cancelled", "1 of 2 packages cancelled")),
        (a_job("inconclusive"), a_job("passed"), ("inconclusive", "1 of 2 packages without a verdict")),
        (a_job("infrastructure"), a_job("passed"), ("inconclusive", "1 of 2 packages without a verdict")),
        (a_job("superseded"), a_job("passed"), ("inconclusive", "A newer commit came")),
        (a_job("superseded"), a_job("failed"), ("failure", "1 of 2 packages failed")),
        (a_job("passed"), a_job("passed"), ("success", "2 packages passed")),
        (None, a_job("passed"), ("in_progress", "1 of 2 packages done")),
    ],
)
def test_sum__of_two_packages(one: PartJob | None, two: PartJob | None, expected: tuple[str, str]):
    assert said(run(*parts("one", "two")), {"one": one, "two": two}) == expected


def test_sum__a_package_that_is_reported_on_counts_by_its_report():
    broken = parts("two", said=Said(state="failure", title="The tests were removed"))
    removed = parts("two", said=REMOVED)
    unpaid = parts("two", said=Said(state="neutral", title="The tests were not run"), is_untested=True)
    passed = {"one": a_job("passed")}

    assert said(run(*parts("one"), *broken), passed) == ("failure", "1 of 2 packages failed")
    assert said(run(*parts("one"), *removed), passed) == ("success", "1 of 2 packages passed")
    assert said(run(*parts("one"), *unpaid), passed) == ("neutral", "1 of 2 packages not tested")
    assert said(run(*removed)) == ("neutral", "Nothing to test")


def test_sum__lists_each_package_with_its_state_and_its_page():
    one, two = a_job("passed"), a_job()
    standing = summed(run(*parts("one", "two"), *parts("three", said=REMOVED)), {"one": one, "two": two}).standing

    assert [(part.package, part.state, part.title, part.url) for part in standing.parts] == [
        ("one", "success", "1 of 2 tests passed", f"https://testing.example/jobs/{one.id}"),
        ("three", "neutral", "The package was removed", ""),
        ("two", "queued", "Waiting for its turn", f"https://testing.example/jobs/{two.id}"),
    ]


def test_sum__a_job_that_never_came_is_looked_for_ever_more_seldom_and_then_no_more():
    head = run(*parts("one"))

    assert summed(head, later=1).again_seconds == 10.0
    assert summed(head, later=400).again_seconds == 100.0
    ended = summed(head, later=48 * 3600)
    assert (ended.standing.state, ended.standing.parts[0].title) == ("inconclusive", "The test did not start")
    assert ended.again_seconds is None


def test_sum__of_an_older_head_does_not_wait_for_jobs_that_will_not_come():
    assert said(run(*parts("one")), newer=True) == ("inconclusive", "A newer commit came")


def test_word__of_the_change_as_a_whole_holds_up_a_merge_whatever_its_packages_come_to():
    warned = run(*parts("one"), said=Said(state="failure", title="This change breaks the repository's rules"))
    unapproved = with_word(run(*parts("one")), CHANGE, APPROVAL, at=NOON)
    assert unapproved is not None
    passed = {"one": a_job("passed")}

    assert said(warned, passed) == ("failure", "This change breaks the repository's rules")
    assert said(unapproved, passed) == ("action_required", "Waits for approval")
    assert said(run(*parts("one"), head=unapproved), passed) == ("success", "1 package passed")


def test_word__that_lets_pass_does_not_hide_what_was_found():
    draft = Said(state="neutral", title="A draft")
    first = with_word(Head(), CHANGE, draft, at=NOON)
    assert first is not None
    then = with_word(run(*parts("one"), head=first), CHANGE, draft, at=NOON)
    assert then is not None

    assert said(first) == ("neutral", "A draft")
    assert said(then, {"one": a_job("failed")}) == ("failure", "1 of 1 package failed")


def test_word__that_is_said_again_is_nothing_new():
    head = with_word(Head(), CHANGE, APPROVAL, at=NOON)
    assert head is not None

    assert with_word(head, CHANGE, APPROVAL, at=NOON + timedelta(hours=1)) is None


def test_run__that_finds_the_same_is_nothing_new_and_keeps_when_it_was_said():
    head = run(*parts("one", said=REMOVED))
    later = NOON + timedelta(hours=1)
    again = [msgspec.structs.replace(part, at=later) for part in parts("one", said=REMOVED)]

    assert with_run(head, CHANGE, again, said=None, nothing="", at=later) is None
    begun = known_or(head, CHANGE, [TouchedPart(package="one", suite_name="default", at=later)])
    assert begun == parts("one", said=REMOVED)


def test_rerun__of_one_package_leaves_the_others_as_they_are():
    head = run(*parts("one", "two"))
    again = with_rerun(head, CHANGE, parts("one", said=Said(state="neutral", title="No")), at=NOON)
    assert again is not None

    assert set(again.changes[change_key(CHANGE)].parts) == {part_key("one", "default"), part_key("two", "default")}
    assert said(again, {"two": a_job("failed")}) == ("failure", "1 of 2 packages failed")
    assert with_rerun(Head(), CHANGE, parts("one"), at=NOON) is None


def test_rerun__of_one_package_approves_nothing():
    unapproved = with_word(Head(), CHANGE, APPROVAL, at=NOON)
    assert unapproved is not None
    again = with_rerun(unapproved, CHANGE, parts("one"), at=NOON)
    assert again is not None

    assert said(again, {"one": a_job("passed")}) == ("action_required", "Waits for approval")


def test_head__of_two_pull_requests_shows_the_worse_of_both():
    head = run(*parts("one"))
    both = run(head=head, change=a_change(pull_request=13, base_ref="dev"))

    assert said(both, {"one": a_job("failed")}) == ("failure", "1 of 1 package failed")


def test_head__that_a_stranger_proposes_once_more_holds_nobody_up():
    copied = with_word(run(*parts("one")), a_change(pull_request=13), APPROVAL, at=NOON)
    elsewhere = with_word(run(*parts("one")), a_change(pull_request=13, base_ref="release"), APPROVAL, at=NOON)
    assert copied is not None
    assert elsewhere is not None
    passed = {"one": a_job("passed")}

    assert said(copied, passed) == ("success", "1 package passed")
    # For another branch it may touch what nobody has tested.
    assert said(elsewhere, passed) == ("action_required", "Waits for approval")


def test_head__that_is_for_another_branch_now_is_another_change():
    head = run(*parts("one"))
    moved = run(head=head, change=a_change(base_ref="without-rules"))

    assert said(moved, {"one": a_job("failed")}) == ("failure", "1 of 1 package failed")


# A change that nobody waits for any more: it is for another branch, or its merge group is gone.


def left(head: Head) -> Head:
    found = with_left(head, lambda change: change.base_ref == "main", reason="It went.")
    assert found is not None
    return found


@pytest.mark.parametrize("job", [None, a_job(), a_job(**RUNNING), a_job("superseded")])
def test_left__what_has_no_verdict_is_not_waited_for(job: PartJob | None):
    head = run(*parts("two"), head=left(run(*parts("one"))), change=a_change(base_ref="next"))

    shown = summed(head, {"one": job, "two": a_job("passed")})

    assert (shown.standing.state, shown.standing.title) == ("success", "1 package passed")
    assert shown.again_seconds is None


@pytest.mark.parametrize(("ended", "state"), [("failed", "failure"), ("passed", "success"), ("cancelled", "cancelled")])
def test_left__what_came_of_it_counts_for_good(ended: str, state: str):
    head = run(*parts("two"), head=left(run(*parts("one"))), change=a_change(base_ref="next"))

    assert summed(head, {"one": a_job(ended), "two": a_job("passed")}).standing.state == state


def test_left__with_nothing_else_it_ends_without_a_verdict():
    shown = summed(left(run(*parts("one"))), {"one": a_job(**RUNNING)}).standing

    assert (shown.state, shown.title, shown.summary) == (
        "inconclusive", "Nobody waits for these tests any more", "It went.",
    )  # fmt: skip


def test_left__is_waited_for_again_when_it_is_run_again():
    head = run(*parts("one"), head=left(run(*parts("one"))))

    assert summed(head, {"one": a_job()}).standing.state == "queued"
    again = with_rerun(left(run(*parts("one"))), CHANGE, parts("one"), at=NOON)
    assert again is not None
    assert summed(again, {"one": a_job()}).standing.state == "queued"


def test_left__twice_is_nothing_new():
    head = left(run(*parts("one")))

    assert with_left(head, lambda change: True, reason="It went.") is None
