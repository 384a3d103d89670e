"""Packages over HTTP: published, uploaded as snapshots, looked at by those who may."""

from __future__ import annotations

import json
import uuid

import pytest

from evals.archives import pack
from tests.packages import PASSING_SUITE, a_package, an_archive
from tests.service import Account, Service, finished_job


def publish(account: Account, name: str, *, manifest: dict | None = None, **kwargs):
    files = a_package(name, **kwargs)
    return account.client.post(
        "/api/v1/packages",
        data={"manifest": json.dumps(manifest or json.loads(files["prpm.json"]))},
        files={"tarball": ("package.tar.gz", an_archive(name, **kwargs), "application/gzip")},
    )


def scoped(account: Account, name: str = "pkg") -> str:
    return f"@{account.username}/{name}"


def test_publish__and_look_in_every_form_of_the_name(service: Service):
    alice = service.an_account()
    name = scoped(alice)

    answer = publish(alice, name)

    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    assert (answer.json()["name"], answer.json()["version"]) == (name, "1.0.0")
    encoded = name.replace("@", "%40").replace("/", "%2F")
    with service.visitor() as visitor:
        answers = [
            visitor.get(f"/api/v1/packages/{form}").json()
            for form in (encoded, encoded.replace("%2F", "%2f"), name, name.replace("/", "%2F"))
        ]
        assert answers[0]["name"] == name
        assert answers[0]["latest_version"]["version"] == "1.0.0"
        assert all(found == answers[0] for found in answers)
        assert visitor.get(f"/api/v1/packages/by-id/{answers[0]['id']}").json()["name"] == name
        archive = visitor.get(answers[0]["latest_version"]["tarball_url"])
        assert archive.content == an_archive(name)
        assert visitor.get(f"/api/v1/packages/{encoded}/1.0.0").json()["version"] == "1.0.0"
        assert visitor.get(f"/api/v1/packages/{name}/1.0.0").json()["version"] == "1.0.0"
        assert visitor.get(f"/api/v1/packages/{encoded}/9.9.9").status_code == 404


def test_publish__the_same_version_again_is_a_conflict(service: Service):
    alice = service.an_account()
    publish(alice, scoped(alice))

    answer = publish(alice, scoped(alice), text="Other text.")

    assert answer.status_code == 409
    assert answer.json()["code"] == "version_exists"


def test_publish__anothers_scope_or_name_is_refused(service: Service):
    alice, bob = service.an_account(), service.an_account()
    bare = f"bare-{uuid.uuid4().hex[:8]}"
    assert publish(alice, bare).status_code == 200

    assert publish(bob, scoped(alice)).status_code == 403
    assert publish(bob, bare, version="2.0.0").status_code == 403


def test_publish__latest_is_the_newest_published(service: Service):
    alice = service.an_account()
    publish(alice, scoped(alice), version="2.0.0")
    publish(alice, scoped(alice), version="1.0.1")

    found = alice.client.get(f"/api/v1/packages/{scoped(alice)}").json()

    assert found["latest_version"]["version"] == "1.0.1"
    assert [version["version"] for version in found["versions"]] == ["1.0.1", "2.0.0"]


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzip", b"\x1f\x8b\x08\x00" + b"\x00" * 20, an_archive("x")[:-20]],
    ids=["empty", "I8 not gzip", "I8 nonsense", "I8 truncated"],
)
def test_snapshot__hostile_archives_are_refused_and_leave_nothing(service: Service, content: bytes):
    alice = service.an_account()

    answer = alice.client.post(
        "/api/v1/package-snapshots", content=content, headers={"Content-Type": "application/gzip"}
    )

    assert answer.status_code == 400
    assert set(answer.json()) >= {"error", "code"}
    assert service.fetch("SELECT id FROM packages WHERE owner_id = $1", alice.id) == []


def test_snapshot__is_addressed_by_its_content_and_private(service: Service):
    alice, bob = service.an_account(), service.an_account()
    headers = {"Content-Type": "application/gzip"}

    first = alice.client.post("/api/v1/package-snapshots", content=an_archive(), headers=headers).json()
    second = alice.client.post("/api/v1/package-snapshots", content=an_archive(), headers=headers).json()
    theirs = bob.client.post("/api/v1/package-snapshots", content=an_archive(), headers=headers).json()

    assert (first["created"], second["created"], theirs["created"]) == (True, False, True)
    assert first["snapshot_id"] == second["snapshot_id"] == theirs["snapshot_id"]
    assert first["package"] == second["package"]
    assert first["package"]["version"] == f"0.0.0-snapshot.{first['snapshot_id'][:12]}"
    assert first["package"]["id"] != theirs["package"]["id"]
    assert bob.client.get(f"/api/v1/packages/by-id/{first['package']['id']}").status_code == 404
    assert alice.client.get(f"/api/v1/packages/by-id/{first['package']['id']}").status_code == 200
    assert alice.client.get("/api/v1/packages/sample").status_code == 404


def test_snapshot__the_wrong_content_type_is_refused(service: Service):
    alice = service.an_account()

    answer = alice.client.post(
        "/api/v1/package-snapshots", content=an_archive(), headers={"Content-Type": "text/plain"}
    )

    assert answer.status_code == 415


def test_package__runs_by_name_version_and_id(service: Service):
    alice, bob = service.an_account(), service.an_account()
    name = scoped(alice)
    publish(alice, name, suite=PASSING_SUITE)
    publish(alice, name, version="2.0.0")
    package_id = alice.client.get(f"/api/v1/packages/{name}").json()["id"]

    runs = [
        bob.client.post("/api/v1/test-jobs/run", json=body).json()["job_id"]
        for body in (
            {"package_id": name},
            {"package_id": name, "package_version": "1.0.0"},
            {"package_id": package_id, "package_version": "1.0.0", "force": True},
        )
    ]

    jobs = [finished_job(bob, job_id) for job_id in runs]
    assert [job["package"]["version"] for job in jobs] == ["2.0.0", "1.0.0", "1.0.0"]
    assert [job["conclusion"] for job in jobs] == ["failed", "passed", "passed"]
    missing = bob.client.post("/api/v1/test-jobs/run", json={"package_id": name, "package_version": "3.0.0"})
    assert missing.status_code == 404
    refused = bob.client.post("/api/v1/test-jobs/run", json={"package_id": name, "upload_results": True})
    assert refused.status_code == 403


def test_suite__stored_by_the_owner_is_used_where_the_files_bring_none(service: Service):
    alice, bob = service.an_account(), service.an_account()
    name = scoped(alice)
    publish(alice, name, suite=None)
    package_id = alice.client.get(f"/api/v1/packages/{name}").json()["id"]

    assert bob.client.put(f"/api/v1/packages/{package_id}/suite", json=PASSING_SUITE).status_code == 403
    stored = alice.client.put(f"/api/v1/packages/{package_id}/suite", json=PASSING_SUITE)

    assert stored.status_code == 200
    assert stored.json()["cases"] == 1
    job = finished_job(bob, bob.client.post("/api/v1/test-jobs/run", json={"package_id": name}).json()["job_id"])
    assert job["config"]["suite_source"] == "stored"
    broken = alice.client.put(f"/api/v1/packages/{package_id}/suite", json={"tests": []})
    assert broken.status_code == 400


def test_publish__a_broken_suite_inside_is_said_at_the_run(service: Service):
    alice = service.an_account()
    name = scoped(alice)
    publish(alice, name, suite={"tests": [{"input": "x", "assert": [{"type": "nope"}]}]})

    refused = alice.client.post("/api/v1/test-jobs/run", json={"package_id": name})
    own = alice.client.post("/api/v1/test-jobs/run", json={"package_id": name, "suite": PASSING_SUITE})

    assert refused.status_code == 400
    assert "nope" in refused.text
    assert own.status_code == 202


def test_models__name_price_and_reach(service: Service):
    with service.visitor() as visitor:
        models = {model["name"]: model for model in visitor.get("/api/v1/models").json()["models"]}

    assert models["echo"]["default"] is True
    assert models["echo"]["reachable"] is True
    assert models["echo"]["free"] is True
    assert models["priced"]["price"] == {"input": 1000.0, "output": 2000.0}
    assert models["keyed"]["reachable"] is False


@pytest.mark.parametrize(
    "path", ["/api/v1/packages/..%2f..%2fetc", "/api/v1/packages/%00", "/api/v1/packages/" + "a" * 215]
)
def test_package__names_that_cannot_be_are_a_404(service: Service, path: str):
    with service.visitor() as visitor:
        answer = visitor.get(path)

    assert answer.status_code == 404


def several(*names: str) -> bytes:
    """A folder with several packages, each with one file of its own."""
    about = {"version": "1.0.0", "description": "A package.", "format": "generic", "subtype": "prompt"}
    entries = [{"name": name, **about, "files": [f"{name}.md"]} for name in names]
    files = {f"{name}.md": f"You are {name}.".encode() for name in names}
    suite = {"prpm.test.json": json.dumps(PASSING_SUITE).encode()}
    return pack({"prpm.json": json.dumps({"packages": entries}).encode()} | files | suite)


def test_snapshot__of_several_packages_the_one_that_is_named_can_be_tested(service: Service):
    alice = service.an_account()
    archive, gzip = several("one", "two"), {"Content-Type": "application/gzip"}

    undecided = alice.client.post("/api/v1/package-snapshots", content=archive, headers=gzip)
    unknown = alice.client.post("/api/v1/package-snapshots?package=four", content=archive, headers=gzip)
    kept = {
        name: alice.client.post(f"/api/v1/package-snapshots?package={name}", content=archive, headers=gzip).json()
        for name in ("one", "two")
    }

    for refused in (undecided, unknown):
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_package")
        assert "`one`, `two`" in refused.json()["error"]
    assert kept["one"]["package"]["name"] == "one"
    assert kept["one"]["snapshot_id"] != kept["two"]["snapshot_id"]
    run = alice.client.post("/api/v1/test-jobs/run", json={"snapshot_id": kept["two"]["snapshot_id"]})
    job = finished_job(alice, run.json()["job_id"])
    assert (job["package"]["name"], job["conclusion"]) == ("two", "passed")
