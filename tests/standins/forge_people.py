"""GitHub's and GitLab's word on who administers a repository, to the tokens of people and of installations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.standins.gitlab_contract import require
from tests.standins.web import Answer, Refused, Seen, StandIn


@dataclass
class Repo:
    """A repository as both forges know it. `people`: what each may do there, by login."""

    name: str
    id: int
    owner_id: int
    people: dict[str, str] = field(default_factory=dict)  # admin, write or read
    private: bool = False
    moved_to: int | None = None  # GitHub answers 301 under an old name


class ForgePeople(StandIn):
    """Both APIs at one address: `/user`, `/repos/...` and `/api/v4/user`, `/api/v4/projects/...`."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: dict[str, str] = {}  # token -> login; "" for an installation's
        self.repos: dict[str, Repo] = {}
        self.answers_as: dict[str, Any] | None = None  # what GitHub says of any repository, whatever was asked

    def person(self, login: str) -> str:
        """A token of this person's."""
        token = f"ghp_{login}-{len(self.tokens)}"
        self.tokens[token] = login
        return token

    def installation(self) -> str:
        """An App's token, which has no person behind it."""
        self.tokens["ghs_installation"] = ""
        return "ghs_installation"

    def repo(self, name: str, number: int, owner_id: int, **people: str) -> Repo:
        made = self.repos[name] = Repo(name=name, id=number, owner_id=owner_id, people=people)
        return made

    def answer(self, seen: Seen) -> Answer:
        if seen.method != "GET":
            raise Refused(Answer(status=405), "only questions are asked here")
        if seen.path.startswith("/api/v4/"):
            require(seen)
        elif seen.query:
            raise Refused(Answer(status=422), "no question has a query")
        if seen.path.startswith("/api/v4/groups/"):
            return Answer(status=404, body={"message": "404 Group Not Found"})
        if seen.path.startswith("/api/v4/"):
            return self._gitlab(seen)
        return self._github(seen)

    def _github(self, seen: Seen) -> Answer:
        if not seen.headers.get("user-agent") or "x-github-api-version" not in seen.headers:
            raise Refused(Answer(status=403), "no User-Agent or version")
        token = seen.headers.get("authorization", "").removeprefix("Bearer ")
        login = self.tokens.get(token)
        if login is None:
            return Answer(status=401, body={"message": "Bad credentials"})
        if seen.path == "/user":
            installation = Answer(status=403, body={"message": "Resource not accessible by integration"})
            return Answer(body={"login": login, "id": 1}) if login else installation
        return self._repository(seen, login)

    def _repository(self, seen: Seen, login: str) -> Answer:
        if self.answers_as is not None:
            return Answer(body=self.answers_as)
        repo = self.repos.get(unquote(seen.path.removeprefix("/repos/")))
        if repo is None or (repo.private and login not in repo.people):
            return Answer(status=404, body={"message": "Not Found"})
        if repo.moved_to is not None:
            return Answer(status=301, headers={"Location": f"{self.url}/repositories/{repo.moved_to}"})
        role = repo.people.get(login, "read")
        # An installation with the right to administer says so of itself, too.
        may = {"admin": role == "admin" or not login, "push": role in ("admin", "write"), "pull": True}
        owner = {"id": repo.owner_id, "login": repo.name.partition("/")[0]}
        return Answer(body={"id": repo.id, "full_name": repo.name, "owner": owner, "permissions": may})

    def _gitlab(self, seen: Seen) -> Answer:
        login = self.tokens.get(seen.headers.get("private-token", ""))
        if login is None:
            return Answer(status=401, body={"message": "401 Unauthorized"})
        if seen.path == "/api/v4/user":
            return Answer(body={"username": login, "id": self._number(login)})
        place, _, rest = seen.path.removeprefix("/api/v4/projects/").partition("/")
        repo = next((one for one in self.repos.values() if unquote(place) in (one.name, str(one.id))), None)
        if repo is None:
            return Answer(status=404, body={"message": "404 Project Not Found"})
        if not rest:
            return Answer(body={"id": repo.id, "path_with_namespace": repo.name, "namespace": {"id": repo.owner_id}})
        level = {"admin": 40, "write": 30, "read": 20}.get(repo.people.get(login, ""))
        if rest != f"members/all/{self._number(login)}":
            raise Refused(Answer(status=404), "only the token's own user is asked about")
        if level is None:
            return Answer(status=404, body={"message": "404 Not found"})
        return Answer(body={"id": self._number(login), "access_level": level, "state": "active"})

    def _number(self, login: str) -> int:
        return 1000 + sorted(set(self.tokens.values())).index(login)
