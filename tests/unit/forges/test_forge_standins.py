"""The stand-ins that are read and reported to: what the notifiers write there is seen, and rights are held."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from evals.models import Secret
from notifiers import CannotNotify
from notifiers.github import GitHubTarget
from notifiers.github import tell as tell_github
from notifiers.gitlab import GitLabTarget
from notifiers.gitlab import tell as tell_gitlab
from server.forges import FORGES, Place
from server.forges.github import READ_RIGHTS, REPORT_RIGHTS, app_jwt, installation_token
from server.services.posting import Patience, post, posting_client
from tests.notices import a_failure
from tests.standins.github_app import APP_ID, PRIVATE_KEY
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge


@pytest.fixture
def github() -> Iterator[GitHubForge]:
    with GitHubForge().running() as running:
        yield running


@pytest.fixture
def gitlab() -> Iterator[GitLabForge]:
    with GitLabForge().running() as running:
        yield running


async def carried_out(asking: Any) -> Any:
    async with posting_client() as client:
        return await post(asking, client=client, patience=Patience(tries=1))


async def a_github_target(github: GitHubForge, rights: dict[str, str]) -> GitHubTarget:
    base = github.repository.commit({"prpm.json": b"{}"}, branch="main")
    head = github.repository.commit({"prpm.json": b"{ }"}, parent=base, branch="feature")
    github.propose(12, head, base)
    proof = app_jwt(APP_ID, Secret(PRIVATE_KEY), now=time.time())
    granted = await carried_out(
        installation_token(github.url, proof, github.installation_id, repository_id=github.id, rights=rights)
    )
    return GitHubTarget(
        repository=github.name, token=granted.token.reveal(), author="prpm-testing[bot]", marker="a" * 64,
        pull_request=12, head_sha=head, comment="always", commit_status=True, api_url=github.url,
    )  # fmt: skip


async def test_github_forge__shows_what_is_written_with_the_rights_to_report(github: GitHubForge):
    target = await a_github_target(github, REPORT_RIGHTS)

    await carried_out(tell_github(a_failure(head_sha=target.head_sha), target))

    assert len(github.reported.ours(pull=12)) == 1
    assert target.head_sha is not None
    [check] = github.checks(target.head_sha).values()
    assert check["conclusion"] == "failure"
    assert github.violations == []


async def test_github_forge__refuses_to_be_written_to_with_the_rights_to_read(github: GitHubForge):
    target = await a_github_target(github, READ_RIGHTS)

    with pytest.raises(CannotNotify):
        await carried_out(tell_github(a_failure(), target))

    assert github.reported.comments == {}
    assert any("not accessible by integration: checks" in one for one in github.violations)


async def test_github_forge__a_token_that_ran_out_is_none(github: GitHubForge):
    target = await a_github_target(github, REPORT_RIGHTS)
    github.token_seconds = -1.0

    with pytest.raises(CannotNotify) as refused:
        await carried_out(tell_github(a_failure(), target))

    assert refused.value.status == 401


async def test_github_forge__a_commit_that_is_not_there_has_no_check(github: GitHubForge):
    target = replace(await a_github_target(github, REPORT_RIGHTS), head_sha="9" * 40, comment="never")

    with pytest.raises(CannotNotify) as refused:
        await carried_out(tell_github(a_failure(), target))

    assert refused.value.status == 422


async def test_gitlab_forge__is_read_and_shows_what_is_written(gitlab: GitLabForge):
    base = gitlab.repository.commit({"prpm.json": b"{}"}, branch="main")
    head = gitlab.repository.commit({"prpm.json": b"{ }", "a/b.md": b"hi"}, parent=base, branch="feature")
    gitlab.propose(12, head, base)
    place = Place(api_url=f"{gitlab.url}/api/v4", id=gitlab.id, name=gitlab.name, token=Secret(gitlab.token))
    forge = FORGES["gitlab"]

    tree = await carried_out(forge.tree(place, head))
    touched = await carried_out(forge.touched(place, base, head))
    content = await carried_out(forge.blob(place, tree.entries[0].sha, 10))
    proposed = await carried_out(forge.proposed(place, 12))
    target = GitLabTarget(
        project=str(gitlab.id), token=gitlab.token, author=gitlab.tokens[gitlab.token], marker="a" * 64,
        merge_request=12, head_sha=head, comment="always", api_url=place.api_url,
    )  # fmt: skip
    await carried_out(tell_gitlab(a_failure(head_sha=head), target))

    assert [entry.path for entry in tree.entries] == ["a/b.md", "prpm.json"]
    assert content == b"hi"
    assert (touched.paths, touched.base_sha) == (frozenset({"a/b.md", "prpm.json"}), base)
    assert (proposed.head_sha, proposed.base_sha) == (head, base)
    assert len(gitlab.reported.ours(request=12)) == 1
    [status] = gitlab.statuses(head).values()
    assert status["state"] == "failed"
    assert gitlab.violations == []
