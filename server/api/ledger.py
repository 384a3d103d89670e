"""`/api/v1/users/me/test-usage/ledger`: why the month's count is what it is."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import Parameter
from msgspec import UNSET, Meta, Struct, UnsetType

from server.api.context import AccountName, Site, allows
from server.api.errors import refusals
from server.api.timestamps import iso
from server.domain.accounts import Caller
from server.domain.ledger import LedgerEntry
from server.services import usage
from server.services.on_behalf import acting_for

TAGS = ["Users"]


class LedgerPackage(Struct, kw_only=True):
    name: Annotated[str, Meta(examples=["@author/package"])]
    version: Annotated[str, Meta(examples=["1.2.0"])]


class EntryAnswer(Struct, kw_only=True):
    """One reason for the count."""

    at: Annotated[str, Meta(examples=["2026-11-02T03:04:05.678Z"])]
    month: Annotated[str, Meta(examples=["2026-11"], description="The month that it counts in: that of the submit.")]
    kind: Annotated[str, Meta(examples=["charge"], description="charge, cached or refund")]
    runs: Annotated[int, Meta(examples=[1], description="1 for a charge, 0 for a cached job, -1 for a refund")]
    reason: Annotated[str, Meta(examples=["run accepted"])]
    job_id: Annotated[str, Meta(examples=["7b0c1c3e-2d5a-4b7e-9a44-0d6c5b1f2a10"])]
    package: LedgerPackage
    cost_usd: Annotated[float, Meta(examples=[0.0123], description="What the job's models cost; a refund has none")]


class TotalsAnswer(Struct, kw_only=True):
    """The whole month, whatever page this is. `runs` is the month's `test_runs_count`."""

    charges: Annotated[int, Meta(examples=[25])]
    refunds: Annotated[int, Meta(examples=[2])]
    cached: Annotated[int, Meta(examples=[4])]
    runs: Annotated[int, Meta(examples=[23])]


class LedgerAnswer(Struct, kw_only=True):
    """Newest first."""

    month: Annotated[str, Meta(examples=["2026-11"])]
    entries: list[EntryAnswer]
    totals: TotalsAnswer
    cost_usd: Annotated[float, Meta(examples=[0.4312], description="The whole month's, the sum of its jobs'.")]
    next_cursor: (
        Annotated[str, Meta(examples=["4711"], description="Send it as `cursor` for the next page; none: the last.")]
        | UnsetType
    ) = UNSET


@get(
    "/api/v1/users/me/test-usage/ledger",
    opt=allows("see"),
    tags=TAGS,
    summary="Why have I used this much?",
    responses=refusals(400, 401, 403, 404),
)
async def get_usage_ledger(
    site: Site,
    caller: Caller,
    *,
    account: AccountName = None,
    month: Annotated[
        str | None, Parameter(description="Such as 2026-11, in UTC; the current one when left out.")
    ] = None,
    cursor: Annotated[str | None, Parameter(description="The `next_cursor` of the page before.")] = None,
    limit: Annotated[int, Parameter(ge=1, le=100, description="Entries a page.")] = 50,
) -> LedgerAnswer:
    """Every charge, cached job and refund of a month; together they are its count."""
    acting = await acting_for(site.db, caller, account, "see")
    page = await usage.read_ledger(site.db, acting, month=month, cursor=cursor, limit=limit)
    name = f"{page.month:%Y-%m}"
    return LedgerAnswer(
        month=name,
        entries=[_entry(entry, month=name) for entry in page.entries],
        totals=TotalsAnswer(
            charges=page.totals.charges,
            refunds=page.totals.refunds,
            cached=page.totals.cached,
            runs=page.totals.runs,
        ),
        cost_usd=page.totals.cost_usd,
        next_cursor=str(page.entries[-1].id) if page.has_more else UNSET,
    )


def _entry(entry: LedgerEntry, *, month: str) -> EntryAnswer:
    return EntryAnswer(
        at=iso(entry.at),
        month=month,
        kind=entry.kind,
        runs=entry.runs,
        reason=entry.reason,
        job_id=str(entry.job_id),
        package=LedgerPackage(name=entry.package_name, version=entry.package_version),
        cost_usd=entry.cost_usd,
    )


handlers = [get_usage_ledger]
