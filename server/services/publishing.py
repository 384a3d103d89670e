"""Packages come in: published for everybody, or as a snapshot of a working folder for its owner alone."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from evals.archives import pack, read_archive, snapshot_id
from evals.errors import EngineError, InvalidSuite, UnsafeArchive
from evals.narrowing import narrow
from evals.packages import Package as ReadPackage
from evals.packages import read_package
from evals.suites import read_suite, suite_digest
from evals.types import Suite
from server.domain.accounts import Caller
from server.domain.errors import InvalidRequest, NotAllowed
from server.domain.packages import NewVersion
from server.store import packages

encode_canonical = msgspec.json.Encoder(order="sorted").encode


class Published(Struct, frozen=True, kw_only=True):
    package_id: UUID
    name: str
    version: str


class KeptSnapshot(Struct, frozen=True, kw_only=True):
    """`created` is False when the same files were sent before."""

    snapshot_id: str
    package_id: UUID
    name: str
    version: str
    suite_path: str | None
    created: bool


async def publish_package(
    db: asyncpg.Pool,
    caller: Caller,
    *,
    archive: bytes,
    name: str | None = None,
    version: str | None = None,
    format: str | None = None,  # noqa: A002 - the manifest's word
    subtype: str | None = None,
    publish_as: str | None = None,
) -> Published:
    """Make a version public. `name` and `version` choose the entry of a manifest with several packages.

    `format` and `subtype` speak for an archive without a manifest. `publish_as` gives an unscoped name its scope.

    Raises InvalidRequest, NotAllowed (the scope is another's), Conflict (the version exists).
    """
    files = await _read(archive)
    package = await _understand(files, name=name, version=version, format=format, subtype=subtype)
    manifest = package.manifest
    public_name = publish_as or manifest.name
    _check_scope(caller, public_name)
    new = await asyncio.to_thread(
        _new_version,
        package,
        files,
        archive,
        name=public_name,
        version=manifest.version,
        visibility="private" if manifest.private else "public",
    )
    package_id = await packages.publish(db, caller.id, new)
    return Published(package_id=package_id, name=new.name, version=new.version)


async def keep_snapshot(
    db: asyncpg.Pool, caller: Caller, *, archive: bytes, package_name: str | None = None
) -> KeptSnapshot:
    """Keep a working folder's files so that a job can run on them. Safe to call twice: the same files are kept once.

    Of several packages `package_name` says which one is kept, with its own files alone. Raises InvalidRequest.
    """
    files = await _read(archive)
    if package_name is not None:
        files, archive = await _narrow(files, package_name)
    return await _keep(db, caller.id, files, archive=archive, told={})


async def keep_files(
    db: asyncpg.Pool, account_id: UUID, *, files: dict[str, bytes], told: Mapping[str, str]
) -> KeptSnapshot:
    """As `keep_snapshot`, for files that were fetched. `told`: name, format, subtype, where the files do not say them.

    Raises InvalidRequest.
    """
    try:
        archive = await asyncio.to_thread(pack, files)
    except EngineError as error:
        raise InvalidRequest(error.message, code="invalid_package", details=error.details) from None
    return await _keep(db, account_id, files, archive=archive, told=told)


async def _keep(
    db: asyncpg.Pool, account_id: UUID, files: dict[str, bytes], *, archive: bytes, told: Mapping[str, str]
) -> KeptSnapshot:
    package = await _understand(files, **told)
    digest = snapshot_id(files)
    new = await asyncio.to_thread(
        _new_version,
        package,
        files,
        archive,
        name=package.manifest.name,
        version=f"0.0.0-snapshot.{digest[:12]}",
        visibility="private",
    )
    kept = await packages.keep_snapshot(db, account_id, new)
    return KeptSnapshot(
        snapshot_id=digest,
        package_id=kept.package_id,
        name=new.name,
        version=new.version,
        suite_path=new.suite_path,
        created=kept.created,
    )


async def _read(archive: bytes) -> dict[str, bytes]:
    try:
        return await asyncio.to_thread(read_archive, archive)
    except UnsafeArchive as error:
        raise InvalidRequest(error.message, code="unsafe_archive", details=error.details) from None
    except EngineError as error:
        raise InvalidRequest(error.message, code="invalid_package", details=error.details) from None


async def _narrow(files: dict[str, bytes], name: str) -> tuple[dict[str, bytes], bytes]:
    def only() -> tuple[dict[str, bytes], bytes]:
        found = narrow(files, name)
        return found, pack(found)

    try:
        return await asyncio.to_thread(only)
    except EngineError as error:
        raise InvalidRequest(error.message, code="invalid_package", details=error.details) from None


async def _understand(files: dict[str, bytes], **told: str | None) -> ReadPackage:
    try:
        return await asyncio.to_thread(read_package, files, **told)
    except EngineError as error:
        raise InvalidRequest(error.message, code="invalid_package", details=error.details) from None


def _check_scope(caller: Caller, name: str) -> None:
    if name.startswith("@") and not caller.is_admin:
        scope = name[1:].partition("/")[0]
        if scope != caller.username.lower():
            raise NotAllowed(f"You may publish under @{caller.username.lower()}/, not under @{scope}/.")


def _new_version(
    package: ReadPackage, files: dict[str, bytes], archive: bytes, *, name: str, version: str, visibility: str
) -> NewVersion:
    manifest = package.manifest
    suite, suite_error = _read_suite(package)
    return NewVersion(
        name=name,
        version=version,
        description=manifest.description,
        format=manifest.format,
        subtype=manifest.subtype,
        visibility=visibility,
        manifest=storable(manifest.raw),
        snapshot_id=snapshot_id(files),
        archive=archive,
        archive_sha256=hashlib.sha256(archive).hexdigest(),
        file_count=len(files),
        suite_id=suite_digest(suite) if suite else None,
        suite_body=encode_canonical(suite).decode() if suite else None,
        suite_trials=trials_a_model(suite) if suite else None,
        suite_path=package.suite.path if package.suite else None,
        suite_error=suite_error,
    )


def _read_suite(package: ReadPackage) -> tuple[Suite | None, str | None]:
    """The package's own suite, or why it cannot be used, which is no reason to refuse the files."""
    if package.suite is None:
        return None, None
    try:
        return read_suite(package.suite).suite, None
    except InvalidSuite as error:
        return None, "\n".join([error.message, *error.details]).replace("\x00", "")


def trials_a_model(suite: Suite) -> int:
    """How many trials the suite takes on one model."""
    return sum(case.repeat for case in suite.cases)


def storable(value: Any) -> str:
    """Canonical JSON text."""
    return encode_canonical(value).decode()
