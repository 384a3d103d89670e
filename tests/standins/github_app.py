"""GitHub's REST API as an App uses it for reading: proofs, installation tokens, trees, blobs, comparisons, rights.

Stricter than the real one: a proof that lives over ten minutes, a token that asks for more rights than were granted, a
read with another repository's token, an unknown query parameter are refused and noted.
"""

from __future__ import annotations

import base64
import itertools
import re
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.standins.repository import Repository, blob_sha, mode_of
from tests.standins.web import Answer, Refused, Seen, StandIn

APP_ID = "29310"
GRANTED = {
    "checks": "write", "contents": "read", "metadata": "read", "pull_requests": "write", "statuses": "write",
}  # fmt: skip
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PRIVATE_KEY = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


class GitHubApp(StandIn):
    """One repository `name` with number `id`, in one installation."""

    def __init__(self, name: str = "acme/prompts", *, number: int = 77, installation_id: int = 4001) -> None:
        super().__init__()
        self.name, self.id, self.installation_id = name, number, installation_id
        self.repository = Repository()
        self.pulls: dict[int, dict[str, Any]] = {}
        self.rights: dict[str, tuple[int, str]] = {}  # login -> number and permission
        self.tokens: dict[str, dict[str, str]] = {}  # what was granted to each
        self.truncates = False
        self.suspended = False
        self.installed = True
        self.given = True  # the installation has the repository
        self.more_repositories: dict[int, str] = {}  # number -> name, beside the one that can be read
        self.owner_id = 501
        self.old_names: set[str] = set()  # that lead to where the repository is now
        self._numbers = itertools.count(1)

    def answer(self, seen: Seen) -> Answer:
        if seen.headers.get("x-github-api-version") != "2022-11-28":
            raise refused(410, "no or an unknown X-GitHub-Api-Version")
        if seen.headers.get("accept") != "application/vnd.github+json":
            raise refused(415, "Accept is not GitHub's media type")
        if not seen.headers.get("user-agent", "").startswith("prpm-testing"):
            raise refused(403, "no User-Agent of our own")
        if any(seen.path.startswith(f"/repos/{name}/") for name in self.old_names):
            return Answer(status=301, body={"message": "Moved Permanently"})
        prefix = f"/repos/{self.name}"
        routes = (
            ("GET", rf"{prefix}/installation", self._installation),
            ("GET", r"/app/installations/(\d+)", self._installation_by_number),
            ("POST", r"/app/installations/(\d+)/access_tokens", self._token),
            ("GET", r"/installation/repositories", self._repositories),
            ("GET", rf"{prefix}/git/trees/([0-9a-f]+)", self._tree),
            ("GET", rf"{prefix}/git/blobs/([0-9a-f]+)", self._blob),
            ("GET", rf"{prefix}/compare/([0-9a-f]+)\.\.\.([0-9a-f]+)", self._compare),
            ("GET", rf"{prefix}/pulls/(\d+)", self._pull),
            ("GET", rf"{prefix}/pulls", self._pulls),
            ("GET", rf"{prefix}/git/ref/heads/(.+)", self._ref),
            ("GET", rf"{prefix}/git/ref/tags/(.+)", self._tag),
            ("GET", rf"{prefix}/collaborators/([^/]+)/permission", self._permission),
        )
        for method, pattern, handle in routes:
            if seen.method == method and (found := re.fullmatch(pattern, seen.path)):
                return handle(seen, *found.groups())
        return not_found()

    def _bearer(self, seen: Seen) -> str:
        return seen.headers.get("authorization", "").removeprefix("Bearer ")

    def _require_proof(self, seen: Seen) -> None:
        try:
            claims = jwt.decode(self._bearer(seen), KEY.public_key(), algorithms=["RS256"], issuer=APP_ID)
        except jwt.PyJWTError as error:
            raise refused(401, f"A JSON web token could not be decoded: {error}") from None
        if claims["exp"] - time.time() > 600:
            raise refused(401, "'Expiration time' claim ('exp') is too far in the future")

    def _require_right(self, seen: Seen, right: str) -> None:
        rights = self.tokens.get(self._bearer(seen))
        if rights is None:
            raise refused(401, "Bad credentials")
        if right not in rights:
            raise refused(403, f"Resource not accessible by integration: {right}")

    def _query(self, seen: Seen, *known: str) -> None:
        if unknown := set(seen.query) - set(known):
            raise refused(422, f"unknown query parameters {sorted(unknown)}")

    def _installation(self, seen: Seen) -> Answer:
        self._require_proof(seen)
        return Answer(body=self._described()) if self.installed and self.given else not_found()

    def _repositories(self, seen: Seen) -> Answer:
        self._require_right(seen, "metadata")
        self._query(seen, "per_page", "page")
        listed = [(self.id, self.name), *self.more_repositories.items()] if self.given else []
        start = (int(seen.query["page"]) - 1) * int(seen.query["per_page"])
        page = [
            {"id": number, "full_name": name, "default_branch": "main", "owner": {"id": self.owner_id}}
            for number, name in listed[start : start + int(seen.query["per_page"])]
        ]
        return Answer(body={"total_count": len(listed), "repositories": page})

    def _installation_by_number(self, seen: Seen, number: str) -> Answer:
        self._require_proof(seen)
        return Answer(body=self._described()) if self.installed and int(number) == self.installation_id else not_found()

    def _described(self) -> dict[str, Any]:
        return {
            "id": self.installation_id,
            "app_id": int(APP_ID),
            "account": {"id": self.owner_id, "login": self.name.partition("/")[0], "type": "Organization"},
            "suspended_at": "2026-01-02T03:04:05Z" if self.suspended else None,
        }

    def _token(self, seen: Seen, number: str) -> Answer:
        self._require_proof(seen)
        body = seen.json()
        if not self.installed or int(number) != self.installation_id:
            return not_found()
        if self.suspended:
            return Answer(status=403, body={"message": "This installation has been suspended"})
        is_for_all = set(body) == {"permissions"} and body["permissions"] == {"metadata": "read"}
        if not is_for_all and set(body) != {"repository_ids", "permissions"}:
            raise refused(422, "a token for one repository and named rights is asked for, nothing wider")
        if not is_for_all and (body["repository_ids"] != [self.id] or not self.given):
            # No violation: who asks whether a repository is still there, asks so.
            return Answer(status=422, body={"message": "There is at least one repository that does not exist"})
        if any(GRANTED.get(right) not in (level, "write") for right, level in body["permissions"].items()):
            raise refused(422, "The permissions requested are not granted to this installation.")
        token = f"ghs_{APP_ID}_{next(self._numbers)}_" + "t" * 200
        self.tokens[token] = body["permissions"]
        return Answer(status=201, body={"token": token, "expires_at": "2099-01-01T00:00:00Z"})

    def _tree(self, seen: Seen, sha: str) -> Answer:
        self._require_right(seen, "contents")
        self._query(seen, "recursive")
        if sha not in self.repository.commits:
            return not_found()
        listed = [
            {"path": path, "mode": mode_of(value), "type": "blob", "sha": blob_sha(value)}
            | ({"size": len(value)} if isinstance(value, bytes) else {})
            for path, value in sorted(self.repository.commits[sha].items())
        ]
        folders = sorted({path.rpartition("/")[0] for path in self.repository.commits[sha]} - {""})
        listed += [{"path": path, "mode": "040000", "type": "tree", "sha": "e" * 40} for path in folders]
        return Answer(body={"sha": sha, "tree": listed, "truncated": self.truncates})

    def _blob(self, seen: Seen, sha: str) -> Answer:
        self._require_right(seen, "contents")
        found = self.repository.blob(sha)
        if found is None:
            return not_found()
        content = base64.encodebytes(found).decode()
        return Answer(body={"sha": sha, "content": content, "encoding": "base64", "size": len(found)})

    def _compare(self, seen: Seen, base: str, head: str) -> Answer:
        self._require_right(seen, "contents")
        self._query(seen, "per_page", "page")
        if base not in self.repository.commits or head not in self.repository.commits:
            return not_found()
        common = self.repository.merge_base(head, base)
        files = [{"filename": path, "status": "modified"} for path in self.repository.changed(common, head)]
        return Answer(body={"merge_base_commit": {"sha": common}, "files": files[:300]})

    def _pull(self, seen: Seen, number: str) -> Answer:
        self._require_right(seen, "pull_requests")
        return Answer(body=self.pulls[int(number)]) if int(number) in self.pulls else not_found()

    def _pulls(self, seen: Seen) -> Answer:
        self._require_right(seen, "pull_requests")
        self._query(seen, "state", "sort", "direction", "per_page", "page")
        if not 1 <= int(seen.query.get("per_page", 30)) <= 100:
            raise refused(422, "per_page over 100")
        found = [one for one in self.pulls.values() if seen.query.get("state", "open") in (one["state"], "all")]
        by = "updated_at" if seen.query.get("sort") == "updated" else "number"
        found.sort(key=lambda one: one[by], reverse=seen.query.get("direction", "desc") == "desc")
        return Answer(body=found[: int(seen.query.get("per_page", 30))])

    def _ref(self, seen: Seen, branch: str) -> Answer:
        self._require_right(seen, "contents")
        sha = self.repository.branches.get(branch)
        return Answer(body={"ref": f"refs/heads/{branch}", "object": {"sha": sha}}) if sha else not_found()

    def _tag(self, seen: Seen, tag: str) -> Answer:
        self._require_right(seen, "contents")
        sha = self.repository.tags.get(tag)
        kind = "commit" if sha in self.repository.commits else "tag"
        return Answer(body={"ref": f"refs/tags/{tag}", "object": {"sha": sha, "type": kind}}) if sha else not_found()

    def _permission(self, seen: Seen, login: str) -> Answer:
        self._require_right(seen, "metadata")
        if login not in self.rights:
            return not_found()
        number, permission = self.rights[login]
        return Answer(body={"permission": permission, "role_name": permission, "user": {"id": number, "login": login}})


def refused(status: int, why: str) -> Refused:
    return Refused(Answer(status=status, body={"message": why}), why)


def not_found() -> Answer:
    return Answer(status=404, body={"message": "Not Found"})
