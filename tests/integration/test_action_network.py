"""The Action when things go wrong around it: outages, quotas, time, interruptions, proxies, certificates. G10."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runners import Step, a_package, other_pythons, with_token
from tests.standins.github import GitHub
from tests.standins.testing_service import HostedTesting, a_failed_row
from tests.standins.tls import connect_proxy, tls_front
from tests.standins.web import Answer, Fault


@pytest.fixture
def service() -> Iterator[HostedTesting]:
    with HostedTesting().running() as running:
        yield running


@pytest.fixture
def github() -> Iterator[GitHub]:
    stand_in = GitHub()
    stand_in.login = "github-actions[bot]"
    with stand_in.running() as running:
        yield running


@pytest.fixture
def step(tmp_path: Path, service: HostedTesting, github: GitHub) -> Step:
    made = Step(folder=tmp_path)
    a_package(made.workspace)
    made.inputs = with_token(**{"server-url": service.url, "github-token": github.token})
    made.environ = {"GITHUB_API_URL": github.url, "WORKFLOW_TOKEN": github.token}
    return made


def json_answer(status: int, error: str, code: str) -> Answer:
    return Answer(status=status, headers={"Content-Type": "application/json"}, body={"error": error, "code": code})


# What an interruption leaves open, the end of the process closes.
INTERRUPTED = ("ignore::ResourceWarning",)
REFUSALS = {
    "quota": json_answer(402, "This month's 100 runs are used up.", "quota_exceeded"),
    "tier": json_answer(403, "Tests need prpm+.", "free_tier"),
}


@pytest.mark.parametrize("why", list(REFUSALS))
@pytest.mark.parametrize("on_error", ["neutral", "fail"])
def test_on_error__what_is_not_the_packages_fault(
    step: Step, service: HostedTesting, github: GitHub, why: str, on_error: str
) -> None:
    service.faults = [Fault(answer=REFUSALS[why])]
    step.inputs["on-error"] = on_error

    ran = step.run()

    sentence = str(REFUSALS[why].body["error"])
    code = 2 if on_error == "fail" else 0
    assert ran.code == code
    assert sentence in ran.summary
    assert len(ran.of("error")) == (1 if code else 0)
    assert len(ran.of("warning")) == (0 if code else 1)
    assert ran.outputs["passed"] == "false"
    # A branch that requires the check is not left waiting.
    (run,) = github.check_runs.values()
    assert (run["conclusion"], run["name"]) == ("neutral", "prpm / @acme/greeter / prpm.test.yaml")
    assert sentence in run["output"]["summary"]


def test_on_error__a_job_that_the_service_could_not_run(step: Step, service: HostedTesting) -> None:
    service.failure = ("provider_down", "No provider answered.")

    ran = step.run()

    assert ran.code == 0
    assert "No provider answered." in ran.of("warning")[0].value


def test_on_error__superseded_by_a_newer_commit(step: Step, service: HostedTesting) -> None:
    service.failure = ("superseded", "superseded")

    ran = step.run()

    assert (ran.code, "A newer commit" in ran.summary) == (0, True)


def test_on_error__no_folder_fits(step: Step) -> None:
    step.inputs["path"] = "nothing/*"

    ran = step.run()

    assert ran.code == 0
    assert "No folder with a package fits" in ran.summary


def test_on_error__a_mistake_always_fails(step: Step, service: HostedTesting) -> None:
    service.faults = [Fault(answer=json_answer(422, "There is no suite. Add prpm.test.yaml.", "no_suite"))]

    ran = step.run()

    assert ran.code == 2
    assert "Add prpm.test.yaml" in ran.of("error")[0].value


def test_min_score__fails_below(step: Step, service: HostedTesting) -> None:
    service.summary = {"overall_score": 0.7}
    step.inputs["min-score"] = "0.8"

    ran = step.run()

    assert ran.code == 1
    assert "below min-score 0.8" in ran.of("error")[0].value


def test_action__G10_a_lost_answer_to_a_submit_is_no_second_job(step: Step, service: HostedTesting) -> None:
    service.faults = [Fault(after=True, times=2, methods=("POST",))]

    ran = step.run()

    assert (ran.code, len(service.jobs)) == (0, 1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(headers={"Content-Type": "text/html"}, body=b"<html>hello</html>"), "not the testing service's JSON"),
        (Answer(status=404, headers={"Content-Type": "text/html"}, body=b"<html>"), "check server-url"),
        (Answer(status=302, headers={"Location": "https://elsewhere.example/"}), "redirects are not followed"),
        (Answer(body={"snapshot_id": 7}), "holds no snapshot_id"),
    ],
    ids=["html", "404", "redirect", "nonsense"],
)
def test_action__G10_answers_of_another_program(step: Step, service: HostedTesting, answer: Answer, said: str) -> None:
    service.faults = [Fault(answer=answer)]

    assert said in step.run().summary


def test_action__G10_a_job_that_never_ends(step: Step, service: HostedTesting) -> None:
    service.is_slow = True
    step.inputs["timeout"] = "3"

    started = time.monotonic()
    ran = step.run()

    assert ran.code == 0
    assert 2.5 < time.monotonic() - started < 10
    (job_id,) = service.jobs
    assert job_id in ran.log
    assert "time-out" in ran.summary


def test_action__without_events_it_waits_and_looks(step: Step, service: HostedTesting) -> None:
    service.has_events = False

    ran = step.run()

    assert (ran.code, ran.outputs["passed"]) == (0, "true")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_action__an_interruption_cancels_the_job_in_time(step: Step, service: HostedTesting, number: int) -> None:
    service.is_slow = True
    with step.begin(warnings=INTERRUPTED) as process:
        assert eventually(lambda: any(seen.path.endswith("/events") for seen in service.log))
        started = time.monotonic()
        process.send_signal(number)
        log, errors = process.communicate(timeout=20)

    assert process.returncode == 128 + number, errors
    assert time.monotonic() - started < 7
    assert service.cancelled == list(service.jobs)
    assert "is cancelled" in log
    assert "Traceback" not in errors


def test_action__an_interruption_by_bash_reaches_the_program(step: Step, service: HostedTesting) -> None:
    """The runner signals the shell: with `exec` that is the interpreter itself."""
    service.is_slow = True
    script = next(line for line in Path("action.yml").read_text().splitlines() if "run: exec" in line)
    environment = step.environment() | {"GITHUB_ACTION_PATH": str(Path.cwd())}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script.partition("run: ")[2]]
    with subprocess.Popen(command, env=environment, cwd=step.workspace, stdout=subprocess.DEVNULL) as process:
        assert eventually(lambda: any(seen.path.endswith("/events") for seen in service.log))
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10)

    assert (process.returncode, len(service.cancelled)) == (130, 1)


def test_action__a_job_that_the_app_waits_for_is_not_cancelled(step: Step, service: HostedTesting) -> None:
    service.is_slow = True
    service.report = {"marker": "ab" * 32, "reporter": "app"}
    with step.begin(warnings=INTERRUPTED) as process:
        assert eventually(lambda: any(seen.path.endswith("/events") for seen in service.log))
        process.send_signal(signal.SIGINT)
        log, _ = process.communicate(timeout=20)

    assert service.cancelled == []
    assert "it goes on" in log


def test_action__a_service_that_is_away_while_it_is_interrupted(step: Step, service: HostedTesting) -> None:
    service.is_slow = True
    with step.begin(warnings=INTERRUPTED) as process:
        assert eventually(lambda: any(seen.path.endswith("/events") for seen in service.log))
        service.faults = [Fault(answer=Answer(), delay_seconds=30, times=99)]
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        log, _ = process.communicate(timeout=20)

    assert time.monotonic() - started < 7
    assert "could not be cancelled" in log


@pytest.mark.parametrize("python", other_pythons())
def test_action__on_other_pythons(step: Step, service: HostedTesting, python: str) -> None:
    step.python = python
    service.rows = [a_failed_row("Says hello")]

    ran = step.run()

    assert (ran.code, ran.errors) == (1, "")


def test_action__through_a_proxy_and_with_a_private_authority(
    step: Step, service: HostedTesting, tmp_path: Path
) -> None:
    """HTTPS_PROXY and SSL_CERT_FILE, as runners behind a company's walls have them."""
    with (
        tls_front(service, tmp_path, host="testing.internal") as port,
        connect_proxy({"testing.internal:443": port}) as proxy,
    ):
        step.inputs["server-url"] = "https://testing.internal"
        step.environ |= {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(tmp_path / "authority.pem")}
        step.environ |= {"NO_PROXY": "127.0.0.1"}
        ran = step.run()

    assert ran.code == 0, ran.log
    assert ran.outputs["passed"] == "true"
    assert set(proxy.asked) == {"testing.internal:443"}


def test_action__an_authority_that_nobody_knows(step: Step, service: HostedTesting, tmp_path: Path) -> None:
    with (
        tls_front(service, tmp_path, host="testing.internal") as port,
        connect_proxy({"testing.internal:443": port}) as proxy,
    ):
        step.inputs |= {"server-url": "https://testing.internal", "timeout": "20"}
        step.environ |= {"HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"}
        ran = step.run()

    assert service.log == []
    assert "SSLCertVerificationError" in ran.summary


def eventually(condition, *, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
