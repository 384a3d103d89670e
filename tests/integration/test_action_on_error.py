"""When the step fails: each row of the table in docs/github-action.md, for every cause that it names, both ways."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runners import ROOT, Step, a_package, a_pull_request, a_push, with_token
from tests.standins.github import GitHub
from tests.standins.service import an_errored_row
from tests.standins.slack import PATH as SLACK_PATH
from tests.standins.testing_service import MARKER, HostedTesting, a_failed_row, a_row
from tests.standins.web import Answer, Fault

Arrange = Callable[[Step, HostedTesting, GitHub], None]


def refusal(status: int, code: str) -> Arrange:
    def arrange(step: Step, service: HostedTesting, github: GitHub) -> None:
        headers = {"Content-Type": "application/json"} | ({"Retry-After": "0"} if status == 429 else {})
        body = {"error": "The service says why.", "code": code}
        service.faults = [Fault(answer=Answer(status=status, headers=headers, body=body), times=99)]

    return arrange


def failing(**inputs: str) -> Arrange:
    def arrange(step: Step, service: HostedTesting, github: GitHub) -> None:
        service.rows = [a_row("Says hello"), a_failed_row("Says goodbye")]
        step.inputs |= {name.replace("_", "-"): value for name, value in inputs.items()}

    return arrange


def regressed(step: Step, service: HostedTesting, github: GitHub) -> None:
    """One row did, by the service's statistics."""
    failing()(step, service, github)
    service.gate = {"asked": "regressions", "decided_by": "regressions", "reasons": ["Decided by regressions."]}


def not_regressed(step: Step, service: HostedTesting, github: GitHub) -> None:
    """A row fails as it did before."""
    failing()(step, service, github)
    service.summary = {"conclusion": "passed"}
    service.gate = {"asked": "regressions", "decided_by": "regressions", "reasons": ["Decided by regressions."]}


def low_score(step: Step, service: HostedTesting, github: GitHub) -> None:
    service.summary = {"overall_score": 0.7}
    step.inputs["min-score"] = "0.8"


def no_answer(step: Step, service: HostedTesting, github: GitHub) -> None:
    """An outage as a proxy before the service shows it: 503, and at once again each time."""
    service.faults = [Fault(answer=Answer(status=503, headers={"Retry-After": "0"}), times=99)]


def nonsense(step: Step, service: HostedTesting, github: GitHub) -> None:
    service.faults = [Fault(answer=Answer(headers={"Content-Type": "text/html"}, body=b"<html>hello</html>"))]


def too_slow(step: Step, service: HostedTesting, github: GitHub) -> None:
    service.is_slow = True
    step.inputs["timeout"] = "1"


def some_rows_errored(step: Step, service: HostedTesting, github: GitHub) -> None:
    service.rows = [a_row("Says hello"), an_errored_row("Says goodbye")]


def job_failed(code: str) -> Arrange:
    def arrange(step: Step, service: HostedTesting, github: GitHub) -> None:
        service.failure = (code, "The service says why.")

    return arrange


def no_folder(step: Step, service: HostedTesting, github: GitHub) -> None:
    step.inputs["path"] = "nothing/*"


def untouched(step: Step, service: HostedTesting, github: GitHub) -> None:
    a_package(step.workspace / "packages" / "one", "@acme/one")
    step.inputs["path"] = "packages/*"
    github.files = ["README.md"]


def deleted_branch(step: Step, service: HostedTesting, github: GitHub) -> None:
    step.event_name, step.event = "push", a_push(deleted=True)


def fork(step: Step, service: HostedTesting, github: GitHub) -> None:
    step.event = a_pull_request(fork=True)
    step.inputs["api-token"] = ""
    github.read_only = ("/",)


def dependabot(step: Step, service: HostedTesting, github: GitHub) -> None:
    step.environ["GITHUB_ACTOR"] = "dependabot[bot]"
    step.inputs["api-token"] = ""


def read_only(step: Step, service: HostedTesting, github: GitHub) -> None:
    github.read_only = ("/",)


def chat_away(step: Step, service: HostedTesting, github: GitHub) -> None:
    """Nothing listens at that address; there is news to tell."""
    service.report = {"marker": MARKER, "reporter": "action", "previous": "failed"}
    step.environ["PRPM_NOTIFY_ALLOWED_ORIGINS"] = "http://127.0.0.1:9"
    step.inputs["notify"] = f"slack: http://127.0.0.1:9{SLACK_PATH}"


def wrong_input(step: Step, service: HostedTesting, github: GitHub) -> None:
    step.inputs["fail-on"] = "sometimes"


def no_token(step: Step, service: HostedTesting, github: GitHub) -> None:
    step.inputs["api-token"] = ""


def no_package(step: Step, service: HostedTesting, github: GitHub) -> None:
    (step.workspace / "greeter.md").unlink()


def event(name: str) -> Arrange:
    def arrange(step: Step, service: HostedTesting, github: GitHub) -> None:
        step.event_name = name

    return arrange


# By how the table's row begins.
ROWS: dict[str, dict[str, Arrange]] = {
    "something regressed": {
        "regressed": regressed, "a row failed": failing(fail_on="failures"), "score": low_score,
    },
    "nothing regressed": {"as before": not_regressed, "never": failing(fail_on="never")},
    "no baseline yet": {"a row failed": failing()},
    "runs or money": {
        "runs": refusal(402, "quota_exceeded"), "money": refusal(402, "money_exceeded"),
        "tier": refusal(403, "free_tier"), "too fast": refusal(429, "too_many"),
    },
    "the service does not answer": {"away": no_answer, "nonsense": nonsense, "slow": too_slow},
    "a provider was down": {
        "some": some_rows_errored, "all": job_failed("provider_down"), "workers": job_failed("infrastructure"),
    },
    "a newer commit": {"superseded": job_failed("superseded")},
    "no folder fits": {"pattern": no_folder},
    "the change touches none": {"untouched": untouched, "deleted": deleted_branch},
    "a fork's or Dependabot's": {"fork": fork, "dependabot": dependabot},
    "the token may not write": {"read-only": read_only},
    "a chat cannot": {"away": chat_away},
    "an input, the package": {
        "input": wrong_input, "package": no_package, "suite": refusal(422, "no_suite"), "token": no_token,
        "not linked": refusal(403, "repository_not_trusted"),
    },
    "`pull_request_target`": {name: event(name) for name in ("pull_request_target", "workflow_run")},
}  # fmt: skip
CANCELLED = "the workflow is cancelled"
WITH_VERDICT = (
    "something regressed",
    "nothing regressed",
    "no baseline yet",
    "the token may not write",
    "a chat cannot",
)


def table() -> list[list[str]]:
    """The rows' cells, as the page has them."""
    page = (ROOT / "docs" / "github-action.md").read_text(encoding="utf-8")
    section = page.partition("## When the step fails")[2].partition("\n## ")[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def expected_code(cell: str) -> int:
    """What the page promises."""
    if found := re.search(r"\((\d+)\)", cell):
        return int(found[1])
    return {"as above": 1}.get(cell, 0)


def row_of(start: str) -> list[str]:
    (row,) = [row for row in table() if row[0].startswith(start)]
    return row


@pytest.fixture
def service() -> Iterator[HostedTesting]:
    with HostedTesting().running() as running:
        yield running


@pytest.fixture
def step(tmp_path: Path, service: HostedTesting) -> Iterator[tuple[Step, GitHub]]:
    stand_in = GitHub()
    stand_in.login = "github-actions[bot]"
    with stand_in.running() as github:
        made = Step(folder=tmp_path)
        a_package(made.workspace)
        made.inputs = with_token(**{"server-url": service.url, "github-token": github.token})
        made.environ = {"GITHUB_API_URL": github.url, "WORKFLOW_TOKEN": github.token}
        yield made, github
        assert github.violations == []


def test_table__has_a_test_for_each_row() -> None:
    starts = [*ROWS, CANCELLED]

    assert [sum(row[0].startswith(start) for start in starts) for row in table()] == [1] * len(starts)


CAUSES = [(start, cause) for start, causes in ROWS.items() for cause in causes]


@pytest.mark.parametrize("on_error", ["neutral", "fail"])
@pytest.mark.parametrize(("start", "cause"), CAUSES, ids=[f"{start} {cause}" for start, cause in CAUSES])
def test_on_error__as_the_table_says(
    step: tuple[Step, GitHub], service: HostedTesting, start: str, cause: str, on_error: str
) -> None:
    made, github = step
    made.inputs["on-error"] = on_error
    ROWS[start][cause](made, service, github)

    ran = made.run()

    cell = row_of(start)[1 if on_error == "neutral" else 2]
    code = expected_code(cell)
    assert ran.code == code, ran.log
    if code:
        assert ran.of("error")
    if "warning" in cell:
        assert ran.of("warning")
    assert ran.summary  # whatever happened, it is said
    # "passed" is never said of what has no verdict.
    has_verdict = start in WITH_VERDICT
    assert ran.outputs["passed"] == str(has_verdict and code == 0).lower()


def test_on_error__a_cancelled_workflow(step: tuple[Step, GitHub], service: HostedTesting) -> None:
    """Within 7 s, as the row says."""
    made, _ = step
    service.is_slow = True
    with made.begin(warnings=("ignore::ResourceWarning",)) as process:
        deadline = time.monotonic() + 20
        while not any(seen.path.endswith("/events") for seen in service.log):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)

    assert process.returncode == expected_code(row_of(CANCELLED)[1])
    assert time.monotonic() - began < 7
    assert service.cancelled == list(service.jobs)
