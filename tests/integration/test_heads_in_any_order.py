"""Which of several heads a delivery tests, by the forge's own clock: the moments in deliveries and in answers."""

from __future__ import annotations

import asyncpg
import pytest

from server.domain.change_heads import pull_line
from server.domain.moments import moment, second
from server.services.acts.change_proposed import MOST_FOLLOWED
from server.store import change_heads
from tests.forge_stories import Story, a_package
from tests.standins.web import Answer, Fault

LINE = pull_line("github", 7, 12)
NEWER = ("ignored", "A newer commit is there, which is tested by itself.")


def two_heads(story: Story) -> tuple[str, str, str]:
    """Base, the older and the newer one."""
    base = story.commit({"readme.md": b"x"}, branch="main")
    old = story.commit(a_package("one", text="Old."), on=base)
    return base, old, story.commit({"prompt.md": b"New."}, on=old)


def tell_at(story: Story, head: str, at: str) -> str:
    pull = story.forge.pulls[12]
    shown = {**pull, "number": 12, "head": {**pull["head"], "sha": head}, "updated_at": at}
    return story.tell_of(head, pull_request=shown)


def looks(story: Story) -> int:
    return sum(seen.path.endswith("/pulls/12") for seen in story.forge.log)


def heads(story: Story) -> list[str]:
    return [job["change"]["head_sha"] for job in story.jobs()]


def test_heads__the_newest_is_tested_by_whoever_sees_it_first_and_once(story: Story):
    base, old, new = two_heads(story)
    story.propose(new, base, updated_at="2026-11-23T10:00:05Z")

    late = story.ended(tell_at(story, old, "2026-11-23T10:00:00Z"))
    own = story.ended(tell_at(story, new, "2026-11-23T10:00:05Z"))

    assert (late, own) == (("handled", "1 job submitted."), ("handled", "1 known already."))
    assert heads(story) == [new]


def test_heads__one_that_is_known_to_be_old_asks_the_forge_nothing(story: Story):
    base, old, new = two_heads(story)
    story.propose(new, base, updated_at="2026-11-23T10:00:05Z")
    story.ended(tell_at(story, new, "2026-11-23T10:00:05Z"))
    before = looks(story)
    story.service.fetch("UPDATE change_heads SET seen_at = NOW() + INTERVAL '1 minute'")  # as if it were just now

    assert story.ended(tell_at(story, old, "2026-11-23T10:00:00Z")) == NEWER

    assert looks(story) == before
    # A look of a while ago says nothing of what came since.
    story.service.fetch("UPDATE change_heads SET seen_at = NOW() - INTERVAL '1 minute'")
    assert story.ended(tell_at(story, old, "2026-11-23T10:00:00Z")) == NEWER
    assert looks(story) == before + 1
    assert heads(story) == [new]


@pytest.mark.parametrize("shown", ["2026-11-23T10:00:05Z", "2026-11-23T10:00:04Z", None], ids=["same", "older", "none"])
def test_heads__a_forge_that_may_lag_behind_its_delivery_is_asked_again(story: Story, shown: str | None):
    """Its answer shows another head, and no later moment: it may be what was before."""
    base, old, new = two_heads(story)
    story.propose(old, base, updated_at=shown)

    delivery = tell_at(story, new, "2026-11-23T10:00:05Z")
    waiting = story.put_off(delivery)
    story.propose(new, base, updated_at="2026-11-23T10:00:05Z")

    assert waiting["reason"] == "The forge names another head than it delivered."
    assert story.ended(delivery) == ("handled", "1 job submitted.")
    assert heads(story) == [new]


def test_heads__one_that_a_worker_left_in_the_middle_is_tested_by_the_next_attempt(story: Story):
    """It is noted before it is tested; its own delivery may never come."""
    base, old, new = two_heads(story)
    story.propose(new, base, updated_at="2026-11-23T10:00:05Z")
    story.forge.faults = [Fault(answer=Answer(status=502), times=3, methods=("GET",), path="/git/trees/")]

    delivery = tell_at(story, old, "2026-11-23T10:00:00Z")
    story.put_off(delivery)

    assert story.ended(delivery) == ("handled", "1 job submitted.")
    assert heads(story) == [new]


def test_heads__a_strangers_waits_for_its_own_delivery(story: Story):
    """Its moment counts for approvals, so nobody else tells of it."""
    base, old, new = two_heads(story)
    story.propose(new, base, fork=True, updated_at="2026-11-23T10:00:05Z")

    assert story.ended(tell_at(story, old, "2026-11-23T10:00:00Z")) == NEWER

    assert story.service.fetch("SELECT * FROM change_heads WHERE repository_id = $1", story.forge.id) == []
    story.ended(tell_at(story, new, "2026-11-23T10:00:05Z"))
    assert story.check(new)[0] == "action_required"


def test_heads__what_is_pushed_while_one_is_read_is_tested_in_its_place(story: Story):
    base, old, new = two_heads(story)
    story.propose(old, base, updated_at="2026-11-23T10:00:00Z")

    def push(seen) -> None:
        if "/git/trees/" + old in seen.path:
            story.forge.pulls[12]["head"]["sha"] = new
            story.forge.pulls[12]["updated_at"] = "2026-11-23T10:00:05Z"

    story.forge.before_answer = push
    try:
        ended = story.ended(tell_at(story, old, "2026-11-23T10:00:00Z"))
    finally:
        story.forge.before_answer = None

    assert ended == ("handled", "1 job submitted.")
    assert heads(story) == [new]


def test_heads__one_that_came_when_a_handler_had_followed_enough_is_tested_by_the_next(story: Story):
    """Its own delivery may wait for a minute, as it came with a storm of others."""
    base, old, new = two_heads(story)
    line = [old, new]
    while len(line) <= MOST_FOLLOWED:
        line.append(story.commit({"prompt.md": b"Text %d." % len(line)}, on=line[-1]))
    story.propose(old, base, updated_at="2026-11-23T10:00:00Z")

    def push(seen) -> None:
        place = line.index(story.forge.pulls[12]["head"]["sha"])
        if f"/git/trees/{line[place]}" in seen.path and place < MOST_FOLLOWED:
            story.forge.pulls[12]["head"]["sha"] = line[place + 1]
            story.forge.pulls[12]["updated_at"] = f"2026-11-23T10:00:{place + 1:02}Z"

    story.forge.before_answer = push
    try:
        assert story.ended(tell_at(story, old, "2026-11-23T10:00:00Z"))[0] == "ignored"
    finally:
        story.forge.before_answer = None
    assert story.forge.pulls[12]["head"]["sha"] == line[MOST_FOLLOWED]
    story.service.fetch("UPDATE change_heads SET seen_at = NOW() - INTERVAL '1 minute'")  # as if it were a while ago

    assert story.ended(tell_at(story, new, "2026-11-23T10:00:01Z")) == ("handled", "1 job submitted.")
    assert heads(story) == [line[MOST_FOLLOWED]]


async def test_was_replaced__by_a_later_word_about_another_head_alone(db: asyncpg.Pool):
    early, late = moment("2026-11-23T10:00:00Z"), moment("2026-11-23T10:00:05Z")
    assert early
    assert late

    async def was(head: str, at=early) -> bool:
        return await change_heads.was_replaced(db, LINE, head, at=at, seen_seconds=60)

    assert not await was("a")
    assert await change_heads.record_head(db, LINE, "b", made_at=early, shown_at=late)
    assert not await change_heads.record_head(db, LINE, "b", made_at=early, shown_at=early)
    assert await was("a")
    assert not await was("a", at=late)
    assert not await was("b")
    # What only says since when it is the head is no word of that moment: a comment may be younger than a push.
    await change_heads.record_head(db, LINE, "c", made_at=moment("2026-11-23T11:00:00Z"))
    assert not await was("b", at=late)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2026-11-23T10:00:05.999Z", "2026-11-23 10:00:05+00:00"),
        ("2026-11-23 10:00:05 UTC", "2026-11-23 10:00:05+00:00"),
        ("2026-11-23T12:00:05.5+02:00", "2026-11-23 12:00:05+02:00"),
        ("soon", "None"),
        (None, "None"),
        (17, "None"),
    ],
)
def test_second__is_whole_as_deliveries_write_them(text: object, told: str):
    assert str(second(text)) == told
