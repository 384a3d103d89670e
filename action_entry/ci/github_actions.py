"""`github-actions`: a workflow's step. Inputs are variables `INPUT_…`, which action.yml sets."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from action_entry.ci import Change, Ci, Event, Send, Teller, ci_provider, require_answer
from action_entry.errors import Misused
from action_entry.inputs import Inputs
from notifiers import CannotNotify, Request
from notifiers._annotations import Annotation
from notifiers._http import json_request
from notifiers._text import one_line

# GitHub shows ten errors of a step: https://docs.github.com/actions (limits of annotations)
MOST_ERRORS = 10
PER_PAGE = 100
MOST_FILES = 3_000  # pulls/list-files lists no more
COMPARED_FILES = 300  # of the first page of a comparison; if it is full, more may have changed
WORKFLOW_LOGIN = "github-actions[bot]"
NO_MARKER = "0" * 64
MESSAGE_CHARS = 1_000
_ZEROS = re.compile(r"0+")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# Events that run with the base's rights on what a stranger wrote.
_PRIVILEGED = frozenset({"pull_request_target", "workflow_run"})
# Events that ask again for a head that was tested before.
_ASKED_AGAIN = frozenset({"schedule", "workflow_dispatch", "repository_dispatch", "issue_comment"})
_DEPENDABOT = "dependabot[bot]"


@ci_provider("github-actions")
class GitHubActions(Ci):
    """GitHub Actions: log commands, job summary, outputs; comment and check run by the workflow's token."""

    input_prefix = "INPUT_"

    @classmethod
    def is_here(cls, environ: Mapping[str, str]) -> bool:
        return environ.get("GITHUB_ACTIONS") == "true"

    @property
    def workspace(self) -> Path:
        return Path(self.environ.get("GITHUB_WORKSPACE") or self.folder)

    @property
    def reports_folder(self) -> Path:
        return Path(self.environ.get("RUNNER_TEMP") or self.folder) / "prpm-reports"

    def event(self) -> Event:
        name = self.environ.get("GITHUB_EVENT_NAME", "")
        payload = self._payload()
        run_id, attempt = self.environ.get("GITHUB_RUN_ID", "0"), self.environ.get("GITHUB_RUN_ATTEMPT", "1")
        again = name in _ASKED_AGAIN or attempt != "1"
        change = self._change(payload, cause=f"run:{run_id}.{attempt}" if again else "head")
        return Event(
            run_key=f"github-{self._repository_id(payload)}-{run_id}-{attempt}",
            change=change,
            label=_label(change),
            privileged=_privileged(name),
            restricted=self._restricted(payload),
            nothing="The branch was deleted." if payload.get("deleted") is True else "",
        )

    def _payload(self) -> Mapping[str, Any]:
        path = self.environ.get("GITHUB_EVENT_PATH", "")
        try:
            value = json.loads(Path(path).read_bytes()) if path else {}
        except (OSError, ValueError, RecursionError):
            raise Misused("The event's file (GITHUB_EVENT_PATH) cannot be read.") from None
        return value if isinstance(value, dict) else {}

    def _repository_id(self, payload: Mapping[str, Any]) -> int:
        found = _at(payload, "repository", "id") or self.environ.get("GITHUB_REPOSITORY_ID", "")
        return int(found) if str(found).isdecimal() else 0

    def _change(self, payload: Mapping[str, Any], *, cause: str) -> Change | None:
        """None where the commit or the repository has no name that the service could know it by.

        GITHUB_SHA is the merge commit in a pull request; what people see is the head's own.
        """
        head, ref, base_sha, base_ref = self._sides(payload)
        number = _at(payload, "pull_request", "number")
        repository_id = self._repository_id(payload)
        if not _is_sha(head) or not isinstance(ref, str) or not ref or not repository_id:
            return None
        return Change(
            forge="github",
            repository=self.environ.get("GITHUB_REPOSITORY", ""),
            repository_id=repository_id,
            ref=ref,
            head_sha=str(head),
            base_ref=base_ref if isinstance(base_ref, str) else None,
            base_sha=base_sha if _is_sha(base_sha) and not _ZEROS.fullmatch(str(base_sha)) else None,
            pull_request=number if isinstance(number, int) else None,
            cause=cause,
        )

    def _sides(self, payload: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
        """Head and its ref, base commit and base branch, as the event says: anything, or nothing."""
        if isinstance(payload.get("pull_request"), dict):
            head, base = _at(payload, "pull_request", "head"), _at(payload, "pull_request", "base")
            return _at(head, "sha"), _at(head, "ref"), _at(base, "sha"), _at(base, "ref")
        if isinstance(group := payload.get("merge_group"), dict):
            base_ref = group.get("base_ref")
            base_ref = base_ref.removeprefix("refs/heads/") if isinstance(base_ref, str) else None
            return group.get("head_sha"), group.get("head_ref"), group.get("base_sha"), base_ref
        return self.environ.get("GITHUB_SHA"), self.environ.get("GITHUB_REF"), payload.get("before"), None

    def _restricted(self, payload: Mapping[str, Any]) -> str:
        """Forks and Dependabot get a read-only token, no secrets and no id-token."""
        pull = payload.get("pull_request")
        if not isinstance(pull, dict):
            return ""
        if self.environ.get("GITHUB_ACTOR") == _DEPENDABOT:
            return "This pull request is Dependabot's: GitHub gives its runs no secrets and no identity."
        head, base = _at(pull, "head", "repo", "id"), _at(pull, "base", "repo", "id")
        if head != base:
            return "This pull request comes from a fork: GitHub gives its runs no secrets and no identity."
        return ""

    def id_token(self, audience: str, *, send: Send) -> str | None:
        """https://docs.github.com/actions/reference/security/oidc: the URL has a query already."""
        url = self.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL", "")
        bearer = self.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
        if not url or not bearer:
            return None
        separator = "&" if "?" in url else "?"
        headers = {"Authorization": f"bearer {bearer}", "User-Agent": "prpm-testing", "Accept": "application/json"}
        request = Request(method="GET", url=f"{url}{separator}audience={quote(audience, safe='')}", headers=headers)
        said = require_answer(send(request), doing="get an id token from GitHub")
        token = said.get("value") if isinstance(said, dict) else None
        return token if isinstance(token, str) and token else None

    def changed_files(self, change: Change, *, inputs: Inputs, send: Send) -> tuple[str, ...] | None:
        if change.pull_request is not None:
            pages: Iterator[str] = (
                f"/pulls/{change.pull_request}/files?per_page={PER_PAGE}&page={page}"
                for page in range(1, MOST_FILES // PER_PAGE + 1)
            )
            return self._listed(pages, inputs=inputs, send=send)
        # A merge queue's group is on top of the one ahead, which no branch has yet, and which may be merged along with
        # it though it failed: so it is compared with the branch that it is for.
        base = quote(change.base_ref, safe="/") if change.base_ref is not None else change.base_sha
        if base is None or change.cause != "head":
            return None
        path = f"/compare/{base}...{change.head_sha}?per_page=1"
        said = self._get(path, inputs=inputs, send=send)
        found = said.get("files") if isinstance(said, dict) else None
        if not isinstance(found, list) or len(found) >= COMPARED_FILES:
            return None
        return tuple(_paths(found))

    def _listed(self, pages: Iterator[str], *, inputs: Inputs, send: Send) -> tuple[str, ...] | None:
        found: list[str] = []
        listed = 0
        for path in pages:
            said = self._get(path, inputs=inputs, send=send)
            if not isinstance(said, list):
                return None
            found += _paths(said)
            listed += len(said)
            if len(said) < PER_PAGE:
                return tuple(found)
        return tuple(found) if listed < MOST_FILES else None

    def _get(self, path: str, *, inputs: Inputs, send: Send) -> Any:
        """The API's JSON; None where it gives none, whatever the reason: then everything is tested."""
        headers = _api_headers(inputs.github_token)
        url = f"{self._api_url}/repos/{self.environ.get('GITHUB_REPOSITORY', '')}{path}"
        request = Request(
            method="GET", url=url, headers=headers, timeout_seconds=10.0, max_answer_bytes=8 * 1024 * 1024
        )
        try:
            response = send(request)
        except CannotNotify:
            return None
        return response.json() if response.is_success else None

    @property
    def _api_url(self) -> str:
        return self.environ.get("GITHUB_API_URL") or "https://api.github.com"

    def tellers(self, change: Change, *, inputs: Inputs, marker: str, send: Send) -> tuple[Teller, ...]:
        """Comment and check run apart, as a token may have the right to one of them alone."""
        if not inputs.github_token:
            return ()
        from notifiers.github import GitHubTarget  # not before the submit: each module read costs milliseconds

        plain = GitHubTarget(
            repository=change.repository,
            token=inputs.github_token,
            author=self._author(inputs, send=send),
            marker=marker or NO_MARKER,
            pull_request=change.pull_request,
            head_sha=change.head_sha,
            comment="never",
            check_run=False,
            api_url=self._api_url,
        )
        found = []
        if marker and change.pull_request is not None and inputs.comment != "never":
            found.append(Teller(kind="github", target=replace(plain, comment=inputs.comment), what="the comment"))
        if inputs.check_run != "false":
            target = replace(plain, check_run=True)
            optional = inputs.check_run == "auto"
            found.append(Teller(kind="github", target=target, what="the check run", is_optional=optional))
        return tuple(found)

    def _author(self, inputs: Inputs, *, send: Send) -> str:
        """The login that the token writes as. Only for another than the workflow's own has it to be asked."""
        if inputs.github_token == self.environ.get("WORKFLOW_TOKEN", inputs.github_token):
            return WORKFLOW_LOGIN
        url = self.environ.get("GITHUB_GRAPHQL_URL") or "https://api.github.com/graphql"
        headers = _api_headers(inputs.github_token)
        try:
            said = send(json_request("POST", url, {"query": "query { viewer { login } }"}, headers=headers)).json()
        except CannotNotify:
            return WORKFLOW_LOGIN
        login = _at(said, "data", "viewer", "login") if isinstance(said, dict) else None
        return login if isinstance(login, str) and login else WORKFLOW_LOGIN

    # The log. https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands

    def quote(self, lines: Sequence[str]) -> None:
        """With the runner's commands switched off by a word that nobody can know, and none at a line's begin (G4)."""
        word = secrets.token_hex(16)
        self.say(f"::stop-commands::{word}")
        for line in lines:
            self.say(f"  {_harmless(line)}")
        self.say(f"::{word}::")

    def mask(self, secret: str) -> None:
        for line in secret.splitlines():
            if line.strip():
                self.say(f"::add-mask::{_value(line)}")

    def begin_group(self, title: str) -> None:
        self.say(f"::group::{_value(_harmless(title))}")

    def end_group(self) -> None:
        self.say("::endgroup::")

    def annotate(self, annotations: Sequence[Annotation]) -> None:
        """The first ten errors and the first ten warnings: GitHub shows no more of a step."""
        for word, levels in (("error", ("failure",)), ("warning", ("warning",))):
            for one in [one for one in annotations if one.level in levels][:MOST_ERRORS]:
                place = f"file={_property(one.path)},line={one.line},title={_property(_harmless(one.title))}"
                message = "\n".join(_harmless(line) for line in one.message[:MESSAGE_CHARS].splitlines())
                self.say(f"::{word} {place}::{_value(message)}")

    def warn(self, text: str) -> None:
        self.say(f"::warning title=Prompt tests::{_value(_harmless(text))}")

    def fail(self, text: str) -> None:
        self.say(f"::error title=Prompt tests::{_value(_harmless(text))}")

    def write_summary(self, markdown: str) -> None:
        self._append("GITHUB_STEP_SUMMARY", markdown)

    def write_outputs(self, values: Mapping[str, str]) -> None:
        self._append("GITHUB_OUTPUT", "".join(output_text(name, value) for name, value in values.items()))

    def _append(self, variable: str, text: str) -> None:
        path = self.environ.get(variable, "")
        if not path:
            return
        try:
            with Path(path).open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except OSError as error:
            self.warn(f"{variable} could not be written: {error.strerror}.")


def output_text(name: str, value: str) -> str:
    """An output in the form that takes any value: between lines that nobody can know (G3)."""
    fence = f"prpm-{secrets.token_hex(16)}"
    clean = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"{name}<<{fence}\n{clean}\n{fence}\n"


def _value(text: str) -> str:
    """Escaped as the runner reads it back: https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts"""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _value(text).replace(":", "%3A").replace(",", "%2C")


def _harmless(text: str) -> str:
    """One line without anything invisible. The runner's old commands count anywhere in a line: `##[error]`."""
    return one_line(text).replace("##[", "# #[")


def _api_headers(token: str) -> dict[str, str]:
    from notifiers.github import API_VERSION

    headers = {
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": API_VERSION,
        "User-Agent": "prpm-testing",
    }
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})


def _paths(files: Sequence[object]) -> list[str]:
    """Old and new names of the listed files."""
    known = [file for file in files if isinstance(file, dict)]
    names = [file.get(key) for file in known for key in ("filename", "previous_filename")]
    return [name for name in names if isinstance(name, str)]


def _privileged(event_name: str) -> str:
    if event_name not in _PRIVILEGED:
        return ""
    return (
        f"`{event_name}` runs with the repository's rights on what a stranger may have written, so it is refused. Use "
        "`pull_request`; where you know that nothing of the change is run, set allow-pull-request-target."
    )


def _label(change: Change | None) -> str:
    if change is None:
        return ""
    return f"#{change.pull_request}" if change.pull_request else change.ref.removeprefix("refs/heads/")


def _is_sha(value: object) -> bool:
    return isinstance(value, str) and bool(_SHA.fullmatch(value))


def _at(value: Any, *names: str) -> Any:
    """What stands at this path; None if any part is missing."""
    found: Any = value
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
