"""What comes of pushes to branches and of tags: what later changes are compared with, and results of versions."""

from __future__ import annotations

import json

from evals.archives import pack
from tests.forge_stories import ANN, SUITE, Story, a_package
from tests.service import finished_job
from tests.webhooks import a_payload


def test_push__to_the_default_branch_runs_what_it_changed_past_every_cache(story: Story):
    before = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), branch="main")
    after = story.commit({"two/prompt.md": b"Other."}, on=before, branch="main")

    assert story.ended(story.push(after, before=before)) == ("handled", "1 job submitted.")

    (job,) = story.jobs_ended(1)
    assert (job["package"], job["cause"], job["use_cache"]) == ("two", "baseline", False)
    assert (job["change"]["ref"], job["change"]["cause"], "pull_request" in job["change"]) == ("main", "head", False)


def test_push__is_what_later_changes_are_compared_with(story: Story):
    base = story.commit(
        a_package("one", suite=SUITE.replace("input: hello", "input: hello\n  repeat: 5")), branch="main"
    )
    story.ended(story.push(base))
    story.jobs_ended(1)
    head = story.commit({"prompt.md": b"Other."}, on=base)
    story.propose(head, base)

    story.ended(story.tell_of(head))

    job = story.jobs_ended(2)[1]
    source = story.outcome(job)["comparison"]["source"]
    assert (source["kind"], source["name"], source["jobs"]) == ("branch", "main", 1)


def test_push__of_a_new_branch_or_after_a_forced_push_runs_every_package(story: Story):
    after = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), branch="main")

    assert story.ended(story.push(after)) == ("handled", "2 jobs submitted.")
    assert story.ended(story.push(after, before="7" * 40)) == ("handled", "2 known already.")


def test_push__to_another_branch_starts_nothing(story: Story):
    after = story.commit(a_package("one"), branch="feature")

    state, reason = story.ended(story.push(after, ref="refs/heads/feature"))

    assert (state, story.jobs()) == ("ignored", [])
    assert reason.startswith("Only the default branch's pushes are tested")


def test_push__an_old_one_that_is_delivered_late_starts_nothing(story: Story):
    old = story.commit(a_package("one"), branch="main")
    story.commit({"prompt.md": b"New."}, on=old, branch="main")

    assert story.ended(story.push(old))[0] == "ignored"
    assert story.jobs() == []


def ask_for_all_again(story: Story, head: str, *, at: str = "2026-11-23T11:00:00Z") -> str:
    """GitHub's "Re-run all checks"."""
    payload = a_payload("github/check_run.rerequested", **story.about())
    del payload["check_run"]
    payload["sender"] |= {"login": ANN[0], "id": ANN[1]}
    return story.send("check_suite", payload | {"check_suite": {"id": 5, "head_sha": head, "updated_at": at}})


def test_push__all_its_checks_asked_for_again_are_those_of_what_it_touched(story: Story):
    before = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), branch="main")
    after = story.commit({"two/prompt.md": b"Other."}, on=before, branch="main")
    story.ended(story.push(after, before=before))
    newer = story.commit({"one/prompt.md": b"Later."}, on=after, branch="main")
    story.ended(story.push(newer, before=after))

    assert story.ended(ask_for_all_again(story, after)) == ("handled", "1 job submitted.")

    assert [(job["package"], job["change"]["head_sha"]) for job in story.jobs()] == [
        ("two", after), ("one", newer), ("two", after),
    ]  # fmt: skip
    assert story.jobs()[-1]["change"]["base_sha"] == before


def test_push__all_its_checks_asked_for_again_are_all_where_it_was_compared_with_nothing(story: Story):
    head = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), branch="main")
    story.ended(story.push(head))

    assert story.ended(ask_for_all_again(story, head)) == ("handled", "2 jobs submitted.")


def test_push__all_its_checks_asked_for_again_after_its_base_is_gone_are_those_of_every_package(story: Story):
    before = story.commit(a_package("one", folder="one") | a_package("two", folder="two"), branch="main")
    after = story.commit({"two/prompt.md": b"Other."}, on=before, branch="main")
    story.ended(story.push(after, before=before))
    del story.forge.repository.commits[before]

    assert story.ended(ask_for_all_again(story, after)) == ("handled", "2 jobs submitted.")


def test_tag__all_its_checks_asked_for_again_are_those_of_its_version(story: Story):
    two = a_package("two", folder="two")
    two["two/prpm.json"] = two["two/prpm.json"].replace(b"1.0.0", b"2.0.0")
    commit = story.commit(a_package("one", folder="one") | two, branch="main")
    story.ended(story.push(commit, ref="refs/tags/v2.0.0"))

    assert story.ended(ask_for_all_again(story, commit)) == ("handled", "1 job submitted.")

    assert [job["package"] for job in story.jobs()] == ["two", "two"]


def test_tag__tests_the_packages_of_its_version(story: Story):
    two = a_package("two", folder="two")
    two["two/prpm.json"] = two["two/prpm.json"].replace(b"1.0.0", b"2.0.0")
    commit = story.commit(a_package("one", folder="one") | two, branch="main")

    story.ended(story.push(commit, ref="refs/tags/v2.0.0"))
    story.ended(story.push(commit, ref="refs/tags/one@1.0.0"))
    story.ended(story.push(commit, ref="refs/tags/nightly"))
    other = story.commit({"readme.md": b"x"}, on=commit)
    story.ended(story.push(other, ref="refs/tags/v9.0.0"))

    told = [(job["package"], job["change"]["ref"]) for job in story.jobs()]
    assert told[:2] == [("two", "refs/tags/v2.0.0"), ("one", "refs/tags/one@1.0.0")]
    assert sorted(told[2:]) == [("one", "refs/tags/nightly"), ("two", "refs/tags/nightly")]
    assert "No package has the version that the tag v9.0.0 names" in story.check(other)[2]


def test_tag__an_annotated_one_is_its_commits(story: Story):
    commit = story.commit(a_package("one"), branch="main")

    story.ended(story.push(commit, ref="refs/tags/v1.0.0", tag_object="a" * 40))

    (job,) = story.jobs_ended(1)
    assert (job["change"]["head_sha"], job["conclusion"]) == (commit, "passed")
    assert story.check(commit, "prpm / one / default")[0] == "success"


def test_tag__that_was_moved_is_tested_where_it_is_now_in_whatever_order_that_is_delivered(story: Story):
    old = story.commit(a_package("one"), branch="main")
    new = story.commit({"prompt.md": b"New."}, on=old, branch="main")
    first = story.push(old, ref="refs/tags/v1.0.0")
    story.ended(first)
    (row,) = story.service.fetch("SELECT body FROM deliveries WHERE delivery_id = $1", first)
    story.ended(story.push(new, before=old, ref="refs/tags/v1.0.0"))

    late = story.send("push", json.loads(row["body"]))

    assert story.ended(late) == ("ignored", "The tag was moved, and is tested where it is now.")
    assert [(job["change"]["head_sha"], job["superseded_by"]) for job in story.jobs()][-1] == (new, None)
    assert len(story.jobs()) == 2


def test_tag__uploads_results_of_the_published_version_where_the_rules_say_so(story: Story):
    name = f"@{story.account.username}/one"
    files = a_package("one")
    manifest = json.loads(files["prpm.json"]) | {"name": name, "files": ["prompt.md"]}
    files = {
        "prpm.json": json.dumps(manifest).encode(), "prompt.md": b"Greet.", "tests/prpm.json": b'{"tests": []}',
    }  # fmt: skip
    files["tests/prpm.json"] = json.dumps(
        {"tests": [{"input": "hello", "assert": [{"type": "contains", "value": "hello"}]}]}
    ).encode()
    published = story.account.client.post(
        "/api/v1/packages",
        files={
            "tarball": ("package.tar.gz", pack(files), "application/gzip"),
            "manifest": (None, json.dumps(manifest)),
        },
    )
    assert published.status_code == 200, published.text
    commit = story.commit(files | {".prpm-testing.yml": b"tags: {upload: true}"}, branch="main")

    story.ended(story.push(commit, ref="refs/tags/v1.0.0"))

    (job,) = story.jobs_ended(1)
    finished_job(story.account, str(job["id"]))
    assert (job["package"], job["package_version"], job["upload_results"]) == (name, "1.0.0", True)
    assert job["test_result_id"] is not None


def test_tag__says_why_results_were_not_uploaded_and_tests_all_the_same(story: Story):
    commit = story.commit(a_package("one") | {".prpm-testing.yml": b"tags: {upload: true}"}, branch="main")

    story.ended(story.push(commit, ref="refs/tags/v1.0.0"))

    (job,) = story.jobs_ended(1)
    assert (job["package"], job["upload_results"], job["conclusion"]) == ("one", False, "passed")
    conclusion, title, summary = story.check(commit, "prpm / one / default.upload")
    assert (conclusion, title) == ("neutral", "Not uploaded")
    assert "There is no package one" in summary
