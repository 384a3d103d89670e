"""Workflows without a key over HTTP: the exchange, and what its token opens and what not."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.organizations import Organization, an_organization
from tests.packages import an_archive
from tests.service import Service, finished_job, in_loop, start_service
from tests.standins.issuer import StandInIssuer

GZIP = {"Content-Type": "application/gzip"}


@dataclass(frozen=True, kw_only=True)
class Site:
    """A service that knows the stand-in's tokens, with an organisation whose repository 7001 is linked."""

    service: Service
    issuer: StandInIssuer
    org: Organization

    def exchange(self, **changes: object) -> httpx.Response:
        token = self.issuer.token(aud=self.service.url, **changes)
        with self.service.visitor() as client:
            return client.post("/api/v1/auth/oidc/exchange", json={"token": token})

    def workflow(self, **changes: object) -> httpx.Client:
        """A client with the token that a workflow got."""
        answer = self.exchange(**changes)
        assert answer.status_code == 200, answer.text
        client = self.service.visitor()
        client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        return client

    def link(self, account: str, repository: str, repository_id: str, *, owner_id: str = "501") -> None:
        linked = self.operate(
            "trust",
            "add",
            account,
            "--repository",
            repository,
            "--repository-id",
            repository_id,
            "--owner-id",
            owner_id,
        )
        assert linked.returncode == 0, linked.stderr

    def operate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "server.operator.main", *arguments],
            env=self.service.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def site(admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    with StandInIssuer().running() as issuer:
        starting = start_service(
            dsn=dsn,
            redis_url=redis_url,
            folder=tmp_path_factory.mktemp("keyless"),
            PRPM_OIDC_ISSUERS=f"github={issuer.url}",
        )
        for service in starting:
            site = Site(service=service, issuer=issuer, org=an_organization(service))
            linked = site.operate(
                "trust",
                "add",
                site.org.name,
                "--repository",
                "acme/prompts",
                "--repository-id",
                "7001",
                "--owner-id",
                "501",
            )
            assert linked.returncode == 0, linked.stderr
            yield site


def a_change(**changes: object) -> dict[str, object]:
    usual = {
        "forge": "github",
        "repository": "acme/prompts",
        "repository_id": 7001,
        "ref": "feature",
        "head_sha": "1" * 40,
    }
    return usual | {"pull_request": 12} | changes


def submit(client: httpx.Client, **body: object) -> httpx.Response:
    upload = client.post("/api/v1/package-snapshots", content=an_archive(), headers=GZIP)
    assert upload.status_code == 201, upload.text
    request = {"snapshot_id": upload.json()["snapshot_id"], "models": ["echo"], **body}
    return client.post("/api/v1/test-jobs/run", json=request)


def test_exchange__then_a_run_is_the_organisations_and_can_be_followed(site: Site):
    answer = site.exchange()
    assert answer.status_code == 200
    assert answer.json() | {"token": "", "expires_at": ""} == {
        "token": "", "expires_at": "", "account": site.org.name, "repository": "acme/prompts",
    }  # fmt: skip
    client = site.workflow()

    run = submit(client, change=a_change(head_sha="a" * 40))

    assert run.status_code == 202, run.text
    job_id = run.json()["job_id"]
    assert finished_job(site.org.member, job_id)["status"] == "completed"
    for route in ("", "/results", "/events"):
        assert client.get(f"/api/v1/test-jobs/{job_id}{route}").status_code == 200
    [job] = site.service.fetch("SELECT user_id, submitted_by FROM test_jobs WHERE id = $1", uuid.UUID(job_id))
    assert job["user_id"] == site.org.id
    assert job["submitted_by"] not in (site.org.id, site.org.member.id)


def test_run__V9_of_an_event_that_somebody_told_of_before_is_the_same_job(site: Site):
    change = a_change(head_sha="b" * 40)
    snapshot = site.org.member.client.post(
        "/api/v1/package-snapshots", content=an_archive(), headers=GZIP, params={"account": site.org.name}
    ).json()["snapshot_id"]
    first = site.org.member.client.post(
        "/api/v1/test-jobs/run",
        json={"snapshot_id": snapshot, "models": ["echo"], "account": site.org.name, "change": change},
    )
    client = site.workflow()

    second = submit(client, change=change)

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["job_id"] == second.json()["job_id"]
    assert client.get(f"/api/v1/test-jobs/{first.json()['job_id']}").status_code == 200


OTHERS = {
    "another repository": a_change(repository_id=7002),
    "another forge": a_change(forge="gitlab"),
    "none": None,
}


@pytest.mark.parametrize("case", OTHERS)
def test_run__of_another_repository_is_a_403(site: Site, case: str):
    change = OTHERS[case]
    client = site.workflow()

    answer = submit(client, **({"change": change} if change else {}))

    assert (answer.status_code, answer.json()["code"]) == (403, "other_repository")


def test_run__in_the_name_of_a_branch_is_for_the_workflows_own_alone(site: Site):
    """A pull request's workflow is the pull request's: it adds nothing to what `main` is known for."""
    main = a_change(ref="refs/heads/main", head_sha="d" * 40)
    del main["pull_request"]

    by_change = submit(site.workflow(), change=main)
    by_branch = submit(site.workflow(event_name="push", ref="refs/heads/feature"), change=main)
    by_main = submit(site.workflow(event_name="push", ref="refs/heads/main"), change=main)

    assert [(one.status_code, one.json().get("code")) for one in (by_change, by_branch)] == [(403, "other_ref")] * 2
    assert by_main.status_code == 202, by_main.text


def test_token__sees_and_does_nothing_beside_its_repositorys_jobs(site: Site):
    theirs = submit(site.workflow(), change=a_change(head_sha="c" * 40)).json()["job_id"]
    site.link(site.org.name, "acme/two", "7002")
    client = site.workflow(repository="acme/two", repository_id="7002")
    random = str(uuid.uuid4())

    for job_id in (theirs, random):
        for method, route in (
            ("GET", ""),
            ("GET", "/results"),
            ("GET", "/events"),
            ("POST", "/cancel"),
            ("POST", "/retry"),
        ):
            answer = client.request(method, f"/api/v1/test-jobs/{job_id}{route}")
            assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found"), (method, route)
    name = site.org.name
    for method, path, body in (
        ("GET", "/api/v1/test-jobs", None),
        ("GET", "/api/v1/users/me/test-usage", None),
        ("GET", "/api/v1/users/me/test-usage/ledger", None),
        ("GET", "/api/v1/organizations", None),
        ("GET", f"/api/v1/organizations/{name}/members", None),
        ("PUT", f"/api/v1/organizations/{name}/members/{site.org.member.username}", {"role": "owner"}),
        ("GET", f"/api/v1/organizations/{name}/tokens", None),
        ("POST", f"/api/v1/organizations/{name}/tokens", {"name": "x"}),
        ("GET", "/api/v1/trusted-repositories", None),
        ("POST", "/api/v1/admin/tokens", {"username": name, "name": "x"}),
    ):
        assert client.request(method, path, json=body).status_code == 403, path
    assert client.post("/login", data={"unverified_token": client.headers["Authorization"][7:]}).status_code == 401


def test_token__A8_of_a_persons_repository_bills_that_person_alone(site: Site):
    alice = site.org.maintainer
    site.service.fetch("UPDATE users SET subscription_tier = 'plus' WHERE id = $1", alice.id)
    site.operate(
        "trust", "add", alice.username, "--repository", "alice/x", "--repository-id", "7003", "--owner-id", "9"
    )
    client = site.workflow(repository="alice/x", repository_id="7003", repository_owner_id="9")

    for_org = submit(client, change=a_change(repository_id=7003), account=site.org.name)
    for_alice = submit(client, change=a_change(repository_id=7003))

    assert (for_org.status_code, for_org.json()["code"]) == (404, "account_not_found")
    assert for_alice.status_code == 202
    [job] = site.service.fetch("SELECT user_id FROM test_jobs WHERE id = $1", uuid.UUID(for_alice.json()["job_id"]))
    assert job["user_id"] == alice.id


def test_token__may_not_upload_results_unless_its_link_says_so(site: Site):
    answer = submit(site.workflow(), change=a_change(head_sha="d" * 40), upload_results=True)

    assert (answer.status_code, answer.json()["code"]) == (403, "may_not_publish")


def test_token__A11_ends_after_its_time_and_with_its_link(site: Site):
    client, other = site.workflow(), site.workflow()
    site.service.fetch("UPDATE access_tokens SET expires_at = NOW() WHERE kind = 'oidc'")
    assert client.get("/api/v1/user").status_code == 401
    assert submit_raw(other, change=a_change()).status_code == 401

    site.operate(
        "trust", "add", site.org.name, "--repository", "acme/3", "--repository-id", "7004", "--owner-id", "501"
    )
    third = site.workflow(repository="acme/3", repository_id="7004")
    links = site.org.admin.client.get("/api/v1/trusted-repositories", params={"account": site.org.name}).json()
    [link] = [one for one in links["trusted_repositories"] if one["repository_id"] == 7004]
    assert (
        site.org.member.client.delete(
            f"/api/v1/trusted-repositories/{link['id']}", params={"account": site.org.name}
        ).status_code
        == 403
    )
    assert (
        site.org.admin.client.delete(
            f"/api/v1/trusted-repositories/{link['id']}", params={"account": site.org.name}
        ).status_code
        == 204
    )
    assert third.get("/api/v1/user").status_code == 401


def submit_raw(client: httpx.Client, **body: object) -> httpx.Response:
    return client.post("/api/v1/test-jobs/run", json={"snapshot_id": "0" * 64, "models": ["echo"], **body})


def test_exchange__refusals_have_their_codes_and_nothing_of_the_token_is_logged(site: Site):
    token = site.issuer.token(aud=site.service.url)
    with site.service.visitor() as client:
        url = "/api/v1/auth/oidc/exchange"
        assert client.post(url, json={"token": token}).status_code == 200
        again = client.post(url, json={"token": token})
        wrong = client.post(url, json={"token": site.issuer.token(aud="https://elsewhere.example")})
        stranger = site.exchange(repository_id="1", repository="mallory/x")
        empty = client.post(url, json={"token": ""})
        more = client.post(url, json={"token": "x", "account": site.org.name})
        form = client.post(url, data={"token": token})

    assert (again.status_code, again.json()["code"]) == (401, "oidc_token_used")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_oidc_token")
    assert site.service.url in wrong.json()["error"]
    assert (stranger.status_code, stranger.json()["code"]) == (403, "repository_not_trusted")
    assert (empty.status_code, more.status_code, form.status_code) == (400, 400, 415)
    log = (site.service.folder / "api.log").read_text()
    assert token[:60] not in log
    assert "prpm_" not in log


def test_audience__is_told_to_everybody(site: Site):
    with site.service.visitor() as client:
        assert client.get("/api/v1/auth/oidc/audience").json() == {"audience": site.service.url}


def test_link__is_for_the_operator_and_administrators(site: Site):
    root = site.service.an_account(is_admin=True)
    body = {"account": site.org.name, "repository": "acme/4", "repository_id": 7005, "owner_id": 501}

    assert site.org.owner.client.post("/api/v1/trusted-repositories", json=body).status_code == 403
    made = root.client.post("/api/v1/trusted-repositories", json=body)
    assert made.status_code == 201
    assert made.json()["proof"] == f"administrator {root.username}"
    assert root.client.post("/api/v1/trusted-repositories", json=body).status_code == 409
    listed = site.operate("trust", "list", site.org.name)
    assert "acme/4 -> " in listed.stdout
    removed = site.operate("trust", "remove", made.json()["id"])
    assert (removed.returncode, removed.stdout) == (0, "Removed.\n")
    assert site.operate("trust", "remove", "nonsense").returncode == 2
    unknown = site.operate("trust", "add", "nobody", "--repository", "a/b", "--repository-id", "1", "--owner-id", "1")
    assert (unknown.returncode, unknown.stderr) == (2, "❌ There is no account named nobody.\n")


def test_org__the_operators_commands(site: Site):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    owner, other = site.org.owner.username, site.org.member.username

    assert site.operate("org", "create", name, "--owner", owner, "--tier", "pro").returncode == 0
    assert (
        site.operate("org", "member", "add", name, other, "--role", "admin").stdout == f"{other} is admin of {name}.\n"
    )
    assert site.operate("org", "member", "list", name).stdout == f"{owner}  owner\n{other}  admin\n"
    assert f"{name}  pro  members: 2" in site.operate("org", "list").stdout
    last = site.operate("org", "member", "remove", name, owner)
    assert (last.returncode, last.stderr) == (2, "❌ An organisation needs an owner. Make somebody else owner first.\n")
    assert site.operate("org", "member", "remove", name, other).returncode == 0
    token = site.operate("org", "token", name, "--scope", "read").stdout.strip()
    with site.service.visitor() as client:
        who = client.get("/api/v1/user", headers={"Authorization": f"Bearer {token}"})
    assert (who.json()["username"], who.json()["kind"]) == (name, "organization")
