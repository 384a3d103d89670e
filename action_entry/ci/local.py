"""`local`: no CI system, a person's terminal or a script of their own. Inputs are variables `PRPM_…`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from action_entry.ci import Ci, Event, ci_provider


@ci_provider("local")
class Local(Ci):
    """Plain lines; nothing is kept but the reports."""

    @classmethod
    def is_here(cls, environ: Mapping[str, str]) -> bool:
        return True

    def event(self) -> Event:
        """A run of its own each time, for no change."""
        return Event(run_key=f"local-{secrets.token_hex(16)}")

    def write_outputs(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            self.quote([f"{name} = {line}" for line in value.splitlines()])
