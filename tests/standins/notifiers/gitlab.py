"""How the contract gets a GitLab that the notifier can be tried on."""

from __future__ import annotations

from dataclasses import replace

from notifiers import Receipt
from notifiers.gitlab import GitLabTarget
from tests.notices import SHA
from tests.standins.gitlab import GitLab

SECRETS = (GitLab.token, "a" * 64)


def stand_in() -> GitLab:
    return GitLab()


def target_for(server: GitLab, mode: str) -> GitLabTarget:
    return GitLabTarget(
        project=server.project,
        token=server.token,
        author=server.login,
        marker="a" * 64,
        merge_request=12,
        head_sha=SHA,
        comment=mode,  # type: ignore[arg-type]  # the contract's words are the modes
        commit_status=mode != "never",
        api_url=f"{server.url}/api/v4",
    )


def elsewhere(target: GitLabTarget, url: str) -> GitLabTarget:
    return replace(target, api_url=url)


def again(target: GitLabTarget, receipt: Receipt) -> GitLabTarget:
    return target


def visible(server: GitLab) -> list[str]:
    return server.ours()
