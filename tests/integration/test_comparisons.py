"""Jobs that are compared with their history, over HTTP: a worker, a database, and a model that flips as it is told."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from evals import signing
from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.integration.test_api_packages import publish, scoped
from tests.integration.test_pages import browser
from tests.packages import an_archive
from tests.service import Account, Service, finished_job, in_loop, start_service
from tests.standins.model_server import ModelServer, model_server_in_thread

CASES = 5  # as many as a small run may try anew
CATALOGUE = """
default: told
models:
  told:
    context_tokens: 100000
    deployments: [{{backend: openai_compatible, model: told-a, base_url: "{url}", price: {{input: 1, output: 2}}}}]
"""


@pytest.fixture(scope="module")
def mock() -> Iterator[ModelServer]:
    with model_server_in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def comparing(
    mock: ModelServer, admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service of this file's own, whose caches are on."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    folder = tmp_path_factory.mktemp("comparing")
    catalogue = folder / "models.yaml"
    catalogue.write_text(CATALOGUE.format(url=mock.base_url))
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=folder,
        PRPM_CATALOGUE=str(catalogue),
        PRPM_CACHE_DAYS="14",
        PRPM_SECRET_KEY="a secret of this test alone",
    )


@pytest.fixture
def alice(comparing: Service) -> Account:
    return comparing.an_account(tier="pro")


def a_suite(cases: int = CASES, **changes: Any) -> dict[str, Any]:
    return {
        "tests": [
            {
                "description": f"Case {number}",
                "input": f"case {number:04}",
                "assert": [{"type": "contains", "value": f"ANSWER-{number:04}"}],
                **changes,
            }
            for number in range(cases)
        ]
    }


def upload(account: Account, text: str, *, name: str = "sample", suite: dict[str, Any] | None = None) -> str:
    """A snapshot whose package says this."""
    answer = account.client.post(
        "/api/v1/package-snapshots",
        content=an_archive(name, text=text, suite=suite or a_suite()),
        headers={"Content-Type": "application/gzip"},
    )
    return str(answer.json()["snapshot_id"])


def a_change(number: int, **changes: Any) -> dict[str, Any]:
    """A push to main; its number makes the commit."""
    usual = {
        "forge": "github",
        "repository": "acme/prompts",
        "repository_id": 7,
        "ref": "refs/heads/main",
        "head_sha": f"{number:040x}",
    }
    return usual | changes


def a_pull_request(number: int = 12, **changes: Any) -> dict[str, Any]:
    return a_change(number, ref="refs/heads/feature", base_ref="refs/heads/main", pull_request=number, **changes)


def run(account: Account, snapshot: str, **body: Any) -> dict[str, Any]:
    """The outcome of a job on these files, whose id is in it as `job_id`."""
    return run_body(account, snapshot_id=snapshot, **body)


def run_body(account: Account, **body: Any) -> dict[str, Any]:
    """The same of any run request."""
    submitted = account.client.post(
        "/api/v1/test-jobs/run",
        json=body,
        headers={"Idempotency-Key": uuid.uuid4().hex},
    )
    assert submitted.status_code == 202, submitted.text
    job = finished_job(account, submitted.json()["job_id"])
    assert job["status"] == "completed", job
    outcome = account.client.get(f"/api/v1/test-jobs/{job['id']}/results").json()
    assert outcome["summary"]["conclusion"] == job["conclusion"]
    return outcome | {"job_id": job["id"]}


def push(account: Account, snapshot: str, *, times: int, first: int = 1000, **body: Any) -> list[dict[str, Any]]:
    """So many pushes to main; every model is asked anew each time."""
    return [run(account, snapshot, change=a_change(first + n), cache=False, **body) for n in range(times)]


def statuses(outcome: dict[str, Any]) -> list[str]:
    return [row["change"]["status"] for row in outcome["test_cases"]]


def test_comparison__a_broken_package_regresses_against_its_branch(alice: Account, comparing: Service):
    push(alice, upload(alice, "Be right with probability 1"), times=8)

    outcome = run(alice, upload(alice, "Be right with probability 0"), change=a_pull_request())

    assert outcome["summary"]["conclusion"] == "failed"
    assert statuses(outcome) == ["regressed"] * CASES
    change = outcome["test_cases"][0]["change"]
    assert (change["baseline"]["passed"], change["baseline"]["total"], change["effect"]) == (8, 8, -1.0)
    assert change["p_value"] == pytest.approx(0.000155, abs=1e-6)
    assert (change["reruns"]["passed"], change["reruns"]["total"]) == (0, 7)
    comparison = outcome["comparison"]
    assert (comparison["rule"], comparison["baseline_trials"], comparison["rerun_trials"]) == ("regressions", 40, 35)
    source = comparison["source"]
    assert (source["kind"], source["name"], source["jobs"]) == ("branch", "main", 8)
    assert source["oldest_at"] < source["newest_at"]
    assert outcome["gate"] == {
        "asked": "regressions",
        "decided_by": "regressions",
        "reasons": ["Decided by regressions: only a tested drop against the baseline fails the run."],
    }


def test_comparison__what_failed_before_as_it_does_now_passes(alice: Account):
    suite = a_suite(2)
    suite["tests"][1]["input"] = "case 0001, be right with probability 0"
    push(alice, upload(alice, "Hello", suite=suite), times=6, first=2000)
    broken = upload(alice, "Hello again", suite=suite)

    outcome = run(alice, broken, change=a_pull_request(), baseline="branch:main")

    assert statuses(outcome) == ["stable", "stable"], "it failed before as it does now"
    assert [row["state"] for row in outcome["test_cases"]] == ["passed", "failed"]
    assert outcome["summary"]["conclusion"] == "passed"
    assert outcome["gate"]["decided_by"] == "regressions"


def test_comparison__a_base_that_is_given_is_run_where_the_history_is_short(alice: Account, mock: ModelServer):
    good = upload(alice, "Be right with probability 1", suite=a_suite(2))
    bad = upload(alice, "Be right with probability 0", suite=a_suite(2))
    before = mock.mock.requests

    outcome = run(alice, bad, change=a_pull_request(), base_snapshot_id=good)

    assert statuses(outcome) == ["regressed", "regressed"]
    comparison = outcome["comparison"]
    assert (comparison["base_trials"], comparison["baseline_trials"], comparison["rerun_trials"]) == (14, 14, 14)
    assert comparison["source"] == {"kind": "branch", "name": "main", "jobs": 0, "snapshot": good}
    assert mock.mock.requests - before == 2 + 14 + 14
    assert outcome["gate"]["decided_by"] == "regressions"


def test_comparison__a_base_that_is_given_alone_is_the_baseline(alice: Account, mock: ModelServer):
    good = upload(alice, "Be right with probability 1", suite=a_suite(2))
    bad = upload(alice, "Be right with probability 0", suite=a_suite(2))

    outcome = run(alice, bad, base_snapshot_id=good)
    ignored = run(alice, bad, base_snapshot_id=good, baseline="none")

    assert statuses(outcome) == ["regressed", "regressed"]
    assert outcome["comparison"]["source"] == {"kind": "snapshot", "name": good[:12], "jobs": 0, "snapshot": good}
    assert outcome["gate"]["decided_by"] == "regressions"
    assert "comparison" not in ignored


def test_comparison__without_history_and_base_failures_decide_and_the_outcome_says_so(alice: Account):
    bad = upload(alice, "Be right with probability 0")

    outcome = run(alice, bad, change=a_pull_request())

    assert statuses(outcome) == ["not_enough_data"] * CASES
    assert outcome["summary"]["conclusion"] == "failed"
    assert outcome["gate"]["decided_by"] == "failures"
    assert outcome["gate"]["reasons"] == [
        "Decided by failures: each failed row fails the run.",
        "The package was not run as it was, beside this run: no other files of it are stored.",
    ]


def test_gate__is_what_was_asked_for(alice: Account):
    suite = a_suite(2)
    suite["tests"][1]["input"] = "case 0001, be right with probability 0"
    snapshot = upload(alice, "Hello", suite=suite)

    def decided(**body: Any) -> tuple[str, str]:
        outcome = run(alice, snapshot, baseline="none", **body)
        assert "comparison" not in outcome
        return outcome["summary"]["conclusion"], outcome["gate"]["decided_by"]

    assert decided(gate="failures") == ("failed", "failures")
    assert decided(gate="never") == ("passed", "never")
    passing = upload(alice, "Hello", suite={"tests": suite["tests"][:1]})
    assert "gate" not in run(alice, passing)
    quarantined = {"tests": [suite["tests"][0], {**suite["tests"][1], "quarantine": True}]}
    snapshot = upload(alice, "Hello", suite=quarantined)
    assert decided(min_score=0.5) == ("passed", "failures")
    assert decided(min_score=0.51) == ("failed", "min_score")


def test_comparison__cases_that_were_taken_away_or_loosened_fail_a_change(alice: Account):
    push(alice, upload(alice, "Hello"), times=1, first=3000)
    fewer = a_suite(4)
    fewer["tests"][0]["assert"] = [{"type": "contains", "value": "A"}]
    fewer["tests"][1]["quarantine"] = True
    fewer["tests"][2]["description"] = "Another name"

    outcome = run(alice, upload(alice, "Hello", suite=fewer), change=a_pull_request())

    assert outcome["summary"]["tests_passed"] == 4
    assert outcome["summary"]["conclusion"] == "failed"
    assert outcome["gate"]["decided_by"] == "cases"
    assert outcome["gate"]["reasons"] == [
        "2 cases of the baseline's suite are easier to pass here, or not comparable.",
        "1 case of the baseline's suite is missing in this run.",
    ]
    assert [(case["title"], case["change"], case["reason"]) for case in outcome["comparison"]["cases"]] == [
        ("Case 0", "changed", "it no longer asserts contains as before"),
        ("Case 1", "changed", "it is in quarantine now, and decides nothing"),
        ("Case 4", "removed", "it is not in the suite any more"),
    ]


def test_history__cached_trials_are_not_in_it_and_reruns_pass_the_cache(alice: Account, mock: ModelServer):
    snapshot = upload(alice, "Be right with probability 1")
    push(alice, snapshot, times=6, first=4000)
    run(alice, snapshot, change=a_change(4100))  # kept answers
    bad = upload(alice, "Be right with probability 0")
    run(alice, bad, gate="failures", baseline="none")  # now its first answers are kept too
    before = mock.mock.requests

    outcome = run(alice, bad, change=a_pull_request())

    assert {row["cache"]["state"] for row in outcome["test_cases"]} == {"hit"}
    assert mock.mock.requests - before == 7 * CASES, "the first trials were kept, none of the others"
    assert outcome["comparison"]["source"]["jobs"] == 6
    assert outcome["comparison"]["baseline_trials"] == 6 * CASES
    assert statuses(outcome) == ["regressed"] * CASES


def test_history__where_repeats_may_stop_early_the_first_trial_alone_counts(alice: Account):
    suite = a_suite(1, repeat=5)
    job = push(alice, upload(alice, "Hello", suite=suite), times=1, first=5000)[0]

    page = alice.client.get("/api/v1/packages/sample/history").json()

    assert page["package"] == "sample"
    (entry,) = page["jobs"]
    assert (entry["job_id"], entry["branch"], entry["suite_name"]) == (job["job_id"], "main", "default")
    assert [(row["title"], row["passed"], row["failed"]) for row in entry["rows"]] == [("Case 0", 1, 0)]


def test_baseline__of_a_job_is_run_again_where_its_trials_are_too_few(alice: Account):
    good = run(alice, upload(alice, "Be right with probability 1", suite=a_suite(1)))
    bad = upload(alice, "Be right with probability 0", suite=a_suite(1))

    outcome = run(alice, bad, baseline=f"job:{good['job_id']}")

    source = outcome["comparison"]["source"]
    assert (source["kind"], source["name"], source["jobs"]) == ("job", good["job_id"], 1)
    assert outcome["comparison"]["base_trials"] == 7
    assert statuses(outcome) == ["regressed"]


def test_baseline__is_the_latest_published_version_where_nothing_is_said(alice: Account):
    name = scoped(alice, "sample")
    assert publish(alice, name, text="Be right with probability 1", suite=a_suite(1)).status_code == 200
    for _ in range(6):
        run_body(alice, package_id=name, cache=False)
    bad = upload(alice, "Be right with probability 0", name=name, suite=a_suite(1))

    plain = run(alice, bad)
    asked = run(alice, bad, baseline="version:1.0.0", cache=False)

    for outcome in (plain, asked):
        source = outcome["comparison"]["source"]
        assert (source["kind"], source["name"], source["jobs"]) == ("version", "1.0.0", 6)
        assert statuses(outcome) == ["regressed"]
    # Who asked for nothing is told what changed, and judged as ever.
    assert [outcome["gate"]["asked"] for outcome in (plain, asked)] == ["failures", "regressions"]
    assert "comparison" not in run_body(alice, package_id=name, cache=False), "the version itself"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("baseline", "main", "invalid_baseline"),
        ("baseline", "branch:", "invalid_baseline"),
        ("baseline", "branch:a\nb", "invalid_baseline"),
        ("baseline", "job:00000000-0000-0000-0000-000000000000", "invalid_baseline"),
        ("baseline", "job:------------------------------------", "invalid_baseline"),
        ("baseline", "version:9.9.9", "invalid_baseline"),
        ("base_snapshot_id", "0" * 64, "invalid_baseline"),
        ("base_snapshot_id", "x", "invalid_baseline"),
        ("gate", "always", "invalid_request"),
        ("min_score", 1.1, "invalid_request"),
    ],
)
def test_submit__what_cannot_be_compared_with_is_refused(alice: Account, field: str, value: Any, code: str):
    snapshot = upload(alice, "Hello")

    refused = alice.client.post("/api/v1/test-jobs/run", json={"snapshot_id": snapshot, field: value})

    assert (refused.status_code, refused.json()["code"]) == (400, code), refused.text
    assert field in refused.text


def test_baseline__another_accounts_job_is_not_there(alice: Account, comparing: Service):
    bob = comparing.an_account(tier="pro")
    theirs = run(bob, upload(bob, "Hello"))

    refused = alice.client.post(
        "/api/v1/test-jobs/run",
        json={"snapshot_id": upload(alice, "Hello"), "baseline": f"job:{theirs['job_id']}"},
    )

    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_baseline")
    assert alice.client.get(f"/api/v1/test-jobs/{theirs['job_id']}/report.json").status_code == 404
    assert alice.client.get("/api/v1/packages/sample/history").status_code == 404


def test_history__is_paged_newest_first(alice: Account):
    jobs = [job["job_id"] for job in push(alice, upload(alice, "Hello", suite=a_suite(1)), times=3, first=6000)]

    first = alice.client.get("/api/v1/packages/sample/history", params={"limit": 2, "branch": "main"}).json()
    second = alice.client.get(
        "/api/v1/packages/sample/history", params={"limit": 2, "branch": "main", "cursor": first["cursor"]}
    ).json()

    assert [entry["job_id"] for entry in first["jobs"] + second["jobs"]] == jobs[::-1]
    assert "cursor" not in second
    for query in ({"cursor": "x"}, {"branch": ""}, {"limit": 0}):
        assert alice.client.get("/api/v1/packages/sample/history", params=query).status_code == 400


def test_report__signed_json_is_verified_and_a_flipped_byte_is_found(alice: Account, tmp_path: Path):
    job = run(alice, upload(alice, "Hello", suite=a_suite(1)))
    keys = tmp_path / "keys.json"
    keys.write_bytes(alice.client.get("/.well-known/prpm-testing-keys.json").content)
    report = alice.client.get(f"/api/v1/test-jobs/{job['job_id']}/report.json")
    stored = tmp_path / "outcome.json"
    stored.write_bytes(report.content)

    (key,) = json.loads(keys.read_text())["keys"]
    assert (key["algorithm"], key["current"], len(key["key"])) == ("ed25519", True, 64)
    assert report.json()["signature"]["key"] == key["key"]
    assert verify("--keys", str(keys), str(stored)) == 0
    assert verify("--key", key["key"], str(stored)) == 0
    assert verify("--key", "0" * 64, str(stored)) == 2
    stored.write_bytes(report.content.replace(b"ANSWER-0000", b"ANSWER-0001", 1))
    assert verify("--keys", str(keys), str(stored)) == 1


def verify(*options: str) -> int:
    prpm = Path(sys.executable).parent / "prpm"
    return subprocess.run([prpm, "verify", *options], capture_output=True, timeout=60, check=False).returncode


def test_report__identical_jobs_show_an_outcome_that_is_signed_as_they_show_it(alice: Account):
    snapshot = upload(alice, "Hello", suite=a_suite(1))
    run(alice, snapshot)
    again = run(alice, snapshot)

    report = alice.client.get(f"/api/v1/test-jobs/{again['job_id']}/report.json")

    assert report.json()["summary"]["cached"] is True
    assert signing.verify(signing.read_document(report.content)) == report.json()["signature"]["key"]


@pytest.mark.parametrize(
    ("extension", "media_type"),
    [
        ("json", "application/json"),
        ("xml", "application/xml"),
        ("md", "text/markdown; charset=utf-8"),
        ("html", "text/html; charset=utf-8"),
        ("txt", "text/plain; charset=utf-8"),
    ],
)
def test_report__O10_O11_has_a_fixed_name_and_may_do_nothing(alice: Account, extension: str, media_type: str):
    suite = a_suite(1)
    suite["tests"][0]["description"] = '<script>alert(1)</script>"; filename="../evil\r\nX: y'
    job = run(alice, upload(alice, "Hello", suite=suite))

    report = alice.client.get(f"/api/v1/test-jobs/{job['job_id']}/report.{extension}")

    assert (report.status_code, report.headers["content-type"]) == (200, media_type)
    shown = "inline" if extension == "html" else "attachment"
    assert report.headers["content-disposition"] == f'{shown}; filename="prpm-report.{extension}"'
    assert "sandbox" in report.headers["content-security-policy"]
    assert "default-src 'none'" in report.headers["content-security-policy"]
    assert report.headers["x-content-type-options"] == "nosniff"
    assert extension in ("json", "md", "txt") or "<script" not in report.text


def test_report__schema_is_published_and_holds(alice: Account, comparing: Service):
    job = run(alice, upload(alice, "Hello", suite=a_suite(1)), gate="failures")
    schema = comparing.visitor().get("/schemas/outcome.json").json()

    report = alice.client.get(f"/api/v1/test-jobs/{job['job_id']}/report.json").json()

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema)
    assert comparing.visitor().get(f"/api/v1/test-jobs/{job['job_id']}/report.json").status_code == 401
    assert alice.client.get(f"/api/v1/test-jobs/{job['job_id']}/report.exe").status_code == 404


def test_pages__tell_what_decided_and_what_was_before(alice: Account, comparing: Service):
    push(alice, upload(alice, "Be right with probability 1"), times=6, first=7000)
    job = run(alice, upload(alice, "Be right with probability 0"), change=a_pull_request())
    with browser(comparing, alice) as page:
        shown = page.get(f"/jobs/{job['job_id']}").text
        history = page.get("/packages/sample/history").text

    for text in (
        "Decided by regressions",
        "branch <code>main</code>",
        "6 runs, the newest less than a minute ago",
        "6 of 6 passed before",
        "0 of 7 when run again",
        f"/api/v1/test-jobs/{job['job_id']}/report.html",
        "/packages/sample/history",
    ):
        assert text in shown
    assert "5 of 5 passed" in history
    assert "0 of 5 passed" in history
    assert "main" in history
