"""What an operator's command cannot do."""

from __future__ import annotations

OUTCOME_NOT_POSSIBLE = 2


class OperatorError(Exception):
    """`str()` is a sentence that says what to do; shown without a traceback, then exit with `exit_code`."""

    def __init__(self, message: str, *, exit_code: int = OUTCOME_NOT_POSSIBLE) -> None:
        super().__init__(message)
        self.exit_code = exit_code
