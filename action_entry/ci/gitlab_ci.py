"""`gitlab-ci`: a job of a pipeline. Inputs are variables `PRPM_…`; `id_tokens` gives the identity as PRPM_ID_TOKEN."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from action_entry.ci import Change, Ci, Event, Send, Teller, ci_provider
from action_entry.inputs import Inputs
from notifiers import CannotNotify, Request
from notifiers._text import one_line

OUTPUTS_FILE = "prpm.env"  # for `artifacts: reports: dotenv`
NO_MARKER = "0" * 64
_ZEROS = re.compile(r"0+")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ASKED_AGAIN = frozenset({"schedule", "web", "api", "trigger", "pipeline", "chat"})
GIT_SECONDS = 20.0


@ci_provider("gitlab-ci")
class GitLabCi(Ci):
    """GitLab CI: sections in the log, a dotenv report for outputs; note and status by PRPM_GITLAB_TOKEN."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # as the family's
        self._sections: list[str] = []

    @classmethod
    def is_here(cls, environ: Mapping[str, str]) -> bool:
        return environ.get("GITLAB_CI") == "true"

    @property
    def workspace(self) -> Path:
        return Path(self.environ.get("CI_PROJECT_DIR") or self.folder)

    @property
    def reports_folder(self) -> Path:
        return self.workspace / "prpm-reports"

    def inputs(self, names: Sequence[str]) -> dict[str, str]:
        """GitLab's own token has another name; the rest is as it is everywhere."""
        found = super().inputs(names)
        return found | {"github-token": self.environ.get("PRPM_GITLAB_TOKEN", "")}

    def event(self) -> Event:
        source = self.environ.get("CI_PIPELINE_SOURCE", "")
        pipeline, job = self.environ.get("CI_PIPELINE_ID", "0"), self.environ.get("CI_JOB_ID", "0")
        change = self._change(cause=f"job:{job}" if source in _ASKED_AGAIN else "head")
        return Event(
            run_key=f"gitlab-{self.environ.get('CI_PROJECT_ID', '0')}-{pipeline}-{job}",
            change=change,
            label=_label(change),
            restricted=self._restricted(),
        )

    def _change(self, *, cause: str) -> Change | None:
        """A pipeline for merged results tests a commit that nobody sees: the source branch's own is meant."""
        head = self.environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or self.environ.get("CI_COMMIT_SHA", "")
        project_id = self.environ.get("CI_MERGE_REQUEST_PROJECT_ID") or self.environ.get("CI_PROJECT_ID", "")
        number = self.environ.get("CI_MERGE_REQUEST_IID", "")
        ref = self.environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME") or self.environ.get("CI_COMMIT_REF_NAME", "")
        base = self.environ.get("CI_MERGE_REQUEST_DIFF_BASE_SHA") or self.environ.get("CI_COMMIT_BEFORE_SHA", "")
        if not _SHA.fullmatch(head) or not project_id.isdecimal() or not ref:
            return None
        return Change(
            forge="gitlab",
            repository=self.environ.get("CI_MERGE_REQUEST_PROJECT_PATH") or self.environ.get("CI_PROJECT_PATH", ""),
            repository_id=int(project_id),
            ref=ref,
            head_sha=head,
            base_ref=self.environ.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME") or None,
            base_sha=base if _SHA.fullmatch(base) and not _ZEROS.fullmatch(base) else None,
            pull_request=int(number) if number.isdecimal() else None,
            cause=cause,
        )

    def _restricted(self) -> str:
        source = self.environ.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "")
        target = self.environ.get("CI_MERGE_REQUEST_PROJECT_ID", source)
        if source == target:
            return ""
        return "This merge request comes from a fork: GitLab gives its pipelines no protected variables."

    def id_token(self, audience: str, *, send: Send) -> str | None:
        """The variable that `id_tokens` in the job's definition sets; its `aud` has to be the server's address."""
        return self.environ.get("PRPM_ID_TOKEN") or None

    def changed_files(self, change: Change, *, inputs: Inputs, send: Send) -> tuple[str, ...] | None:
        """By the checked-out repository; None where the base is not there (a shallow clone) or git is not."""
        if change.base_sha is None:
            return None
        import subprocess  # here alone, and not for nothing

        command = [
            "git",
            "diff",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "-z",
            change.base_sha,
            change.head_sha,
        ]
        try:
            ran = subprocess.run(  # noqa: S603 -- no shell, and both commits are hex digits
                command, cwd=self.workspace, capture_output=True, timeout=GIT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if ran.returncode != 0:
            return None
        return tuple(path.decode("utf-8", "replace") for path in ran.stdout.split(b"\0") if path)

    def tellers(self, change: Change, *, inputs: Inputs, marker: str, send: Send) -> tuple[Teller, ...]:
        """A note and a status, where PRPM_GITLAB_TOKEN is set: the job's own token may write neither."""
        token = inputs.github_token
        login = self._login(token, send=send) if token else ""
        if not login:
            return ()
        from notifiers.gitlab import GitLabTarget  # not before the submit, and not on other systems

        plain = GitLabTarget(
            project=change.repository,
            token=token,
            author=login,
            marker=marker or NO_MARKER,
            merge_request=change.pull_request,
            head_sha=change.head_sha,
            comment="never",
            commit_status=False,
            api_url=self._api_url,
        )
        found = []
        if marker and change.pull_request is not None and inputs.comment != "never":
            found.append(Teller(kind="gitlab", target=replace(plain, comment=inputs.comment), what="the note"))
        if inputs.check_run != "false":
            target = replace(plain, commit_status=True)
            optional = inputs.check_run == "auto"
            found.append(Teller(kind="gitlab", target=target, what="the status", is_optional=optional))
        return tuple(found)

    @property
    def _api_url(self) -> str:
        return self.environ.get("CI_API_V4_URL") or "https://gitlab.com/api/v4"

    def _login(self, token: str, *, send: Send) -> str:
        headers = {"Authorization": f"Bearer {token}", "User-Agent": "prpm-testing", "Accept": "application/json"}
        try:
            said = send(Request(method="GET", url=f"{self._api_url}/user", headers=headers)).json()
        except CannotNotify:
            return ""
        name = said.get("username") if isinstance(said, dict) else None
        return name if isinstance(name, str) else ""

    # The log. https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections

    def begin_group(self, title: str) -> None:
        name = f"prpm_{len(self._sections)}_{int(time.time())}"
        self._sections.append(name)
        self.say(f"\x1b[0Ksection_start:{int(time.time())}:{name}\r\x1b[0K{one_line(title)}")

    def end_group(self) -> None:
        if self._sections:
            self.say(f"\x1b[0Ksection_end:{int(time.time())}:{self._sections.pop()}\r\x1b[0K")

    def write_outputs(self, values: Mapping[str, str]) -> None:
        """`PRPM_JOB_ID=...` and so on; a dotenv file knows no line breaks, so several values have spaces between."""
        lines = [
            f"PRPM_{name.upper().replace('-', '_')}={one_line(' '.join(value.split()))}"
            for name, value in values.items()
        ]
        try:
            (self.workspace / OUTPUTS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
        except OSError as error:
            self.warn(f"{OUTPUTS_FILE} could not be written: {error.strerror}.")


def _label(change: Change | None) -> str:
    if change is None:
        return ""
    return f"!{change.pull_request}" if change.pull_request else change.ref
