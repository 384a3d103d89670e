"""What a job is compared with: as it was asked for, as it was found, and what the account's history holds of it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

from msgspec import Meta, Struct

from evals.suite_changes import CaseChange

# Checked by `faults_of`, in words that say what to send.
BASELINE = re.compile(
    r"none|branch:[^\x00-\x20\x7f-\x9f]{1,255}|version:[^\x00-\x20\x7f-\x9f]{1,50}|job:[0-9a-fA-F-]{36}"
)
SNAPSHOT = re.compile(r"[0-9a-f]{64}")
NO_BASELINE = "none"

Baseline = Annotated[
    str,
    Meta(
        description=(
            "What to compare with: `branch:main` (what this account's runs of that branch found), `version:1.2.3`, "
            "`job:<id>`, or `none`. Left out: the change's `base_ref`, else the latest published version if the run "
            "tests something else, else nothing."
        ),
        examples=["branch:main"],
    ),
]
GateRule = Annotated[
    Literal["regressions", "failures", "never"],
    Meta(
        description=(
            "What fails the run: `regressions`, tested drops against the baseline (the default where a `baseline`, a "
            "`base_snapshot_id` or a `change` is sent), `failures`, each failed case (otherwise the default), or "
            "`never`."
        )
    ),
]
MinScore = Annotated[float, Meta(ge=0, le=1, description="An overall score below it fails the run, 0 to 1.")]
BaseSnapshot = Annotated[
    str,
    Meta(
        description=(
            "The package as it was, uploaded before: it is run too where the baseline knows too little, and is the "
            "baseline itself where there is no other."
        ),
    ),
]


class Against(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a submit said about comparing and gating; kept with the job."""

    baseline: str | None = None
    gate: Literal["regressions", "failures", "never"] | None = None
    min_score: float | None = None
    base_snapshot_id: str | None = None
    some_cases: bool = False  # only some of the suite's cases run: nothing is said about the others
    without_judges: bool = False  # only cases that no model judges run; of the base's suite these alone count


def faults_of(against: Against) -> list[str]:
    """What cannot be, as `path: what`."""
    found = []
    if against.baseline is not None and not BASELINE.fullmatch(against.baseline):
        found.append("baseline: must be branch:NAME, version:1.2.3, job:ID or none")
    if against.base_snapshot_id is not None and not SNAPSHOT.fullmatch(against.base_snapshot_id):
        found.append("base_snapshot_id: must be the 64 hex digits that POST /api/v1/package-snapshots answered")
    return found


class BaselineRef(NamedTuple):
    """A baseline by kind and name."""

    kind: Literal["branch", "version", "job", "snapshot"]
    name: str


class Base(Struct, frozen=True, kw_only=True):
    """The package as it was: its files and its suite, as far as they are known."""

    snapshot_id: str | None = None
    suite_body: str | None = None
    repository: str | None = None  # 'github:7'
    version: str | None = None


class KnownRow(Struct, frozen=True, kw_only=True):
    """What the baseline's trials said of one question on one model."""

    model: str
    case_digest: str
    passed: int
    failed: int


class KnownPast(Struct, frozen=True, kw_only=True):
    """All that the history holds for a comparison. `jobs` brought it, from `oldest_at` to `newest_at`."""

    rows: tuple[KnownRow, ...]
    jobs: int
    oldest_at: datetime | None = None
    newest_at: datetime | None = None


class FixedBaseline(Struct, frozen=True, kw_only=True):
    """The baseline of a job, found once: whoever goes on with the job compares with the same."""

    kind: Literal["branch", "version", "job", "snapshot"]
    name: str
    past: KnownPast
    cases: tuple[CaseChange, ...] = ()
    base_snapshot_id: str | None = None


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One job of a package's history."""

    job_id: UUID
    suite_name: str
    branch: str | None
    version: str | None
    ended_at: datetime
    rows: tuple[HistoryRow, ...]


class HistoryRow(Struct, frozen=True, kw_only=True):
    """One case on one model in it."""

    title: str
    model: str
    case_digest: str
    passed: int
    failed: int
