"""`/api/v1/packages` and `/api/v1/package-snapshots`: what can be tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response, get, post, put
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import Body, Parameter
from msgspec import UNSET, Struct, UnsetType

from evals.outcome import Summary
from server.api.context import AccountName, Site, allows
from server.api.errors import refusals
from server.api.strict_request import decode_json
from server.api.timestamps import iso
from server.domain.accounts import Caller
from server.domain.errors import InvalidRequest, NotFound, TooLarge, UnsupportedMedia
from server.domain.packages import Package, PackageRef, Version
from server.services import publishing, reading, suites
from server.services.on_behalf import acting_for
from server.services.submitting import parse_package_ref

TAGS = ["Packages"]
SUITE_EXAMPLE = {
    "tests": [{"description": "Greets", "input": "Hello!", "assert": [{"type": "icontains", "value": "hello"}]}]
}
LARGEST_ARCHIVE = 10 * 1024 * 1024


class VersionAnswer(Struct, kw_only=True):
    version: str
    tarball_url: str
    content_hash: str
    file_size: int
    snapshot_id: str
    published_at: str
    suite_path: str | UnsetType = UNSET


class PackageAnswer(Struct, kw_only=True):
    """A package with its versions, newest first."""

    id: str
    name: str
    description: str
    format: str
    subtype: str
    visibility: str
    owner: str
    created_at: str
    updated_at: str
    versions: list[VersionAnswer]
    latest_version: VersionAnswer | UnsetType = UNSET
    total_downloads: int = 0
    verified: bool = False
    official: bool = False
    tags: list[str] = []


class PublishForm(Struct, kw_only=True):
    """`manifest` is prpm.json as text, `tarball` the .tar.gz."""

    manifest: str
    tarball: UploadFile
    org_id: str | None = None


class PublishAnswer(Struct, kw_only=True):
    success: bool
    package_id: str
    name: str
    version: str
    tarball_url: str
    message: str


class SnapshotPackage(Struct, kw_only=True):
    id: str
    name: str
    version: str


class SnapshotAnswer(Struct, kw_only=True):
    """`created` is false when the same files were sent before."""

    snapshot_id: str
    package: SnapshotPackage
    created: bool
    suite_path: str | UnsetType = UNSET


class SuiteAnswer(Struct, kw_only=True):
    suite_id: str
    cases: int
    stored_at: str


class ResultAnswer(Struct, kw_only=True):
    """One uploaded result."""

    id: str
    job_id: str
    package_version: str
    models: list[str]
    conclusion: str
    summary: Summary
    verified: bool
    uploaded_by: str
    created_at: str


class ResultsAnswer(Struct, kw_only=True):
    test_results: list[ResultAnswer]
    total: int
    limit: int
    offset: int


@dataclass
class ArchiveOperation(Operation):
    """A route that reads its body itself."""

    def __post_init__(self) -> None:
        archive = Schema(type=OpenAPIType.STRING, format="binary")  # type: ignore[arg-type]  # not in litestar's list
        self.request_body = RequestBody({"application/gzip": OpenAPIMediaType(schema=archive)}, required=True)


@get(
    "/api/v1/packages/{name:str}",
    opt=allows("follow"),
    tags=TAGS,
    summary="Look at a package",
    responses=refusals(401, 404),
)
async def get_package(name: str, request: Request[Any, Any, Any], site: Site, visitor: Caller | None) -> PackageAnswer:
    """By name; a scoped one as one encoded segment: `%40author%2Fpackage`."""
    found = await reading.read_package(site.db, visitor, package_ref(name))
    return _package_answer(found.package, found.versions, base=_base(request))


@get(
    "/api/v1/packages/by-id/{package_id:str}",
    opt=allows("follow"),
    tags=TAGS,
    summary="Look at a package by id",
    responses=refusals(401, 404),
)
async def get_package_by_id(
    package_id: str, request: Request[Any, Any, Any], site: Site, visitor: Caller | None
) -> PackageAnswer:
    """The same by id; the way to see one's own snapshots."""
    found = await reading.read_package(site.db, visitor, package_ref(package_id))
    return _package_answer(found.package, found.versions, base=_base(request))


@get(
    "/api/v1/packages/{name:str}/{version:str}",
    opt=allows("follow"),
    tags=TAGS,
    summary="Look at a version, or fetch its .tar.gz",
    responses=refusals(401, 404),
)
async def get_version(
    name: str, version: str, request: Request[Any, Any, Any], site: Site, visitor: Caller | None
) -> Response[Any]:
    """One version; `<version>.tar.gz` answers its files."""
    ref = package_ref(name)
    if version.endswith(".tar.gz"):
        archive = await reading.read_version_archive(site.db, visitor, ref, version.removesuffix(".tar.gz")[:50])
        return Response(archive.data, media_type="application/gzip", headers={"ETag": f'"{archive.sha256}"'})
    found = await reading.read_package(site.db, visitor, ref)
    for candidate in found.versions:
        if candidate.version == version:
            return Response(_version_answer(found.package, candidate, base=_base(request)))
    raise reading.no_package()


@post(
    "/api/v1/packages",
    opt=allows("publish"),
    status_code=200,
    tags=TAGS,
    summary="Publish a package",
    responses=refusals(400, 401, 403, 404, 409, 413),
)
async def publish_package(
    data: Annotated[PublishForm, Body(media_type=RequestEncodingType.MULTI_PART)],
    request: Request[Any, Any, Any],
    site: Site,
    caller: Caller,
    account: AccountName = None,
) -> PublishAnswer:
    """A multipart form with `manifest` (prpm.json as text) and `tarball` (.tar.gz)."""
    acting = await acting_for(site.db, caller, account, "publish")
    manifest = decode_json(data.manifest.encode())
    if not isinstance(manifest, dict):
        raise InvalidRequest("manifest: must be the JSON object of prpm.json.", code="invalid_manifest")
    name, version = manifest.get("name"), manifest.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        raise InvalidRequest("manifest: needs `name` and `version`.", code="invalid_manifest")
    archive = await data.tarball.read()
    _check_archive(archive)
    done = await publishing.publish_package(
        site.db,
        acting,
        archive=archive,
        name=name,
        version=version,
        format=_text(manifest.get("format")),
        subtype=_text(manifest.get("subtype")),
    )
    return PublishAnswer(
        success=True,
        package_id=str(done.package_id),
        name=done.name,
        version=done.version,
        tarball_url=_tarball_url(done.name, done.version, base=_base(request)),
        message=f"Successfully published {done.name}@{done.version}",
    )


@post(
    "/api/v1/package-snapshots",
    opt=allows("run"),
    status_code=201,
    tags=TAGS,
    summary="Upload a working folder",
    responses=refusals(400, 401, 403, 404, 413, 415),
    operation_class=ArchiveOperation,
    description="The body is a .tar.gz of the folder (`Content-Type: application/gzip`). Equal files get the same id.",
)
async def keep_snapshot(
    request: Request[Any, Any, Any],
    site: Site,
    caller: Caller,
    account: AccountName = None,
    package: Annotated[
        str | None,
        Parameter(max_length=214, description="Which one, where the folder holds several: only its files are kept."),
    ] = None,
) -> SnapshotAnswer:
    """Keeps the files for the account alone, so that unpublished changes can be tested by `snapshot_id`."""
    media_type = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if media_type not in ("application/gzip", "application/x-gzip", "application/octet-stream"):
        raise UnsupportedMedia("Send the folder as a .tar.gz: `Content-Type: application/gzip`.")
    acting = await acting_for(site.db, caller, account, "run")
    archive = await request.body()
    _check_archive(archive)
    kept = await publishing.keep_snapshot(site.db, acting, archive=archive, package_name=package)
    return SnapshotAnswer(
        snapshot_id=kept.snapshot_id,
        package=SnapshotPackage(id=str(kept.package_id), name=kept.name, version=kept.version),
        created=kept.created,
        suite_path=kept.suite_path or UNSET,
    )


@put(
    "/api/v1/packages/{name:str}/suite",
    opt=allows("publish"),
    tags=TAGS,
    summary="Store a suite for a package",
    responses=refusals(400, 401, 403, 404, 413, 415),
)
async def put_suite(
    name: str,
    data: Annotated[dict[str, Any], Body(examples=[Example(value=SUITE_EXAMPLE)])],
    site: Site,
    caller: Caller,
) -> SuiteAnswer:
    """Used where the package's files bring no suite. The body is the suite as JSON."""
    stored = await suites.store_suite(site.db, caller, package_ref(name), data)
    return SuiteAnswer(suite_id=stored.suite_id, cases=stored.cases, stored_at=iso(stored.stored_at))


@get(
    "/api/v1/packages/{name:str}/test-results",
    opt=allows("follow"),
    tags=TAGS,
    summary="List a package's uploaded results",
    responses=refusals(400, 401, 404),
)
async def list_test_results(
    name: str,
    site: Site,
    visitor: Caller | None,
    limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
    offset: Annotated[int, Parameter(ge=0, le=1_000_000)] = 0,
) -> ResultsAnswer:
    """Newest first. By id or name."""
    _, page = await reading.list_results(site.db, visitor, package_ref(name), limit=limit, offset=offset)
    return ResultsAnswer(
        test_results=[
            ResultAnswer(
                id=str(result.id),
                job_id=str(result.job_id),
                package_version=result.package_version,
                models=result.models,
                conclusion=result.conclusion,
                summary=msgspec.structs.replace(
                    msgspec.json.decode(result.summary, type=Summary), test_result_id=str(result.id)
                ),
                verified=result.is_verified,
                uploaded_by=result.uploaded_by,
                created_at=iso(result.created_at),
            )
            for result in page.results
        ],
        total=page.total,
        limit=limit,
        offset=offset,
    )


def package_ref(name: str) -> PackageRef:
    """By id or name, as it stands in an address. Raises NotFound for what can be neither."""
    try:
        # guards.keep_encoded_slashes kept the scope's slash encoded, so that the name is one segment.
        return parse_package_ref(name.replace("%2F", "/"))
    except InvalidRequest:
        raise NotFound("Package not found.", code="package_not_found") from None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _check_archive(archive: bytes) -> None:
    if len(archive) > LARGEST_ARCHIVE:
        raise TooLarge(f"The archive has {len(archive)} bytes; {LARGEST_ARCHIVE} are read.")


def _base(request: Request[Any, Any, Any]) -> str:
    site: Site = request.app.state.site
    return site.public_url or str(request.base_url).rstrip("/")


def _tarball_url(name: str, version: str, *, base: str) -> str:
    return f"{base}/api/v1/packages/{quote(name, safe='')}/{quote(version, safe='')}.tar.gz"


def _version_answer(package: Package, version: Version, *, base: str) -> VersionAnswer:
    name = package.name if package.is_published else str(package.id)
    return VersionAnswer(
        version=version.version,
        tarball_url=_tarball_url(name, version.version, base=base),
        content_hash=version.archive_sha256,
        file_size=version.file_size,
        snapshot_id=version.snapshot_id,
        published_at=iso(version.published_at),
        suite_path=version.suite_path or UNSET,
    )


def _package_answer(package: Package, versions: list[Version], *, base: str) -> PackageAnswer:
    answers = [_version_answer(package, version, base=base) for version in versions]
    return PackageAnswer(
        id=str(package.id),
        name=package.name,
        description=package.description,
        format=package.format,
        subtype=package.subtype,
        visibility=package.visibility,
        owner=package.owner,
        created_at=iso(package.created_at),
        updated_at=iso(package.updated_at),
        versions=answers,
        latest_version=answers[0] if answers else UNSET,
    )


handlers = [
    get_package,
    get_package_by_id,
    get_version,
    publish_package,
    keep_snapshot,
    put_suite,
    list_test_results,
]
