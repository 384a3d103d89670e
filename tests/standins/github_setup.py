"""GitHub as it makes Apps by manifests and says who people are: codes that work once, tokens of people, memberships."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.standins.github_app import APP_ID, PRIVATE_KEY, GitHubApp, not_found, refused
from tests.standins.web import Answer, Seen

CLIENT_ID, CLIENT_SECRET, WEBHOOK_SECRET = (
    "Iv1.0123456789abcdef",
    "client-secret-" + "c" * 26,
    "hook-secret-" + "h" * 20,
)
# https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest#github-app-manifest-parameters
MANIFEST = {
    "name", "url", "hook_attributes", "redirect_url", "callback_urls", "setup_url", "description", "public",
    "default_events", "default_permissions", "request_oauth_on_install", "setup_on_update",
}  # fmt: skip

# What an App has to be allowed for each event: https://docs.github.com/webhooks/webhook-events-and-payloads
NEEDS = {
    "check_run": "checks", "check_suite": "checks", "issue_comment": "pull_requests", "merge_group": "merge_queues",
    "pull_request": "pull_requests", "push": "contents", "repository": "metadata",
}  # fmt: skip


class GitHubSetup(GitHubApp):
    """A person's browser is played by `confirm_manifest` and `log_in`; the rest is asked over HTTP.

    `owner_type` is that of whoever has the installation; `roles` are people's in that organisation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owner_type = "Organization"
        self.people: dict[str, int] = {"ann": 5, "mallory": 66}
        self.roles: dict[str, str] = {"ann": "admin"}  # admin or member
        self.sees: set[str] = {"ann"}  # whose list of installations has this one
        self.manifests: list[dict[str, Any]] = []
        self.manifest_codes: set[str] = set()
        self.codes: dict[str, tuple[str, str]] = {}  # code -> login and redirect_uri
        self.people_tokens: dict[str, str] = {}  # token -> login
        self.membership_state = "active"
        self.browses = "ann"  # who sits at a real browser
        self._serials = itertools.count(1)

    def confirm_manifest(self, action: str, manifest: str) -> str:
        """A person posts the form and confirms. Returns where GitHub sends the browser."""
        parts, asked = urlsplit(action), json.loads(manifest)
        assert re.fullmatch(r"(/organizations/[\w-]+)?/settings/apps/new", parts.path), parts.path
        [state] = parse_qs(parts.query)["state"]
        assert set(asked) <= MANIFEST, set(asked) - MANIFEST
        assert len(asked["name"]) <= 34
        granted = asked["default_permissions"]
        for event in asked["default_events"]:
            assert NEEDS[event] in granted, f"{event} needs {NEEDS[event]}"
        for url in (asked["url"], asked["redirect_url"], asked["setup_url"], asked["hook_attributes"]["url"]):
            assert urlsplit(url).scheme in ("https", "http"), url
        self.manifests.append(asked)
        code = f"manifest{next(self._serials)}"
        self.manifest_codes.add(code)
        return f"{asked['redirect_url']}?code={code}&state={state}"

    def log_in(self, authorize_url: str, login: str) -> str:
        """A person says yes. Returns where GitHub sends the browser."""
        parts = urlsplit(authorize_url)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert parts.path == "/login/oauth/authorize"
        assert asked["client_id"] == CLIENT_ID
        code = f"person{next(self._serials)}"
        self.codes[code] = (login, asked["redirect_uri"])
        return f"{asked['redirect_uri']}?code={code}&state={asked['state']}"

    def answer(self, seen: Seen) -> Answer:
        if found := re.fullmatch(r"/app-manifests/([\w-]+)/conversions", seen.path):
            return self._convert(seen, found[1])
        if seen.path.endswith("/settings/apps/new"):  # a browser's own form
            state = urlencode({"state": seen.query["state"]})
            [manifest] = parse_qs(seen.body.decode())["manifest"]
            return Answer(status=302, headers={"Location": self.confirm_manifest(f"{seen.path}?{state}", manifest)})
        if seen.path == "/login/oauth/authorize":  # a browser, whose person says yes
            url = f"{seen.path}?{urlencode(dict(seen.query))}"
            return Answer(status=302, headers={"Location": self.log_in(url, self.browses)})
        if seen.path == "/login/oauth/access_token":
            return self._exchange(seen)
        if seen.path in ("/user", "/user/installations") or seen.path.startswith("/user/memberships/orgs/"):
            return self._about_person(seen)
        return super().answer(seen)

    def _convert(self, seen: Seen, code: str) -> Answer:
        if seen.method != "POST" or seen.body:
            raise refused(422, "a conversion is a POST without a body")
        if code not in self.manifest_codes:
            return not_found()
        self.manifest_codes.remove(code)
        return Answer(
            status=201,
            body={
                "id": int(APP_ID), "slug": "prpm-testing-acme", "html_url": f"{self.url}/apps/prpm-testing-acme",
                "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "webhook_secret": WEBHOOK_SECRET,
                "pem": PRIVATE_KEY, "owner": {"login": "acme", "id": 501},
            },
        )  # fmt: skip

    def _exchange(self, seen: Seen) -> Answer:
        if seen.headers.get("accept") != "application/json":
            raise refused(406, "the token is asked for as JSON")
        body = seen.json()
        if set(body) != {"client_id", "client_secret", "code", "redirect_uri"}:
            raise refused(422, f"unknown members {sorted(body)}")
        login, redirect_uri = self.codes.pop(body["code"], ("", ""))
        is_ours = (body["client_id"], body["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)
        if not login or not is_ours or body["redirect_uri"] != redirect_uri:
            return Answer(body={"error": "bad_verification_code"})  # with status 200, as GitHub does
        token = f"ghu_{next(self._serials)}_" + "p" * 30
        self.people_tokens[token] = login
        return Answer(body={"access_token": token, "token_type": "bearer", "scope": ""})

    def _about_person(self, seen: Seen) -> Answer:
        login = self.people_tokens.get(self._bearer(seen))
        if login is None:
            raise refused(401, "Bad credentials")
        if seen.headers.get("x-github-api-version") != "2022-11-28":
            raise refused(410, "no or an unknown X-GitHub-Api-Version")
        if seen.path == "/user":
            return Answer(body={"id": self.people[login], "login": login, "type": "User"})
        if seen.path == "/user/installations":
            described = self._described()
            described["account"]["type"] = self.owner_type
            listed = [described] if login in self.sees and self.installed else []
            return Answer(body={"total_count": len(listed), "installations": listed})
        organization = self.name.partition("/")[0]
        if seen.path != f"/user/memberships/orgs/{organization}" or login not in self.roles:
            return Answer(status=403, body={"message": "You must be a member"})
        return Answer(
            body={
                "state": self.membership_state, "role": self.roles[login],
                "user": {"id": self.people[login], "login": login},
                "organization": {"id": self.owner_id, "login": organization},
            }
        )  # fmt: skip
