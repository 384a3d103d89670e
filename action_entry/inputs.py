"""What a workflow may ask for: one list of words, and their values checked once.

action.yml, the README's table and this list say the same; a test holds them equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from action_entry.errors import Misused
from notifiers import Mode
from notifiers._notice import MODES

DEFAULT_SERVER_URL = "https://registry.prpm.dev"
FAIL_ON = ("regressions", "failures", "never")
ON_ERROR = ("neutral", "fail")
FRAMEWORKS = ("", "litellm", "claude-agent", "auto")
CHECK_RUN = ("auto", "true", "false")
LONGEST_TIMEOUT_SECONDS = 6 * 3600
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PACKAGE_NAME = re.compile(r"(?:@[a-z0-9-]+/)?[a-z0-9-]+(?:@[0-9A-Za-z][0-9A-Za-z.+-]{0,99})?")


@dataclass(frozen=True)
class Word:
    """One input. `default` is text, as in action.yml."""

    name: str
    default: str
    meaning: str


INPUTS = (
    Word("server-url", DEFAULT_SERVER_URL, "The testing service."),
    Word("package", "", "A published package to test, such as `@author/name` or `@author/name@1.2.0`."),
    Word("path", ".", "The package's folder. Patterns and several lines find many; then only changed ones are tested."),
    Word("suite", "", "A suite file to use in place of the package's own."),
    Word("models", "", "Models to ask, with commas between them. Empty: the service's default."),
    Word("plugins", "", "Plugins of the service's catalogue, with commas between them."),
    Word("framework", "", "`litellm`, `claude-agent` or `auto`. Empty: the service's default."),
    Word("baseline", "", "What to compare with: `branch:main`, `version:1.2.3` or `job:ID`. Empty: the base branch."),
    Word("fail-on", "regressions", "When the step fails: `regressions`, `failures` or `never`."),
    Word("min-score", "", "The step also fails below this score, 0 to 1."),
    Word("on-error", "neutral", "When there is no verdict (quota, outage, time-out): `neutral` or `fail`."),
    Word("comment", "changes", "When a pull request gets a comment: `changes`, `always`, `failures` or `never`."),
    Word("check-run", "auto", "Write a check run: `auto` (where the token may), `true` or `false`."),
    Word("notify", "", "Lines `slack: ADDRESS` or `discord: ADDRESS`, from secrets."),
    Word("api-token", "", "A token of the service. Empty: keyless, with `id-token: write`."),
    Word("account", "", "The organisation that is billed. Empty: the token's own account."),
    Word("timeout", "1800", "Seconds to wait for the results."),
    Word("upload", "false", "`true` shows the results on the package's page."),
    Word("verify", "false", "`true` asks for a verified result; needs the right to publish the package."),
    Word("github-token", "${{ github.token }}", "Writes the comment and the check run."),
    Word("allow-pull-request-target", "false", "`true` runs on `pull_request_target` and `workflow_run` all the same."),
)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs, checked. Tokens are not in the repr."""

    server_url: str
    package: str
    paths: tuple[str, ...]
    suite: str
    models: tuple[str, ...]
    plugins: tuple[str, ...]
    framework: str
    baseline: str
    fail_on: str
    min_score: float | None
    on_error: str
    comment: Mode
    check_run: str
    notify: tuple[tuple[str, str], ...] = field(repr=False)
    api_token: str = field(repr=False)
    account: str
    timeout_seconds: float
    upload: bool
    verify: bool
    github_token: str = field(repr=False)
    allow_pull_request_target: bool


def read_inputs(given: Mapping[str, str]) -> Inputs:
    """The inputs by name, empty ones replaced by their defaults. Raises Misused with everything that is wrong."""
    reader = _Reader(given)
    inputs = Inputs(
        server_url=reader.address("server-url"),
        package=reader.package("package"),
        paths=reader.lines("path"),
        suite=reader.text("suite"),
        models=reader.names("models"),
        plugins=reader.names("plugins"),
        framework=reader.one_of("framework", FRAMEWORKS),
        baseline=reader.text("baseline"),
        fail_on=reader.one_of("fail-on", FAIL_ON),
        min_score=reader.share("min-score"),
        on_error=reader.one_of("on-error", ON_ERROR),
        comment=reader.mode("comment"),
        check_run=reader.one_of("check-run", CHECK_RUN),
        notify=reader.pairs("notify"),
        api_token=reader.secret("api-token"),
        account=reader.text("account"),
        timeout_seconds=reader.seconds("timeout"),
        upload=reader.flag("upload"),
        verify=reader.flag("verify"),
        github_token=reader.secret("github-token"),
        allow_pull_request_target=reader.flag("allow-pull-request-target"),
    )
    if reader.problems:
        raise Misused("An input cannot be used.", details=tuple(reader.problems))
    return inputs


class _Reader:
    """Takes inputs by name and gathers what is wrong. Sentences repeat no value of a secret."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self._defaults = {word.name: word.default for word in INPUTS}
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        default = self._defaults[name]
        value = self._given.get(name, "").strip() or ("" if default.startswith("${{") else default)
        if not value.replace("\n", "").replace("\r", "").isprintable():
            self._find(name, "holds control characters")
            return ""
        return value

    def secret(self, name: str) -> str:
        value = self.text(name)
        if any(char.isspace() for char in value) or not value.isascii():
            self._find(name, "is no token: it holds white space or characters beyond ASCII")
            return ""
        return value

    def lines(self, name: str) -> tuple[str, ...]:
        return tuple(line.strip() for line in self.text(name).splitlines() if line.strip())

    def names(self, name: str) -> tuple[str, ...]:
        parts = (part.strip() for line in self.lines(name) for part in line.split(","))
        return tuple(part for part in parts if part)

    def one_of(self, name: str, words: Sequence[str]) -> str:
        value = self.text(name)
        if value not in words:
            self._find(name, f"is {value[:40]!r}; choose one of: {', '.join(word for word in words if word)}")
        return value

    def mode(self, name: str) -> Mode:
        value = self.one_of(name, MODES)
        return next((mode for mode in MODES if mode == value), "changes")

    def flag(self, name: str) -> bool:
        # YAML's booleans arrive as these words; https://yaml.org/spec/1.2.2/#10212-boolean
        return self.one_of(name, ("true", "false", "True", "False", "TRUE", "FALSE")).lower() == "true"

    def share(self, name: str) -> float | None:
        value = self.text(name)
        if not value:
            return None
        number = _number(value)
        if number is None or not 0 <= number <= 1:
            self._find(name, f"is {value[:40]!r}; give a number from 0 to 1, such as 0.8")
            return None
        return number

    def seconds(self, name: str) -> float:
        number = _number(self.text(name))
        if number is None or not 1 <= number <= LONGEST_TIMEOUT_SECONDS:
            self._find(name, f"has to be seconds, from 1 to {LONGEST_TIMEOUT_SECONDS}")
            return 1.0
        return number

    def package(self, name: str) -> str:
        value = self.text(name)
        if value and not PACKAGE_NAME.fullmatch(value):
            self._find(name, f"is {value[:80]!r}; a name looks like @author/package. For a folder use `path`")
        return value

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """Lines `kind: address`. An address is a secret and stays out of the sentence.

        One without an address is left out: that is how a secret looks that a fork's run does not get.
        """
        found = []
        for number, line in enumerate(self.lines(name), start=1):
            kind, colon, address = line.partition(":")
            if colon and not address.strip():
                continue
            if not colon:
                self._find(name, f"line {number} has to be `kind: address`, such as `slack: ${{{{ secrets.SLACK }}}}`")
            else:
                found.append((kind.strip().lower(), address.strip()))
        return tuple(found)

    def address(self, name: str) -> str:
        """The server's address without a slash at its end; https, or http on this machine."""
        value = self.text(name).rstrip("/")
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        plain = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
        if not host or not plain or "@" in parts.netloc or parts.query or parts.fragment or " " in value:
            self._find(name, "has to be an https:// address without user name and query")
        return value

    def _find(self, name: str, problem: str) -> None:
        self.problems.append(f"{name} {problem}.")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
