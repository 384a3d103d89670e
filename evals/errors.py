"""What can go wrong in the engine.

EngineError
├── InvalidSuite          a test file cannot be read; `details` has one line per finding
├── InvalidText           a JSON or YAML text cannot be read (evals/json_reader.py)
├── InvalidAssertion      one assertion is not usable as written
├── InvalidPackage        files do not make a package
│   └── UnsafeArchive     an archive that no honest tool writes, or too large
├── UnknownModel          no such name in the catalogue
├── ModelUnreachable      the catalogue knows it, no deployment can be called
├── InvalidCatalogue      the models file cannot be used
├── CapReached            somebody's cap leaves no room for another call
├── CannotGenerate        no model wrote a case that can be used (evals/generating.py)
├── CannotJudge           an assertion has no verdict: an error, never a failure
└── ProviderError         a deployment gave no usable answer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evals.types import Attempt


class EngineError(Exception):
    """Base; `str()` is a sentence for the user, `details` are lines of `path: what`."""

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)


class InvalidSuite(EngineError):
    pass


class InvalidAssertion(EngineError):
    pass


class InvalidPackage(EngineError):
    pass


class UnsafeArchive(InvalidPackage):
    pass


class UnknownModel(EngineError):
    pass


class ModelUnreachable(EngineError):
    pass


class InvalidCatalogue(EngineError):
    pass


class CannotJudge(EngineError):
    """`kind` says whose trouble it was: the assertion's own, the judge's, or a time limit's."""

    def __init__(self, message: str, *, kind: Literal["assertion", "judge", "timeout"] = "assertion") -> None:
        super().__init__(message)
        self.kind: Literal["assertion", "judge", "timeout"] = kind


class CapReached(EngineError):
    """Not asked, as a cap was reached: a trial that needed the answer is skipped, not an error."""


class ProviderError(EngineError):
    """One call failed. `retryable`: the same deployment may answer later; otherwise only another one can help.

    The message is ours: a provider's own text may echo keys or prompts and is never passed on.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        timed_out: bool = False,
        attempts: Sequence[Attempt] = (),
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.timed_out = timed_out
        self.attempts = tuple(attempts)  # every call that was made before giving up
