"""One wish to test, read from the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from cli.errors import InvalidUse
from cli.subject import Subject

Gate = Literal["regressions", "failures", "never"]
# As the service takes it: what it finds there is its own.
HOSTED_BASELINE = re.compile(r"none|(branch|version|job):\S+")
Framework = Literal["litellm", "claude-agent", "auto"]


class RunRequest(Struct, frozen=True, kw_only=True):
    """What `prpm test` was asked to do. Without models, the server (or the local default) chooses."""

    text: str  # as typed, for hints that repeat it
    subject: Subject
    models: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    framework: Framework | None = None
    suite_file: Path | None = None
    cases: tuple[str, ...] = ()  # run only those whose titles hold one of these texts; none: all
    baselines: tuple[str, ...] = ()  # files of outcomes to compare with, oldest first; hosted what the service knows
    base: Subject | None = None  # the package as it was, run where the baselines know too little
    gate: Gate | None = None  # None: regressions where there is a baseline, else failures
    min_score: float | None = None  # fail below it, 0..1
    outputs: tuple[Path, ...] = ()  # reports to write, each in the format of its extension
    all_repeats: bool = False
    generate: bool = False  # without any suite, a model writes cases for this run
    upload: bool = False
    verify: bool = False
    verbose: bool = False
    use_cache: bool = True
    allow_code: bool = False
    timeout_seconds: float = 120.0
    max_cost_usd: float | None = None  # lowers the tier's cap for this run
    estimate: bool = False  # tell what the run would take instead
    org: str | None = None  # the organisation that is billed


def comma_separated(text: str | None, *, option: str) -> tuple[str, ...]:
    """The names in `a, b`; none for an option that was not given. Raises InvalidUse for an empty name."""
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise InvalidUse(f"{option} takes names with a comma between them, such as {option} first,second.")
    return names


def hosted_fields(request: RunRequest, *, suite: Mapping[str, Any] | None) -> dict[str, Any]:
    """The run request's fields but for what is tested; options that were not given are left out."""
    optional = {
        "models": list(request.models),
        "plugins": list(request.plugins),
        "framework": request.framework,
        "suite": suite,
        "cases": list(request.cases),
        "generate": request.generate,
        "max_cost_usd": request.max_cost_usd,
        "dry_run": request.estimate,
        "baseline": hosted_baseline(request),
        "gate": request.gate,
        "account": request.org,
    }
    score = {} if request.min_score is None else {"min_score": request.min_score}
    anew = {} if request.use_cache else {"cache": False}
    always = {"upload_results": request.upload, "verify_results": request.verify}
    return {name: value for name, value in optional.items() if value} | score | anew | always


def hosted_baseline(request: RunRequest) -> str | None:
    """What the service shall compare with. Raises InvalidUse for files, and for more than one."""
    if not request.baselines:
        return None
    if len(request.baselines) > 1 or not HOSTED_BASELINE.fullmatch(request.baselines[0]):
        raise InvalidUse(
            "The service compares with one baseline that it knows: --baseline branch:NAME, version:1.2.3, job:ID or "
            "none. To compare with stored outcomes, add --local."
        )
    return request.baselines[0]
