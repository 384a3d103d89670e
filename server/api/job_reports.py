"""`/api/v1/test-jobs/{id}/report.{json,xml,md,html}`: a job's results as a file, in every format of the engine."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.openapi.datastructures import ResponseSpec

from evals.outcome_schema import outcome_schema
from evals.reports import REPORTS, find_report, read_reported
from server.api.context import Site
from server.api.errors import refusals
from server.api.jobs import TAGS, parse_job_id
from server.domain.accounts import Caller
from server.services import reading

# A report holds what models and packages said: shown by a browser it may run, load, send and frame nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'; base-uri 'none'"
EXTENSIONS = [extension for report in REPORTS.values() for extension in report.extensions]
SHOWN_IN_A_BROWSER = ("html", "htm")


@get(
    [f"/api/v1/test-jobs/{{job_id:str}}/report.{extension}" for extension in EXTENSIONS],
    tags=TAGS,
    summary="Read a job's results as a file",
    responses=refusals(401, 404, described={409: "The job is not finished, or failed without results."})
    | {200: ResponseSpec(str, description="The report.", media_type="text/plain", generate_examples=False)},
)
async def read_report(job_id: str, request: Request[Any, Any, Any], site: Site, caller: Caller) -> Response[bytes]:
    """JSON (signed, canonical), JUnit XML, Markdown, a page or text, by the extension; for who may see the job."""
    extension = request.url.path.rpartition(".")[2]
    report = find_report(f"report.{extension}")
    outcome = await reading.read_outcome(site.db, caller, parse_job_id(job_id), key=site.signing_key)
    body = await asyncio.to_thread(lambda: report.render(read_reported(outcome.encode())))
    shown = "inline" if extension in SHOWN_IN_A_BROWSER else "attachment"
    return Response(
        body,
        media_type=report.media_type.partition(";")[0],  # the framework adds the charset to texts
        headers={
            # A name of our own, whatever the package is called.
            "Content-Disposition": f'{shown}; filename="prpm-report.{extension}"',
            "Content-Security-Policy": POLICY,
        },
    )


@get("/schemas/outcome.json", tags=["Schemas"], summary="The outcome's JSON Schema", security=[])
async def read_outcome_schema() -> Response[bytes]:
    """JSON Schema (2020-12) of a job's results, of `report.json` and of what `prpm test --output` writes."""
    return Response(outcome_schema().encode(), media_type=MediaType.JSON)


handlers = [read_report, read_outcome_schema]
