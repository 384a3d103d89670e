"""At most one comment a pull request and suite, whatever else stands there and whoever writes at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from notifiers import CannotNotify, Notice, Receipt
from notifiers._notice import Mode
from notifiers._urllib import drive, opener
from notifiers.github import GitHubTarget, tell
from notifiers.gitlab import GitLabTarget
from notifiers.gitlab import tell as tell_gitlab
from tests.notices import SHA, a_change, a_comparison, a_failure, a_notice, a_row, a_success
from tests.standins.github import GitHub
from tests.standins.gitlab import GitLab
from tests.standins.web import Answer, Fault, Seen

MAC = "a" * 64


@pytest.fixture
def github() -> Iterator[GitHub]:
    with GitHub().running() as running:
        yield running


def a_target(github: GitHub, **changes: object) -> GitHubTarget:
    target = GitHubTarget(
        repository=github.repository,
        token=github.token,
        author=github.login,
        marker=MAC,
        pull_request=12,
        head_sha=SHA,
        check_run=False,
        api_url=github.url,
    )
    return replace(target, **changes)  # type: ignore[arg-type]  # any field of the target


def tell_github(notice: Notice, target: GitHubTarget) -> Receipt:
    return drive(tell(notice, target), send=opener(use_proxies=False), sleep=lambda _: None)


def test_comment__20_pushes_300_foreign_comments_and_two_jobs_at_once_leave_one(github: GitHub) -> None:
    for number in range(300):
        github.add_comment(f"person-{number % 7}", "looks good " * 50)
    barrier = threading.Barrier(2)
    meet_before_creating(github, barrier)

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(tell_github, a_failure(minutes=n), a_target(github)) for n in (0, 1))
        first.result(30)
        second.result(30)
    for push in range(2, 22):
        tell_github(a_failure(minutes=push), a_target(github))

    assert len(github.ours()) == 1
    assert len(github.comments) == 301
    assert "accepted=2026-11-22T12:21:00.000000Z" in github.ours()[0]
    assert github.violations == []


def meet_before_creating(github: GitHub, barrier: threading.Barrier) -> None:
    """Both jobs have read all comments before either creates its own."""
    met = threading.local()

    def wait(seen: Seen) -> None:
        if seen.method == "POST" and not getattr(met, "done", False):
            met.done = True
            barrier.wait(10)

    github.before_answer = wait


def test_comment__two_jobs_that_create_at_once_keep_what_the_later_job_says(github: GitHub) -> None:
    meet_before_creating(github, threading.Barrier(2))
    late = a_failure(minutes=5, job_id="late", head_sha="b" * 40)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(tell_github, notice, a_target(github)) for notice in (late, a_failure())]:
            done.result(30)

    assert len(github.ours()) == 1
    assert "12:05:00" in github.ours()[0]


def test_comment__an_earlier_job_that_reports_late_changes_nothing(github: GitHub) -> None:
    tell_github(a_failure(minutes=5), a_target(github))
    before = github.ours()

    receipt = tell_github(a_success(minutes=1), a_target(github))

    assert github.ours() == before
    assert receipt.did == ()


def test_comment__is_edited_to_be_true_when_all_is_well_again(github: GitHub) -> None:
    tell_github(a_failure(), a_target(github))

    tell_github(a_success(minutes=1), a_target(github))

    assert len(github.ours()) == 1
    assert "✅ Prompt tests: all 2 rows passed" in github.ours()[0]


def test_comment__a_removed_one_is_made_anew(github: GitHub) -> None:
    tell_github(a_failure(), a_target(github))
    github.comments.clear()

    tell_github(a_failure(minutes=1), a_target(github))

    assert len(github.ours()) == 1


def test_comment__one_that_is_removed_between_look_and_edit_is_made_anew(github: GitHub) -> None:
    tell_github(a_failure(), a_target(github))
    github.before_answer = lambda seen: github.comments.clear() if seen.method == "PATCH" else None

    tell_github(a_failure(minutes=1), a_target(github))

    assert len(github.ours()) == 1
    assert "12:01:00" in github.ours()[0]


def test_comment__a_second_one_of_ours_is_removed(github: GitHub) -> None:
    tell_github(a_failure(), a_target(github))
    github.add_comment(github.login, github.ours()[0])

    tell_github(a_failure(minutes=1), a_target(github))

    assert len(github.ours()) == 1


def test_comment__a_list_that_lags_behind_makes_no_second_one(github: GitHub) -> None:
    empty = Answer(body=[])
    github.faults = [Fault(answer=empty, methods=("GET",), times=4)]

    tell_github(a_failure(), a_target(github))

    assert len(github.ours()) == 1
    assert [seen.method for seen in github.log].count("POST") == 1


def test_comment__O4_a_spoofed_marker_is_never_edited(github: GitHub) -> None:
    """By another author, with a wrong code, or further down in a comment of ours about something else."""
    marker = f"<!-- prpm-testing:v1 mac={MAC} accepted=2099-01-01T00:00:00.000000Z -->"
    forged = [
        github.add_comment("mallory", f"{marker}\nAll good!"),
        github.add_comment(github.login, f"Echo of a pull request's text:\n{marker}\n"),
        github.add_comment(github.login, marker.replace(MAC, "b" * 64)),
        github.add_comment(f"{github.login}x", marker),
    ]
    before = {number: github.comments[number]["body"] for number in forged}

    tell_github(a_failure(), a_target(github))

    assert {number: github.comments[number]["body"] for number in forged} == before
    assert len(github.comments) == 5
    assert github.violations == []


def test_comment__each_suite_of_a_pull_request_has_its_own(github: GitHub) -> None:
    for mac in ("a" * 64, "b" * 64, "a" * 64):
        tell_github(a_failure(), a_target(github, marker=mac))

    assert len(github.ours()) == 2


REGRESSED = a_notice(a_row(state="failed", change=a_change("regressed")), comparison=a_comparison())
FAILS_AS_BEFORE = a_notice(a_row(state="failed", change=a_change("stable")), comparison=a_comparison())
FIXED = a_notice(a_row(change=a_change("fixed")), comparison=a_comparison())
FLAKY = a_notice(a_row(state="failed", change=a_change("flaky")), comparison=a_comparison())


@pytest.mark.parametrize(
    ("mode", "notice", "comments"),
    [
        ("changes", a_failure(), 1),
        ("changes", a_success(), 0),
        ("changes", REGRESSED, 1),
        ("changes", FIXED, 1),
        ("changes", FAILS_AS_BEFORE, 0),
        ("changes", FLAKY, 0),
        ("changes", a_notice(a_row(state="error")), 0),
        ("failures", a_failure(), 1),
        ("failures", FIXED, 0),
        ("failures", REGRESSED, 1),
        ("always", a_success(), 1),
        ("never", a_failure(), 0),
    ],
)
def test_comment__appears_by_its_mode(github: GitHub, mode: Mode, notice: Notice, comments: int) -> None:
    tell_github(notice, a_target(github, comment=mode))

    assert len(github.ours()) == comments


def test_comment__is_the_default_to_speak_of_changes_only() -> None:
    assert (GitHubTarget.comment, GitLabTarget.comment) == ("changes", "changes")


def test_comment__G7_a_read_only_token_is_a_sentence(github: GitHub) -> None:
    github.read_only = ("/issues/", "/check-runs")

    with pytest.raises(CannotNotify, match="may not do this") as caught:
        tell_github(a_failure(), a_target(github, check_run=True))

    assert (caught.value.status, caught.value.gone, caught.value.retryable) == (403, False, False)


def test_comment__is_written_though_the_token_may_write_no_check(github: GitHub) -> None:
    github.read_only = ("/check-runs",)

    with pytest.raises(CannotNotify, match="write the check run"):
        tell_github(a_failure(), a_target(github, check_run=True))

    assert len(github.ours()) == 1


def test_check_run__120_annotations_go_out_in_batches_of_50_once(github: GitHub) -> None:
    rows = [a_row(f"case {number}", state="failed") for number in range(120)]
    target = a_target(github, check_run=True)

    tell_github(a_notice(*rows), target)
    tell_github(a_notice(*rows), target)

    (number,) = github.check_runs
    assert len(github.annotations[number]) == 120
    assert len({one["title"] for one in github.annotations[number]}) == 120
    assert github.check_runs[number]["conclusion"] == "failure"
    assert github.violations == []


@pytest.mark.parametrize("lost_after", [1, 2, 3])
def test_check_run__a_lost_answer_repeats_no_annotation(github: GitHub, lost_after: int) -> None:
    """The answer to one of the three writes is lost, though each was carried out."""
    rows = [a_row(f"case {number}", state="failed") for number in range(120)]
    writes = 0

    def lose(seen: Seen) -> None:
        nonlocal writes
        if seen.method in ("POST", "PATCH") and "/check-runs" in seen.path:
            writes += 1
            if writes == lost_after:
                github.faults = [Fault(answer=Answer(status=502), after=True)]

    github.before_answer = lose

    tell_github(a_notice(*rows), a_target(github, check_run=True, pull_request=None))

    (number,) = github.check_runs
    assert len(github.annotations[number]) == 120
    assert len({one["title"] for one in github.annotations[number]}) == 120


def test_check_run__stands_at_the_cases_line(github: GitHub) -> None:
    tell_github(a_failure(), a_target(github, check_run=True))

    ((annotation,),) = github.annotations.values()
    assert annotation == {
        "path": "greeter/prpm.test.yaml",
        "start_line": 7,
        "end_line": 7,
        "annotation_level": "failure",
        "title": "Failed: Says hello on gpt-4o",
        "message": 'What failed: the answer does not contain "hello"\nGot: Good morning to you.',
    }


@pytest.mark.parametrize(
    ("notice", "conclusion", "state"),
    [
        (a_success(), "success", "success"),
        (a_failure(), "failure", "failure"),
        (a_notice(a_row(state="error")), "neutral", "error"),
    ],
)
def test_check_run_and_status__say_the_conclusion(github: GitHub, notice: Notice, conclusion: str, state: str) -> None:
    tell_github(notice, a_target(github, check_run=True, commit_status=True, comment="never"))

    (run,) = github.check_runs.values()
    (status,) = github.statuses
    assert (run["conclusion"], run["head_sha"], status["state"], status["sha"]) == (conclusion, SHA, state, SHA)
    assert run["name"] == status["context"] == "prpm / @acme/greeter / prpm.test.yaml"


def test_check_run__one_that_the_jobs_start_made_is_completed(github: GitHub) -> None:
    notice = a_success()
    github.check_runs[7] = {
        "id": 7, "name": "prpm / @acme/greeter / prpm.test.yaml", "head_sha": SHA, "status": "in_progress",
        "external_id": notice.job_id, "output": {},
    }  # fmt: skip
    github.annotations[7] = []

    tell_github(notice, a_target(github, check_run=True, comment="never"))

    assert list(github.check_runs) == [7]
    assert (github.check_runs[7]["status"], github.check_runs[7]["conclusion"]) == ("completed", "success")


def test_gitlab__one_note_among_300_and_a_status() -> None:
    with GitLab().running() as gitlab:
        for number in range(300):
            gitlab.add_note(f"person-{number % 7}", "looks good")
        gitlab.repeats_refused = True
        target = GitLabTarget(
            project=gitlab.project, token=gitlab.token, author=gitlab.login, marker=MAC, merge_request=12,
            head_sha=SHA, api_url=f"{gitlab.url}/api/v4",
        )  # fmt: skip

        for push in range(3):
            drive(tell_gitlab(a_failure(minutes=push), target), send=opener(use_proxies=False))

        assert len(gitlab.ours()) == 1
        assert "12:02:00" in gitlab.ours()[0]
        assert [status["state"] for status in gitlab.statuses] == ["failed"]
        assert gitlab.violations == []


@pytest.mark.parametrize("mac", ["", "A" * 64, "a" * 8, "a" * 64 + " -->", "../" * 20])
def test_comment__a_marker_that_is_no_hmac_is_refused(github: GitHub, mac: str) -> None:
    with pytest.raises(ValueError, match="HMAC"):
        tell_github(a_failure(), a_target(github, marker=mac))

    assert github.log == []
