"""What an account is told before its month's runs or money end: at 50, 80 and 100 per cent."""

from __future__ import annotations

LEVELS = (100, 80, 50)  # per cent; schema.sql's warning_level() has the same


def level_of_runs(used: int, most: int | None) -> int:
    """The highest level that is reached, else 0. `most` None: there is no end."""
    if not most:
        return 0
    return next((level for level in LEVELS if used * 100 >= most * level), 0)


def nearing(*, runs_used: int, run_limit: int | None, money_level: int) -> list[str]:
    """A sentence for the runs and one for the money, for as much as has reached a level."""
    sentences = []
    runs_level = level_of_runs(runs_used, run_limit)
    if runs_level == 100:
        sentences.append(f"This was the last of this month's {run_limit} test runs.")
    elif runs_level:
        sentences.append(f"{runs_level} % of this month's test runs are used: {runs_used} of {run_limit}.")
    if money_level == 100:
        sentences.append("All of this month's money for models is spent; only free models are asked.")
    elif money_level:
        sentences.append(f"{money_level} % of this month's money for models is spent; see `prpm usage`.")
    return sentences
