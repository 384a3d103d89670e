"""Learns from finished jobs how long one takes: a part for the job itself, and one for each trial."""

from __future__ import annotations

from server.domain.queue import JobTime

KEPT = 0.98  # of what was known, with each further job: about the last fifty count


class JobTimes:
    """The line of least squares through (trials, seconds), older jobs counting ever less."""

    def __init__(self) -> None:
        self._weight = self._trials = self._seconds = self._trials_squared = self._product = 0.0

    def note(self, *, trials: int, seconds: float) -> None:
        """A job was run to its end."""
        self._weight = self._weight * KEPT + 1
        self._trials = self._trials * KEPT + trials
        self._seconds = self._seconds * KEPT + seconds
        self._trials_squared = self._trials_squared * KEPT + trials * trials
        self._product = self._product * KEPT + trials * seconds

    def estimate(self) -> JobTime:
        """The line; neither part is negative."""
        if self._weight == 0:
            return JobTime(0.0, 0.0, 0.0)
        mean_trials, mean = self._trials / self._weight, self._seconds / self._weight
        spread = self._trials_squared / self._weight - mean_trials**2
        if spread < 1e-6:  # all of one size: nothing tells the parts from each other
            return JobTime(mean, mean, 0.0)
        trial = max((self._product / self._weight - mean_trials * mean) / spread, 0.0)
        if trial * mean_trials > mean:
            return JobTime(mean, 0.0, mean / mean_trials)
        return JobTime(mean, mean - trial * mean_trials, trial)
