"""`/api/v1/admin/accounts/{username}/caps`: what an account's models may cost, for administrators."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from litestar import put
from msgspec import UNSET, Meta, Struct, UnsetType

from server.api.context import Site
from server.api.errors import refusals
from server.domain.accounts import Caller
from server.services import accounts


class NewCaps(Struct, kw_only=True, forbid_unknown_fields=True):
    """USD; a field that is left out or null means the tier's cap."""

    money_per_job_usd: Annotated[float, Meta(examples=[2.5])] | None = None
    money_per_month_usd: Annotated[float, Meta(examples=[100])] | None = None


class CapsAnswer(Struct, kw_only=True):
    """The account's own caps; what is left out is its tier's."""

    username: str
    tier: str
    money_per_job_usd: float | UnsetType = UNSET
    money_per_month_usd: float | UnsetType = UNSET


@put(
    "/api/v1/admin/accounts/{username:str}/caps",
    tags=["Administration"],
    summary="Set an account's money caps",
    responses=refusals(400, 401, 403, 404, 415),
)
async def set_account_caps(username: str, data: NewCaps, site: Site, admin: Caller) -> CapsAnswer:
    """Replaces both. The month's holds from the next call of a model on, a job's from the next start."""
    account = await accounts.set_caps(
        site.db, username, per_job_usd=data.money_per_job_usd, per_month_usd=data.money_per_month_usd
    )
    return CapsAnswer(
        username=account.username,
        tier=account.tier,
        money_per_job_usd=_usd(account.money_per_job_usd),
        money_per_month_usd=_usd(account.money_per_month_usd),
    )


def _usd(amount: Decimal | None) -> float | UnsetType:
    return UNSET if amount is None else float(amount)


handlers = [set_account_caps]
