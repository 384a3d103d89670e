"""What GitHub is asked, against a strict stand-in over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evals.models import Secret
from server.forges import FORGES, CannotRead, Entry, Place
from server.forges.github import READ_RIGHTS, app_jwt, installation_of, installation_token
from server.services.posting import Patience, post, posting_client
from tests.standins.github_app import APP_ID, KEY, PRIVATE_KEY, GitHubApp
from tests.standins.repository import Link, Submodule, blob_sha
from tests.standins.web import Answer, Fault

GITHUB = FORGES["github"]
PUBLIC_KEY = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture
def app() -> Iterator[GitHubApp]:
    with GitHubApp().running() as running:
        yield running
        assert running.violations == []


async def carried_out(asking: Any) -> Any:
    async def no_pause(seconds: float) -> None:
        return

    async with posting_client() as client:
        return await post(asking, client=client, patience=Patience(tries=2), sleep=no_pause)


def proof() -> Secret:
    return app_jwt(APP_ID, Secret(PRIVATE_KEY), now=time.time())


async def a_place(app: GitHubApp) -> Place:
    granted = await carried_out(
        installation_token(app.url, proof(), app.installation_id, repository_id=app.id, rights=READ_RIGHTS)
    )
    return Place(api_url=app.url, id=app.id, name=app.name, token=granted.token)


async def test_token__is_for_one_repository_and_the_rights_that_are_needed(app: GitHubApp):
    place = await a_place(app)

    assert app.tokens[place.token.reveal()] == READ_RIGHTS
    assert len(place.token.reveal()) > 40


async def test_installation__is_found_by_the_apps_own_word(app: GitHubApp):
    assert (await carried_out(installation_of(app.url, proof(), app.name))).id == app.installation_id


async def test_token__W19_of_a_suspended_installation_is_none(app: GitHubApp):
    app.suspended = True

    with pytest.raises(CannotRead) as found:
        await a_place(app)

    assert not found.value.retryable


@pytest.mark.parametrize("key", ["", "no key", PUBLIC_KEY], ids=["nothing", "a text", "the public half"])
def test_proof__with_a_key_that_is_none_says_which_setting(key: str):
    with pytest.raises(CannotRead, match="PRPM_GITHUB_APP_PRIVATE_KEY"):
        app_jwt(APP_ID, Secret(key), now=0.0)


async def test_tree__holds_files_links_and_submodules_but_no_folders(app: GitHubApp):
    sha = app.repository.commit({"a/b.md": b"text", "link": Link("/etc/passwd"), "lib": Submodule()})

    found = await carried_out(GITHUB.tree(await a_place(app), sha))

    assert found.is_whole
    assert found.entries == (
        Entry(path="a/b.md", sha=blob_sha(b"text"), kind="file", bytes=4),
        Entry(path="lib", sha="5" * 40, kind="submodule"),
        Entry(path="link", sha=blob_sha(Link("/etc/passwd")), kind="link"),
    )


async def test_tree__that_github_cuts_is_not_whole(app: GitHubApp):
    app.truncates = True
    sha = app.repository.commit({"a": b""})

    assert not (await carried_out(GITHUB.tree(await a_place(app), sha))).is_whole


async def test_tree__of_a_commit_that_is_gone_is_said(app: GitHubApp):
    with pytest.raises(CannotRead, match="list the commit's files") as found:
        await carried_out(GITHUB.tree(await a_place(app), "9" * 40))

    assert not found.value.retryable


@pytest.mark.parametrize("content", [b"", b"text\n", bytes(range(256)) * 40])
async def test_blob__comes_as_it_is(app: GitHubApp, content: bytes):
    app.repository.commit({"a": content})

    assert await carried_out(GITHUB.blob(await a_place(app), blob_sha(content), 20_000)) == content


async def test_blob__larger_than_allowed_is_refused(app: GitHubApp):
    content = b"x" * 5000
    app.repository.commit({"a": content})

    with pytest.raises(CannotRead, match="larger than a package may be"):
        await carried_out(GITHUB.blob(await a_place(app), blob_sha(content), 4999))


async def test_touched__is_what_the_head_changed_since_the_commit_that_both_have(app: GitHubApp):
    start = app.repository.commit({"kept": b"1", "changed": b"1", "gone": b"1"})
    base = app.repository.commit({"on main": b"2"}, parent=start)
    head = app.repository.commit({"changed": b"2", "gone": None, "new": b"2"}, parent=start)

    found = await carried_out(GITHUB.touched(await a_place(app), base, head))

    assert (found.paths, found.base_sha, found.is_whole) == ({"changed", "gone", "new"}, start, True)


async def test_touched__by_hundreds_of_files_is_not_whole(app: GitHubApp):
    base = app.repository.commit({})
    head = app.repository.commit({f"{number}": b"" for number in range(301)}, parent=base)

    assert not (await carried_out(GITHUB.touched(await a_place(app), base, head))).is_whole


async def test_proposed__is_the_pull_request_as_it_is_now(app: GitHubApp):
    app.pulls[7] = {
        "state": "open",
        "draft": True,
        "head": {"sha": "1" * 40, "ref": "changes", "repo": None},
        "base": {"sha": "2" * 40, "ref": "main"},
    }

    found = await carried_out(GITHUB.proposed(await a_place(app), 7))

    assert (found.head_sha, found.head_repository_id, found.is_open, found.is_draft) == ("1" * 40, None, True, True)


@pytest.mark.parametrize(
    ("login", "number", "may"),
    [("owner", 1, True), ("writer", 2, True), ("reader", 3, False), ("stranger", 4, False), ("writer", 99, False)],
)
async def test_may_write__is_asked_for_the_person_and_not_for_the_name(
    app: GitHubApp, login: str, number: int, may: bool
):
    app.rights = {"owner": (1, "admin"), "writer": (2, "write"), "reader": (3, "read")}

    assert await carried_out(GITHUB.may_write(await a_place(app), login, number)) is may


async def test_branch_head__with_a_slash_in_its_name(app: GitHubApp):
    sha = app.repository.commit({}, branch="feature/x")

    assert await carried_out(GITHUB.branch_head(await a_place(app), "feature/x")) == sha


@pytest.mark.parametrize("body", [b"<html>", [], {}, {"tree": 7}, {"tree": None, "truncated": False}])
async def test_tree__an_odd_answer_is_tried_later(app: GitHubApp, body: Any):
    place = await a_place(app)
    app.faults.append(Fault(answer=Answer(body=body)))

    with pytest.raises(CannotRead) as found:
        await carried_out(GITHUB.tree(place, "9" * 40))

    assert found.value.retryable


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Answer(status=502), None),
        (Answer(status=429, headers={"Retry-After": "70"}), 70.0),
        (Answer(status=403, headers={"Retry-After": "65"}, body={"message": "secondary rate limit"}), 65.0),
        (None, None),
    ],
)
async def test_tree__what_is_away_is_tried_later(app: GitHubApp, fault: Answer | None, seconds: float | None):
    place = await a_place(app)
    app.faults.append(Fault(answer=fault, times=5))

    with pytest.raises(CannotRead) as found:
        await carried_out(GITHUB.tree(place, "9" * 40))

    assert (found.value.retryable, found.value.seconds) == (True, seconds)
    assert "ghs_" not in str(found.value)
