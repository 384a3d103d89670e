"""The three ways in, walked as an organisation walks them: what a person does, and how long the service takes over it.

    python -m tests.end_to_end.set_up [--pictures FOLDER]

`prpm-testing up` on 127.0.0.1, stand-ins of both forges, a real Chromium for the pages, the real `prpm` for the
commands. Each way ends with a result that is seen on a pull or merge request. A person's reading, and the forges' own
pages, are not in the seconds. Needs `chromium` and `chromium-driver` (Debian).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.end_to_end.browser.driver import Browser, chromium, missing_programs
from tests.forge_stories import SUITE, a_package
from tests.standins.github_forge import GitHubForge
from tests.standins.github_setup import WEBHOOK_SECRET, GitHubSetup
from tests.standins.gitlab_forge import GitLabForge
from tests.standins.web import Answer, Seen
from tests.webhooks import a_payload, encoded, github_headers, gitlab_headers

ROOT = Path(__file__).parents[2]
CATALOGUE = """
default: parrot
models:
  parrot:
    context_tokens: 100000
    deployments: [{backend: echo, model: parrot, free: true}]
"""
FAILING = SUITE.replace("value: hello", "value: nowhere")
FINE_GRAINED = "github_pat_" + "a" * 40
WAIT_SECONDS = 60.0
WIDTHS = {"desktop": (1000, False), "phone": (390, True)}


class GitHubWhole(GitHubSetup, GitHubForge):
    """With people who make Apps, and a repository that is read and reported to, by the App or a person's token."""

    def answer(self, seen: Seen) -> Answer:
        if self._bearer(seen) in self.fine_grained:
            return GitHubForge.answer(self, seen)
        return super().answer(seen)


@dataclass(kw_only=True)
class Way:
    """One way in. A step's seconds are the service's, from the click or the command to its answer."""

    name: str
    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.steps.append((what, time.monotonic() - began))

    def show(self) -> None:
        print(f"\n{self.name}")
        for number, (what, seconds) in enumerate(self.steps, start=1):
            print(f"  {number}. {what:<74} {seconds:6.1f} s")
        print(f"     {'in all':<74} {sum(seconds for _, seconds in self.steps):6.1f} s", flush=True)


@dataclass(kw_only=True)
class Site:
    """The service, the forges and the browser."""

    url: str
    token: str
    environ: dict[str, str]
    github: GitHubWhole
    gitlab: GitLabForge
    browser: Browser
    pictures: Path | None
    taken: int = 0

    def run(self, *arguments: str, stdin: str = "") -> str:
        """What a command prints."""
        module = "cli.main" if arguments[0] == "prpm" else "server.operator.main"
        ran = subprocess.run(
            [sys.executable, "-m", module, *arguments[1:]],
            env=self.environ, input=stdin, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def await_title(self, words: str) -> None:
        within(lambda: self.browser.find("h1") and words in self.browser.text("h1"), words)
        self.picture(re.sub(r"\W+", "-", words.lower()).strip("-"))

    def picture(self, name: str) -> None:
        """Of the page as it is, in both widths."""
        if self.pictures is None:
            return
        self.taken += 1
        for word, (width, dark) in WIDTHS.items():
            self.browser.look(width=width, dark=dark)
            (self.pictures / f"{self.taken:02}-{name}-{word}.png").write_bytes(self.browser.screenshot())


def within(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not seen: {what}")


def github_by_hook(site: Site) -> Way:
    """`prpm hook add`, two values pasted."""
    way, forge = Way(name="GitHub, by a webhook (no App)"), site.github
    with way.step("prpm hook add github acme/prompts, with a fine-grained token"):
        out = site.run("prpm", "hook", "add", "github", "acme/prompts", "--token-stdin", "--json", stdin=FINE_GRAINED)
    hook = json.loads(out)
    head = a_proposal(forge)
    with way.step("paste URL and secret at GitHub, open a pull request: comment and status"):
        deliver_github(site, forge, head, path=hook["url"].removeprefix(site.url), secret=hook["secret"])
        within(lambda: forge.reported.ours(pull=12), "the comment")
        within(lambda: forge.reported.statuses and forge.reported.statuses[-1]["state"] == "failure", "the status")
    site.run("prpm", "hook", "remove", hook["id"])
    return way


def github_by_app(site: Site) -> Way:
    """The operator makes the App, an owner installs and links it."""
    way, forge, browser = Way(name="GitHub App: made by the operator, installed by an owner"), site.github, site.browser
    with forge.lock:
        forge.forget_reports()
    with way.step("operator: prpm-testing setup-token"):
        ticket = site.run("prpm-testing", "setup-token").strip()
    with way.step("operator: /setup/github, paste the token, Show me what GitHub will make"):
        browser.open(f"{site.url}/setup/github")
        site.picture("setup-github")
        browser.type_into("input[name=unverified_ticket]", ticket)
        browser.click("button")
        site.await_title("This is what GitHub will make")
    with way.step("operator: Make it at GitHub, confirm there"):
        browser.click("button")
        site.await_title("The App is set up")
    browser.open(f"{site.url}/setup/github")
    site.picture("setup-github-for-owners")
    with way.step("owner: install it, choose repositories; log in with a token"):
        browser.open(f"{site.url}/setup/github/installed?installation_id={forge.installation_id}&setup_action=install")
        browser.type_into("input[name=unverified_token]", site.token)
        browser.click("button")
        site.await_title("Whose tests are these?")
    with way.step("owner: choose the account, Link it, say yes at GitHub"):
        browser.click("button")
        site.await_title("Linked")
    head = a_proposal(forge)
    with way.step("open a pull request: comment and check"):
        deliver_github(site, forge, head, path="/webhooks/github", secret=WEBHOOK_SECRET)
        within(lambda: forge.reported.ours(pull=12), "the comment")
        within(lambda: any(one["status"] == "completed" for one in forge.checks(head).values()), "the check")
    return way


def gitlab_by_page(site: Site) -> Way:
    """The page shows what to paste, and whether it arrived."""
    way, forge, browser = Way(name="GitLab, by its page"), site.gitlab, site.browser
    head = a_proposal(forge)
    with way.step("/setup/gitlab (logged in): project and access token, Give me the values to paste"):
        browser.open(f"{site.url}/setup/gitlab")
        site.picture("setup-gitlab")
        browser.type_into("input[name=name]", forge.name)
        browser.type_into("input[name=unverified_token]", forge.token)
        browser.click("button")
        site.await_title("Paste these into")
    url, secret = re.findall(r"<td><code>([^<]+)</code></td>", browser.run("return document.body.innerHTML"))
    look = browser.run("return document.querySelector('main p:last-child a').href")
    about = {"project": {"id": forge.id, "path_with_namespace": forge.name, "default_branch": "main"}}
    with way.step("paste URL and signing token at GitLab, save, Test: look whether it arrived"):
        browser.open(look)
        site.await_title("Nothing has arrived yet")
        ended = a_payload("gitlab/push", after="0" * 40, **about)
        post(site, url, encoded(ended), lambda body: gitlab_headers(body, signing=secret, event="Push Hook"))
        browser.click("main a")
        site.await_title("It works")
    asked = a_payload("gitlab/merge_request", **about)
    asked["object_attributes"] |= {"iid": 12, "action": "open", "last_commit": {"id": head}}
    asked["object_attributes"] |= {"source_project_id": forge.id, "target_branch": "main", "source_branch": "feature"}
    with way.step("open a merge request: note and status"):
        post(site, url, encoded(asked), lambda body: gitlab_headers(body, signing=secret))
        within(lambda: forge.reported.ours(request=12), "the note")
        within(lambda: [one for one in forge.reported.statuses if one["state"] == "failed"], "the status")
    browser.open(f"{site.url}/account")
    site.picture("account")
    return way


def a_proposal(forge: GitHubForge | GitLabForge) -> str:
    """The head of a pull or merge request that adds a package whose test fails."""
    with forge.lock:
        base = forge.repository.commit({"README.md": b"hi"}, branch="main")
        head = forge.repository.commit(a_package("greeter", folder="greeter", suite=FAILING), parent=base)
        forge.propose(12, head, base)
    return head


def deliver_github(site: Site, forge: GitHubForge, head: str, *, path: str, secret: str) -> None:
    payload = a_payload("github/pull_request.opened", repository={
        "id": forge.id, "full_name": forge.name, "default_branch": "main",
    }, installation={"id": forge.installation_id})  # fmt: skip
    pull = forge.pulls[12]
    payload["pull_request"] |= {"number": 12, "head": pull["head"], "base": pull["base"], "draft": False}
    post(site, site.url + path, encoded(payload), lambda body: github_headers(body, secret=secret))


def post(site: Site, url: str, body: bytes, sign: Callable[[bytes], dict[str, str]]) -> None:
    answer = httpx.post(url, content=body, headers=sign(body), trust_env=False)
    assert answer.status_code == 202, answer.text


@contextlib.contextmanager
def a_site(folder: Path, pictures: Path | None) -> Iterator[Site]:
    """Everything runs, until the block ends."""
    (folder / "models.yaml").write_text(CATALOGUE)
    github, gitlab = GitHubWhole(), GitLabForge(number=uuid.uuid4().int % 10**9)
    github.fine_grained, github.administrators = {FINE_GRAINED: "ann"}, {"ann"}
    with github.running(), gitlab.running(), chromium() as browser:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environ = kept | {
            "HOME": str(folder), "PYTHONPATH": str(ROOT), "PRPM_DATA_DIR": str(folder / "data"),
            "PRPM_CATALOGUE": str(folder / "models.yaml"), "PRPM_GITHUB_API_URL": github.url,
            "PRPM_GITLAB_URL": gitlab.url,
        }  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", "server.operator.main", "up", "--json"],
            env=environ, stdout=subprocess.PIPE, text=True,
        ) as service:  # fmt: skip
            assert service.stdout is not None
            try:
                ready = json.loads(service.stdout.readline())
                environ |= {"PRPM_REGISTRY_URL": ready["url"], "PRPM_TOKEN": ready["token"]}
                browser.look(width=1000, dark=False)
                yield Site(
                    url=ready["url"], token=ready["token"], environ=environ, github=github, gitlab=gitlab,
                    browser=browser, pictures=pictures,
                )  # fmt: skip
            finally:
                service.terminate()
        assert [*github.violations, *gitlab.violations] == []


def main() -> int:
    """0, or 2 where something is not installed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of the pages")
    pictures = parser.parse_args().pictures
    if missing := missing_programs():
        print(f"❌ {' and '.join(missing)}: apt install chromium chromium-driver", file=sys.stderr)
        return 2
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prpm-set-up-") as folder, a_site(Path(folder), pictures) as site:
        for walk in (github_by_hook, github_by_app, gitlab_by_page):
            walk(site).show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
