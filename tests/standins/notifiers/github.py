"""How the contract gets a GitHub that the notifier can be tried on."""

from __future__ import annotations

from dataclasses import replace

from notifiers import Receipt
from notifiers.github import GitHubTarget
from tests.notices import SHA
from tests.standins.github import GitHub

SECRETS = (GitHub.token, "a" * 64)


def stand_in() -> GitHub:
    return GitHub()


def target_for(server: GitHub, mode: str) -> GitHubTarget:
    return GitHubTarget(
        repository=server.repository,
        token=server.token,
        author=server.login,
        marker="a" * 64,
        pull_request=12,
        head_sha=SHA,
        comment=mode,  # type: ignore[arg-type]  # the contract's words are the modes
        check_run=mode != "never",
        commit_status=False,
        api_url=server.url,
    )


def elsewhere(target: GitHubTarget, url: str) -> GitHubTarget:
    return replace(target, api_url=url)


def again(target: GitHubTarget, receipt: Receipt) -> GitHubTarget:
    return target


def visible(server: GitHub) -> list[str]:
    return server.ours()
