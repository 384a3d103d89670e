"""The whole way: inputs, packages, jobs, results, exit code. Interrupted, it cancels its jobs and ends.

Exit codes: 0 passed or neutral, 1 the tests fail the step, 2 nothing could be tested, 128 + n after signal n.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TextIO
from urllib.parse import quote

from action_entry.ci import Change, Ci, Event, Send, Surroundings, find_ci
from action_entry.errors import CannotTest, Interrupted, Misused, NotAllowed, NotNow
from action_entry.following import Trial, follow, require_completed
from action_entry.gate import FAILED, SKIPPED, WITHOUT_VERDICT, Verdict, judge, without_results
from action_entry.identity import Identity
from action_entry.inputs import DEFAULT_SERVER_URL, INPUTS, Inputs, read_inputs
from action_entry.outputs import output_values
from action_entry.packing import Folder, pack, package_name, read_package
from action_entry.projects import Project, find_projects, is_choice, touched
from action_entry.service import Job, Service
from action_entry.telling import Chat, chats, notice_of, notice_without_outcome, tell_change, tell_chats
from action_entry.wire import Clock, Wire
from action_entry.writing import SIGNS, save_reports, summary_of
from notifiers import InvalidOutcome, Notice, read_outcome
from notifiers._annotations import annotate
from notifiers._case_lines import case_lines
from notifiers._chat import row_details, row_name
from notifiers._findings import cost_text, score_text, sort_rows
from notifiers._text import counted, one_line, percent
from notifiers._urllib import opener

WEB_URL = "https://prpm.dev"  # where people's pages are, for the default server
ALLOWED_ORIGINS = "PRPM_NOTIFY_ALLOWED_ORIGINS"
LOOK_BEFORE_CANCEL_SECONDS = 1.5
CANCEL_ALL_SECONDS = 5.5
TRIAL_SIGNS = {"passed": "✅", "failed": "❌", "error": "⚠️", "skipped": "⏭️"}
ROWS_IN_LOG = 20
USUAL_SUITE = "prpm.test.yaml"


@dataclass(frozen=True, kw_only=True)
class Started:
    """A project whose job was accepted."""

    project: Project
    job_id: str
    package: str
    suite: str  # for people: the suite's path within its package
    suite_path: str  # of its file in the repository, "" if it is in none
    lines: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Done:
    """One suite's end: the verdict, and what the summary says of it."""

    verdict: Verdict
    summary: str


def main(
    environ: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    out: TextIO | None = None,
    began: float = 0.0,
) -> int:
    """Run once in this environment and return the exit code. `began`: the process's start by `time.monotonic`."""
    ci = find_ci(
        Surroundings(
            environ=os.environ if environ is None else environ, folder=folder or Path.cwd(), out=out or sys.stdout
        )
    )
    program = Program(ci, clock=Clock(), began=began or time.monotonic())
    with interruptions():
        try:
            return program.run()
        except Interrupted as interrupted:
            program.cancel_all()
            return 128 + interrupted.number


@contextlib.contextmanager
def interruptions() -> Iterator[None]:
    """SIGINT and SIGTERM raise Interrupted, once; a second one waits until the jobs are cancelled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Program:
    """One run of the Action."""

    def __init__(self, ci: Ci, *, clock: Clock, began: float) -> None:
        self._ci = ci
        self._clock = clock
        self._began = began
        self._send: Send = opener()
        self._service: Service | None = None
        self._open: list[str] = []  # jobs that were accepted and have not ended

    def run(self) -> int:
        """The exit code. Everything that can be expected to go wrong is a sentence in log and summary."""
        inputs: Inputs | None = None
        event: Event | None = None
        try:
            inputs = read_inputs(self._ci.inputs([word.name for word in INPUTS]))
            event = self._ci.event()
            done = self._test(inputs, event)
        except CannotTest as error:
            done = [self._could_not(error, inputs, event)]
        return self._conclude(done)

    def _test(self, inputs: Inputs, event: Event) -> list[Done]:
        if event.privileged and not inputs.allow_pull_request_target:
            raise Misused(event.privileged)
        if event.nothing:
            return [self._nothing(event.nothing)]
        self._hide(inputs)
        allowed = frozenset(filter(None, self._ci.environ.get(ALLOWED_ORIGINS, "").lower().split(",")))
        targets = chats(inputs, allowed_origins=allowed)
        projects = find_projects(inputs, workspace=self._ci.workspace)
        self._ci.say(f"Testing on {inputs.server_url}")
        chosen = self._changed(projects, inputs, event)
        if not chosen:
            return [self._nothing(f"The change touches none of {counted(len(projects), 'package')}.")]
        service = self._connect(inputs, event)
        return self._run_all(service, chosen, inputs, event, targets)

    def _hide(self, inputs: Inputs) -> None:
        for _, address in inputs.notify:
            self._ci.mask(address)

    def _changed(self, projects: tuple[Project, ...], inputs: Inputs, event: Event) -> tuple[Project, ...]:
        """The projects that the change touches; all of them where that is not known or one was named."""
        if event.change is None or not is_choice(inputs, projects):
            return projects
        changed = self._ci.changed_files(event.change, inputs=inputs, send=self._send)
        return projects if changed is None else touched(projects, changed, workspace=self._ci.workspace)

    def _connect(self, inputs: Inputs, event: Event) -> Service:
        self._clock.deadline = self._clock.now() + inputs.timeout_seconds
        wire = Wire(inputs.server_url, clock=self._clock)
        identity = Identity(self._ci, inputs, event, wire=wire, send=self._send)
        wire.token = identity.token()
        self._service = Service(wire, renew=identity.token if identity.is_short else None)
        return self._service

    def _run_all(
        self, service: Service, projects: Sequence[Project], inputs: Inputs, event: Event, targets: tuple[Chat, ...]
    ) -> list[Done]:
        """All are submitted before the first is waited for, so that they run at the same time."""
        started: list[Started | CannotTest] = []
        for project in projects:
            try:
                started.append(self._submit(service, project, inputs, event))
            except CannotTest as error:
                started.append(error)
        seconds = time.monotonic() - self._began
        self._ci.say(f"{counted(len(self._open), 'job')} submitted after {seconds:.2f} s")
        return [
            self._could_not(one, inputs, event, project=project)
            if isinstance(one, CannotTest)
            else self._finish(service, one, inputs, event, targets, suites=len(projects))
            for project, one in zip(projects, started)  # noqa: B905 -- they are of one length
        ]

    def _submit(self, service: Service, project: Project, inputs: Inputs, event: Event) -> Started:
        request = _run_fields(project, inputs, event)
        package, suite_path, in_package = project.name, "", ""
        if project.registered:
            request |= _registered_fields(project)
        else:
            files = read_package(
                self._ci.workspace / project.folder, suite=project.suite.as_packed if project.suite else None
            )
            chosen = project.several.name if project.several else ""
            snapshot = service.keep_snapshot(pack(files), package=chosen, account=inputs.account)
            request["snapshot_id"] = snapshot.id
            package, in_package = snapshot.package or package, snapshot.suite_path
            suite_path = "/".join(part for part in (project.folder, in_package) if part) if in_package else ""
        submitted = service.submit(request, key=f"{event.run_key}-{project.slug}")
        self._open.append(submitted.job_id)
        for warning in submitted.warnings:
            self._ci.warn(warning)
        if project.suite is not None:
            suite_path = project.suite.path
        return Started(
            project=project,
            job_id=submitted.job_id,
            package=package,
            suite=project.suite.path if project.suite else in_package or project.suite_name,
            suite_path=suite_path,
            lines=self._lines(project, suite_path),
        )

    def _lines(self, project: Project, suite_path: str) -> dict[str, int]:
        """Where the suite's cases stand, as far as that can be told."""
        if project.suite is not None:
            return case_lines(project.suite.text)
        if not suite_path:
            return {}
        try:
            return case_lines(Folder(self._ci.workspace).read(suite_path))
        except Misused:
            return {}

    def _finish(
        self,
        service: Service,
        started: Started,
        inputs: Inputs,
        event: Event,
        targets: tuple[Chat, ...],
        *,
        suites: int,
    ) -> Done:
        """Wait for one job, show it, tell it."""
        self._ci.begin_group(f"{started.package} · {started.suite}")
        url = job_page(inputs.server_url, started.job_id)
        self._ci.quote([f"Job {started.job_id}", url])
        job: Job | None = None
        try:
            job = follow(service, started.job_id, clock=self._clock, heard=self._hear)
            self._open.remove(started.job_id)
            require_completed(job)
            results = service.results(started.job_id)
            notice = _notice(results, started, job, event, url=url)
        except CannotTest as error:
            self._ci.end_group()
            return self._could_not(
                error, inputs, event, project=started.project, job=job, job_id=started.job_id, url=url
            )
        self._warn_of_other_models(job, inputs)
        verdict = judge(notice, inputs)
        self._ci.quote([*_failures(notice), _headline(verdict, notice)])
        self._ci.end_group()
        self._ci.annotate(annotate(notice, sort_rows(notice.outcome)))
        told: tuple[str, ...] = ()
        if event.change is not None:
            told = tell_change(notice, event.change, self._ci, inputs, job=job, send=self._send)
        tell_chats(notice, targets, self._ci, send=self._send)
        save_reports(
            results,
            service=service,
            job_id=started.job_id,
            notice=notice,
            slug=started.project.slug,
            folder=self._ci.reports_folder,
            ci=self._ci,
        )
        name = f"{started.package} · {started.suite}"
        return Done(
            verdict=verdict, summary=summary_of(verdict, name=name, notice=notice, told=told, suites=max(suites, 1))
        )

    def _hear(self, trial: Trial) -> None:
        score = f" {percent(trial.score)}" if trial.score is not None else ""
        self._ci.quote([f"{TRIAL_SIGNS.get(trial.state, '•')} {one_line(trial.case)} · {one_line(trial.model)}{score}"])

    def _warn_of_other_models(self, job: Job, inputs: Inputs) -> None:
        if inputs.models and job.models and set(inputs.models) != set(job.models):
            self._ci.warn(
                f"This commit was submitted before with other models ({', '.join(job.models)}); those are the results."
            )

    def _could_not(
        self,
        error: CannotTest,
        inputs: Inputs | None,
        event: Event | None,
        *,
        project: Project | None = None,
        job: Job | None = None,
        job_id: str = "",
        url: str = "",
    ) -> Done:
        """Say why there is no verdict, in the log, the summary and the check that a branch may require."""
        verdict = without_results(error, inputs, job_id=job_id, url=url)
        sentences = " ".join([error.message, *error.details])
        if isinstance(error, NotAllowed):
            self._ci.quote([f"{SIGNS[SKIPPED]} {sentences}"])
        elif verdict.fails:
            self._ci.fail(sentences)
        else:
            self._ci.warn(f"No verdict: {sentences}")
        name = project.name if project else self._subject(inputs)
        told: tuple[str, ...] = ()
        if not isinstance(error, NotAllowed) and inputs is not None and event is not None:
            told = self._tell_neutral(sentences, inputs, event, project=project, job=job, name=name)
        whole = replace(verdict, why=sentences)
        return Done(verdict=verdict, summary=summary_of(whole, name=name, notice=None, told=told, suites=1))

    def _tell_neutral(
        self, why: str, inputs: Inputs, event: Event, *, project: Project | None, job: Job | None, name: str
    ) -> tuple[str, ...]:
        """A check run without a verdict. Only where the run itself is what a branch would wait for."""
        if event.change is None or (project is None and is_choice(inputs)):
            return ()
        notice = notice_without_outcome(
            why,
            package=name,
            suite=self._suite_of(project),
            run_key=event.run_key,
            change=event.change,
            label=event.label,
        )
        return tell_change(notice, event.change, self._ci, inputs, job=job, has_outcome=False, send=self._send)

    def _suite_of(self, project: Project | None) -> str:
        """The suite's name as a run that worked would have it, as far as that is known without the service."""
        if project is None:
            return USUAL_SUITE
        return project.suite.path if project.suite else USUAL_SUITE

    def _subject(self, inputs: Inputs | None) -> str:
        """What was to be tested, for a check's name and the summary."""
        if inputs is None:
            return "prompt package"
        if inputs.package or is_choice(inputs):
            return inputs.package or ", ".join(inputs.paths)
        return package_name(self._ci.workspace / inputs.paths[0]) if inputs.paths else "prompt package"

    def _nothing(self, why: str) -> Done:
        self._ci.quote([f"{SIGNS[SKIPPED]} {why}"])
        verdict = Verdict(state=SKIPPED, fails=False, why=why)
        return Done(
            verdict=verdict, summary=summary_of(verdict, name="nothing to test", notice=None, told=(), suites=1)
        )

    def _conclude(self, done: Sequence[Done]) -> int:
        verdicts = [one.verdict for one in done]
        self._ci.write_summary("".join(one.summary for one in done))
        self._ci.write_outputs(output_values(verdicts, report_path=str(self._ci.reports_folder)))
        for verdict in verdicts:
            if verdict.fails and verdict.outcome is not None:
                what = "The tests fail this step" if verdict.state == FAILED else "No verdict, and on-error is `fail`"
                self._ci.fail(f"{what}: {verdict.why}. {verdict.url}")
        return exit_code(verdicts)

    def cancel_all(self) -> None:
        """Ask for the end of every job that still runs, all at once, in 5.5 s at most.

        GitHub kills what has not ended 7.5 s after its SIGINT. A job that the App waits for, too, goes on.
        """
        service = self._service
        if service is None or not self._open:
            self._ci.quote(["Interrupted before anything was submitted."])
            return
        self._clock.deadline = None
        threads = [threading.Thread(target=self._cancel, args=(service, job), daemon=True) for job in self._open]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + CANCEL_ALL_SECONDS
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _cancel(self, service: Service, job_id: str) -> None:
        if service.is_shared(job_id, timeout_seconds=LOOK_BEFORE_CANCEL_SECONDS):
            self._ci.say(f"Interrupted. The prpm App waits for job {job_id}, too; it goes on.")
        elif service.cancel(job_id):
            self._ci.say(f"Interrupted. Job {job_id} is cancelled.")
        else:
            self._ci.say(f"Interrupted. Job {job_id} could not be cancelled and goes on.")


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """2 if something could not be tested and that counts, 1 if tests fail the step, else 0."""
    failing = {verdict.state for verdict in verdicts if verdict.fails}
    if WITHOUT_VERDICT in failing:
        return 2
    return 1 if failing else 0


def job_page(server_url: str, job_id: str) -> str:
    """Where people see the job."""
    base = WEB_URL if server_url == DEFAULT_SERVER_URL else server_url
    return f"{base}/jobs/{quote(job_id, safe='')}"


def _run_fields(project: Project, inputs: Inputs, event: Event) -> dict[str, object]:
    """The run request's members but for what is tested; what was not given is left out."""
    optional: dict[str, object] = {
        "models": list(inputs.models),
        "plugins": list(inputs.plugins),
        "framework": inputs.framework,
        "baseline": inputs.baseline,
        "gate": inputs.fail_on,
        "account": inputs.account,
        "change": _change_fields(event.change),
    }
    always: dict[str, object] = {"upload_results": inputs.upload, "verify_results": inputs.verify}
    if inputs.min_score is not None:
        always["min_score"] = inputs.min_score
    named = {"suite_name": project.suite_name} if event.change is not None or project.suite is not None else {}
    return {name: value for name, value in optional.items() if value} | always | named


def _change_fields(change: Change | None) -> dict[str, object]:
    return change.as_request() if change is not None else {}


def _registered_fields(project: Project) -> dict[str, object]:
    """`@author/name@1.2.0` in the request's words."""
    name, at, version = project.registered.rpartition("@")
    found: dict[str, object] = {"package_id": name, "package_version": version} if name and at else {}
    if not found:
        found = {"package_id": project.registered}
    if project.suite is not None:
        found["suite"] = project.suite.value
    return found


def _notice(results: bytes, started: Started, job: Job, event: Event, *, url: str) -> Notice:
    try:
        outcome = read_outcome(results)
    except InvalidOutcome as error:
        raise NotNow(f"The service's results cannot be read: {error}") from None
    return notice_of(
        outcome,
        job=job,
        package=job.package or started.package,
        suite=started.suite,
        url=url,
        change=event.change,
        label=event.label,
        suite_path=started.suite_path,
        lines=started.lines,
    )


def _failures(notice: Notice) -> list[str]:
    """What decided, with the shortest useful piece of each answer."""
    worst = sort_rows(notice.outcome).worst
    lines = [
        line
        for row in worst[:ROWS_IN_LOG]
        for line in (f"❌ {row_name(row)}", *(f"   {word}: {text}" for word, text in row_details(row)))
    ]
    more = len(worst) - ROWS_IN_LOG
    return [*lines, f"… and {more} more"] if more > 0 else lines


def _headline(verdict: Verdict, notice: Notice) -> str:
    summary = notice.outcome.summary
    sign = SIGNS[verdict.state]
    return f"{sign} {verdict.why} · score {score_text(notice)} · {cost_text(summary)}"
