"""The family of CI systems: each says what happened, and has its own places for results. To add one, put a file here.

    @ci_provider("woodpecker")
    class Woodpecker(Ci):
        \"\"\"Woodpecker CI.\"\"\"

        @classmethod
        def is_here(cls, environ: Mapping[str, str]) -> bool:
            return environ.get("CI") == "woodpecker"

        def event(self) -> Event: ...

What a system lacks it leaves as it is in `Ci`, which writes plain lines. The contract
(`tests/contracts/test_ci.py`) finds the new file by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from notifiers import CannotNotify, Request, Response
from notifiers._annotations import Annotation
from notifiers._text import one_line

if TYPE_CHECKING:
    from action_entry.inputs import Inputs

__all__ = [
    "Change",
    "Ci",
    "Event",
    "Surroundings",
    "Teller",
    "ci_provider",
    "find_ci",
    "providers",
]

Send = Callable[[Request], Response]


@dataclass(frozen=True, kw_only=True)
class Change:
    """The push or pull request that is tested, in the words of the run request."""

    forge: str
    repository: str
    repository_id: int
    ref: str
    head_sha: str
    base_ref: str | None = None
    base_sha: str | None = None
    pull_request: int | None = None
    cause: str = "head"

    def as_request(self) -> dict[str, Any]:
        """Its fields as JSON; what is not known is left out."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Event:
    """Why this runs. Each sentence is empty unless it holds.

    `privileged`: it must not run unless asked. `restricted`: there may be neither secrets nor an identity, which is
    nobody's fault. `nothing`: there is nothing to test.
    """

    run_key: str  # the run and its attempt: equal for whatever belongs to one try
    change: Change | None = None
    label: str = ""  # of the change for people: "#12" or the branch
    privileged: str = ""
    restricted: str = ""
    nothing: str = ""


@dataclass(frozen=True, kw_only=True)
class Teller:
    """A notifier of a forge with its target. `is_optional`: a right that is missing is no news."""

    kind: str
    target: Any
    what: str  # "the comment", "the check run": for sentences
    is_optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a provider may look at: the environment, the working folder, where lines go."""

    environ: Mapping[str, str]
    folder: Path
    out: TextIO = sys.stdout


class Ci:
    """A CI system that has nothing of its own; providers change what theirs has."""

    name = ""
    input_prefix = "PRPM_"  # INPUT `server-url` is PRPM_SERVER_URL in the environment

    def __init__(self, surroundings: Surroundings) -> None:
        self.environ = surroundings.environ
        self.folder = surroundings.folder
        self.out = surroundings.out

    @classmethod
    def is_here(cls, environ: Mapping[str, str]) -> bool:
        """Whether this program runs there."""
        raise NotImplementedError

    def event(self) -> Event:
        """What happened. Raises Misused for an environment that makes no sense."""
        raise NotImplementedError

    def inputs(self, names: Sequence[str]) -> dict[str, str]:
        """What was asked for, by the inputs' names."""
        prefix = self.input_prefix
        return {name: self.environ.get(prefix + name.upper().replace("-", "_"), "") for name in names}

    @property
    def workspace(self) -> Path:
        """The checked-out repository."""
        return self.folder

    @property
    def reports_folder(self) -> Path:
        """Where reports are kept for later steps."""
        return self.folder / "prpm-reports"

    def id_token(self, audience: str, *, send: Send) -> str | None:
        """A signed word of the CI system about this run; None where it gives none. Raises CannotNotify."""
        return None

    def changed_files(self, change: Change, *, inputs: Inputs, send: Send) -> tuple[str, ...] | None:
        """Paths that the change touches; None if that is not known, so that everything is tested."""
        return None

    def tellers(self, change: Change, *, inputs: Inputs, marker: str, send: Send) -> tuple[Teller, ...]:
        """Who tells on the change's page. `marker` is empty where no comment may be written."""
        return ()

    def say(self, text: str) -> None:
        """A line of our own words."""
        print(text, file=self.out, flush=True)

    def quote(self, lines: Sequence[str]) -> None:
        """Lines that hold words of others. They can neither hide anything nor command the CI system."""
        for line in lines:
            self.say(f"  {one_line(line)}")

    def mask(self, secret: str) -> None:
        """The secret is hidden in the log from here on, where the system can do that."""

    def begin_group(self, title: str) -> None:
        self.quote([title])

    def end_group(self) -> None:
        """What began last ends."""

    def annotate(self, annotations: Sequence[Annotation]) -> None:
        """What is to be seen beside lines of files; lines of the log, where nothing can stand there."""
        self.quote([f"{one.path}:{one.line}: {one.title}" for one in annotations])

    def warn(self, text: str) -> None:
        """A sentence that people should see though nothing failed. It may hold words of others."""
        self.quote([f"⚠️ {text}"])

    def fail(self, text: str) -> None:
        """Why the step fails. It may hold words of others."""
        self.quote([f"❌ {text}"])

    def write_summary(self, markdown: str) -> None:
        """The results for people who look at the run."""

    def write_outputs(self, values: Mapping[str, str]) -> None:
        """The results for later steps."""


Kind = TypeVar("Kind", bound=type[Ci])
_FOUND: dict[str, type[Ci]] = {}
FALLBACK = "local"


def ci_provider(name: str) -> Callable[[Kind], Kind]:
    """Register a class as the provider `name`."""

    def register(kind: Kind) -> Kind:
        if name in _FOUND:
            raise ValueError(f"two providers are named {name!r}")
        kind.name = name
        _FOUND[name] = kind
        return kind

    return register


def providers() -> Mapping[str, type[Ci]]:
    """Every provider of the folder, by name."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return _FOUND


def find_ci(surroundings: Surroundings) -> Ci:
    """The system that this runs on; `local` where none is."""
    found = [kind for name, kind in sorted(providers().items()) if name != FALLBACK]
    here = [kind for kind in found if kind.is_here(surroundings.environ)]
    return (here[0] if here else _FOUND[FALLBACK])(surroundings)


def require_answer(response: Response, *, doing: str) -> Any:
    """The JSON of a 2xx answer. Raises CannotNotify."""
    if not response.is_success:
        raise CannotNotify(f"We could not {doing} (HTTP {response.status}).", status=response.status)
    return response.json()
