"""Packages and their versions as the service knows them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec import Struct


class PackageRef(Struct, frozen=True, kw_only=True):
    """How a request names a package: by id, by published name, or both unset."""

    id: UUID | None = None
    name: str | None = None


class Package(Struct, frozen=True, kw_only=True):
    """One package."""

    id: UUID
    owner_id: UUID
    owner: str
    name: str
    description: str
    format: str
    subtype: str
    visibility: str
    is_published: bool
    created_at: datetime
    updated_at: datetime


class Version(Struct, frozen=True, kw_only=True):
    """One version of a package."""

    version: str
    snapshot_id: str
    archive_sha256: str
    file_size: int  # bytes of the .tar.gz
    suite_id: str | None
    suite_path: str | None
    suite_error: str | None
    published_at: datetime


class NewVersion(Struct, frozen=True, kw_only=True):
    """What the store keeps of a package that came in."""

    name: str
    version: str
    description: str
    format: str
    subtype: str
    visibility: str
    manifest: str  # JSON
    snapshot_id: str
    archive: bytes
    archive_sha256: str
    file_count: int
    suite_id: str | None
    suite_body: str | None
    suite_trials: int | None  # on one model
    suite_path: str | None
    suite_error: str | None


class UploadedResult(Struct, frozen=True, kw_only=True):
    """One uploaded result; `summary` is JSON of evals.outcome.Summary."""

    id: UUID
    package_version: str
    job_id: UUID
    models: list[str]
    conclusion: str
    summary: str
    is_verified: bool
    uploaded_by: str
    created_at: datetime
