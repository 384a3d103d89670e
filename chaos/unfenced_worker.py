"""A worker without the fence, for `--broken fence`: it writes whether or not the lease is still its own.

The statements and the lease's keeper are replaced here, in this process, before it starts: the service itself has no
switch for it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, cast

from server import worker
from server.services import running
from server.services.holding import Hold
from server.store import jobs, money, trials
from server.store.trouble import DATABASE_TROUBLE

FENCE = re.compile(r"(?:j\.)?fence = \$2")
NO_FENCE = "$2::BIGINT IS NOT NULL"  # the parameter must stay, and needs a type


def remove_fence() -> None:
    """Trials are stored and jobs are ended by whoever comes, and nobody stops when a lease is lost."""
    for statements, name in (
        (jobs.SQL, "finish_job"),
        (jobs.SQL, "extend_lease"),
        (trials.SQL, "store_trials"),
        (money.SQL, "settle_money"),  # else it would stand still at its first call for a lost job
    ):
        unfenced = FENCE.sub(NO_FENCE, statements[name])
        assert unfenced != statements[name], name
        cast(dict[str, str], statements)[name] = unfenced
    cast(Any, running)._keep_lease = keep_blindly


async def keep_blindly(db: Any, job: Any, *, pace: running.Pace, hold: Hold) -> None:
    """Extends the lease for as long as the job runs, and never minds the answer."""
    hold.sure_until = float("inf")
    while True:
        await asyncio.sleep(pace.heartbeat_seconds)
        try:
            await jobs.extend_lease(db, job, lease_seconds=pace.lease_seconds)
        except DATABASE_TROUBLE:
            continue


if __name__ == "__main__":
    remove_fence()
    worker.main()
