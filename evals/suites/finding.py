"""Where a package keeps its suite."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from evals.manifests import FOREIGN_SUITE_PATH, MANIFEST, SUITE_PATHS, Manifest


class FoundSuite(Struct, frozen=True):
    """A test file as it stands in a package; `json_pointer` says where in it the suite is (RFC 6901).

    `files` is the package around it, which `file://` may name; None for a suite that stands alone.
    """

    path: str
    text: bytes
    json_pointer: str | None = None
    files: Mapping[str, bytes] | None = None


def find_suite(files: Mapping[str, bytes], manifest: Manifest) -> FoundSuite | None:
    """The package's suite, by the first place that has one; None if no place has."""
    for path in SUITE_PATHS:
        if path in files:
            return FoundSuite(path, files[path], files=files)
    if manifest.entry is not None and "tests" in manifest.raw:
        return FoundSuite(MANIFEST, files[MANIFEST], f"/packages/{manifest.entry}/tests", files)
    if FOREIGN_SUITE_PATH in files:
        return FoundSuite(FOREIGN_SUITE_PATH, files[FOREIGN_SUITE_PATH], files=files)
    return None
