"""What ends a command early. Each has a sentence that says what to do, and an exit code.

CommandError                exit 2: could not run
├── InvalidUse              options or arguments that cannot be combined or understood
├── InvalidUserConfig       ~/.prpmrc or a setting cannot be used
├── AuthenticationRequired  no token at hand
├── CannotReachServer       nothing answers there; `transient`, so a wait may go on
├── RequestRefused          the server said no; keeps its `status`, code and details
├── InvalidAnswer           the server answered something that is not this API
├── NoEvents                no events from this server, or not through the proxy before it; ask it otherwise
├── NoLocalModels           local testing finds no proxy that it could ask
├── Superseded              a newer head of the same change is tested in this one's place
├── JobFailed               exit 1: the run could not be done
├── TimedOut                exit 1: nothing moved for too long, the job goes on
└── Interrupted             exit 130: Ctrl-C, the job is cancelled
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class CommandError(Exception):
    """Base. `message` is one sentence, `details` and `hints` are lines below it, `facts` are for JSON."""

    exit_code = 2
    code = "cannot_run"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Sequence[str] = (),
        hints: Sequence[str] = (),
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.details = tuple(details)
        self.hints = tuple(hints)
        self.facts = dict(facts or {})


class InvalidUse(CommandError):
    code = "invalid_use"


class InvalidUserConfig(CommandError):
    code = "invalid_config"


class AuthenticationRequired(CommandError):
    code = "authentication_required"


class CannotReachServer(CommandError):
    code = "cannot_reach_server"


class RequestRefused(CommandError):
    """`status` is the HTTP status; `retry_after_seconds` what the server asked for, where it did."""

    code = "refused"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        details: Sequence[str] = (),
        hints: Sequence[str] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, code=code, details=details, hints=hints)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class InvalidAnswer(CommandError):
    code = "invalid_answer"


class NoEvents(CommandError):
    code = "no_events"


class NoLocalModels(CommandError):
    code = "no_local_models"


class Superseded(CommandError):
    code = "superseded"


class JobFailed(CommandError):
    exit_code = 1
    code = "job_failed"


class TimedOut(CommandError):
    exit_code = 1
    code = "timeout"


class Interrupted(CommandError):
    exit_code = 130
    code = "interrupted"
