"""`/api/v1/packages/{id}/history`: what the account's runs of a package found, which later runs are compared with."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import Parameter
from msgspec import UNSET, Meta, Struct, UnsetType

from server.api.context import Site
from server.api.errors import refusals
from server.api.packages import package_ref
from server.api.timestamps import iso
from server.domain.accounts import Caller
from server.domain.baselines import HistoryEntry
from server.services import histories


class HistoryRowAnswer(Struct, kw_only=True):
    """Trials of one case on one model that count: neither cached nor made because of what others said."""

    title: str
    model: str
    case_digest: Annotated[str, Meta(description="Equal for cases that ask the same")]
    passed: int
    failed: int


class HistoryEntryAnswer(Struct, kw_only=True):
    """One job."""

    job_id: str
    ended_at: Annotated[str, Meta(examples=["2026-01-02T03:04:05.678Z"])]
    suite_name: Annotated[str, Meta(examples=["default"])]
    rows: list[HistoryRowAnswer]
    branch: str | UnsetType = UNSET
    version: str | UnsetType = UNSET


class HistoryAnswer(Struct, kw_only=True):
    """A page of them, newest first; `cursor` asks for the next one."""

    package: Annotated[str, Meta(examples=["@author/package"])]
    jobs: list[HistoryEntryAnswer]
    cursor: str | UnsetType = UNSET


@get(
    "/api/v1/packages/{package_id:str}/history",
    tags=["Packages"],
    summary="Read a package's history in your account",
    responses=refusals(400, 401, 404),
)
async def read_history(
    package_id: str,
    site: Site,
    caller: Caller,
    *,
    branch: Annotated[str | None, Parameter(description="Only jobs that tested this branch's heads")] = None,
    cursor: Annotated[str | None, Parameter(description="From an earlier page")] = None,
    limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
) -> HistoryAnswer:
    """What each finished job of the package found in your account, newest first. By id or name."""
    page = await histories.list_history(
        site.db, caller, package_ref(package_id), branch=branch, cursor=cursor, limit=limit
    )
    return HistoryAnswer(
        package=page.package, jobs=[_answer(entry) for entry in page.entries], cursor=page.cursor or UNSET
    )


def _answer(entry: HistoryEntry) -> HistoryEntryAnswer:
    return HistoryEntryAnswer(
        job_id=str(entry.job_id),
        ended_at=iso(entry.ended_at),
        suite_name=entry.suite_name,
        branch=entry.branch or UNSET,
        version=entry.version or UNSET,
        rows=[
            HistoryRowAnswer(
                title=row.title, model=row.model, case_digest=row.case_digest, passed=row.passed, failed=row.failed
            )
            for row in entry.rows
        ],
    )


handlers = [read_history]
