"""Which model a job with `models: ["auto"]` runs on: decided once, by what the account's earlier jobs found."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg

from evals.catalogue import Catalogue
from evals.choosing import AUTO, Choice, choose
from evals.types import TrialKey
from server.domain.jobs import ClaimedJob
from server.store import trials


async def choose_model(
    db: asyncpg.Pool, job: ClaimedJob, *, catalogue: Catalogue, found: Iterable[TrialKey]
) -> Choice | None:
    """The job's model and the rule that chose it; None if the job names its models itself.

    `found` are trials of earlier leases: what they ran on stays.
    """
    if job.models != (AUTO,):
        return None
    begun = next((key.model for key in found), None)
    if begun is not None:
        return Choice(begun, f"auto: {begun} ran, chosen when the job began.")
    return choose(
        await trials.measure_models(db, job),
        usable=[name for name in catalogue.reachable if _has_price(catalogue, name)],
        default=catalogue.default,
    )


def _has_price(catalogue: Catalogue, name: str) -> bool:
    return all(deployment.price is not None for deployment in catalogue.resolve(name).deployments)
