"""GitHub as an App meets it from the first delivery to the last word: read by proofs and tokens, and reported to.

What `github_app` can be asked and what `github` can be told, in one server for one repository, with the rights of each
token held against each request. A commit that is not in the repository has no check, a token that has run out is none.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

from tests.standins.github import GitHub
from tests.standins.github_app import APP_ID, GitHubApp, not_found, refused
from tests.standins.web import Answer, Seen

# What the path of a request needs: https://docs.github.com/rest/authentication/permissions-required-for-github-apps
RIGHTS = (("/issues/", "pull_requests"), ("/check-runs", "checks"), ("/statuses/", "statuses"))


class GitHubForge(GitHubApp):
    """One repository in one installation. `repository` has its commits, `reported` what people see.

    forge.repository.commit({...}, branch="main")    a commit, by its files
    forge.propose(12, head, base)                    a pull request
    forge.rights["ann"] = (5, "write")               who may do what
    forge.reported.ours(pull=12)                     our comments
    forge.checks(head)                               our check runs, by name: status, conclusion, output, annotations
    forge.faults = [Fault(path="/check-runs", answer=Answer(status=502))]
    """

    def __init__(self, name: str = "acme/prompts", *, number: int = 77, installation_id: int = 4001) -> None:
        super().__init__(name, number=number, installation_id=installation_id)
        self.slug = "prpm-testing"
        self.token_seconds = 3600.0
        self.granted_at: dict[str, float] = {}
        self.fine_grained: dict[str, str] = {}  # a person's token for this repository -> that person's login
        self.administrators: set[str] = set()  # logins that may administer the repository
        self.forget_reports()

    def forget_reports(self) -> None:
        """Nothing was reported here yet."""
        self.reported = GitHub()
        self.reported.login = f"{self.slug}[bot]"
        self.reported.app_id = int(APP_ID)

    def propose(self, number: int, head: str, base: str, **changes: Any) -> dict[str, Any]:
        """A pull request of this repository, as the API shows it; replace members of `head` and `base` for a fork."""
        self.reported.pull_numbers.add(number)
        self.pulls[number] = {
            "number": number, "state": "open", "draft": False,
            "updated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "head": {"sha": head, "ref": "feature", "repo": {"id": self.id, "full_name": self.name}},
            "base": {"sha": base, "ref": "main", "repo": {"id": self.id, "full_name": self.name}},
        } | changes  # fmt: skip
        return self.pulls[number]

    def checks(self, sha: str) -> dict[str, dict[str, Any]]:
        """The newest of our check runs of each name, as people see them, with all annotations and earlier states."""
        found = {}
        for number, run in sorted(self.reported.check_runs.items()):
            if run["head_sha"] == sha and run["app"]["id"] == self.reported.app_id:
                found[run["name"]] = {
                    **run, "annotations": self.reported.annotations[number],
                    "history": self.reported.check_history[number],
                }  # fmt: skip
        return found

    def end_tokens(self) -> None:
        """All tokens have run out."""
        self.tokens.clear()

    def answer(self, seen: Seen) -> Answer:
        if seen.path == "/app" and seen.method == "GET":
            self._require_proof(seen)
            return Answer(body={"id": int(APP_ID), "slug": self.slug, "name": "PRPM Testing"})
        if seen.path == "/user" and seen.method == "GET":
            return self._user(seen)
        if seen.path.startswith("/repos/") and seen.path.count("/") == 3 and seen.method == "GET":
            return self._about_repository(seen)
        if seen.path == "/graphql" and seen.method == "POST":
            self._rights_of(seen)
            self.reported.login = self._login_of(seen)
            return self.reported._graphql(seen)
        needed = next((right for part, right in RIGHTS if part in seen.path), None)
        if needed is None:
            return super().answer(seen)
        return self._report(seen, needed)

    def _report(self, seen: Seen, right: str) -> Answer:
        rights = self._rights_of(seen)
        if rights.get(right) not in ("write", *(["read"] if seen.method == "GET" else [])):
            raise refused(403, f"Resource not accessible by integration: {right}")
        for field in ("x-github-api-version", "user-agent"):
            if not seen.headers.get(field):
                raise refused(410 if field.startswith("x-") else 403, f"no {field}")
        if seen.body and seen.headers.get("content-type") != "application/json":
            raise refused(415, "a body that is not JSON")
        if not seen.path.startswith(f"/repos/{self.name}/"):
            return not_found()
        named = re.search(r"/(?:commits|statuses)/([0-9a-f]{40})", seen.path)
        sha = named[1] if named else seen.json().get("head_sha") if seen.body else None
        if sha is not None and sha not in self.repository.commits:
            return Answer(status=422, body={"message": f"No commit found for SHA: {sha}"})
        self.reported.repository, self.reported.url = self.name, self.url
        self.reported.login = self._login_of(seen)
        return self.reported.answer_about_repository(seen)

    def _login_of(self, seen: Seen) -> str:
        return self.fine_grained.get(self._bearer(seen), f"{self.slug}[bot]")

    def _rights_of(self, seen: Seen) -> dict[str, str]:
        token = self._bearer(seen)
        if token in self.fine_grained:  # check runs are for Apps alone
            return {"pull_requests": "write", "statuses": "write", "metadata": "read", "contents": "read"}
        if self.granted_at.get(token, 0.0) + self.token_seconds < time.time() or token not in self.tokens:
            raise refused(401, "Bad credentials")
        if self.suspended:
            raise refused(403, "This installation has been suspended")
        return self.tokens[token]

    def _require_right(self, seen: Seen, right: str) -> None:
        if right not in self._rights_of(seen):
            raise refused(403, f"Resource not accessible by integration: {right}")

    def _user(self, seen: Seen) -> Answer:
        """The person of a fine-grained token; an installation's token is nobody's."""
        if login := self.fine_grained.get(self._bearer(seen)):
            return Answer(body={"id": 501, "login": login, "type": "User"})
        self._rights_of(seen)
        raise refused(403, "Resource not accessible by integration")

    def _about_repository(self, seen: Seen) -> Answer:
        """As the person of a fine-grained token sees it; who has none sees nothing of a private repository."""
        login = self.fine_grained.get(self._bearer(seen))
        if login is None:
            return Answer(status=401, body={"message": "Bad credentials"})
        if seen.path != f"/repos/{self.name}":
            return not_found()
        return Answer(
            body={
                "id": self.id, "full_name": self.name, "default_branch": "main", "owner": {"id": self.owner_id},
                "permissions": {"admin": login in self.administrators, "push": True, "pull": True},
            }
        )  # fmt: skip

    def _token(self, seen: Seen, number: str) -> Answer:
        answer = super()._token(seen, number)
        if answer.status == 201:
            self.granted_at[answer.body["token"]] = time.time()
            ends = datetime.fromtimestamp(time.time() + self.token_seconds, UTC)
            answer.body["expires_at"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
        return answer
