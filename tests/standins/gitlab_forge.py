"""GitLab as the service meets it with a project's access token: read and reported to, in one server for one project."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from tests.standins.gitlab import GitLab
from tests.standins.gitlab_contract import answered, refused, require
from tests.standins.repository import Repository, blob_sha, mode_of
from tests.standins.web import Answer, Seen, StandIn

ACTIVE = "active"


class GitLabForge(StandIn):
    """One project `name` with number `id`, and others at the same address in `beside`.

    `repository` has its commits, `reported` what people see.

    forge.repository.commit({...}, branch="main")    a commit, by its files
    forge.propose(12, head, base)                    a merge request
    forge.members["ann"] = (5, 30)                   who has which level
    forge.reported.ours(request=12)                  our notes
    forge.statuses(head)                             the last status of each name
    """

    token = "glpat-" + "t" * 20

    def __init__(self, name: str = "acme/prompts", *, number: int = 77) -> None:
        super().__init__()
        self.name, self.id = name, number
        self.repository = Repository()
        self.requests: dict[int, dict[str, Any]] = {}
        self.members: dict[str, tuple[int, int]] = {}  # user name -> number and access level
        self.tokens: dict[str, str] = {self.token: "project_77_bot_1a2b"}  # token -> who it writes as
        self.read_only = False  # the token has `read_api` alone
        self.token_level = 40  # of whoever the tokens stand for: a maintainer
        self.group = (800, name.rpartition("/")[0])  # number and path of the group that it lies in
        self.more_projects: dict[int, str] = {}  # number -> path, beside the one that can be read
        self.beside: list[GitLabForge] = []  # projects that can be read, too; only this one is asked over the network
        self.reported = GitLab()

    def propose(self, number: int, head: str, base: str, **changes: Any) -> dict[str, Any]:
        """A merge request of this project, as the API shows it; another `source_project_id` is a fork's."""
        self.reported.request_numbers.add(number)
        self.requests[number] = {
            "iid": number, "state": "opened", "draft": False, "sha": head, "source_branch": "feature",
            "target_branch": "main", "source_project_id": self.id, "target_project_id": self.id,
            "diff_refs": {"base_sha": base, "head_sha": head, "start_sha": base},
            "updated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        } | changes  # fmt: skip
        return self.requests[number]

    def statuses(self, sha: str) -> dict[str, dict[str, Any]]:
        """The last status of each name."""
        return {one.get("name", "default"): one for one in self.reported.statuses if one["sha"] == sha}

    def answer(self, seen: Seen) -> Answer:
        operation = require(seen)
        login = self._login_of(seen)
        asked = next((one for one in self.beside if one.is_about(seen)), self)
        answer = answered(operation, asked._answer(seen, login))
        if asked is not self:
            self.violations += asked.violations
            asked.violations = []
        return answer

    def is_about(self, seen: Seen) -> bool:
        """Whether the request is for this project, by number or path."""
        return f"{seen.path}/".startswith(tuple(f"/api/v4/projects/{one}/" for one in self._names()))

    def _names(self) -> tuple[str, str]:
        return str(self.id), self.name.replace("/", "%2F")

    def _answer(self, seen: Seen, login: str) -> Answer:
        if seen.path == "/api/v4/user":
            return Answer(body={"id": 900, "username": login, "state": ACTIVE, "bot": True})
        if found := self._about_groups(seen):
            return found
        for project in self._names():
            prefix = f"/api/v4/projects/{project}"
            if seen.path == prefix and seen.method == "GET":
                return Answer(body=self._project())
            if seen.path.startswith(prefix + "/"):
                return self._about_project(seen, seen.path.removeprefix(prefix), login)
        return _not_found()

    def _about_groups(self, seen: Seen) -> Answer | None:
        number, path = self.group
        for group in (str(number), path.replace("/", "%2F")):
            if seen.path == f"/api/v4/groups/{group}":
                return Answer(body={"id": number, "full_path": path})
            if seen.path == f"/api/v4/groups/{group}/members/all/900":
                return Answer(body={"id": 900, "state": ACTIVE, "access_level": self.token_level})
        for project, name in self.more_projects.items():
            if seen.path == f"/api/v4/projects/{project}":
                return Answer(body={"id": project, "path_with_namespace": name, "namespace": {"id": 1}})
            if seen.path == f"/api/v4/projects/{project}/members/all/900":
                return Answer(body={"id": 900, "state": ACTIVE, "access_level": self.token_level})
        return None

    def _login_of(self, seen: Seen) -> str:
        token = seen.headers.get("private-token") or seen.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise refused(401, "401 Unauthorized")
        return self.tokens[token]

    def _project(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "path_with_namespace": self.name,
            "default_branch": "main",
            "namespace": {"id": self.group[0]},
        }

    def _about_project(self, seen: Seen, path: str, login: str) -> Answer:
        routes = (
            (r"/repository/tree", self._tree),
            (r"/repository/blobs/([0-9a-f]+)/raw", self._blob),
            (r"/repository/merge_base", self._merge_base),
            (r"/repository/compare", self._compare),
            (r"/repository/branches/([^/]+)", self._branch),
            (r"/repository/tags/([^/]+)", self._tag),
            (r"/merge_requests/(\d+)", self._request),
            (r"/merge_requests", self._list_requests),
            (r"/members/all/(\d+)", self._member),
        )
        for pattern, handle in routes:
            if seen.method == "GET" and (found := re.fullmatch(pattern, path)):
                return handle(seen, *found.groups())
        if seen.method != "GET" and self.read_only:
            return Answer(status=403, body={"error": "insufficient_scope"})
        named = re.fullmatch(r"/statuses/([0-9a-f]{40})", path)
        if named and named[1] not in self.repository.commits:
            return Answer(status=404, body={"message": "404 Commit Not Found"})
        if named and "ref" not in seen.json() and not self._has_pipeline_or_branch(named[1]):
            return Answer(status=404, body={"message": "404 References for commit Not Found"})
        self.reported.login, self.reported.url = login, self.url
        answer = self.reported.answer_about_project(seen, path)
        self.violations += self.reported.violations
        self.reported.violations = []
        return answer

    def _has_pipeline_or_branch(self, sha: str) -> bool:
        """A fork's commit has neither, nor one that only a tag holds; an earlier status made a pipeline of its own."""
        heads = [*self.repository.branches.values()]
        heads += [one["sha"] for one in self.requests.values() if one["source_project_id"] == self.id]
        is_on_one = any(sha in self.repository.ancestors(head) for head in heads if head in self.repository.parents)
        return is_on_one or any(one["sha"] == sha for one in self.reported.statuses)

    def _tree(self, seen: Seen) -> Answer:
        if seen.query.get("pagination") != "keyset":
            raise refused(400, "a tree is read by keyset")
        sha, size, start = seen.query["ref"], int(seen.query["per_page"]), int(seen.query.get("page_token", 0))
        if sha not in self.repository.commits:
            return Answer(status=404, body={"message": "404 Tree Not Found"})
        listed = [
            {"id": blob_sha(value), "path": path, "name": path.rpartition("/")[2], "mode": mode_of(value)}
            | {"type": "commit" if mode_of(value) == "160000" else "blob"}
            for path, value in sorted(self.repository.commits[sha].items())
        ]
        more = start + size < len(listed)
        query = f"recursive=true&pagination=keyset&per_page={size}&ref={sha}&page_token={start + size}"
        link = f'<{self.url}{seen.path}?{query}>; rel="next"'
        return Answer(body=listed[start : start + size], headers={"Link": link} if more else {})

    def _blob(self, seen: Seen, sha: str) -> Answer:
        found = self.repository.blob(sha)
        return Answer(body=found) if found is not None else _not_found()

    def _merge_base(self, seen: Seen) -> Answer:
        refs = [value for name, value in seen.pairs if name == "refs[]"]
        if len(refs) != 2 or any(ref not in self.repository.commits for ref in refs):
            return _not_found()
        return Answer(body={"id": self.repository.merge_base(*refs)})

    def _compare(self, seen: Seen) -> Answer:
        base, head = seen.query["from"], seen.query["to"]
        if base not in self.repository.commits or head not in self.repository.commits:
            return _not_found()
        diffs = [{"old_path": path, "new_path": path} for path in self.repository.changed(base, head)]
        return Answer(body={"diffs": diffs, "compare_timeout": False})

    def _branch(self, seen: Seen, name: str) -> Answer:
        sha = self.repository.branches.get(name.replace("%2F", "/"))
        return Answer(body={"name": name, "commit": {"id": sha}}) if sha else _not_found()

    def _tag(self, seen: Seen, name: str) -> Answer:
        target = self.repository.tags.get(name.replace("%2F", "/"))
        return Answer(body={"name": name, "target": target}) if target else _not_found()

    def _request(self, seen: Seen, number: str) -> Answer:
        return Answer(body=self.requests[int(number)]) if int(number) in self.requests else _not_found()

    def _list_requests(self, seen: Seen) -> Answer:
        """Without the base, which only a single one has."""
        since = seen.query.get("updated_after", "")
        found = [
            {name: value for name, value in one.items() if name != "diff_refs"}
            for one in self.requests.values()
            if one["state"] == seen.query.get("state", one["state"]) and one["updated_at"] > since
        ]
        found.sort(key=lambda one: str(one["updated_at"]), reverse=seen.query.get("sort") != "asc")
        return Answer(body=found[: int(seen.query.get("per_page", 20))])

    def _member(self, seen: Seen, number: str) -> Answer:
        if number == "900":
            return Answer(body={"id": 900, "state": ACTIVE, "access_level": self.token_level})
        for login, (user_id, level) in self.members.items():
            if user_id == int(number):
                return Answer(body={"id": user_id, "username": login, "state": ACTIVE, "access_level": level})
        return _not_found()


def _not_found() -> Answer:
    return Answer(status=404, body={"message": "404 Not found"})
