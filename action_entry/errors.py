"""Why a run ended without a verdict, and whose it is to mend.

CannotTest
├── Misused      the workflow or the package: the step fails (exit 2)
├── NotNow       the service, a quota, time: `on-error` decides
└── NotAllowed   a fork, Dependabot: nobody's fault here, the step stays green
Interrupted      a signal
"""

from __future__ import annotations


class CannotTest(Exception):
    """The message is one or two sentences for the log and the summary; it never holds a token."""

    def __init__(self, message: str, *, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Misused(CannotTest):
    """Something has to be changed in the workflow or the package."""


class NotNow(CannotTest):
    """It may work later, or with a larger tier. `code` is the service's word, if it gave one."""

    def __init__(self, message: str, *, code: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message, details=details)
        self.code = code


class NotAllowed(CannotTest):
    """The event gives neither secrets nor an identity: a fork's pull request, Dependabot."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived. No Exception: nothing on the way may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
