"""The set-up of both forges in a real Chromium: forms, redirects to another origin and back, cookies and policies.

    python -m pytest tests/end_to_end/browser/browser_setup.py

Needs `chromium` and `chromium-driver` (Debian). Screenshots are kept in the folder that PRPM_SCREENSHOTS names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.end_to_end.browser.driver import Browser, chromium, missing_programs
from tests.service import Service, in_loop, start_service
from tests.standins.github_setup import GitHubSetup
from tests.standins.gitlab_forge import GitLabForge


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert not missing_programs(), f"Install {' and '.join(missing_programs())}: apt install chromium chromium-driver"
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def github() -> Iterator[GitHubSetup]:
    with GitHubSetup().running() as running:
        yield running
        assert running.violations == []


@pytest.fixture(scope="module")
def gitlab() -> Iterator[GitLabForge]:
    with GitLabForge().running() as running:
        yield running


@pytest.fixture(scope="module")
def service(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, github: GitHubSetup, gitlab: GitLabForge
) -> Iterator[Service]:
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=tmp_path_factory.mktemp("setup"),
        PRPM_GITHUB_API_URL=github.url,
        PRPM_GITLAB_URL=gitlab.url,
    )


def keep_picture(browser: Browser, name: str) -> None:
    if folder := os.environ.get("PRPM_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(browser.screenshot())


def await_text(browser: Browser, css: str, words: str) -> None:
    deadline = time.monotonic() + 15
    while not (browser.find(css) and words in browser.text(css)):
        assert time.monotonic() < deadline, (browser.url, browser.console())
        time.sleep(0.05)


def test_browser__an_app_is_made_installed_and_linked(browser: Browser, service: Service, github: GitHubSetup):
    ticket = subprocess.run(
        [sys.executable, "-m", "server.operator.main", "setup-token"],
        env={**os.environ, **service.environment}, capture_output=True, text=True, timeout=60, check=True,
    ).stdout.strip()  # fmt: skip
    browser.look(width=900, dark=False)
    browser.open(f"{service.url}/setup/github")
    keep_picture(browser, "setup-github")
    browser.type_into("input[name=unverified_ticket]", ticket)
    browser.click("button")
    await_text(browser, "h1", "This is what GitHub will make")
    keep_picture(browser, "setup-github-manifest")
    browser.click("button")
    await_text(browser, "h1", "The App is set up")
    keep_picture(browser, "setup-github-made")

    alice = service.an_account()
    browser.open(f"{service.url}/setup/github/installed?installation_id=4001&setup_action=install")
    browser.type_into("input[name=unverified_token]", alice.token)
    browser.click("button")
    await_text(browser, "h1", "Whose tests are these?")
    keep_picture(browser, "setup-github-link")
    browser.click("button")
    await_text(browser, "h1", "Linked")
    keep_picture(browser, "setup-github-linked")

    [row] = service.fetch("SELECT a.username FROM installations i JOIN users a ON a.id = i.account_id")
    assert row["username"] == alice.username
    assert [line for line in browser.console() if "Security Policy" in line] == []


def test_browser__a_gitlab_webhook_is_made(browser: Browser, service: Service, gitlab: GitLabForge):
    browser.forget_cookies()
    alice = service.an_account()
    browser.look(width=400, dark=True)
    browser.open(f"{service.url}/setup/gitlab")
    browser.type_into("input[name=unverified_token]", alice.token)
    browser.click("button")
    await_text(browser, "h1", "Test a GitLab project")
    keep_picture(browser, "setup-gitlab")
    browser.type_into("input[name=name]", "acme/prompts")
    browser.type_into("input[name=unverified_token]", gitlab.token)
    browser.click("button")
    await_text(browser, "h1", "Paste these into acme/prompts")
    keep_picture(browser, "setup-gitlab-values")
    browser.click("main a")
    await_text(browser, "h1", "Nothing has arrived yet")
    keep_picture(browser, "setup-gitlab-arrival")
