"""What comes of a pull request, from GitHub's delivery to the check, on a whole service and a strict stand-in."""

from __future__ import annotations

import json

import pytest

from evals.archives import read_archive
from tests.forge_stories import LONG_SUITE, SUITE, Story, a_package, a_story
from tests.service import Service
from tests.standins.github_forge import GitHubForge
from tests.standins.repository import Content, Link, Submodule, blob_sha
from tests.standins.web import Answer, Fault
from tests.webhooks import a_payload

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
TWO_CASES = SUITE + "- description: stays polite\n  input: polite\n  assert: [{type: contains, value: polite}]\n"


def test_pull_request__the_packages_that_it_touches_are_tested_at_its_head(story: Story):
    base = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), branch="main")
    head = story.commit({"two/prompt.md": b"Greet very politely.", "notes.txt": b"no package"}, on=base)
    story.propose(head, base)

    delivery = story.tell_of(head, action="opened")

    assert story.ended(delivery) == ("handled", "1 job submitted.")
    (job,) = story.jobs_ended(1)
    assert (job["package"], job["conclusion"]) == ("two", "passed")
    assert job["change"] == {
        "forge": "github", "repository": story.forge.name, "repository_id": story.forge.id, "ref": "feature",
        "head_sha": head, "base_ref": "main", "base_sha": base, "pull_request": 12, "cause": "head",
    }  # fmt: skip
    assert story.outcome(job)["comparison"]["source"]["name"] == "main"
    assert story.check(head, "prpm / two / default")[0] == "success"


def test_pull_request__nothing_but_what_belongs_to_touched_packages_is_fetched(story: Story):
    base = story.commit(
        a_package("one", folder="one") | a_package("two", folder="two") | {"big.bin": b"x" * 1000}, branch="main"
    )
    head = story.commit({"two/prompt.md": b"Other."}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    fetched = [seen.path.rpartition("/")[2] for seen in story.forge.log if "/git/blobs/" in seen.path]
    wanted = [
        *a_package("two").values(),  # prpm.json and suite, as they were, and the prompt before
        b"Other.",
        a_package("one")["prpm.json"],  # whether there is another `two`
    ]
    assert sorted(fetched) == sorted(blob_sha(content) for content in wanted)
    story.forge.log.clear()
    again = story.commit({"two/prompt.md": b"Again."}, on=head)
    story.propose(again, base)
    story.ended(story.tell_of(again))
    fetched = [seen.path.rpartition("/")[2] for seen in story.forge.log if "/git/blobs/" in seen.path]
    assert sorted(fetched) == sorted(blob_sha(content) for content in [*a_package("two").values(), b"Again."])


@pytest.mark.parametrize("action", ["reopened", "ready_for_review"])
def test_pull_request__is_tested_again_when_it_comes_back_and_paid_for_once(story: Story, action: str):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)

    first = story.ended(story.tell_of(head, action="opened"))
    second = story.ended(story.tell_of(head, action=action))

    assert (first, second) == (("handled", "1 job submitted."), ("handled", "1 known already."))
    assert (len(story.jobs()), story.charges()) == (1, 1)


def test_pull_request__W6_W7_a_delivery_that_comes_again_under_any_name_starts_nothing(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)

    deliveries = [story.tell_of(head, action="opened") for _ in range(4)]

    for delivery in deliveries:
        story.ended(delivery)
    assert (len(story.jobs()), story.charges()) == (1, 1)


def test_pull_request__a_change_that_touches_no_package_says_so(story: Story):
    base = story.commit(a_package("one", folder="one"), branch="main")
    head = story.commit({"notes.txt": b"x"}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    assert story.jobs() == []
    conclusion, title, summary = story.check(head)
    assert (conclusion, title) == ("neutral", "Nothing to test")
    assert "No package is touched by this change, so there is nothing to test." in summary


def test_pull_request__a_draft_waits_until_it_is_ready(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base, draft=True)

    story.ended(story.tell_of(head, action="opened"))
    assert story.jobs() == []
    assert story.check(head)[:2] == ("neutral", "A draft")

    story.propose(head, base)
    story.ended(story.tell_of(head, action="ready_for_review"))
    assert len(story.jobs_ended(1)) == 1
    assert story.check(head)[:2] == ("success", "1 package passed")


def test_pull_request__a_closed_one_is_left_alone(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base, state="closed")

    assert story.ended(story.tell_of(head)) == ("ignored", "It is closed or merged.")
    assert story.jobs() == []


def test_pull_request__an_old_head_that_is_delivered_late_never_ends_the_newer_ones_job(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    old = story.commit(a_package("one", text="Old."), on=base)
    new = story.commit(a_package("one", text="New."), on=old)
    story.propose(new, base)

    story.ended(story.tell_of(new))
    late = story.ended(story.tell_of(old, action="opened"))

    assert late == ("ignored", "A newer commit is there, which is tested by itself.")
    (job,) = story.jobs_ended(1)
    assert (job["change"]["head_sha"], job["superseded_by"], job["conclusion"]) == (new, None, "passed")


def test_pull_request__a_head_that_the_forges_api_does_not_know_yet_is_asked_for_again(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    old = story.commit(a_package("one", text="Old."), on=base)
    new = story.commit(a_package("one", text="New."), on=old)
    story.propose(old, base)
    answered = []

    def lag(seen):
        if "/pulls/12" in seen.path and not answered:
            answered.append(seen)
        elif answered:
            story.forge.pulls[12]["head"]["sha"] = new

    story.forge.before_answer = lag
    try:
        ended = story.ended(story.tell_of(new))
    finally:
        story.forge.before_answer = None

    assert ended == ("handled", "1 job submitted.")


def test_pull_request__a_head_that_comes_back_is_tested_though_a_newer_one_ended_its_job(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    first = story.commit(a_package("one", suite=LONG_SUITE), on=base)
    second = story.commit({"prompt.md": b"Second."}, on=first)
    story.forge.repository.branches["main"] = story.commit({".prpm-testing.yml": b"models: [slow]"}, on=base)
    for head in (first, second, first):
        story.propose(head, base)
        story.ended(story.tell_of(head))

    jobs = story.jobs_ended(3)

    assert [job["change"]["head_sha"] for job in jobs] == [first, second, first]
    assert jobs[0]["superseded_by"] == jobs[1]["id"]
    assert jobs[2]["change"]["cause"] == f"back:{jobs[1]['id']}"


def test_pull_request__Q15_a_storm_of_pushes_is_one_job_a_head_and_the_last_one_counts(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    heads = [story.commit(a_package("one", text="First."), on=base)]
    for number in range(30):
        heads.append(story.commit({"prompt.md": f"Text {number}.".encode()}, on=heads[-1]))
    deliveries = []
    for head in heads:
        story.propose(head, base)
        deliveries += [story.tell_of(head), story.tell_of(head)]

    for delivery in deliveries:
        story.ended(delivery, seconds=60)

    jobs = story.jobs()
    told = [job["change"]["head_sha"] for job in jobs]
    assert len(told) == len(set(told)) <= len(heads)
    assert told[-1] == heads[-1]
    live = [job for job in story.jobs_ended(len(jobs)) if job["superseded_by"] is None]
    assert [job["change"]["head_sha"] for job in live if job["conclusion"] == "passed"][-1] == heads[-1]


CODE = SUITE + "- description: code\n  input: x\n  assert: [{type: javascript, value: 'true'}]\n"


@pytest.mark.parametrize(
    ("files", "title", "words"),
    [
        ({"prompt.md": Link("/etc/passwd")}, "The package cannot be read", "is a symbolic link"),
        ({"prompt.md": Submodule()}, "The package cannot be read", "is a submodule"),
        ({"prompt.md": POINTER}, "The package cannot be read", "is kept in Git LFS"),
        ({"prompt.md": None}, "The package cannot be read", "which is not in the folder"),
        ({"prpm.json": b"{"}, "The package cannot be read", "prpm.json"),
        ({"prpm.json": Submodule()}, "The package cannot be read", "regular file"),
        ({"prpm.test.yaml": b"tests: 7"}, "The tests cannot be run", "prpm.test.yaml"),
        ({"prpm.test.yaml": CODE.encode()}, "The tests cannot be run", "prpm.test.yaml"),
        ({"prpm.test.yaml": None}, "The tests were removed", "Put them back, or merge over this check."),
    ],
)
def test_pull_request__what_cannot_be_tested_fails_with_its_reason(
    story: Story, files: dict[str, Content | None], title: str, words: str
):
    base = story.commit(a_package("one"), branch="main")
    head = story.commit(files, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    conclusion, told, summary = story.check(head, "prpm / one / default")
    assert (conclusion, told) == ("failure", title)
    assert words in summary
    assert story.jobs() == []


def test_pull_request__a_package_without_tests_is_neutral(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit({path: text for path, text in a_package("one").items() if "test" not in path}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    assert story.check(head, "prpm / one / default")[:2] == ("neutral", "There are no tests")


def test_pull_request__a_removed_package_is_named(story: Story):
    files = a_package("one", folder="one")
    base = story.commit(files, branch="main")
    head = story.commit(dict.fromkeys(files), on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    assert story.check(head, "prpm / one / default")[:2] == ("neutral", "The package was removed")


def test_pull_request__tests_that_go_with_their_package_are_said_where_people_decide(story: Story):
    """Who wants fewer of them may begin anew under another name, folder and text."""
    old = a_package("one", folder="one", suite=TWO_CASES)
    base = story.commit(old | {"LICENSE": b"MIT"}, branch="main")
    new = a_package("uno", folder="uno", text="Greet nicely.", suite=SUITE + "# other\n")
    head = story.commit(dict.fromkeys(old) | new, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))
    story.jobs_ended(1)

    conclusion, title, summary = story.check(head)
    assert (conclusion, title) == ("success", "1 of 2 packages passed, 2 tests removed")
    assert "The package was removed, with 2 tests" in summary
    state, title, summary = story.check(head, "prpm / one / default")
    assert (state, title) == ("neutral", "The package was removed")
    assert "and 2 tests with it" in summary
    assert "- greets" in summary
    assert "- stays polite" in summary


def test_pull_request__a_package_with_another_name_and_folder_is_still_compared_with_what_it_was(story: Story):
    old = a_package("one", folder="one", suite=TWO_CASES)
    base = story.commit(old, branch="main")
    head = story.commit(dict.fromkeys(old) | a_package("uno", folder="uno"), on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    (job,) = story.jobs_ended(1)
    cases = story.outcome(job)["comparison"]["cases"]
    assert [(case["title"], case["change"], case["gates"]) for case in cases] == [("stays polite", "removed", True)]
    assert story.check(head)[:2] == ("failure", "1 of 1 package failed")


def test_pull_request__a_licence_in_common_makes_no_package_another_one(story: Story):
    licence: dict[str, Content] = {"one/LICENSE": b"MIT"}
    old = a_package("one", folder="one", suite=TWO_CASES) | licence
    manifest = json.loads(old["one/prpm.json"]) | {"files": ["prompt.md", "LICENSE"]}
    old |= {"one/prpm.json": json.dumps(manifest).encode()}
    base = story.commit(old, branch="main")
    new = a_package("uno", folder="uno", text="Sing.", suite=SUITE + "# other\n") | {"uno/LICENSE": b"MIT"}
    new |= {"uno/prpm.json": json.dumps(manifest | {"name": "uno"}).encode()}
    head = story.commit(dict.fromkeys(old) | new, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    story.jobs_ended(1)
    assert story.check(head)[:2] == ("success", "1 of 2 packages passed, 2 tests removed")


def test_pull_request__a_copy_in_an_earlier_folder_takes_no_packages_check_and_history(story: Story):
    base = story.commit(a_package("one", folder="m"), branch="main")
    head = story.commit(a_package("one", folder="a") | {"m/prompt.md": b"Greet more."}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))
    assert {(job["suite_name"], "Greet more." in package_text(story, job)) for job in story.jobs_ended(2)} == {
        ("default", True), ("a", False),
    }  # fmt: skip

    # Merged, it stays so, for pushes and for further changes, whatever they touch.
    merged = story.commit({"readme.md": b"x"}, on=head, branch="main")
    story.ended(story.push(merged, before=base))
    later = story.commit({"a/prompt.md": b"Copied.", "m/prompt.md": b"Greet most."}, on=merged)
    story.propose(later, merged, number=13)
    story.ended(story.tell_of(later, number=13))
    found = {(job["suite_name"], "Greet most." in package_text(story, job)) for job in story.jobs_ended(6)[4:]}
    assert found == {("default", True), ("a", False)}

    # Only when it goes, the copy is the one that is left.
    alone = story.commit(dict.fromkeys(a_package("one", folder="m")) | {"a/prompt.md": b"Alone."}, on=merged)
    story.propose(alone, merged, number=14)
    story.ended(story.tell_of(alone, number=14))
    assert [job["suite_name"] for job in story.jobs_ended(7)[6:]] == ["default"]


def package_text(story: Story, job: dict) -> str:
    """What the models are told of the job's package."""
    (row,) = story.service.fetch("SELECT archive FROM snapshots WHERE id = $1", job["snapshot_id"])
    return read_archive(row["archive"])["prompt.md"].decode()


def test_pull_request__several_packages_of_one_manifest_are_tested_each_by_itself(story: Story):
    entry = {"version": "1.0.0", "format": "generic", "description": "d"}
    manifest = {
        "license": "MIT",
        "packages": [
            entry | {"name": "one", "files": ["one.md"]},
            entry | {"name": "two", "files": ["two.md"]},
        ],
    }
    files = {"prpm.json": json.dumps(manifest).encode(), "one.md": b"One.", "two.md": b"Two."}
    base = story.commit(files | {"prpm.test.yaml": SUITE.encode()}, branch="main")
    head = story.commit({"two.md": b"Two, again."}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    (job,) = story.jobs_ended(1)
    assert (job["package"], job["conclusion"]) == ("two", "passed")


def test_pull_request__two_packages_of_one_name_keep_their_suites_whichever_is_touched(story: Story):
    """The commit alone says it: else the one's runs would be compared with the other's."""
    base = story.commit(
        a_package("one", folder="a") | a_package("one", folder="b") | a_package("other", folder="0"), branch="main"
    )
    both = story.commit({"a/prompt.md": b"Both.", "b/prompt.md": b"Both."}, on=base)
    first = story.commit({"a/prompt.md": b"First."}, on=base)
    second = story.commit({"b/prompt.md": b"Second."}, on=base)
    for number, head in enumerate((both, first, second), start=12):
        story.propose(head, base, number=number)
        story.ended(story.tell_of(head, number=number))

    told = [(job["change"]["pull_request"], job["suite_name"]) for job in story.jobs_ended(4)]

    assert sorted(told) == [(12, "b"), (12, "default"), (13, "default"), (14, "b")]
    assert story.check(second, "prpm / one / b")[0] == "success"


def test_pull_request__the_last_of_two_packages_of_one_name_has_the_default_suite(story: Story):
    """As the repository is at that commit, whatever it was before."""
    files = a_package("one", folder="a")
    base = story.commit(files | a_package("one", folder="b"), branch="main")
    head = story.commit(dict.fromkeys(files) | {"b/prompt.md": b"Alone."}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    (job,) = story.jobs()
    assert (job["package"], job["suite_name"]) == ("one", "default")


def test_pull_request__a_package_that_cannot_be_read_stops_no_other(story: Story):
    base = story.commit(a_package("one", folder="a") | {"b/prpm.json": b"{", "c/prpm.json": Submodule()}, branch="main")
    head = story.commit({"a/prompt.md": b"Other."}, on=base)
    story.propose(head, base)

    assert story.ended(story.tell_of(head)) == ("handled", "1 job submitted.")


def test_pull_request__skills_and_agents_with_tests_need_no_manifest(story: Story):
    skill = b"---\nname: greeter\ndescription: greets\n---\nGreet."
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(
        {
            ".claude/skills/greeter/SKILL.md": skill,
            ".claude/skills/greeter/prpm.test.yaml": SUITE.encode(),
            ".claude/skills/untested/SKILL.md": skill,
            ".claude/agents/reviewer.md": b"---\nname: reviewer\ndescription: reviews\n---\nReview.",
            ".claude/agents/prpm.test.yaml": SUITE.encode(),
            "docs/prpm.test.yaml": SUITE.encode(),
            "docs/guide.md": b"No package.",
        },
        on=base,
    )
    story.propose(head, base)

    assert story.ended(story.tell_of(head)) == ("handled", "2 jobs submitted.")

    jobs = story.jobs_ended(2)
    assert sorted(job["package"] for job in jobs) == ["agents", "greeter"]
    assert {job["conclusion"] for job in jobs} == {"passed"}


def test_pull_request__cases_that_it_drops_or_loosens_fail_it(story: Story):
    base = story.commit(a_package("one", suite=TWO_CASES), branch="main")
    head = story.commit({"prpm.test.yaml": SUITE.replace("hello}", "h}").encode()}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    (job,) = story.jobs_ended(1)
    cases = story.outcome(job)["comparison"]["cases"]
    assert [(case["title"], case["change"], case["gates"]) for case in cases] == [
        ("greets", "changed", True),
        ("stays polite", "removed", True),
    ]
    assert job["conclusion"] == "failed"


@pytest.mark.parametrize("folder", ["", "moved"])
def test_pull_request__neither_another_name_nor_another_folder_hides_dropped_cases(story: Story, folder: str):
    files = a_package("one", suite=TWO_CASES)
    base = story.commit(files, branch="main")
    renamed = a_package("one" if folder else "uno", folder=folder)
    head = story.commit((dict.fromkeys(files) if folder else {}) | renamed, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    (job,) = story.jobs_ended(1)
    assert [case["title"] for case in story.outcome(job)["comparison"]["cases"]] == ["stays polite"]
    assert job["conclusion"] == "failed"


def test_pull_request__what_main_added_since_is_not_taken_for_dropped(story: Story):
    fork_point = story.commit(a_package("one"), branch="main")
    story.commit({"prpm.test.yaml": TWO_CASES.encode()}, on=fork_point, branch="main")
    head = story.commit({"prompt.md": b"Other."}, on=fork_point)
    story.propose(head, fork_point)

    story.ended(story.tell_of(head))

    (job,) = story.jobs_ended(1)
    assert (job["conclusion"], job["change"]["base_sha"]) == ("passed", fork_point)


RULES = b"packages: [one]\nmodels: [slow]\ngate: {fail-on: failures, min-score: 0.5}\nmax-cost-usd: 0.07\n"


def test_rules__are_the_bases_and_not_the_changes_own(story: Story):
    base = story.commit(
        a_package("one", folder="one") | a_package("two", folder="two") | {".github/prpm-testing.yml": RULES},
        branch="main",
    )
    head = story.commit(
        {
            ".github/prpm-testing.yml": b"models: [priced]\ngate: {fail-on: never}\nmax-cost-usd: 1000\n",
            "one/prompt.md": b"x",
            "two/prompt.md": b"x",
        },
        on=base,
    )
    story.propose(head, base)

    story.ended(story.tell_of(head))

    (job,) = story.jobs()
    assert (job["package"], job["models_requested"], float(job["max_cost_usd"])) == ("one", ["slow"], 0.07)
    against = json.loads(job["against"])
    assert (against["gate"], against["min_score"]) == ("failures", 0.5)


def test_rules__what_spends_is_the_default_branchs_whatever_another_base_says(story: Story):
    main = story.commit(a_package("one") | {".prpm-testing.yml": b"max-cost-usd: 0.01"}, branch="main")
    other = story.commit({".prpm-testing.yml": b"max-cost-usd: 900\nmodels: [slow]"}, on=main, branch="release")
    head = story.commit({"prompt.md": b"x"}, on=other)
    story.propose(head, other)
    story.forge.pulls[12]["base"]["ref"] = "release"

    story.ended(story.tell_of(head))

    (job,) = story.jobs()
    assert (float(job["max_cost_usd"]), job["models_requested"]) == (0.01, ["slow"])


def test_rules__that_cannot_be_read_let_nothing_through_and_spend_nothing(story: Story):
    base = story.commit(a_package("one") | {".prpm-testing.yml": b"gate: {fail-on: sometimes}"}, branch="main")
    head = story.commit({"prompt.md": b"x", ".prpm-testing.yml": b""}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    conclusion, title, summary = story.check(head)
    assert (conclusion, title) == ("failure", "The rules of this repository cannot be read")
    assert ".prpm-testing.yml, line 1: gate.fail-on: must be one of regressions, failures, never." in summary
    assert story.jobs() == []


def test_rules__that_a_change_would_break_are_told_before_it_is_merged(story: Story):
    base = story.commit(a_package("one") | {".prpm-testing.yml": b"models: [echo]"}, branch="main")
    head = story.commit({"prompt.md": b"x", ".prpm-testing.yml": b"models: 7"}, on=base)
    story.propose(head, base)

    assert story.ended(story.tell_of(head)) == ("handled", "1 job submitted.")

    conclusion, title, summary = story.check(head)
    assert (conclusion, title) == ("failure", "This change breaks the repository's rules")
    assert ".prpm-testing.yml, line 1: models: must be" in summary


def test_rules__an_unknown_model_is_said_and_nothing_is_run(story: Story):
    base = story.commit(a_package("one") | {".prpm-testing.yml": b"models: [gpt-9]"}, branch="main")
    head = story.commit({"prompt.md": b"x"}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    conclusion, title, summary = story.check(head, "prpm / one / default")
    assert (conclusion, title) == ("neutral", "The tests were not run")
    assert "there is no model 'gpt-9'" in summary


def test_quota__that_is_used_up_is_said_once_and_nothing_is_charged(forge_site: tuple[Service, GitHubForge]):
    story = a_story(*forge_site)
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    story.service.fetch(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count) "
        "VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 100)",
        story.account.id,
    )

    for action in ("opened", "reopened"):
        story.ended(story.tell_of(head, action=action))

    conclusion, title, summary = story.check(head, "prpm / one / default")
    assert (conclusion, title) == ("neutral", "The tests were not run")
    assert "All 100 test runs of this month are used" in summary
    assert (story.jobs(), story.charges()) == ([], 100)
    assert story.check(head)[:2] == ("neutral", "1 of 1 package not tested")
    made = [run.json()["name"] for run in story.forge.log if run.method == "POST" and "/check-runs" in run.path]
    assert sorted(made) == ["prpm", "prpm / one / default"]


def test_free_tier__is_said(forge_site: tuple[Service, GitHubForge]):
    story = a_story(*forge_site, tier="free")
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    assert story.check(head, "prpm / one / default")[:2] == ("neutral", "The tests were not run")


def test_fetching__a_tree_that_the_forge_cuts_is_no_pass(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    story.forge.truncates = True

    story.ended(story.tell_of(head))
    story.forge.truncates = False

    conclusion, title, summary = story.check(head)
    assert (conclusion, title) == ("failure", "The change cannot be read")
    assert "The repository has more files than its forge lists at once" in summary


def test_fetching__a_commit_that_vanished_is_said(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    del story.forge.repository.commits[head]

    state, reason = story.ended(story.tell_of(head))

    assert (state, story.jobs()) == ("handled", [])
    assert "We could not" in reason
    assert "(HTTP 404)" in reason


def test_fetching__a_forge_that_is_away_is_asked_later(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    story.forge.faults = [Fault(answer=Answer(status=502), times=3, methods=("GET",), path="/git/trees/")]

    assert story.ended(story.tell_of(head), seconds=40) == ("handled", "1 job submitted.")


def test_fetching__a_rate_limit_is_waited_for_as_long_as_the_forge_says(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    limited = Answer(status=429, headers={"Retry-After": "600"}, body={"message": "API rate limit exceeded"})
    story.forge.faults = [Fault(answer=limited, times=99, methods=("GET",), path="/git/trees/")]

    delivery = story.tell_of(head)
    row = story.put_off(delivery)
    story.forge.faults = []

    assert row["due_in"] > 590
    assert "too many requests" in row["reason"]
    assert len([seen for seen in story.forge.log if "/git/trees/" in seen.path]) == 1
    assert story.ended(delivery) == ("handled", "1 job submitted.")


def test_fetching__a_token_that_ended_before_its_time_is_replaced(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(1)
    story.settle()
    other = story.commit({"prompt.md": b"Other."}, on=head)
    story.propose(other, base)
    story.forge.end_tokens()

    state, reason = story.ended(story.tell_of(other))

    assert (state, reason) == ("handled", "1 job submitted.")
    story.settle()
    # The stand-in notes each use of a token that is none.
    story.forge.violations.clear()


def test_W19_an_event_of_before_a_rename_is_acted_on_under_the_new_name(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    before = story.about()
    story.ended(story.tell_of(head, action="opened"))
    story.jobs_ended(1)
    story.settle()
    renamed(story)
    payload = a_payload("github/push.new_branch") | {"action": "renamed"} | story.about()
    story.ended(story.send("repository", payload))
    other = story.commit({"prompt.md": b"Other."}, on=head)
    story.propose(other, base)

    assert story.ended(story.tell_of(other, **before)) == ("handled", "1 job submitted.")
    assert story.check(other, "prpm / one / default")[0] == "success"


def test_W19_an_event_between_a_rename_and_its_delivery_is_tried_again(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    before = story.about()
    renamed(story)

    delivery = story.tell_of(head, action="opened", **before)

    assert story.put_off(delivery)["reason"] == "The repository has another name by now, of which a delivery tells."
    payload = a_payload("github/push.new_branch") | {"action": "renamed"} | story.about()
    story.ended(story.send("repository", payload))
    assert story.ended(delivery) == ("handled", "1 job submitted.")


def renamed(story: Story) -> None:
    """The old name leads to the new one, for a while."""
    with story.forge.lock:
        story.forge.old_names.add(story.forge.name)
        story.forge.name += "-renamed"


def test_W19_an_app_that_was_removed_ends_the_event_and_says_nothing_there(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    story.ended(story.tell_of(head))
    story.jobs_ended(1)
    story.settle()
    story.forge.suspended = True
    story.forge.end_tokens()
    with story.forge.lock:
        story.forge.installation_id += 1  # it has another one now, which is nobody's

    state, _ = story.ended(story.tell_of(story.commit({"prompt.md": b"x"}, on=head)))

    story.forge.suspended = False
    assert state == "ignored"
    assert len(story.jobs()) == 1
    story.forge.violations.clear()


def test_W18_a_delivery_that_names_another_accounts_installation_starts_nothing_there(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)

    state, _ = story.ended(story.tell_of(head, installation={"id": 4_999_999_999}))

    # It is the repository's own installation that counts.
    assert state == "handled"
    assert {job["user_id"] for job in story.jobs()} == {story.account.id}


def test_W16_hostile_branches_run(story: Story):
    base = story.commit({"readme.md": b"x"}, branch="main")
    head = story.commit(a_package("one"), on=base)
    story.propose(head, base)
    story.forge.pulls[12]["head"]["ref"] = "féature/`$(x)`/😀\u202e"

    story.ended(story.tell_of(head))

    (job,) = story.jobs_ended(1)
    assert job["change"]["ref"] == "féature/`$(x)`/😀\u202e"
