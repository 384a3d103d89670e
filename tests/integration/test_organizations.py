"""Organisations: who belongs to them, who may do what for them, and that they pay."""

from __future__ import annotations

import asyncio
import json
import uuid

import asyncpg
import httpx
import msgspec
import pytest

from server.domain.accounts import Credential
from server.domain.errors import Conflict
from server.domain.nearing import level_of_runs
from server.services.accounts import create_account
from server.services.admission import Admission
from server.services.organizations import create_organization, list_members, remove_member, set_role
from server.store import jobs
from server.store.jobs import SQL
from tests.organizations import Organization, an_organization
from tests.packages import PASSING_SUITE, an_archive
from tests.queue import a_new_job, an_account
from tests.service import Account, Service, finished_job

GZIP = {"Content-Type": "application/gzip"}


def a_snapshot(person: Account, org: str | None = None, **package: object) -> str:
    answer = person.client.post(
        "/api/v1/package-snapshots",
        content=an_archive(**package),
        headers=GZIP,
        params={"account": org} if org else None,
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["snapshot_id"]


def submit(person: Account, **body: object) -> httpx.Response:
    return person.client.post("/api/v1/test-jobs/run", json={"models": ["echo"], **body})


def submit_for(org: Organization, person: Account, **body: object) -> httpx.Response:
    return submit(person, snapshot_id=a_snapshot(person, org.name), account=org.name, force=True, **body)


def usage_of(person: Account, org: str) -> dict:
    answer = person.client.get("/api/v1/users/me/test-usage", params={"account": org})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def org(service: Service) -> Organization:
    return an_organization(service)


def a_token(service: Service, org: Organization, *scopes: str) -> httpx.Client:
    """A client with a token of the organisation, of these scopes."""
    made = org.admin.client.post(
        f"/api/v1/organizations/{org.name}/tokens", json={"name": "ci", "scopes": list(scopes)}
    )
    assert made.status_code == 201, made.text
    client = service.visitor()
    client.headers["Authorization"] = f"Bearer {made.json()['token']}"
    return client


# Who pays


def test_run__is_billed_to_the_organisation_by_its_tier(service: Service):
    org = an_organization(service, tier="pro")

    answer = submit_for(org, org.member)

    assert answer.status_code == 202, answer.text
    assert answer.json()["usage"] == {"tests_used_this_month": 1, "tests_remaining": 499, "tier": "pro"}
    [job] = service.fetch(
        "SELECT user_id, submitted_by FROM test_jobs WHERE id = $1", uuid.UUID(answer.json()["job_id"])
    )
    assert (job["user_id"], job["submitted_by"]) == (org.id, org.member.id)
    [entry] = service.fetch("SELECT user_id, kind FROM usage_ledger WHERE user_id = $1", org.id)
    assert entry["kind"] == "charge"
    assert usage_of(org.owner, org.name)["current_month"]["test_runs_count"] == 1
    assert usage_of(org.owner, org.name)["limits"]["concurrent_jobs"] == 5
    assert org.member.client.get("/api/v1/users/me/test-usage").json()["current_month"]["test_runs_count"] == 0


def test_run__without_the_organisation_is_the_persons_own(service: Service, org: Organization):
    answer = submit(org.member, snapshot_id=a_snapshot(org.member))

    assert answer.status_code == 403
    assert "prpm+" in answer.json()["error"]


def test_run__of_a_free_organisation_is_refused_by_its_tier(service: Service):
    org = an_organization(service, tier="free")

    answer = submit_for(org, org.owner)

    assert answer.status_code == 403
    assert "prpm+" in answer.json()["error"]


def test_run__Q1_a_full_month_of_the_organisation_is_a_402_whoever_asks(service: Service):
    org = an_organization(service)
    service.fetch(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count)"
        " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 99)",
        org.id,
    )

    answers = [submit_for(org, person).status_code for person in (org.owner, org.member, org.admin)]

    assert answers == [202, 402, 402]


def test_run__of_the_own_account_by_name_is_as_without(service: Service):
    alice = service.an_account()

    answer = submit(alice, snapshot_id=a_snapshot(alice), account=alice.username)

    assert answer.status_code == 202


def test_run__an_estimate_and_chosen_cases_are_the_organisations_too(service: Service, org: Organization):
    snapshot = a_snapshot(org.member, org.name)

    estimate = submit(org.member, snapshot_id=snapshot, account=org.name, dry_run=True)
    some = submit(org.member, snapshot_id=snapshot, account=org.name, cases=["Paris"], force=True)

    assert (estimate.status_code, some.status_code) == (200, 202)
    assert finished_job(org.member, some.json()["job_id"])["results"]["total_tests"] == 1


# Who may


def test_account__of_a_stranger_and_one_that_is_not_there_are_the_same_404(service: Service, org: Organization):
    mallory = service.an_account()
    snapshot = a_snapshot(mallory)
    bodies = []
    for name in (org.name, "nobody-here"):
        for answer in (
            submit(mallory, snapshot_id=snapshot, account=name),
            submit(mallory, snapshot_id=snapshot, account=name, dry_run=True),
            submit(mallory, snapshot_id="0" * 64, account=name),
            mallory.client.get("/api/v1/test-jobs", params={"account": name}),
            mallory.client.get("/api/v1/users/me/test-usage", params={"account": name}),
            mallory.client.get("/api/v1/users/me/test-usage/ledger", params={"account": name}),
            mallory.client.post(
                "/api/v1/package-snapshots", content=an_archive(), headers=GZIP, params={"account": name}
            ),
            mallory.client.get(f"/api/v1/organizations/{name}/members"),
            mallory.client.put(f"/api/v1/organizations/{name}/members/{mallory.username}", json={"role": "owner"}),
            mallory.client.delete(f"/api/v1/organizations/{name}/members/{org.owner.username}"),
            mallory.client.get(f"/api/v1/organizations/{name}/tokens"),
            mallory.client.post(f"/api/v1/organizations/{name}/tokens", json={"name": "x"}),
            mallory.client.get("/api/v1/trusted-repositories", params={"account": name}),
        ):
            assert answer.status_code == 404, (answer.request.url, answer.text)
            bodies.append(answer.json() | {"error": answer.json()["error"].replace(name, "NAME")})

    assert len({json.dumps(body) for body in bodies}) == 1
    assert usage_of(org.owner, org.name)["current_month"]["test_runs_count"] <= 10


def test_account__a_persons_name_is_none_that_others_may_bill(service: Service):
    alice, mallory = service.an_account(), service.an_account()

    answer = submit(mallory, snapshot_id=a_snapshot(mallory), account=alice.username)

    assert (answer.status_code, answer.json()["code"]) == (404, "account_not_found")


def test_account__A11_who_is_removed_may_nothing_at_the_next_request(service: Service):
    org = an_organization(service)
    job_id = submit_for(org, org.member).json()["job_id"]
    assert org.member.client.get(f"/api/v1/test-jobs/{job_id}").status_code == 200

    gone = org.admin.client.delete(f"/api/v1/organizations/{org.name}/members/{org.member.username}")

    assert gone.status_code == 204
    assert org.member.client.get(f"/api/v1/test-jobs/{job_id}").status_code == 404
    assert submit(org.member, snapshot_id="0" * 64, account=org.name).status_code == 404


def test_account__an_organisation_that_is_not_active_is_none(service: Service):
    org = an_organization(service)
    snapshot = a_snapshot(org.owner, org.name)
    service.fetch("UPDATE users SET is_active = FALSE WHERE id = $1", org.id)

    assert submit(org.owner, snapshot_id=snapshot, account=org.name).status_code == 404


@pytest.mark.parametrize("route", ["", "/results", "/events", "/cancel", "/retry"])
def test_job__A12_of_an_organisation_is_seen_by_its_members_alone(service: Service, org: Organization, route: str):
    job_id = submit_for(org, org.member).json()["job_id"]
    finished_job(org.member, job_id)
    mallory = service.an_account()

    def ask(person: Account, job: str) -> httpx.Response:
        method = "POST" if route in ("/cancel", "/retry") else "GET"
        return person.client.request(method, f"/api/v1/test-jobs/{job}{route}")

    strange, random = ask(mallory, job_id), ask(mallory, str(uuid.uuid4()))
    assert (strange.status_code, strange.json()) == (404, random.json())
    for role in ("owner", "admin", "maintainer", "member"):
        assert ask(org.person(role), job_id).status_code in (200, 202, 409)
    if route == "/retry":
        assert usage_of(org.owner, org.name)["current_month"]["test_runs_count"] >= 2


def test_lists__are_by_account(service: Service):
    org = an_organization(service)
    job_id = submit_for(org, org.member).json()["job_id"]

    theirs = org.owner.client.get("/api/v1/test-jobs", params={"account": org.name}).json()["jobs"]
    own = org.member.client.get("/api/v1/test-jobs").json()["jobs"]
    ledger = org.owner.client.get("/api/v1/users/me/test-usage/ledger", params={"account": org.name}).json()

    assert [job["id"] for job in theirs] == [job_id]
    assert own == []
    assert [entry["job_id"] for entry in ledger["entries"]] == [job_id]


def test_package__of_an_organisation_is_for_its_own_runs(service: Service, org: Organization):
    alice = service.an_account()
    private = a_snapshot(org.member, org.name, text="Only for the organisation.")
    own = a_snapshot(alice, text="Only for Alice.")

    # Neither a member's other account nor a stranger finds it, and the organisation does not find theirs.
    assert submit(alice, snapshot_id=private).status_code == 404
    assert submit(org.member, snapshot_id=own, account=org.name).status_code == 404
    assert submit(org.owner, snapshot_id=private, account=org.name).status_code == 202


PUBLISH = {"member": 403, "maintainer": 200, "admin": 200, "owner": 200}


@pytest.mark.parametrize("role", PUBLISH)
def test_publish__needs_a_maintainer(service: Service, org: Organization, role: str):
    person, name = org.person(role), f"@{org.name}/p-{role}"
    manifest = json.loads(an_archive_manifest(name))

    published = person.client.post(
        "/api/v1/packages",
        params={"account": org.name},
        data={"manifest": json.dumps(manifest)},
        files={"tarball": ("p.tar.gz", an_archive(name), "application/gzip")},
    )

    assert published.status_code == PUBLISH[role], published.text
    if role != "member":
        stored = person.client.put(f"/api/v1/packages/%40{org.name}%2Fp-{role}/suite", json=PASSING_SUITE)
        assert stored.status_code == 200
        by_member = org.member.client.put(f"/api/v1/packages/%40{org.name}%2Fp-{role}/suite", json=PASSING_SUITE)
        assert by_member.status_code == 403
        uploads = {
            who: submit(org.person(who), package_id=name, account=org.name, upload_results=True, force=True)
            for who in ("member", role)
        }
        assert (uploads["member"].status_code, uploads["member"].json()["code"]) == (403, "may_not_publish")
        assert uploads[role].status_code == 202
        job = finished_job(person, uploads[role].json()["job_id"])
        results = person.client.get(f"/api/v1/packages/%40{org.name}%2Fp-{role}/test-results").json()
        assert [one["uploaded_by"] for one in results["test_results"]] == [org.name]
        assert job["results"]["test_result_id"] == results["test_results"][0]["id"]


def an_archive_manifest(name: str) -> str:
    return json.dumps({"name": name, "version": "1.0.0"})


# Members


ROLE_CHANGES = [
    # who, of whom, to what, answer
    ("member", "member", "admin", 403),
    ("maintainer", "member", "maintainer", 403),
    ("admin", "member", "maintainer", 200),
    ("admin", "member", "admin", 200),
    ("admin", "member", "owner", 403),
    ("admin", "owner", "member", 403),
    ("owner", "admin", "owner", 200),
    ("owner", "owner", "member", 409),
    ("owner", "member", "emperor", 400),
]


@pytest.mark.parametrize(("who", "whom", "role", "status"), ROLE_CHANGES)
def test_role__is_changed_by_those_who_may(service: Service, who: str, whom: str, role: str, status: int):
    org = an_organization(service)
    path = f"/api/v1/organizations/{org.name}/members/{org.person(whom).username}"

    answer = org.person(who).client.put(path, json={"role": role})

    assert answer.status_code == status, answer.text
    members = org.member.client.get(f"/api/v1/organizations/{org.name}/members").json()["members"]
    roles = {one["username"]: one["role"] for one in members}
    assert roles[org.person(whom).username] == (role if status == 200 else whom)


def test_member__leaves_by_themselves_but_not_the_last_owner(service: Service):
    org = an_organization(service)
    path = f"/api/v1/organizations/{org.name}/members"

    assert org.member.client.delete(f"{path}/{org.maintainer.username}").status_code == 403
    assert org.member.client.delete(f"{path}/{org.member.username}").status_code == 204
    last = org.owner.client.delete(f"{path}/{org.owner.username}")
    assert (last.status_code, last.json()["code"]) == (409, "last_owner")
    assert org.owner.client.put(f"{path}/{org.admin.username}", json={"role": "owner"}).status_code == 200
    assert org.owner.client.delete(f"{path}/{org.owner.username}").status_code == 204


def test_member__has_to_be_a_person_with_an_account(service: Service, org: Organization):
    other = an_organization(service)
    for name in ("nobody-here", other.name, "%00", "x" * 3000):
        answer = org.owner.client.put(f"/api/v1/organizations/{org.name}/members/{name}", json={"role": "member"})
        assert answer.status_code in (400, 404)


async def test_owners__two_who_leave_at_once_leave_one(db: asyncpg.Pool):
    for round_ in range(5):
        org, names = f"acme-{round_}", [f"a{round_}", f"b{round_}"]
        for name in names:
            await create_account(db, name)
        await create_organization(db, org, owner=names[0])
        await set_role(db, None, org, names[1], "owner")

        answers = await asyncio.gather(*(remove_member(db, None, org, name) for name in names), return_exceptions=True)

        assert [type(answer) for answer in answers if answer is not None] == [Conflict]
        assert len(await list_members(db, None, org)) == 1


def test_organization__is_made_by_administrators_with_an_owner(service: Service):
    root, alice = service.an_account(is_admin=True), service.an_account()
    name = f"made-{uuid.uuid4().hex[:8]}"

    def make(person: Account, **body: str) -> httpx.Response:
        return person.client.post("/api/v1/organizations", json={"name": name, "owner": alice.username, **body})

    assert make(alice).status_code == 403
    assert make(root, owner="nobody-here").status_code == 404
    assert make(root, tier="gold").status_code == 400
    assert make(root, tier="pro").status_code == 201
    assert make(root).status_code == 409
    assert alice.client.get("/api/v1/organizations").json()["organizations"][0]["role"] == "owner"
    assert alice.client.get("/api/v1/user").json()["organizations"][0]["name"] == name


# Tokens


def test_token__of_an_organisation_runs_for_it_and_is_revoked(service: Service):
    org = an_organization(service)
    client = a_token(service, org, "run")
    upload = client.post("/api/v1/package-snapshots", content=an_archive(), headers=GZIP)

    run = client.post("/api/v1/test-jobs/run", json={"snapshot_id": upload.json()["snapshot_id"], "models": ["echo"]})

    assert run.status_code == 202
    [kept] = org.admin.client.get(f"/api/v1/organizations/{org.name}/tokens").json()["tokens"]
    assert "token" not in kept
    assert kept["scopes"] == ["run"]
    [job] = service.fetch("SELECT user_id, submitted_by FROM test_jobs WHERE id = $1", uuid.UUID(run.json()["job_id"]))
    assert job["user_id"] == job["submitted_by"] == org.id
    assert org.member.client.delete(f"/api/v1/organizations/{org.name}/tokens/{kept['id']}").status_code == 403
    assert org.admin.client.delete(f"/api/v1/organizations/{org.name}/tokens/{kept['id']}").status_code == 204
    assert client.get("/api/v1/user").status_code == 401
    assert org.admin.client.delete(f"/api/v1/organizations/{org.name}/tokens/{kept['id']}").status_code == 404


def test_token__is_kept_as_a_hash(service: Service, org: Organization):
    client = a_token(service, org, "read")
    token = client.headers["Authorization"].removeprefix("Bearer ")

    rows = service.fetch("SELECT * FROM access_tokens WHERE user_id = $1", org.id)

    assert token not in str([dict(row) for row in rows])


ALLOWED = {
    # what each scope may do beside looking who it is
    "read": {"list", "usage", "job", "members"},
    "run": {"submit", "upload", "job", "cancel"},
    "publish": {"publish", "job"},
    "administer": {"list", "usage", "job", "members", "tokens", "role", "trusts"},
}


@pytest.mark.parametrize("scope", ALLOWED)
def test_token__may_do_what_its_scopes_say_and_no_more(service: Service, org: Organization, scope: str):
    client = a_token(service, org, scope)
    snapshot = a_snapshot(org.member, org.name)
    job_id = submit_for(org, org.member).json()["job_id"]
    finished_job(org.member, job_id)
    members = f"/api/v1/organizations/{org.name}/members"
    run = {"snapshot_id": snapshot, "models": ["echo"], "force": True}
    tries = {
        "list": client.get("/api/v1/test-jobs"),
        "usage": client.get("/api/v1/users/me/test-usage"),
        "members": client.get(members),
        "job": client.get(f"/api/v1/test-jobs/{job_id}"),
        "submit": client.post("/api/v1/test-jobs/run", json=run),
        "upload": client.post("/api/v1/package-snapshots", content=an_archive(), headers=GZIP),
        "cancel": client.post(f"/api/v1/test-jobs/{job_id}/cancel"),
        "publish": client.post("/api/v1/packages", data={"manifest": "{}"}, files={"tarball": b"x"}),
        "tokens": client.get(f"/api/v1/organizations/{org.name}/tokens"),
        "role": client.put(f"{members}/{org.member.username}", json={"role": "member"}),
        "trusts": client.get("/api/v1/trusted-repositories"),
        # What no token of limited scope may do, whatever it is for.
        "make a token": client.post(f"/api/v1/organizations/{org.name}/tokens", json={"name": "more"}),
        "make an owner": client.put(f"{members}/{org.member.username}", json={"role": "owner"}),
    }

    assert {name for name, answer in tries.items() if answer.status_code != 403} == ALLOWED[scope]
    assert client.get("/api/v1/user").status_code == 200
    page = client.post("/login", data={"unverified_token": client.headers["Authorization"][7:]})
    assert page.status_code == 401
    assert "set-cookie" not in page.headers


def test_token__of_no_scope_or_an_unknown_one_is_not_made(service: Service, org: Organization):
    path = f"/api/v1/organizations/{org.name}/tokens"
    for scopes in ([], ["everything"], ["run", "own"], ["write:packages"]):
        answer = org.owner.client.post(path, json={"name": "x", "scopes": scopes})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_scopes")


# What is told before the end


def warnings_after(service: Service, org: Organization, used: int) -> list[str]:
    service.fetch(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count)"
        " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, $2)"
        " ON CONFLICT (user_id, month) DO UPDATE SET test_runs_count = $2",
        org.id,
        used,
    )
    answer = submit_for(org, org.member)
    assert answer.status_code == 202, answer.text
    return answer.json().get("warnings", [])


def levels(service: Service, account: uuid.UUID) -> list[tuple[str, int]]:
    rows = service.fetch("SELECT kind, level FROM account_warnings WHERE account_id = $1 ORDER BY kind, level", account)
    return [(row["kind"], row["level"]) for row in rows]


def test_warnings__come_with_half_four_fifths_and_the_last_run(service: Service):
    org = an_organization(service)

    assert warnings_after(service, org, 48) == []
    assert warnings_after(service, org, 49) == ["50 % of this month's test runs are used: 50 of 100."]
    assert warnings_after(service, org, 79) == ["80 % of this month's test runs are used: 80 of 100."]
    assert warnings_after(service, org, 99) == ["This was the last of this month's 100 test runs."]
    # Each is a row once a month, also when runs were given back and used again.
    assert warnings_after(service, org, 79) == ["80 % of this month's test runs are used: 80 of 100."]
    assert levels(service, org.id) == [("runs", 50), ("runs", 80), ("runs", 100)]


def test_warnings__Q7_are_the_same_when_a_submit_is_repeated(service: Service):
    org = an_organization(service)
    warnings_after(service, org, 78)
    snapshot = a_snapshot(org.member, org.name)

    answers = [
        org.member.client.post(
            "/api/v1/test-jobs/run",
            json={"snapshot_id": snapshot, "models": ["echo"], "account": org.name},
            headers={"Idempotency-Key": "once"},
        )
        for _ in range(2)
    ]
    service.fetch("UPDATE user_test_usage SET cost_usd = 999 WHERE user_id = $1", org.id)
    last = org.member.client.post(
        "/api/v1/test-jobs/run",
        json={"snapshot_id": snapshot, "models": ["echo"], "account": org.name},
        headers={"Idempotency-Key": "once"},
    )

    assert answers[0].json()["warnings"] == ["80 % of this month's test runs are used: 80 of 100."]
    assert answers[0].content == answers[1].content == last.content


def test_warnings__of_money_come_with_the_call_that_spends_it(service: Service):
    org = an_organization(service, tier="enterprise")
    snapshot = a_snapshot(org.member, org.name, suite=PASSING_SUITE)
    first = submit(org.member, snapshot_id=snapshot, account=org.name, models=["priced"], force=True)
    finished_job(org.member, first.json()["job_id"])
    [spent] = service.fetch("SELECT cost_usd FROM user_test_usage WHERE user_id = $1", org.id)
    assert 0 < spent["cost_usd"] < 500
    assert "warnings" not in first.json()
    assert levels(service, org.id) == []

    service.fetch(
        "UPDATE users SET money_per_month_usd = $2, money_per_job_usd = $2 WHERE id = $1", org.id, spent["cost_usd"] * 2
    )
    service.fetch("UPDATE user_test_usage SET cost_usd = cost_usd * 0.9 WHERE user_id = $1", org.id)
    service.fetch("UPDATE user_test_usage SET cost_usd = cost_usd * 1.2 WHERE user_id = $1", org.id)
    second = submit(org.member, snapshot_id=snapshot, account=org.name, models=["echo"], force=True)

    assert levels(service, org.id) == [("money", 50)]
    assert second.json()["warnings"] == ["50 % of this month's money for models is spent; see `prpm usage`."]


async def test_warnings__the_database_and_the_answer_know_the_same_levels(db: asyncpg.Pool):
    for used, most in [(0, 100), (49, 100), (50, 100), (80, 100), (100, 100), (2, 3), (1, 1), (5, None), (5, 0)]:
        assert await db.fetchval("SELECT warning_level($1, $2)", used, most) == level_of_runs(used, most)


# Many at once


async def test_submit__members_of_one_organisation_at_once_are_charged_each_once(db: asyncpg.Pool):
    org = await an_account(db)
    await db.execute("UPDATE users SET kind = 'organization', username = 'acme' WHERE id = $1", org)
    members = [await an_account(db, tier="free") for _ in range(20)]
    for member in members:
        await db.execute("INSERT INTO organization_members VALUES ($1, $2, 'member')", org, member)
    admission = Admission(db)
    sent = [a_new_job(org, credential=Credential(account_id=member)) for member in members]

    await asyncio.gather(*(admission.submit(msgspec.structs.replace(job, account="acme")) for job in sent))

    assert await db.fetchval("SELECT test_runs_count FROM user_test_usage WHERE user_id = $1", org) == 20
    assert await db.fetchval("SELECT COUNT(*) FROM usage_ledger WHERE user_id = $1", org) == 20
    assert await db.fetchval("SELECT COUNT(DISTINCT submitted_by) FROM test_jobs WHERE user_id = $1", org) == 20


async def test_statement__reads_no_whole_table_of_members_tokens_or_trusts(db: asyncpg.Pool):
    assert jobs.RIGHTS == (
        ["member", "maintainer", "admin", "owner"],
        ["run", "write:packages"],
        ["maintainer", "admin", "owner"],
        ["publish", "write:packages"],
    )
    async with db.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute("SET enable_seqscan = off")
        await connection.execute(f"PREPARE submit AS {SQL['submit_jobs'].rstrip(';')}")
        rows = await connection.fetch("EXPLAIN EXECUTE submit ('[]', NULL, '{}', '{}', '{}', '{}')")
    plan = "\n".join(row[0] for row in rows)

    for table in ("organization_members", "access_tokens", "trusted_repositories", "users"):
        assert f"Seq Scan on {table}" not in plan
        assert f"on {table}" in plan
