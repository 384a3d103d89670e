"""Money caps as users meet them: a whole service, two workers, models with prices."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest

from evals.catalogue import ModelInfo
from server.domain.errors import InvalidRequest
from server.services.submitting import choose_models
from server.store.migrations import migrate
from tests.conftest import with_database
from tests.integration.test_api_jobs import a_snapshot, submit
from tests.integration.test_worker_process import another_worker, execute
from tests.service import Account, Service, finished_job, in_loop, start_service

# An answer costs its words' count in thousandths of a dollar; what is asked costs next to nothing.
CATALOGUE = """
default: free
models:
  free:
    context_tokens: 100000
    deployments: [{backend: echo, model: echo-free, free: true}]
  priced:
    context_tokens: 100000
    deployments: [{backend: echo, model: echo-priced, price: {input: 1, output: 1000}, options: {latency_ms: 30}}]
  slow:
    context_tokens: 100000
    deployments: [{backend: echo, model: echo-slow, price: {input: 1, output: 1000}, options: {latency_ms: 300}}]
  judge:
    context_tokens: 100000
    deployments:
      - backend: echo
        model: echo-judge
        price: {input: 50, output: 10}
        options: {answer: '{"pass": true, "score": 1, "reason": "fine"}'}
"""
ANSWER_TOKENS = 20
MOST_A_CALL = Decimal("0.0202")
THREE_WORDS = {"input": "Paris, of course", "assert": [{"type": "contains", "value": "Paris"}]}


@pytest.fixture(scope="module")
def service(admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Short leases, and prices that matter."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    folder = tmp_path_factory.mktemp("money")
    (folder / "priced.yaml").write_text(CATALOGUE)
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=folder,
        PRPM_LEASE_SECONDS="3",
        PRPM_CATALOGUE=str(folder / "priced.yaml"),
        PRPM_JOB_CONCURRENCY="10",
    )


def an_account(service: Service, *, tier: str = "plus") -> Account:
    """With its tier's caps."""
    return service.an_account(tier=tier, money_usd=None)


def a_suite(*, cases: int = 10, repeat: int = 10, case: dict | None = None, **changes) -> dict:
    tests = [{"description": f"case {n}", "repeat": repeat, **(case or THREE_WORDS)} for n in range(cases)]
    return {"max_tokens": ANSWER_TOKENS, "tests": tests, **changes}


def run(account: Account, **body) -> dict:
    """The job at its end."""
    fields = {
        "snapshot_id": a_snapshot(account),
        "models": ["priced"],
        "suite": a_suite(),
        "cache": False,
        "force": True,
        **body,
    }
    answer = submit(account, **fields)
    assert answer.status_code == 202, answer.text
    return finished_job(account, answer.json()["job_id"], seconds=30)


def results_of(account: Account, job: dict) -> dict:
    return account.client.get(f"/api/v1/test-jobs/{job['id']}/results").json()


def cost_of(service: Service, job: dict) -> Decimal:
    return service.fetch("SELECT cost_usd FROM test_jobs WHERE id = $1", uuid.UUID(job["id"]))[0]["cost_usd"]


def month_of(service: Service, account: Account) -> tuple[Decimal, Decimal]:
    row = service.fetch("SELECT cost_usd, held_usd FROM user_test_usage WHERE user_id = $1", account.id)[0]
    return row["cost_usd"], row["held_usd"]


def set_caps(service: Service, account: Account, **caps: float) -> httpx.Response:
    root = service.an_account(is_admin=True)
    return root.client.put(f"/api/v1/admin/accounts/{account.username}/caps", json=caps)


def test_job__that_reaches_its_tiers_cap_skips_the_rest_and_says_so(service: Service):
    alice = an_account(service)

    job = run(alice)

    assert (job["status"], job["conclusion"]) == ("completed", "inconclusive")
    assert job["results"]["stopped_by"] == "money_cap"
    assert "money cap of $0.25" in job["results"]["notes"][0]
    assert Decimal("0.25") - MOST_A_CALL < cost_of(service, job) <= Decimal("0.25")
    assert job["results"]["total_cost_usd"] == pytest.approx(float(cost_of(service, job)), abs=1e-6)
    rows = results_of(alice, job)["test_cases"]
    assert [row["state"] for row in rows if row["passed"]] == ["passed"] * job["results"]["tests_passed"]
    skipped = rows[-1]
    assert (skipped["state"], skipped["passed"], skipped["error"]["kind"]) == ("skipped", False, "cap")
    assert job["results"]["tests_skipped"] > 0
    assert job["results"]["tests_errored"] == 0
    assert month_of(service, alice) == (cost_of(service, job), 0)
    page = alice.client.get(f"/jobs/{job['id']}")
    assert "money cap of $0.25 leaves no room" in page.text.replace("&#39;", "'")
    assert "prpm test --estimate" in page.text


def test_job__a_failed_test_stays_a_failure_when_the_cap_stops_the_rest(service: Service):
    alice = an_account(service)
    suite = a_suite()
    suite["tests"][0] = {"input": "Rome it is", "assert": [{"type": "contains", "value": "Paris"}]}

    job = run(alice, suite=suite)

    assert (job["conclusion"], job["results"]["stopped_by"]) == ("failed", "money_cap")


def test_job__max_cost_usd_lowers_the_cap_and_never_raises_it(service: Service):
    alice = an_account(service)

    suite = a_suite(cases=100, repeat=1)

    lowered, raised = run(alice, suite=suite, max_cost_usd=0.05), run(alice, suite=suite, max_cost_usd=5)

    assert Decimal("0.05") - MOST_A_CALL < cost_of(service, lowered) <= Decimal("0.05")
    assert "money cap of $0.05" in lowered["results"]["notes"][0]
    assert cost_of(service, raised) <= Decimal("0.25")


@pytest.mark.parametrize("amount", [0, -1, 1e9, [1], {}])
def test_submit__I1_a_cost_that_cannot_be_is_400(service: Service, amount: object):
    answer = submit(an_account(service), snapshot_id="0" * 64, max_cost_usd=amount)

    assert answer.status_code == 400, answer.text
    assert "max_cost_usd" in answer.text


def test_job__of_free_models_knows_no_cap(service: Service):
    alice = an_account(service)
    assert set_caps(service, alice, money_per_job_usd=0, money_per_month_usd=0).status_code == 200

    job = run(alice, models=["free"])

    assert job["conclusion"] == "passed"
    assert "stopped_by" not in job["results"]
    assert month_of(service, alice) == (0, 0)


def test_job__a_cap_that_allows_no_call_fails_and_gives_the_run_back(service: Service):
    alice = an_account(service)
    set_caps(service, alice, money_per_job_usd=0.001)

    job = run(alice)

    assert (job["status"], job["code"]) == ("failed", "no_verdict")
    assert "money cap of $0.001" in job["error"]
    assert alice.client.get("/api/v1/users/me/test-usage").json()["remaining"]["test_runs"] == 100


def test_job__what_judges_cost_counts(service: Service):
    alice = an_account(service)
    case = {"input": "Paris, of course", "assert": [{"type": "llm-rubric", "value": "names a city"}]}

    job = run(alice, models=["free"], suite=a_suite(case=case, judge="judge"))

    assert job["results"]["stopped_by"] == "money_cap"
    assert 0 < cost_of(service, job) <= Decimal("0.25")
    assert job["results"]["total_cost_usd"] == pytest.approx(float(cost_of(service, job)), abs=1e-6)
    skipped = results_of(alice, job)["test_cases"][-1]
    assert (skipped["state"], skipped["error"]["kind"]) == ("skipped", "cap")


def test_job__with_a_judge_that_is_not_there_ends_before_anything_is_paid(service: Service):
    alice = an_account(service)
    case = {"input": "Paris, of course", "assert": [{"type": "llm-rubric", "value": "names a city"}]}

    job = run(alice, models=["priced"], suite=a_suite(case=case, judge="jugde"))

    assert (job["status"], job["code"]) == ("failed", "no_judge")
    assert job["error"] == (
        "The suite's judge: There is no model named 'jugde'. Did you mean judge? Known models: free, priced, slow, "
        "judge. The run was given back."
    )
    assert cost_of(service, job) == 0
    assert alice.client.get("/api/v1/users/me/test-usage").json()["remaining"]["test_runs"] == 100


def test_job__answers_are_cut_at_the_tiers_length_with_a_note(service: Service):
    alice = an_account(service, tier="pro")

    job = run(alice, models=["free"], suite=a_suite(cases=1, repeat=1, max_tokens=9000))

    assert job["results"]["notes"] == [
        "The suite asks for answers of up to 9,000 tokens; your tier's have at most 8,192, so longer ones were cut."
    ]


def test_month__two_jobs_on_two_workers_never_pass_it(service: Service):
    alice = an_account(service)
    set_caps(service, alice, money_per_job_usd=1, money_per_month_usd=0.2)
    snapshot_id = a_snapshot(alice)

    with another_worker(service):
        answers = [
            submit(alice, snapshot_id=snapshot_id, models=["priced"], suite=a_suite(), force=True, cache=False)
            for _ in range(2)
        ]
        jobs = [finished_job(alice, answer.json()["job_id"], seconds=30) for answer in answers]

    cost, held = month_of(service, alice)
    assert Decimal("0.2") - MOST_A_CALL < cost <= Decimal("0.2")
    assert held == 0
    assert cost == sum(cost_of(service, job) for job in jobs)
    assert "first of the next month" in str(jobs)


def test_month__Q2_that_is_used_up_is_402_for_models_with_a_price(service: Service):
    alice = an_account(service)
    set_caps(service, alice, money_per_month_usd=0.003)
    service.fetch(
        "INSERT INTO user_test_usage (user_id, month, cost_usd)"
        " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 0.003)",
        alice.id,
    )

    refused = submit(alice, snapshot_id=a_snapshot(alice), models=["free", "priced"], suite=a_suite())

    assert refused.status_code == 402, refused.text
    assert refused.json()["code"] == "money_exceeded"
    assert refused.json()["resets_at"].endswith("-01T00:00:00Z")
    assert "$0.00 a month" in refused.json()["error"]
    assert submit(alice, snapshot_id=a_snapshot(alice), models=["free"], suite=a_suite()).status_code == 202
    assert service.fetch("SELECT test_runs_count FROM user_test_usage WHERE user_id = $1", alice.id)[0][0] == 1


def test_month__kill_9_of_a_holder_gives_back_what_it_held(service: Service):
    alice = an_account(service)
    set_caps(service, alice, money_per_job_usd=1, money_per_month_usd=0.5)
    with another_worker(service) as dying:
        os.kill(service.worker_pid, signal.SIGSTOP)
        try:
            suite = a_suite(cases=10, repeat=4)
            answer = submit(alice, snapshot_id=a_snapshot(alice), models=["slow"], suite=suite, force=True, cache=False)
            trials = "SELECT 1 FROM trials WHERE job_id = $1"
            while not service.fetch(trials, uuid.UUID(answer.json()["job_id"])):
                time.sleep(0.02)
            dying.kill()
            dying.wait(10)
        finally:
            os.kill(service.worker_pid, signal.SIGCONT)
    spent, held = month_of(service, alice)
    assert held > 0
    stored = service.fetch("SELECT COUNT(*) FROM trials WHERE job_id = $1", uuid.UUID(answer.json()["job_id"]))[0][0]
    assert float(spent) >= 0.003 * stored > 0, "what need not be run again is paid"

    deadline = time.monotonic() + 6
    while month_of(service, alice)[1] >= held and time.monotonic() < deadline:
        time.sleep(0.02)

    job = finished_job(alice, answer.json()["job_id"], seconds=30)
    assert job["conclusion"] == "passed"
    cost, held = month_of(service, alice)
    assert held == 0
    assert cost == cost_of(service, job)
    # 40 answers of three words. What was under way when the worker died is the service's loss; what was answered, but
    # not stored yet, is asked again: a batch at most.
    assert 0.12 <= float(cost) < 0.12 + 10 * 0.00302


def test_caps__an_administrator_sets_and_takes_them_back(service: Service):
    alice = an_account(service)

    answer = set_caps(service, alice, money_per_job_usd=2.5, money_per_month_usd=30)
    assert answer.json() == {
        "username": alice.username, "tier": "plus", "money_per_job_usd": 2.5, "money_per_month_usd": 30.0,
    }  # fmt: skip
    caps = alice.client.get("/api/v1/users/me/test-usage").json()["caps"]
    assert caps == {
        "trials_per_job": 500, "output_tokens_per_answer": 4096, "seconds_per_job": 1800,
        "money_per_job_usd": 2.5, "money_per_month_usd": 30.0, "money_held_usd": 0.0, "money_left_usd": 30.0,
    }  # fmt: skip

    assert set_caps(service, alice).json() == {"username": alice.username, "tier": "plus"}
    caps = alice.client.get("/api/v1/users/me/test-usage").json()["caps"]
    assert (caps["money_per_job_usd"], caps["money_per_month_usd"]) == (0.25, 5.0)


def test_caps__A10_are_an_administrators_to_set(service: Service):
    alice, root = an_account(service), service.an_account(is_admin=True)
    path = f"/api/v1/admin/accounts/{alice.username}/caps"

    assert alice.client.put(path, json={}).status_code == 403
    assert root.client.put("/api/v1/admin/accounts/nobody-here/caps", json={}).status_code == 404
    for amount in (-1, 1e7, []):
        assert root.client.put(path, json={"money_per_job_usd": amount}).status_code == 400


def test_submit__a_model_without_a_known_price_is_refused_by_name():
    known = (
        ModelInfo(name="free", default=True, reachable=True, tools=False, free=True),
        ModelInfo(name="odd", default=False, reachable=True, tools=False),
    )

    with pytest.raises(InvalidRequest, match="odd has no known price") as refusal:
        choose_models(["free", "odd"], known)

    assert refusal.value.details == ("models[1]: odd has no known price, so what it may cost cannot be capped",)


def test_ledger__explains_the_months_money_by_its_jobs(service: Service):
    alice = an_account(service)
    jobs = [run(alice, suite=a_suite(cases=n, repeat=1)) for n in (1, 2)]
    failed = run(alice, suite=a_suite(cases=1), max_cost_usd=0.00001)

    page = alice.client.get("/api/v1/users/me/test-usage/ledger").json()

    costs = {entry["job_id"]: entry["cost_usd"] for entry in page["entries"] if entry["kind"] == "charge"}
    assert costs == {job["id"]: float(cost_of(service, job)) for job in (*jobs, failed)}
    assert [entry["cost_usd"] for entry in page["entries"] if entry["kind"] == "refund"] == [0]
    assert page["cost_usd"] == pytest.approx(sum(costs.values()))
    assert page["cost_usd"] == alice.client.get("/api/v1/users/me/test-usage").json()["current_month"]["cost_usd"]
    assert 0.003 < costs[jobs[0]["id"]] < costs[jobs[1]["id"]]


def estimate(account: Account, **body) -> dict:
    fields = {"snapshot_id": a_snapshot(account), "models": ["priced"], "suite": a_suite(), "dry_run": True, **body}
    answer = submit(account, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_estimate__holds_what_the_run_then_costs_and_keeps_nothing(service: Service):
    alice = an_account(service)
    suite = a_suite(cases=2, repeat=3)

    told = estimate(alice, suite=suite, models=["priced", "free"])

    assert (told["dry_run"], told["cases"], told["trials"], told["fits"]) == (True, 2, 12, "yes")
    assert told["obstacles"] == []
    assert [(share["model"], share["calls"]) for share in told["models"]] == [
        ("priced", {"low": 6, "high": 6}),
        ("free", {"low": 6, "high": 6}),
    ]
    assert told["models"][1]["cost_usd"] == {"low": 0, "high": 0}
    assert told["caps"] == {
        "tests_remaining": 100, "trials_per_job": 500, "money_per_job_usd": 0.25, "money_left_usd": 5.0,
    }  # fmt: skip
    assert service.fetch("SELECT 1 FROM test_jobs WHERE user_id = $1", alice.id) == []
    assert service.fetch("SELECT 1 FROM user_test_usage WHERE user_id = $1", alice.id) == []
    job = run(alice, suite=suite, models=["priced", "free"])
    # The echo counts words, so what it is told is less than any tokenizer's count.
    assert float(cost_of(service, job)) <= told["cost_usd"]["high"]
    assert told["cost_usd"]["low"] <= told["cost_usd"]["high"] == pytest.approx(6 * 0.0201, rel=0.02)
    assert job["results"]["total_tokens"] <= told["tokens"]["high"]


@pytest.mark.parametrize(
    ("changes", "fits", "sentence"),
    [
        ({"suite": a_suite(cases=100)}, "no", "1,000 trials are more than the 500"),
        ({}, "no", "is more than the $0.2500 that the job may cost"),
        (
            {"suite": a_suite(cases=1, repeat=2, max_tokens=100), "max_cost_usd": 0.15},
            "maybe",
            "beyond it tests are skipped",
        ),
        ({"suite": a_suite(cases=1), "max_cost_usd": 0.01}, "no", "more than the $0.0100 that the job may cost"),
        ({"models": ["free"]}, "yes", None),
    ],
)
def test_estimate__says_whether_it_fits(service: Service, changes: dict, fits: str, sentence: str | None):
    alice = an_account(service)

    told = estimate(alice, **changes)

    assert told["fits"] == fits
    assert sentence in told["obstacles"][0] if sentence else told["obstacles"] == []


def test_estimate__tells_of_a_used_up_month_instead_of_refusing(service: Service):
    alice = an_account(service)
    service.fetch(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count, cost_usd)"
        " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 100, 5)",
        alice.id,
    )

    told = estimate(alice, suite=a_suite(cases=1, repeat=1))

    assert told["fits"] == "no"
    assert told["obstacles"][0].startswith("All 100 test runs of this month are used")
    assert "the $0.0000 that are left of this month" in told["obstacles"][1]


def test_estimate__judges_count_once_at_least_and_with_all_further_asks_at_most(service: Service):
    alice = an_account(service)
    case = {"input": "Paris", "assert": [{"type": "llm-rubric", "value": "names a city"}]}

    told = estimate(alice, models=["free"], suite=a_suite(cases=3, repeat=2, case=case, judge="judge"))

    (judge,) = told["judges"]
    # Six verdicts of two asks each, five asks more that a run has for a judge and one that six opinions earn, and
    # one verdict that is asked for again.
    assert (judge["model"], judge["calls"]) == ("judge", {"low": 6, "high": 12 + 6 + 2})
    assert 0 < judge["cost_usd"]["low"] < judge["cost_usd"]["high"] == told["cost_usd"]["high"]


def test_estimate__a_judge_that_is_not_there_may_not_fit(service: Service):
    case = {"input": "Paris", "assert": [{"type": "llm-rubric", "value": "names a city", "provider": "nobody"}]}

    told = estimate(an_account(service), models=["free"], suite=a_suite(case=case))

    assert told["fits"] == "maybe"
    assert "cost_usd" not in told
    assert "No price is known for nobody" in told["obstacles"][0]


def test_estimate__of_the_packages_own_suite(service: Service):
    told = estimate(an_account(service), suite=None, models=None)

    assert (told["suite_source"], told["cases"], told["models"][0]["model"]) == ("package", 2, "free")


def test_estimate__refuses_what_a_submit_refuses(service: Service):
    alice, free = an_account(service), an_account(service, tier="free")
    mine = a_snapshot(alice)

    def status(account: Account, **body: object) -> tuple[int, str]:
        answer = submit(account, dry_run=True, **body)
        return answer.status_code, answer.json()["code"]

    assert status(alice, snapshot_id="0" * 64) == (404, "package_not_found")
    assert status(alice, snapshot_id=mine, models=["nobody"]) == (400, "invalid_models")
    assert status(alice, snapshot_id=a_snapshot(alice, suite=None)) == (422, "no_suite")
    assert status(alice, snapshot_id=a_snapshot(alice, suite={"tests": 3})) == (400, "invalid_suite")
    assert status(free, snapshot_id=mine) == (403, "free_tier")
    assert status(an_account(service), snapshot_id=mine) == (404, "package_not_found")
