"""`prpm test` through the service: what is sent, what is shown, how it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from cli.client import RegistryClient
from cli.errors import Interrupted
from cli.hosted import HostedRun
from cli.request import RunRequest
from cli.subject import Registered
from cli.terminal import Terminal
from evals.models import Secret
from tests.standins.service import (
    JOB_ID,
    PACKAGE_ID,
    TOKEN,
    Reply,
    Service,
    a_failed_row,
    a_job,
    a_row,
    a_submitted_job,
    a_summary,
    an_errored_row,
    package_name,
)
from tests.unit.cli.conftest import User


def wait_quickly(
    service: Service,
    *,
    timeout_seconds: float = 120.0,
    sleep: Callable[[float], None] = lambda _seconds: None,
    now: Callable[[], float] = time.monotonic,
) -> int:
    """A hosted run whose clock the test holds."""
    client = RegistryClient(service.url, token=Secret(TOKEN))
    request = RunRequest(text="x", subject=Registered("@alice/review"), timeout_seconds=timeout_seconds)
    try:
        return HostedRun(client, Terminal(), web_url=service.url, sleep=sleep, now=now).run(request)
    finally:
        client.close()


STATUS = "GET /api/v1/test-jobs/{id}"
RESULTS = "GET /api/v1/test-jobs/{id}/results"
SUBMIT = "POST /api/v1/test-jobs/run"


def test_hosted__a_passing_package_reads_as_promised(alice: User, service: Service) -> None:
    ran = alice.runs("test", "@alice/review")

    assert (
        ran.out
        == f"""\
🚀 Using PRPM hosted testing (prpm+)

📤 Submitting test job...

✅ Job submitted (ID: {JOB_ID})
   Status: queued
   Position in queue: 2
   Estimated wait: 15s
   Usage: 23/100 tests this month

⏳ Waiting for results...

✅ Test completed!

📊 Test Results:

✅ Test 1: Review function (100%)
✅ Test 2: Security check (100%)
✅ Test 3: Edge cases (100%)

📈 Summary:

   Total Tests: 3
   Passed: 3 ✅
   Failed: 0 ❌
   Overall Score: 100.0%
   Total Duration: 5.2s
   Total Tokens: 3,421
   Cost: $0.0012

🔎 Details: {service.url}/jobs/{JOB_ID}
"""
    )
    assert ran.err == ""
    assert ran.code == 0


def test_hosted__failures_and_errors_say_why(alice: User, service: Service) -> None:
    service.finish([a_row("Review"), a_failed_row("Security"), an_errored_row("Edge cases")])

    ran = alice.runs("test", "@alice/review")

    assert (
        f"""\
📊 Test Results:

✅ Review (100%)
❌ Security (0%)
   contains: Expected output to contain "SQL injection"
   Answer: Looks good to me!
⚠️ Edge cases
   provider: The model answered with HTTP 529 three times.

📈 Summary:

   Total Tests: 3
   Passed: 1 ✅
   Failed: 1 ❌
   Errors: 1 ⚠️
   Overall Score: 50.0%
   Total Duration: 5.2s
   Total Tokens: 3,421
   Cost: $0.0012

🔎 Details: {service.url}/jobs/{JOB_ID}
"""
        in ran.out
    )
    assert ran.code == 1


def test_hosted__errors_without_failures_are_inconclusive(alice: User, service: Service) -> None:
    service.finish([a_row("Review"), an_errored_row("Edge cases")])

    assert alice.runs("test", "@alice/review").code == 2


def test_hosted__several_models_are_named_on_each_row(alice: User, service: Service) -> None:
    service.finish([a_row("Review"), a_failed_row("Review", model="gpt-4o")])

    ran = alice.runs("test", "@alice/review", "-m", "claude-sonnet-4, gpt-4o")

    assert "✅ Review (100%) · claude-sonnet-4\n❌ Review (0%) · gpt-4o\n" in ran.out
    assert service.submitted()["models"] == ["claude-sonnet-4", "gpt-4o"]


def test_hosted__a_long_answer_is_shown_around_what_the_reason_quotes(alice: User, service: Service) -> None:
    answer = "Nothing to see. " * 100 + "Never write eval(input()) in Python. " + "The end. " * 100
    assertion = {
        "type": "not-contains",
        "passed": False,
        "score": 0,
        "reason": 'Must not contain "eval(input())"',
    }
    service.finish([a_failed_row("Security") | {"response": answer, "assertions": [assertion]}])

    ran = alice.runs("test", "@alice/review")

    (line,) = (line for line in ran.out.splitlines() if "Answer:" in line)
    assert "Never write eval(input()) in Python." in line
    assert len(line) < 200


def test_hosted__repeats_are_counted(alice: User, service: Service) -> None:
    trials = [{"state": state, "score": 0, "response": ""} for state in ("passed", "failed", "failed")]
    service.finish([a_failed_row("Security", trials=trials)])

    assert "   1 of 3 repeats passed\n" in alice.runs("test", "@alice/review").out


def test_hosted__verbose_shows_answers_assertions_and_attempts(alice: User, service: Service) -> None:
    attempts = [
        {"deployment": "anthropic/one", "duration_ms": 800, "error": "Overloaded.", "status": 529},
        {"deployment": "bedrock/two", "duration_ms": 400},
    ]
    service.finish([a_row("Review", response="First.\nSecond.", answered_by="two", attempts=attempts)])

    ran = alice.runs("test", "@alice/review", "--verbose")

    assert (
        """\
✅ Review (100%)
   Model: claude-sonnet-4, answered by two, 1.2s
   Attempt: anthropic/one, 0.8s: Overloaded. (HTTP 529)
   Attempt: bedrock/two, 0.4s: answered
   ✅ contains (100%): Assertion passed
   │ First.
   │ Second.
"""
        in ran.out
    )


def test_hosted__verbose_shows_each_repeat_of_each_row(alice: User, service: Service) -> None:
    trials = [
        {"state": "passed", "score": 1, "response": "Yes.", "duration_ms": 300},
        {"state": "error", "score": 0, "error": {"kind": "timeout", "message": "Too slow."}},
    ]
    service.finish([a_row("Review", trials=trials), a_row("Security")])

    ran = alice.runs("test", "@alice/review", "--verbose")

    assert (
        """\
✅ Review (100%)
   Model: claude-sonnet-4, 1.2s
   ✅ Repeat 1 (100%), 0.3s
      │ Yes.
   ⚠️ Repeat 2 (0%), 0.0s
      timeout: Too slow.

✅ Security (100%)
"""
        in ran.out
    )


def test_hosted__options_reach_the_service(alice: User, service: Service) -> None:
    alice.runs("test", "@alice/review@1.0.1", "-p", "github,slack", "-u", "-v", "--framework", "auto")

    assert service.submitted() == {
        "package_id": PACKAGE_ID,
        "package_version": "1.0.1",
        "plugins": ["github", "slack"],
        "framework": "auto",
        "upload_results": True,
        "verify_results": True,
    }
    (fetched,) = service.requests("GET /api/v1/packages/{name}")
    assert fetched.path == "/api/v1/packages/%40alice%2Freview"
    assert package_name(fetched) == "@alice/review"


def test_hosted__names_no_model_unless_asked(alice: User, service: Service) -> None:
    alice.runs("test", "@alice/review")

    assert service.submitted() == {
        "package_id": PACKAGE_ID, "upload_results": False, "verify_results": False,
    }  # fmt: skip


def test_hosted__the_upload_link_needs_upload_and_a_stored_result(alice: User, service: Service) -> None:
    link = f"\n📊 Results uploaded: {service.url}/packages/{PACKAGE_ID}/tests\n"
    not_stored = alice.runs("test", "@alice/review", "-u").out
    service.finish([a_row("Review")], test_result_id="3f0e")
    not_asked = alice.runs("test", "@alice/review").out

    stored = alice.runs("test", "@alice/review", "-u").out

    assert link not in not_stored
    assert link not in not_asked
    assert stored.endswith(link)


def test_hosted__unlimited_usage_is_said_in_words(alice: User, service: Service) -> None:
    usage = {"tests_used_this_month": 23, "tests_remaining": 10**9, "tier": "enterprise", "unlimited": True}
    service.set(SUBMIT, Reply(a_submitted_job(usage=usage), status=202))

    assert "   Usage: 23 tests this month (unlimited)\n" in alice.runs("test", "@alice/review").out


def test_hosted__running_jobs_show_dots_on_stderr(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    done = a_job("completed", results=a_summary([a_row("Review")]))
    service.set(STATUS, Reply(a_job("running", progress={"trials_total": 3})), Reply(done))

    code = wait_quickly(service)

    ran = capsys.readouterr()
    assert ran.err == ".\n"
    assert "✅ Test completed!" in ran.out
    assert code == 0


@pytest.mark.parametrize(
    ("status", "code"),
    [(402, "quota_exceeded"), (403, "forbidden"), (404, "not_found"), (422, "no_suite"), (400, "invalid")],
)
def test_hosted__a_refused_submit_is_explained(alice: User, service: Service, status: int, code: str) -> None:
    refusal = {"error": "This cannot be done.", "code": code, "details": ["models.0: unknown", "more"]}
    service.set(SUBMIT, Reply(refusal, status=status))

    ran = alice.runs("test", "@alice/review")

    assert ran.err == "❌ This cannot be done.\n   - models.0: unknown\n   - more\n"
    assert ran.code == 2
    assert len(service.requests(SUBMIT)) == 1


def test_hosted__a_refused_token_names_the_way_to_log_in(alice: User) -> None:
    alice.environ.setenv("PRPM_TOKEN", "somebody-elses")

    ran = alice.runs("usage")

    assert ran.err == "❌ Failed to get usage: Unauthorized\n   Run `prpm login`, or set PRPM_TOKEN.\n"
    assert ran.code == 2


def test_hosted__a_submit_is_sent_again_with_its_key(alice: User, service: Service) -> None:
    service.set(
        SUBMIT,
        Reply(drop=True),
        Reply({"error": "Restarting."}, status=503, headers={"retry-after": "0"}),
        Reply(a_submitted_job(), status=202),
    )

    ran = alice.runs("test", "@alice/review")

    keys = {seen.headers["idempotency-key"] for seen in service.requests(SUBMIT)}
    assert ran.code == 0
    assert len(service.requests(SUBMIT)) == 3
    assert len(keys) == 1


def test_hosted__a_submit_is_given_up_after_three_tries(alice: User, service: Service) -> None:
    service.set(SUBMIT, Reply({"error": "Down for a moment."}, status=503, headers={"retry-after": "0"}))

    ran = alice.runs("test", "@alice/review")

    assert (ran.code, ran.err) == (2, "❌ Down for a moment.\n")
    assert len(service.requests(SUBMIT)) == 3


def test_hosted__a_500_is_not_sent_again(alice: User, service: Service) -> None:
    service.set(SUBMIT, Reply({"error": "Internal."}, status=500))

    alice.runs("test", "@alice/review")

    assert len(service.requests(SUBMIT)) == 1


def test_hosted__a_failed_job_ends_with_1(alice: User, service: Service) -> None:
    service.set(STATUS, Reply(a_job("failed", error="Every model was down.", code="provider_down")))

    ran = alice.runs("test", "@alice/review")

    assert ran.err.startswith("❌ Test failed: Every model was down.\n")
    assert ran.code == 1


def test_hosted__a_superseded_job_ends_with_2_and_names_the_newer_one(alice: User, service: Service) -> None:
    service.set(STATUS, Reply(a_job("failed", error="Superseded.", code="superseded", superseded_by="j-2")))

    ran = alice.runs("test", "@alice/review")

    assert ran.err.startswith("❌ A newer commit of this change is tested in its place: `prpm job j-2`.\n")
    assert ran.code == 2


def test_hosted__a_standstill_ends_with_1_and_the_way_to_look_later(alice: User, service: Service) -> None:
    service.set(STATUS, Reply(a_job("queued")))

    ran = alice.runs("test", "@alice/review", "--timeout", "0.001")

    assert (
        ran.err
        == f"""\
❌ Timeout waiting for test results
   Job: {JOB_ID}
   Look later: {service.url}/jobs/{JOB_ID}
   or: prpm job {JOB_ID}
"""
    )
    assert ran.code == 1


def test_hosted__a_server_that_is_away_for_a_moment_ends_no_wait(service: Service) -> None:
    done = a_job("completed", results=a_summary([a_row("Review")]))
    away = Reply({"error": "Restarting."}, status=503)
    service.set(STATUS, away, Reply(drop=True), Reply({"error": "Slower."}, status=429), Reply(done))

    assert wait_quickly(service) == 0


def test_hosted__each_change_of_progress_starts_the_timeout_anew(service: Service) -> None:
    moving = [Reply(a_job("running", progress={"trials_finished": count})) for count in range(8)]
    done = Reply(a_job("completed", results=a_summary([a_row("Review")])))
    service.set(STATUS, *moving, done)
    clock = iter(range(0, 10_000, 9))

    # Every look at the clock finds it 9 s later: 8 changes take far longer than the 60 s without a change.
    assert wait_quickly(service, now=lambda: float(next(clock)), timeout_seconds=60) == 0


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(a_job("running"), status=202), "Cancelled."),
        (
            Reply({"error": "Completed already.", "code": "job_finished"}, status=409),
            "Stopped waiting. The job had just ended.",
        ),
        (Reply({"error": "Away."}, status=503), "Stopped waiting. The job could not be cancelled and goes on."),
    ],
)
def test_hosted__ctrl_c_cancels_the_job_and_says_what_came_of_it(service: Service, reply: Reply, said: str) -> None:
    service.set(STATUS, Reply(a_job("running")))
    service.set("POST /api/v1/test-jobs/{id}/cancel", reply)

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        wait_quickly(service, sleep=interrupt)

    assert caught.value.exit_code == 130
    assert caught.value.message == said
    assert caught.value.facts["job_id"] == JOB_ID


def test_hosted__a_lost_job_is_said(alice: User, service: Service) -> None:
    service.set(STATUS, Reply({"error": "There is no such job."}, status=404))

    ran = alice.runs("test", "@alice/review")

    assert (ran.code, ran.err) == (2, "❌ Failed to get test job: There is no such job.\n")


def test_hosted__json_is_one_document(alice: User, service: Service) -> None:
    rows = [a_row("Review"), a_failed_row("Security")]
    service.finish(rows)

    ran = alice.runs("test", "@alice/review", "--json")

    assert json.loads(ran.out) == {
        "job_id": JOB_ID,
        "conclusion": "failed",
        "url": f"{service.url}/jobs/{JOB_ID}",
        "test_cases": rows,
        "summary": a_summary(rows),
    }
    assert "🚀 Using PRPM hosted testing (prpm+)" in ran.err
    assert ran.code == 1


def test_hosted__json_errors_are_documents_too(alice: User, service: Service) -> None:
    service.set(SUBMIT, Reply({"error": "Used up.", "code": "quota_exceeded", "details": ["a: b"]}, status=402))

    ran = alice.runs("test", "@alice/review", "--json")

    assert json.loads(ran.out) == {"error": "Used up.", "code": "quota_exceeded", "details": ["a: b"]}
    assert ran.code == 2


def test_hosted__a_json_timeout_names_the_job(alice: User, service: Service) -> None:
    service.set(STATUS, Reply(a_job("queued")))

    ran = alice.runs("test", "@alice/review", "--timeout", "0.001", "--json")

    assert json.loads(ran.out) == {
        "error": "Timeout waiting for test results",
        "code": "timeout",
        "job_id": JOB_ID,
        "url": f"{service.url}/jobs/{JOB_ID}",
    }


def test_hosted__seed_only_answers_are_enough(alice: User, service: Service) -> None:
    results = {
        "total_tests": 1, "tests_passed": 0, "tests_failed": 1, "overall_score": 0, "total_duration_ms": 10,
        "total_tokens": 5, "total_cost_usd": 0.5,
    }  # fmt: skip
    row = {
        "title": "Review", "passed": False, "score": 0, "response": "no", "model": "gpt-4o",
        "duration_ms": 10, "assertions": [],
    }  # fmt: skip
    service.set(STATUS, Reply(a_job("completed", results=results)))
    service.set(RESULTS, Reply({"test_cases": [row], "summary": {"total_tests": 1}}))

    ran = alice.runs("test", "@alice/review")

    assert "❌ Review (0%)\n   Answer: no\n" in ran.out
    assert ran.code == 1


HOSTILE = "\x1b[2J\x1b]0;owned\x07ok\u202e\u200b\r\n✅ PASSED ##[add-mask]x\x9b31m"


def test_hosted__I16_O5_hostile_text_cannot_act_on_the_terminal(alice: User, service: Service) -> None:
    row = a_failed_row(HOSTILE, model=HOSTILE, answered_by=HOSTILE) | {"response": HOSTILE}
    row["assertions"] = [{"type": HOSTILE, "passed": False, "score": 0, "reason": HOSTILE}]
    service.finish([row, a_row("Other")])

    ran = alice.runs("test", "@alice/review", "--verbose")

    for forbidden in ("\x1b", "\x9b", "\x07", "\r", "\u202e", "\u200b", "##[", "owned"):
        assert forbidden not in ran.out
    assert not any(line.startswith("✅ PASSED") for line in ran.out.splitlines())
    assert "❌ ok ✅ PASSED ## [add-mask]x (0%)" in ran.out


def test_hosted__O5_hostile_errors_and_json_are_harmless(alice: User, service: Service) -> None:
    service.set(SUBMIT, Reply({"error": HOSTILE, "details": [f"path: {HOSTILE}"]}, status=400))

    shown = alice.runs("test", "@alice/review").err
    as_json = alice.runs("test", "@alice/review", "--json").out

    assert shown == "❌ ok ✅ PASSED ## [add-mask]x\n   - path: ok ✅ PASSED ## [add-mask]x\n"
    assert as_json.isascii()
    assert "\x1b" not in as_json


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>Sign in</html>"),
        Reply({"job": 1}),
        Reply(b"[" * 100_000),
        Reply(b'{"id": "x", "status": "dancing"}'),
        Reply(b""),
        Reply(b"\xff\xfe"),
    ],
    ids=["html", "other json", "deep", "unknown status", "empty", "not utf-8"],
)
def test_hosted__G10_nonsense_answers_end_in_a_sentence(alice: User, service: Service, reply: Reply) -> None:
    service.set(STATUS, reply)

    ran = alice.runs("test", "@alice/review")

    assert ran.err == f"❌ {service.url} gave an answer that is not the API's. Check PRPM_REGISTRY_URL.\n"
    assert ran.code == 2


def test_hosted__G10_the_token_follows_no_redirect(alice: User, service: Service) -> None:
    with Service() as elsewhere:
        service.set("GET /api/v1/user", Reply({}, status=307, headers={"location": elsewhere.url + "/x"}))

        ran = alice.runs("whoami")

        assert ran.code == 2
        assert "redirects to another address" in ran.err
        assert elsewhere.seen == []


def test_hosted__nothing_listens_at_the_registry(alice: User) -> None:
    alice.environ.setenv("PRPM_REGISTRY_URL", "http://127.0.0.1:9")

    ran = alice.runs("test", "@alice/review")

    assert ran.err == ("❌ Cannot reach http://127.0.0.1:9 (no connection). Check the address and your connection.\n")
    assert ran.code == 2
