"""Branches of GitHub's merge queues: each holds a group of changes as it would be merged, for as long as it is tested.

https://docs.github.com/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-a-merge-queue
"""

from __future__ import annotations

import re
from typing import Final

PREFIX: Final = "gh-readonly-queue/"
# The branch that it is for, the pull request that was queued last, and the commit that it is on top of.
BRANCH: Final = re.compile(rf"{PREFIX}(?P<base>.+)/pr-\d+-[0-9a-f]{{40}}(?:[0-9a-f]{{24}})?")


def queue_base(branch: str) -> str | None:
    """The branch that a queue's branch is to be merged into; None for every other branch."""
    found = BRANCH.fullmatch(branch)
    return found["base"] if found else None
