"""`prpm test` through the service: submit, wait, show."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from cli import answers
from cli.client import MAX_ARCHIVE_BYTES, RegistryClient
from cli.errors import (
    CommandError,
    Interrupted,
    InvalidAnswer,
    InvalidUse,
    JobFailed,
    RequestRefused,
    Superseded,
    TimedOut,
)
from cli.following import JobFollower, Listener
from cli.last_run import LastRuns
from cli.progress import following
from cli.reports import ReportFile, find_reports, write_reports
from cli.request import RunRequest, hosted_baseline, hosted_fields
from cli.subject import ArchiveFile, Folder, Registered
from cli.terminal import Terminal
from cli.wording import INDENT, estimate_lines, gate_lines, result_lines, summary_lines, usage_line

EXIT_CODES = {"passed": 0, "failed": 1}  # anything else is 2: no verdict on something


class HostedRun:
    """One job from the user's side. `web_url` is where people's pages are.

    Raises CommandError for everything that ends it early; from the submit on, with the job's id in `facts`.
    """

    def __init__(
        self,
        client: RegistryClient,
        terminal: Terminal,
        *,
        web_url: str,
        last_runs: LastRuns | None = None,
        poll_seconds: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._terminal = terminal
        self._web_url = web_url
        self._last_runs = last_runs
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._now = now

    def run(self, request: RunRequest) -> int:
        """The exit code: 0 passed, 1 a test failed, 2 inconclusive."""
        refuse_local_only(request)
        reports = find_reports(request.outputs)
        self._say("🚀 Using PRPM hosted testing (prpm+)", "")
        suite = self._suite(request)
        subject = self._subject_fields(request) | self._base_fields(request)
        self._say("📤 Submitting test job...", "")
        submitted = self._client.submit_test_job(subject | hosted_fields(request, suite=suite))
        self._announce(submitted)
        return self._see_through(
            submitted,
            verbose=request.verbose,
            upload=request.upload,
            timeout_seconds=request.timeout_seconds,
            reports=reports,
            on_rows=lambda rows: self._remember(request, rows),
        )

    def _remember(self, request: RunRequest, rows: Sequence[answers.RowShown]) -> None:
        if self._last_runs is not None:
            self._last_runs.remember(request, rows)

    def _see_through(
        self,
        submitted: answers.SubmittedJob,
        *,
        verbose: bool,
        upload: bool,
        timeout_seconds: float,
        live: bool = False,
        reports: Sequence[ReportFile] = (),
        on_rows: Callable[[Sequence[answers.RowShown]], None] | None = None,
    ) -> int:
        """Follow a job of ours, which nobody else waits for: Ctrl-C ends it."""
        try:
            return self.follow(
                submitted.job_id,
                verbose=verbose,
                upload=upload,
                timeout_seconds=timeout_seconds,
                live=live,
                reports=reports,
                on_rows=on_rows,
            )
        except KeyboardInterrupt:
            raise self._with_job(Interrupted(self._cancel(submitted.job_id)), submitted.job_id) from None
        except CommandError as error:
            error.facts.setdefault("job_id", submitted.job_id)
            raise

    def estimate(self, request: RunRequest) -> int:
        """What the run would take is shown. The exit code: 0, or 2 if it does not fit the caps. Charges nothing."""
        suite = self._suite(request)
        found = self._client.estimate_test_job(self._subject_fields(request) | hosted_fields(request, suite=suite))
        for line in estimate_lines(found):
            self._terminal.say(line.text, colour=line.colour)
        if self._terminal.machine:
            self._terminal.document(msgspec.to_builtins(found))
        return 2 if found.fits == "no" else 0

    def _cancel(self, job_id: str) -> str:
        """End what nobody waits for any more, and say whether that worked. A second Ctrl-C does not wait for it."""
        try:
            self._client.cancel_test_job(job_id)
        except RequestRefused as error:
            if error.status == 409:
                return "Stopped waiting. The job had just ended."
        except (CommandError, KeyboardInterrupt):
            pass
        else:
            return "Cancelled."
        return "Stopped waiting. The job could not be cancelled and goes on."

    def _subject_fields(self, request: RunRequest) -> dict[str, Any]:
        """What the job is about: a package by id, or a snapshot that is uploaded now."""
        match request.subject:
            case Registered(name=name, version=version):
                package = self._client.get_package_by_name(name)
                return {"package_id": package.id} | ({"package_version": version} if version else {})
            case Folder() | ArchiveFile() as files:
                return {"snapshot_id": self._kept(files, request)}

    def _base_fields(self, request: RunRequest) -> dict[str, Any]:
        """The package as it was, uploaded now."""
        match request.base:
            case None:
                return {}
            case Folder() | ArchiveFile() as files:
                return {"base_snapshot_id": self._kept(files, request)}
            case Registered():
                return {}  # refused before

    def _kept(self, subject: Folder | ArchiveFile, request: RunRequest) -> str:
        """The id of the snapshot that the service keeps for whoever pays: of several packages the chosen one."""
        archive = self._packed(subject.path) if isinstance(subject, Folder) else read_archive_file(subject.path)
        kept = self._client.upload_snapshot(archive, account=request.org, package=subject.package)
        return kept.snapshot_id

    def _suite(self, request: RunRequest) -> dict[str, Any] | None:
        if request.suite_file is None:
            return None
        from cli.suite_file import suite_as_written

        return suite_as_written(request.suite_file, note=self._terminal.note)

    def _packed(self, path: Path) -> bytes:
        from evals.archives import pack
        from evals.folders import read_folder

        files = read_folder(path)
        archive = pack(files)
        _need_size(len(archive), path=path)
        count = f"{len(files)} file" + ("" if len(files) == 1 else "s")
        self._say(f"📦 Packed {path} ({count}, {len(archive) / 1024:.1f} KB)", "")
        return archive

    def _announce(self, job: answers.SubmittedJob) -> None:
        self._say(f"✅ Job submitted (ID: {job.job_id})", f"{INDENT}Status: {job.status}")
        if job.position_in_queue:
            self._say(f"{INDENT}Position in queue: {job.position_in_queue}")
        if job.estimated_wait_seconds:
            self._say(f"{INDENT}Estimated wait: {job.estimated_wait_seconds:.0f}s")
        if job.usage is not None:
            self._say(f"{INDENT}{usage_line(job.usage)}")
        for warning in job.warnings:
            self._say(f"{INDENT}⚠️ {warning}")
        self._say("", "⏳ Waiting for results...", "")

    def follow(
        self,
        job_id: str,
        *,
        verbose: bool,
        upload: bool,
        timeout_seconds: float,
        live: bool = False,
        reports: Sequence[ReportFile] = (),
        on_rows: Callable[[Sequence[answers.RowShown]], None] | None = None,
    ) -> int:
        """Wait for the job's end, show its results, and return the exit code.

        `upload`: say where they are. `live`: a line for each trial when it finishes. `on_rows` gets what was found.
        """
        with following(self._terminal, live=live) as listener:
            job = self._wait(job_id, listener, timeout_seconds=timeout_seconds)
        if job.status == "failed":
            raise self._with_job(_not_done(job), job_id)
        if job.results is None:
            raise InvalidAnswer("The job is completed, but the server sent no results.")
        body = self._client.get_test_results(job_id)
        results = self._client.read_results(body)
        if on_rows is not None:
            on_rows(results.test_cases)
        self._show(job, job.results, results, verbose=verbose, upload=upload)
        write_reports(reports, body, terminal=self._terminal)
        if self._terminal.machine:
            self._terminal.document(self._document(job, job.results, body))
        return EXIT_CODES.get(job.results.concluded, 2)

    def retry(self, job_id: str, *, verbose: bool, timeout_seconds: float, live: bool = False) -> int:
        """Send a finished job again as a new one, and follow that. The exit code is the new one's."""
        self._say("📤 Submitting the test job again...", "")
        submitted = self._client.retry_test_job(job_id)
        self._announce(submitted)
        return self._see_through(submitted, verbose=verbose, upload=True, timeout_seconds=timeout_seconds, live=live)

    def _wait(self, job_id: str, listener: Listener, *, timeout_seconds: float) -> answers.Job:
        """The finished job. Only standstill counts against `timeout_seconds`: each change starts it anew."""
        follower = JobFollower(
            self._client,
            job_id,
            listener,
            timeout_seconds=timeout_seconds,
            poll_seconds=self._poll_seconds,
            sleep=self._sleep,
            now=self._now,
        )
        try:
            return follower.wait()
        except TimedOut as error:
            raise self._with_job(error, job_id) from None

    def _show(
        self, job: answers.Job, summary: answers.Summary, results: answers.Results, *, verbose: bool, upload: bool
    ) -> None:
        self._say("✅ Test completed!", "", "📊 Test Results:", "")
        for line in result_lines(results.test_cases, verbose=verbose):
            self._terminal.say(line.text, colour=line.colour)
        self._say("")
        for line in summary_lines(summary):
            self._terminal.say(line.text, colour=line.colour)
        for line in gate_lines(results, conclusion=summary.concluded):
            self._terminal.say(line.text, colour=line.colour)
        self._say("", f"🔎 Details: {self._job_page(job.id)}")
        if upload and summary.test_result_id and job.package is not None:
            page = f"{self._web_url}/packages/{quote(job.package.id, safe='')}/tests"
            self._say("", f"📊 Results uploaded: {page}")

    def _document(self, job: answers.Job, summary: answers.Summary, body: bytes) -> dict[str, Any]:
        outcome: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        return {"job_id": job.id, "conclusion": summary.concluded, "url": self._job_page(job.id)} | outcome

    def _with_job(self, error: CommandError, job_id: str) -> CommandError:
        """The same error, naming the job and where to look at it later."""
        page = self._job_page(job_id)
        error.facts.update(job_id=job_id, url=page)
        error.hints = (
            f"{INDENT}Job: {job_id}",
            f"{INDENT}Look later: {page}",
            f"{INDENT}or: prpm job {job_id}",
        )
        return error

    def _job_page(self, job_id: str) -> str:
        return f"{self._web_url}/jobs/{quote(job_id, safe='')}"

    def _say(self, *lines: str) -> None:
        for line in lines:
            self._terminal.say(line)


def _not_done(job: answers.Job) -> CommandError:
    """Why a failed job has no results: its package is not to blame where a newer head took its place."""
    if job.code == Superseded.code and job.superseded_by:
        return Superseded(f"A newer commit of this change is tested in its place: `prpm job {job.superseded_by}`.")
    if job.code == Superseded.code:
        return Superseded(job.error or "Nobody waits for this test any more.")
    return JobFailed(f"Test failed: {job.error or 'no reason given'}", code=job.code)


def refuse_local_only(request: RunRequest) -> None:
    """Raises InvalidUse for what only local testing can do."""
    hosted_baseline(request)
    if isinstance(request.base, Registered):
        raise InvalidUse("--base takes a folder or an archive here; for a published one --baseline version:1.2.3.")
    if request.all_repeats:
        raise InvalidUse("--all-repeats is for runs on this machine. Add --local, or leave it out.")


def read_archive_file(path: Path) -> bytes:
    """The archive's bytes. Raises InvalidUse if it cannot be read or is too large for the service."""
    try:
        _need_size(path.stat().st_size, path=path)
        return path.read_bytes()
    except OSError as error:
        raise InvalidUse(f"{path} cannot be read: {error.strerror}.") from error


def _need_size(size: int, *, path: Path) -> None:
    if size > MAX_ARCHIVE_BYTES:
        raise InvalidUse(f"{path} is larger than {MAX_ARCHIVE_BYTES // 1024 // 1024} MB packed. Leave something out.")
