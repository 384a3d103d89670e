"""Groups of GitHub's merge queue: the check that a queue waits for is on each group's head, and ends."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.forge_stories import LONG_SUITE, SUITE, ZERO, Story, a_package, a_story, forge_service
from tests.webhooks import encoded, github_headers

FAILING = SUITE.replace("value: hello", "value: nowhere")


def a_group(story: Story, *, suite: str = SUITE) -> tuple[str, str, str]:
    """A base, the head of a group that adds a package to it, and the queue's branch."""
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one", suite=suite), on=base)
    return base, head, story.queue(head)


def a_long_group(story: Story) -> tuple[str, str]:
    """The head and the branch of a group whose test goes on for a while."""
    story.commit({"readme.md": b"x", ".prpm-testing.yml": b"models: [slow]"}, branch="main")
    head = story.commit(a_package("one", suite=LONG_SUITE), on=story.forge.repository.branches["main"])
    branch = story.queue(head)
    story.ended(story.tell_of_group(branch, head=head))
    return head, branch


def ledger(story: Story) -> list[tuple[str, int]]:
    rows = story.service.fetch(
        "SELECT kind, runs FROM usage_ledger WHERE user_id = $1 ORDER BY created_at, id", story.account.id
    )
    return [(row["kind"], row["runs"]) for row in rows]


def test_group__is_tested_at_its_head_against_the_branch_that_it_is_for(story: Story):
    base, head, branch = a_group(story)

    assert story.ended(story.tell_of_group(branch, head=head)) == ("handled", "1 job submitted.")

    (job,) = story.jobs_ended(1)
    change = job["change"]
    assert (change["head_sha"], change["base_sha"], change["base_ref"], change["ref"]) == (head, base, "main", branch)
    assert ("pull_request" in change, job["conclusion"]) == (False, "passed")
    assert story.check(head)[:2] == ("success", "1 package passed")
    assert story.check(head, "prpm / one / default")[0] == "success"
    assert story.forge.reported.ours(pull=12) == []


def test_group__that_fails_says_so_and_one_that_touches_nothing_lets_pass(story: Story):
    base, head, branch = a_group(story, suite=FAILING)
    story.ended(story.tell_of_group(branch, head=head))
    story.jobs_ended(1)
    assert story.check(head)[:2] == ("failure", "1 of 1 package failed")

    other = story.commit({"readme.md": b"other"}, on=base)
    story.ended(story.tell_of_group(story.queue(other, number=13), head=other))

    assert story.check(other)[:2] == ("neutral", "Nothing to test")
    assert len(story.jobs()) == 1


def test_group__W6_W7_that_is_told_of_again_and_by_a_push_is_one_job(story: Story):
    _, head, branch = a_group(story)
    first = story.tell_of_group(branch, head=head)
    story.ended(first)
    (row,) = story.service.fetch("SELECT body FROM deliveries WHERE delivery_id = $1", first)

    assert story.ended(story.send("merge_group", json.loads(row["body"]))) == ("handled", "1 known already.")
    assert story.ended(story.push(head, ref=f"refs/heads/{branch}"))[0] == "ignored"
    assert story.charges() == 1


def test_group__of_what_its_pull_request_was_tested_with_asks_no_model_again(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
):
    """On a service that keeps answers: a run each, as a group may be judged by other rules, and nothing for models."""
    folder = tmp_path_factory.mktemp("keeping")
    for service, forge in forge_service(admin_dsn, redis_url, folder, PRPM_CACHE_DAYS="14"):
        story = a_story(service, forge)
        base = story.commit({".prpm-testing.yml": b"models: [priced]"}, branch="main")
        head = story.commit(a_package("one"), on=base)
        story.propose(head, base)
        story.ended(story.tell_of(head, action="opened"))
        story.jobs_ended(1)
        merged = story.commit({"readme.md": b"more"}, on=head)

        story.ended(story.tell_of_group(story.queue(merged), head=merged))

        first, second = (json.loads(job["results"]) for job in story.jobs_ended(2))
        assert first["total_cost_usd"] > 0
        assert (second["total_cost_usd"], second["trials_cached"]) == (0, 1)
        assert ledger(story) == [("charge", 1), ("charge", 1)]


def test_group__behind_another_is_tested_with_what_that_one_brings(story: Story):
    """A queue may merge a failing group with a passing one behind it, so the one behind answers for both."""
    _, first, branch = a_group(story, suite=FAILING)
    second = story.commit({"readme.md": b"harmless"}, on=first)
    behind = story.queue(second, number=13, ahead=first)
    story.ended(story.tell_of_group(branch, head=first))

    story.ended(story.tell_of_group(behind, head=second))

    story.jobs_ended(2)
    assert story.check(second)[:2] == ("failure", "1 of 1 package failed")


def test_attack__rules_that_a_group_or_the_one_ahead_brings_do_not_judge_it(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    loose = story.commit({".prpm-testing.yml": b"gate: {fail-on: never}"}, on=base)
    story.queue(loose)
    head = story.commit(a_package("one", suite=FAILING), on=loose)
    branch = story.queue(head, number=13, ahead=loose)

    story.ended(story.tell_of_group(branch, head=head))
    story.jobs_ended(1)
    assert story.check(head)[0] == "failure"

    story.settle()
    story.ended(story.ask_again(head, check_id=70, key="state"))
    assert [job["conclusion"] for job in story.jobs_ended(2)] == ["failed", "failed"]
    assert story.check(head)[0] == "failure"


def test_attack__W18_a_head_or_a_branch_that_the_forge_does_not_show_starts_nothing(story: Story):
    base, head, branch = a_group(story)
    story.commit(a_package("two"), on=base, branch="feature")
    feature = story.forge.repository.branches["feature"]

    told = [
        story.tell_of_group(branch, head=feature),  # another commit than the queue's
        story.tell_of_group("gh-readonly-queue/main/pr-99-" + base, head=head),  # no such branch
        story.tell_of_group(branch, head=feature, head_ref="refs/heads/feature"),  # no queue's branch
        story.tell_of_group(branch, head=head, base_ref="refs/heads/loose"),  # rules of another branch
    ]

    assert [story.ended(delivery)[0] for delivery in told] == ["ignored"] * 4
    assert story.jobs() == []


def test_attack__W18_a_group_of_a_repository_that_is_not_linked_starts_nothing(story: Story):
    _, head, branch = a_group(story)
    named = story.about()["repository"]
    group = {"head_sha": head, "head_ref": f"refs/heads/{branch}", "base_ref": "refs/heads/main"}

    for about in (
        {"repository": {**named, "id": 12345}, "installation": {"id": story.forge.installation_id}},
        {"repository": {**named, "id": 12345, "full_name": "eve/prompts"}, "installation": {"id": 1}},
    ):
        told = story.send("merge_group", {"action": "checks_requested", "merge_group": group, **about})
        assert story.ended(told)[0] == "ignored"

    assert story.jobs() == []


def test_attack__W18_an_installation_in_a_body_bills_nobody_but_the_repositorys_account(story: Story):
    _, head, branch = a_group(story)
    group = {"head_sha": head, "head_ref": f"refs/heads/{branch}", "base_ref": "refs/heads/main"}
    about = {**story.about(), "installation": {"id": 1}}

    story.ended(story.send("merge_group", {"action": "checks_requested", "merge_group": group, **about}))

    (job,) = story.jobs_ended(1)
    assert job["user_id"] == story.account.id
    billed = story.service.fetch(
        "SELECT user_id FROM test_jobs WHERE (change ->> 'repository_id')::BIGINT = $1", story.forge.id
    )
    assert [row["user_id"] for row in billed] == [story.account.id]


@pytest.mark.parametrize("missing", ["head_sha", "head_ref", "base_ref"])
def test_group__W13_that_names_no_head_or_branch_is_invalid(story: Story, missing: str):
    _, head, branch = a_group(story)

    assert story.ended(story.tell_of_group(branch, head=head, **{missing: None}))[0] == "invalid"


def test_group__Q15_that_is_let_go_ends_its_tests(story: Story):
    head, branch = a_long_group(story)

    ended = story.ended(story.dissolve(branch, head=head))

    assert ended == ("handled", "1 job ended.")
    (job,) = story.jobs_ended(1)
    assert (job["status"], job["error_code"]) == ("failed", "superseded")
    assert job["error_message"].startswith("The merge queue has no such group any more.")
    assert story.check(head)[:2] == ("neutral", "Nobody waits for these tests any more")
    conclusion, title, _ = story.check(head, "prpm / one / default")
    assert (conclusion, title.partition(",")[0]) == ("neutral", "⚠️ no longer needed")
    assert story.ended(story.ask_again(head, key="state"))[0] == "handled"
    assert len(story.jobs()) == 1


def test_group__Q15_that_is_let_go_before_it_started_is_given_back(story: Story):
    groups = [a_long_group(story)]
    for number in (13, 14):  # the account runs two at once
        head = story.commit(a_package(f"p{number}", suite=LONG_SUITE), on=story.forge.repository.branches["main"])
        groups.append((head, story.queue(head, number=number)))
        story.ended(story.tell_of_group(groups[-1][1], head=head))
    head, branch = groups.pop()
    waiting = story.jobs()[-1]
    assert waiting["status"] == "queued"

    assert story.ended(story.dissolve(branch, head=head)) == ("handled", "1 job ended.")

    (given_back,) = [job for job in story.jobs_ended(1) if job["id"] == waiting["id"]]
    assert (given_back["status"], given_back["error_code"]) == ("failed", "superseded")
    entries = story.service.fetch("SELECT kind FROM usage_ledger WHERE job_id = $1 ORDER BY id", waiting["id"])
    assert [row["kind"] for row in entries] == ["charge", "refund"]
    assert story.check(head)[0] == "neutral"
    for other, its_branch in groups:
        story.ended(story.dissolve(its_branch, head=other))


def test_attack__a_group_that_is_said_to_be_let_go_and_is_still_there_goes_on(story: Story):
    """What has no verdict lets pass on GitHub, so that an old delivery must not take the verdict away."""
    head, branch = a_long_group(story)

    told = story.tell_of_group(branch, head=head, action="destroyed")

    assert story.ended(told) == ("ignored", "The merge queue still has this group.")
    assert story.jobs()[0]["status"] in ("queued", "running")
    story.dissolve(branch, head=head)
    story.jobs_ended(1)


def test_group__that_was_merged_counts_no_more_where_its_head_is_the_branchs(story: Story):
    head, branch = a_long_group(story)
    with story.forge.lock:
        before = story.forge.repository.branches["main"]
        story.forge.repository.branches["main"] = head
    story.ended(story.dissolve(branch, head=head))

    story.ended(story.push(head, before=before))

    (baseline,) = [job for job in story.jobs_ended(2) if job["change"]["ref"] == "main"]
    assert baseline["conclusion"] == "passed"
    assert story.check(head)[:2] == ("success", "1 package passed")


# A webhook without the App is never told of `merge_group`: the queue's branch comes and goes by pushes.

TOKEN = "github_pat_" + "a" * 40


@dataclass(kw_only=True)
class HookStory(Story):
    """By a webhook of the repository's own."""

    door: str
    secret: str

    def send(self, event: str, payload: dict[str, Any], *, delivery: str | None = None) -> str:
        payload.pop("installation", None)
        name, body = delivery or str(uuid.uuid4()), encoded(payload)
        headers = github_headers(body, secret=self.secret, event=event, delivery=name)
        assert self.service.visitor().post(self.door, content=body, headers=headers).status_code == 202
        return name


@pytest.fixture
def hooked(story: Story) -> HookStory:
    """The same repository, which the App is not installed in, by another account's webhook."""
    forge = story.forge
    forge.fine_grained, forge.administrators = {TOKEN: "ann"}, {"ann"}
    with forge.lock:
        forge.id, forge.name = forge.id + 7, f"{forge.name}-hooked"
    account = story.service.an_account(tier="plus")
    made = account.client.post("/api/v1/hooks", json={"forge": "github", "name": forge.name, "token": TOKEN})
    assert made.status_code == 201, made.text
    door = made.json()["url"].removeprefix(story.service.url)
    return HookStory(service=story.service, forge=forge, account=account, door=door, secret=made.json()["secret"])


def statuses(story: Story, head: str) -> list[str]:
    """What the commit's status `prpm` was, oldest first."""
    story.settle()
    with story.forge.lock:
        found = [one for one in story.forge.reported.statuses if one["sha"] == head and one["context"] == "prpm"]
    return [one["state"] for one in found]


def test_group__of_a_webhook_without_the_app_is_told_by_its_branch(hooked: HookStory):
    _, head, branch = a_group(hooked)

    assert hooked.ended(hooked.push(head, ref=f"refs/heads/{branch}")) == ("handled", "1 job submitted.")

    (job,) = hooked.jobs_ended(1)
    assert (job["change"]["base_ref"], job["change"]["ref"], job["conclusion"]) == ("main", branch, "passed")
    assert statuses(hooked, head)[-1] == "success"


def test_group__Q15_of_a_webhook_whose_branch_is_deleted_ends_its_tests(hooked: HookStory):
    hooked.commit({"readme.md": b"x", ".prpm-testing.yml": b"models: [slow]"}, branch="main")
    head = hooked.commit(a_package("one", suite=LONG_SUITE), on=hooked.forge.repository.branches["main"])
    branch = hooked.queue(head)
    hooked.ended(hooked.push(head, ref=f"refs/heads/{branch}"))
    with hooked.forge.lock:
        hooked.forge.repository.branches.pop(branch)

    gone = hooked.push(ZERO, before=head, ref=f"refs/heads/{branch}")

    assert hooked.ended(gone) == ("handled", "1 job ended.")
    assert hooked.jobs_ended(1)[0]["error_code"] == "superseded"
