"""The pages in a real Chromium: a session over a `__Host-` cookie, hostile text without effect, light and dark.

    python -m pytest tests/end_to_end/browser/browser_pages.py

Needs `chromium` and `chromium-driver` (Debian); without them it fails and says so. Not collected by `make test`.
Screenshots are kept in the folder that PRPM_SCREENSHOTS names.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.browser.driver import Browser, chromium, missing_programs
from tests.integration.test_pages import HOSTILE, RAW, a_job
from tests.organizations import Organization, an_organization
from tests.service import Account, Service

COOKIE = "__Host-prpm_session"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert not missing_programs(), f"Install {' and '.join(missing_programs())}: apt install chromium chromium-driver"
    with chromium() as running:
        yield running


def log_in(browser: Browser, service: Service, account: Account, path: str) -> None:
    """By the form, as a person does."""
    browser.open(f"{service.url}{path}")
    browser.type_into("input[name=unverified_token]", account.token)
    browser.click("button")
    deadline = time.monotonic() + 10
    while browser.url != f"{service.url}{path}" or browser.find("input[name=unverified_token]"):
        assert time.monotonic() < deadline, browser.url
        time.sleep(0.05)


def log_out(browser: Browser, service: Service) -> None:
    browser.open(f"{service.url}/docs")
    browser.forget_cookies()


def a_hostile_job(account: Account) -> str:
    case = {
        "description": HOSTILE,
        "input": RAW,
        "assert": [{"type": "contains", "value": RAW}, {"type": "equals", "value": f"another {RAW}"}],
    }
    return a_job(account, suite={"tests": [case]})


def test_browser__a_person_logs_in_and_sees_the_job(browser: Browser, service: Service):
    alice = service.an_account()
    job_id = a_job(alice)

    log_in(browser, service, alice, f"/jobs/{job_id}")

    (cookie,) = browser.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"], cookie["path"]) == (
        COOKIE, True, True, "Lax", "/",
    )  # fmt: skip
    assert "says Rome" in browser.text("main")
    assert "no city at all" in browser.text("main")  # what failed stands open
    assert browser.run("return document.cookie") == ""
    log_out(browser, service)


def test_browser__O10_hostile_text_runs_nothing_and_asks_for_nothing(browser: Browser, service: Service):
    alice = service.an_account()
    job_id = a_hostile_job(alice)
    log_in(browser, service, alice, f"/jobs/{job_id}")
    browser.requests()
    browser.console()

    browser.open(f"{service.url}/jobs/{job_id}")
    time.sleep(0.5)  # time for what must not happen

    assert not browser.has_dialog()
    assert HOSTILE[:40] in browser.text("main")
    assert {url.partition("/jobs/")[0] for url in browser.requests()} <= {service.url, f"{service.url}/favicon.ico"}
    assert browser.url == f"{service.url}/jobs/{job_id}"
    assert not [line for line in browser.console() if "Content Security Policy" in line]
    log_out(browser, service)


def test_browser__the_policy_stops_a_script_that_gets_in_all_the_same(browser: Browser, service: Service):
    """Proof that the test above can fail for its second wall: a script put into the page by hand does not run."""
    browser.open(f"{service.url}/docs")

    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'https://evil.example/x'; document.body.append(i);"
    )
    time.sleep(0.3)

    assert browser.run("return window.ran") is None
    assert any("Content Security Policy" in line for line in browser.console())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_browser__pages_fit_and_can_be_read(browser: Browser, service: Service, width: int, dark: bool):
    alice = service.an_account()
    job_id, hostile_id = a_job(alice, upload_results=True), a_hostile_job(alice)
    package_id = alice.client.get(f"/api/v1/test-jobs/{job_id}").json()["package"]["id"]
    log_out(browser, service)  # a test that failed may have left its session
    log_in(browser, service, alice, f"/jobs/{job_id}")
    browser.look(width=width, dark=dark)
    pages = {
        "job": f"/jobs/{job_id}", "hostile": f"/jobs/{hostile_id}", "package": f"/packages/{package_id}/tests",
        "docs": "/docs", "login": "/login", "start": "/", "missing": "/jobs/x",
    }  # fmt: skip

    for name, path in pages.items():
        browser.open(f"{service.url}{path}")
        keep(browser.screenshot(), f"{name}-{width}-{'dark' if dark else 'light'}.png")
        overflow = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{path} is {overflow} px wider than the window"
        assert browser.run(CONTRAST) >= 4.5, path
    log_out(browser, service)


# The least contrast of a text with its background, by WCAG's formula; opacity is counted in.
CONTRAST = """
const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = color => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
const over = (top, below) => below.slice(0, 3).map((b, i) => top[i] * top[3] + b * (1 - top[3]));
const dark = matchMedia('(prefers-color-scheme: dark)').matches;
let least = 21;
for (const element of document.querySelectorAll('main *, header *')) {
  if (![...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
  if (!element.checkVisibility()) continue;
  let opacity = 1, back = dark ? [18, 18, 18] : [255, 255, 255], chain = [];
  for (let e = element; e; e = e.parentElement) { opacity *= +getComputedStyle(e).opacity; chain.unshift(e); }
  for (const e of chain) back = over(rgba(getComputedStyle(e).backgroundColor), back);
  const fore = rgba(getComputedStyle(element).color);
  const [a, b] = [light(over([...fore.slice(0, 3), fore[3] * opacity], back)), light(back)];
  least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
}
return least;
"""


def keep(picture: bytes, name: str) -> None:
    if folder := os.environ.get("PRPM_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / name).write_bytes(picture)


SLACK = "https://hooks.slack.com/services/T00000000/B00000000/verysecretword"


def an_account_in_use(service: Service) -> Organization:
    """An organisation near the end of its month, with a target, a repository and a token of every kind of name."""
    org = an_organization(service)
    owner, number = org.owner.client, uuid.uuid4().int % 2**62
    link = {"account": org.name, "repository": f"acme/{'long-' * 30}name", "repository_id": number, "owner_id": 5}
    owner.post(f"/api/v1/notify-targets?account={org.name}", json={"kind": "slack", "url": SLACK})
    assert service.an_account(is_admin=True).client.post("/api/v1/trusted-repositories", json=link).status_code == 201
    for name in ("nightly build", HOSTILE[:100]):
        assert owner.post(f"/api/v1/organizations/{org.name}/tokens", json={"name": name}).status_code == 201
    used = "INSERT INTO user_test_usage (user_id, month, test_runs_count) VALUES ($1, DATE_TRUNC('month', NOW()), 85)"
    service.fetch(used, org.id)
    return org


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_browser__the_account_fits_and_can_be_read(browser: Browser, service: Service, width: int, dark: bool):
    org = an_account_in_use(service)
    path = f"/account?account={org.name}"
    log_out(browser, service)
    log_in(browser, service, org.owner, path)
    browser.look(width=width, dark=dark)

    browser.open(f"{service.url}{path}")

    keep(browser.screenshot(), f"account-{width}-{'dark' if dark else 'light'}.png")
    overflow = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"the page is {overflow} px wider than the window"
    assert browser.run(CONTRAST) >= 4.5
    assert "80 % of this month’s test runs are used." in browser.text("main")
    assert not browser.has_dialog()
    log_out(browser, service)


def test_browser__a_token_ends_by_its_button(browser: Browser, service: Service):
    """The browser sends the Origin by itself; the page has no script."""
    org = an_account_in_use(service)
    path = f"/account?account={org.name}"
    log_out(browser, service)
    log_in(browser, service, org.owner, path)
    before = org.owner.client.get(f"/api/v1/organizations/{org.name}/tokens").json()["tokens"]

    browser.click("form[action*=tokens] button")
    deadline = time.monotonic() + 10
    while len(org.owner.client.get(f"/api/v1/organizations/{org.name}/tokens").json()["tokens"]) == len(before):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert browser.url == f"{service.url}{path}"
    assert browser.text("main").count("Revoke") == len(before) - 1
    log_out(browser, service)
