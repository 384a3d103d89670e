"""A user with an empty home, and a service to talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.main import run
from tests.standins.service import TOKEN, Service


class Ran(NamedTuple):
    """What a command line left behind."""

    code: int
    out: str
    err: str


class User:
    """Someone at a terminal: a home, a working folder, an environment."""

    def __init__(self, home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[], object]) -> None:
        self.home = home
        self.folder = folder
        self.environ = monkeypatch
        self._read = read

    def runs(self, *arguments: str) -> Ran:
        """`prpm` with these arguments."""
        code = run(arguments, name="prpm")
        out, err = self._read()
        return Ran(code, out, err)

    def logs_in(self, service: Service) -> None:
        """Has a token for this service."""
        self.environ.setenv("PRPM_TOKEN", TOKEN)
        self.environ.setenv("PRPM_REGISTRY_URL", service.url)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> User:
    """A user who has nothing set up."""
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    for name in (
        "PRPM_TOKEN",
        "PRPM_REGISTRY_URL",
        "PRPM_LOCAL_URL",
        "PRPM_LOCAL_KEY",
        "PRPM_HANDED_OVER_BY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(folder)
    return User(home, folder, monkeypatch, capsys.readouterr)


@pytest.fixture
def alice(user: User, service: Service) -> User:
    """A prpm+ user who is logged in."""
    user.logs_in(service)
    return user
