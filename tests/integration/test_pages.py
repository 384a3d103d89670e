"""The pages as a browser asks for them: logging in, who sees what, and hostile text that stays text."""

from __future__ import annotations

import html
import re
import uuid
from html.parser import HTMLParser
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.packages import SUITE, an_archive
from tests.service import Account, Service, finished_job

COOKIE = "__Host-prpm_session"
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)>"
    "{{7*7}}${7*7}#{7*7}[x](javascript:alert(4)) https://evil.example/?q=1 </pre></details><!-- "
    "<a href='javascript:alert(5)'>x</a><meta http-equiv=refresh content='0;url=https://evil.example'>"
)


# Suites are templates themselves: raw keeps ours from reading what is meant for the page's.
RAW = f"{{% raw %}}{HOSTILE}{{% endraw %}}"


def a_job(account: Account, *, suite: dict = SUITE, wait: bool = True, **body) -> str:
    snapshot = account.client.post(
        "/api/v1/package-snapshots", content=an_archive(), headers={"Content-Type": "application/gzip"}
    ).json()["snapshot_id"]
    body = {"snapshot_id": snapshot, "suite": suite, "models": ["echo"], **body}
    job_id = account.client.post("/api/v1/test-jobs/run", json=body).json()["job_id"]
    if wait:
        finished_job(account, job_id)
    return job_id


def log_in(service: Service, token: str, *, next_path: str = "/", **headers: str) -> httpx.Response:
    """The form, sent as a browser does."""
    sent = {"Origin": service.url, **headers}
    return service.visitor().post("/login", data={"unverified_token": token, "next": next_path}, headers=sent)


def session_of(answer: httpx.Response) -> str:
    """The cookie's value. Set by hand, as this client keeps Secure cookies for https."""
    return re.match(rf"{COOKIE}=([^;]+)", answer.headers["set-cookie"])[1]


def browser(service: Service, account: Account) -> httpx.Client:
    """A client with the account's session, and no token."""
    client = service.visitor()
    client.headers["Cookie"] = f"{COOKIE}={session_of(log_in(service, account.token))}"
    return client


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def is_inert(page: str) -> bool:
    """No script, no handler, no picture, no address but our own."""
    for tag, attributes in Tags(page).found:
        if tag in ("script", "img", "svg", "iframe", "object", "embed", "base", "link"):
            return False
        if any(name.startswith("on") for name in attributes):
            return False
        target = attributes.get("href") or attributes.get("action") or ""
        if target and not re.match(r"/(?!/)", target):
            return False
        if attributes.get("http-equiv") and "url" in (attributes.get("content") or ""):
            return False
    return True


def test_job_page__somebody_unknown_is_asked_to_log_in_whether_it_exists_or_not(service: Service):
    alice = service.an_account()
    job_id = a_job(alice)

    pages = [service.visitor().get(f"/jobs/{name}") for name in (job_id, str(uuid.uuid4()))]

    assert [page.status_code for page in pages] == [401, 401]
    assert all("sample" not in page.text for page in pages)
    form = next(attributes for tag, attributes in Tags(pages[0].text).found if tag == "form")
    assert form == {"method": "post", "action": "/login"}
    assert f'value="/jobs/{job_id}"' in pages[0].text
    assert pages[0].headers["referrer-policy"] == "same-origin"  # else browsers send the form with `Origin: null`


def test_login__sets_a_cookie_that_scripts_and_other_sites_do_not_get(service: Service):
    alice = service.an_account()

    answer = log_in(service, alice.token, next_path="/jobs/x?y=1")

    assert answer.status_code == 303
    assert answer.headers["location"] == "/jobs/x?y=1"
    value, *attributes = answer.headers["set-cookie"].split("; ")
    assert value.startswith(f"{COOKIE}=prpm_")
    assert alice.token not in value
    assert {attribute.lower() for attribute in attributes} == {
        "httponly", "secure", "samesite=lax", "path=/", "max-age=43200",
    }  # fmt: skip


ELSEWHERE = [
    "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)",
    "evil.example",
    "/\t/evil.example", "/\n/evil.example", "", "https:evil.example", "/\r\nSet-Cookie: a=b", "///evil.example",
]  # fmt: skip


@pytest.mark.parametrize("target", ELSEWHERE)
def test_login__never_leads_to_another_site(service: Service, target: str):
    alice = service.an_account()

    answer = log_in(service, alice.token, next_path=target)

    assert answer.headers["location"] == "/"
    assert len(answer.headers.get_list("set-cookie")) == 1


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1"])
def test_login__A17_a_form_of_another_site_is_refused(service: Service, origin: str):
    alice = service.an_account()

    answer = log_in(service, alice.token, Origin=origin)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("token", ["", "prpm_nonsense", "a.b.c", "\x00", "x" * 10_000, HOSTILE])
def test_login__a_bad_token_shows_the_form_again_and_says_nothing_else(service: Service, token: str):
    answer = log_in(service, token, next_path="/jobs/x")

    assert answer.status_code in (400, 401)
    assert "set-cookie" not in answer.headers
    assert is_inert(answer.text)
    assert token[:40] not in answer.text or not token


def test_job_page__shows_the_rows_with_what_failed_first(service: Service):
    alice = service.an_account()
    job_id = a_job(alice)

    page = browser(service, alice).get(f"/jobs/{job_id}")

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = Tags(page.text).text
    assert text.index("says Rome") < text.index("says Paris")
    assert re.search(r"Verdict\s*failed", text)
    assert re.search(r"Score\s*50%", text)
    assert re.search(r"Passed\s*1 of 2", text)
    assert "no city at all" in text
    assert "sample@0.0.0-snapshot." in text


def test_job_page__tells_repeats_and_between_what_the_true_rate_lies(service: Service):
    alice = service.an_account()
    passes, fails = ({"type": "contains", "value": value} for value in ("Paris", "Rome"))
    tests = [
        {"description": "always", "input": "Paris", "repeat": 3, "assert": [passes]},
        {"description": "never", "input": "Paris", "repeat": 60, "assert": [fails]},
    ]
    job_id = a_job(alice, suite={"tests": tests})

    text = " ".join(Tags(browser(service, alice).get(f"/jobs/{job_id}").text).text.split())

    assert "3 of 3 repeats passed; the true rate is 44% to 100%." in text
    assert re.search(r"0 of \d+ repeats passed, the others could not change the verdict; the true rate is 0% to", text)


def test_job_page__looks_again_by_itself_only_while_the_job_goes_on(service: Service):
    alice = service.an_account()
    client = browser(service, alice)
    job_id = a_job(alice, models=["slow"], wait=False)

    before = client.get(f"/jobs/{job_id}").text
    finished_job(alice, job_id)
    after = client.get(f"/jobs/{job_id}").text

    assert '<meta http-equiv="refresh" content="2">' in before
    assert "http-equiv" not in after


def test_job_page__says_why_a_job_failed(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, models=["broken"], wait=False)
    finished_job(alice, job_id, seconds=30)

    page = browser(service, alice).get(f"/jobs/{job_id}")

    assert "The job failed: No test has a verdict" in html.unescape(page.text)


def test_job_page__A12_another_ones_job_is_a_404_like_one_that_is_not_there(service: Service):
    alice, bob = service.an_account(), service.an_account()
    job_id = a_job(alice)
    client = browser(service, bob)

    theirs, random = client.get(f"/jobs/{job_id}"), client.get(f"/jobs/{uuid.uuid4()}")

    assert (theirs.status_code, theirs.text) == (404, random.text)


@pytest.mark.parametrize(
    "job_id", ["x", "%00", "..%2f..%2fetc", quote("<script>alert(1)</script>", safe=""), "x" * 5000]
)
def test_job_page__A14_odd_ids_are_a_404(service: Service, job_id: str):
    alice = service.an_account()

    for client, status in ((browser(service, alice), 404), (service.visitor(), 401)):
        page = client.get(f"/jobs/{job_id}")
        assert page.status_code == status
        assert is_inert(page.text)


def test_job_page__O10_hostile_titles_answers_and_reasons_stay_text(service: Service):
    alice = service.an_account()
    case = {
        "description": HOSTILE,
        "input": RAW,
        "assert": [
            {"type": "contains", "value": RAW},
            {"type": "equals", "value": f"another {RAW}"},
            {"type": "icontains", "value": "\x1b[31m\u202e red and turned round"},
        ],
    }
    job_id = a_job(alice, suite={"tests": [case]})

    page = browser(service, alice).get(f"/jobs/{job_id}")

    assert page.status_code == 200
    assert is_inert(page.text)
    assert Tags(page.text).text.count(HOSTILE) >= 2  # the title and the answer, letter by letter
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text
    policy = page.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert "frame-ancestors 'none'" in policy


def test_package_page__O10_a_hostile_description_stays_text(service: Service):
    alice = service.an_account()
    name = f"hostile-{uuid.uuid4().hex[:8]}"
    snapshot = alice.client.post(
        "/api/v1/package-snapshots",
        content=an_archive(name, description=HOSTILE, version=f"1.0.0-{'x' * 5}"),
        headers={"Content-Type": "application/gzip"},
    ).json()

    page = browser(service, alice).get(f"/packages/{snapshot['package']['id']}/tests")

    assert page.status_code == 200
    assert is_inert(page.text)


def test_package_page__lists_uploaded_results_to_everybody_who_may_see_the_package(service: Service):
    alice, bob = service.an_account(), service.an_account()
    job_id = a_job(alice, upload_results=True)
    package_id = alice.client.get(f"/api/v1/test-jobs/{job_id}").json()["package"]["id"]
    path = f"/packages/{package_id}/tests"

    mine = browser(service, alice).get(path)

    assert mine.status_code == 200
    assert alice.username in mine.text
    assert "1 of 2" in mine.text
    assert service.visitor().get(path).status_code == 401
    assert browser(service, bob).get(path).status_code == 404
    assert browser(service, bob).get(path).text == browser(service, bob).get(f"/packages/{uuid.uuid4()}/tests").text


def test_package_page__a_public_package_needs_no_session(service: Service):
    alice = service.an_account()
    name = f"@{alice.username}/public"
    published = alice.client.post(
        "/api/v1/packages",
        data={"manifest": '{"name": "%s", "version": "1.0.0"}' % name},  # noqa: UP031 - braces of JSON
        files={"tarball": ("p.tar.gz", an_archive(name), "application/gzip")},
    )
    assert published.status_code == 200, published.text

    for written in (quote(name, safe=""), name, published.json()["package_id"]):
        page = service.visitor().get(f"/packages/{written}/tests")
        assert page.status_code == 200
        assert "No results were uploaded yet" in page.text


@pytest.mark.parametrize("name", ["nothing-here", "%40a%2Fb", "..%2f..%2fetc", "%00", quote("<script>")])
def test_package_page__an_unknown_package_asks_strangers_to_log_in(service: Service, name: str):
    page = service.visitor().get(f"/packages/{name}/tests")

    assert page.status_code == 401
    assert is_inert(page.text)


def test_session__A17_works_for_looking_and_for_nothing_else(service: Service):
    """A form of another site could send the cookie along; the API does not take it for a token."""
    alice = service.an_account()
    client = browser(service, alice)

    assert client.get("/api/v1/user").status_code == 200
    for method, path in (
        ("POST", "/api/v1/test-jobs/run"),
        ("POST", "/api/v1/package-snapshots"),
        ("POST", "/api/v1/packages"),
        ("PUT", "/api/v1/packages/sample/suite"),
    ):
        answer = client.request(method, path, json={}, headers={"Origin": service.url})
        assert answer.status_code in (400, 401), (method, path, answer.text)
        if answer.status_code == 400:  # the form is read before anybody is asked who they are
            assert path == "/api/v1/packages"
    assert service.fetch("SELECT id FROM packages WHERE owner_id = $1", alice.id) == []


def test_session__ends(service: Service):
    alice = service.an_account()
    client = browser(service, alice)
    job_id = a_job(alice)
    assert client.get(f"/jobs/{job_id}").status_code == 200

    service.fetch(
        "UPDATE access_tokens SET expires_at = NOW() - INTERVAL '1 s' WHERE user_id = $1 AND kind = 'session'", alice.id
    )

    assert client.get(f"/jobs/{job_id}").status_code == 401
    assert client.get("/api/v1/user").status_code == 401


def test_session__A11_a_deactivated_account_sees_nothing_more(service: Service):
    alice = service.an_account()
    client = browser(service, alice)
    job_id = a_job(alice)

    service.fetch("UPDATE users SET is_active = FALSE WHERE id = $1", alice.id)

    assert client.get(f"/jobs/{job_id}").status_code == 401


@pytest.mark.parametrize("path", ["/", "/login", "/docs", "/jobs/x"])
def test_pages__have_no_script_and_name_no_other_host(service: Service, path: str):
    page = service.visitor().get(path).text

    assert is_inert(page)
    assert "<script" not in page
    hosts = {urlsplit(found).netloc for found in re.findall(r"""(?:href|src|action)=["']?([^"'> ]+)""", page)}
    assert hosts <= {""}
