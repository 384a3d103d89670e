"""The commands themselves: names, wrong use, who gets what is not ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.main import with_test_as_default
from tests.standins.service import Service
from tests.unit.cli.conftest import User

OURS = Path(sys.executable).parent


def start(name: str, *arguments: str, path: str = "", home: Path) -> subprocess.CompletedProcess[str]:
    """The installed command in a process of its own."""
    environ = {"PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [OURS / name, *arguments], env=environ, capture_output=True, text=True, timeout=20, check=False
    )


def a_foreign_prpm(folder: Path) -> str:
    """Another `prpm` that says what it was asked; its folder."""
    folder.mkdir()
    script = folder / "prpm"
    script.write_text('#!/bin/sh\necho "theirs: $@"\nexit 7\n')
    script.chmod(0o755)
    return str(folder)


def test_prpm__help_is_quick_and_complete(tmp_path: Path) -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        ran = start("prpm", "--help", home=tmp_path)
        times.append(time.perf_counter() - started)

    assert ran.returncode == 0
    for name in ("login", "logout", "models", "test", "usage", "whoami"):
        assert f"\n  {name} " in ran.stdout
    # The promise is 0.3 s; a busy machine gets three times that before it is called broken.
    assert min(times) < 0.9


def test_prpm__help_loads_no_heavy_library() -> None:
    heavy = {"httpx", "rich", "aiohttp", "yaml", "litellm", "evals.types"}
    code = f"import sys; from cli.main import run; run(['-h'], name='x'); print({heavy} & set(sys.modules))"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.splitlines()[-1] == "set()"


FIRST_LINE = """
import sys
from cli.main import run

class FirstLine:
    encoding = "utf-8"
    def write(self, text):
        loaded = {"httpx", "aiohttp", "rich", "yaml", "jinja2", "evals.packages"} & set(sys.modules)
        sys.__stdout__.write(f"{text.strip()}|{loaded}")
        sys.__stdout__.flush()
        raise SystemExit(0)
    def flush(self): pass
    def isatty(self): return False

sys.stdout = FirstLine()
run(["test", ".", "--local"], name="prpm")
"""


def test_prpm_test__says_what_it_does_before_it_loads_what_is_heavy(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3]), "PRPM_TOKEN": "prpm_x"}

    ran = subprocess.run(
        [sys.executable, "-c", FIRST_LINE], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert ran.stdout == "🔧 Using local testing|set()", ran.stderr


def test_prpm__a_foreign_command_goes_to_the_next_prpm(tmp_path: Path) -> None:
    path = os.pathsep.join([str(OURS), a_foreign_prpm(tmp_path / "bin")])

    ran = start("prpm", "install", "@a/b", "--as", "x y", path=path, home=tmp_path)

    assert (ran.returncode, ran.stdout) == (7, "theirs: install @a/b --as x y\n")


def test_prpm__never_hands_over_to_itself(tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "prpm").symlink_to(OURS / "prpm")
    path = os.pathsep.join([str(links), str(OURS)])

    ran = start("prpm", "install", path=path, home=tmp_path)

    assert ran.returncode == 2
    assert ran.stderr == (
        "❌ Unknown command: install\n"
        "   This command tests packages. The package manager knows more: https://prpm.dev\n"
    )


def test_prpm__two_copies_do_not_pass_work_on_for_ever(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "prpm").write_bytes((OURS / "prpm").read_bytes())
    (copy / "prpm").chmod(0o755)

    ran = start("prpm", "install", path=os.pathsep.join([str(copy), str(OURS)]), home=tmp_path)

    assert ran.returncode == 2
    assert "Unknown command: install" in ran.stderr


def test_prpm__takes_no_prpm_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_foreign_prpm(tmp_path / "checkout")
    monkeypatch.chdir(tmp_path / "checkout")

    assert start("prpm", "install", path=":.", home=tmp_path).returncode == 2


def test_prpm_test__keeps_foreign_commands_to_itself(tmp_path: Path) -> None:
    ran = start("prpm-test", "login", "--nonsense", path=a_foreign_prpm(tmp_path / "bin"), home=tmp_path)

    assert ran.returncode == 2
    assert "No such option" in ran.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["@a/b"], ["test", "@a/b"]),
        (["test", "@a/b"], ["test", "@a/b"]),
        (["-m", "gpt-4o", "."], ["test", "-m", "gpt-4o", "."]),
        (["whoami"], ["whoami"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_prpm_test__is_short_for_test(typed: list[str], meant: list[str]) -> None:
    assert with_test_as_default(typed) == meant


@pytest.mark.parametrize(
    "arguments",
    [
        ("test",),
        ("test", "@a/b", "--nonsense"),
        ("test", "@a/b", "--timeout", "0"),
        ("test", "@a/b", "--timeout", "nan"),
        ("test", "@a/b", "--framework", "other"),
        ("test", "@a/b", "-m", "a,,b"),
        ("test", "@a/b", "-m", ""),
        ("test", "@a/b", "--suite", "missing.yaml"),
        ("test", "@a/b", "--suite", "."),
    ],
)
def test_test__wrong_use_ends_with_2_and_one_sentence(
    alice: User, service: Service, arguments: tuple[str, ...]
) -> None:
    ran = alice.runs(*arguments)

    assert ran.code == 2
    assert ran.err.startswith("❌ ")
    assert "Traceback" not in ran.err
    assert service.requests("POST /api/v1/test-jobs/run") == []


def test_test__wrong_use_with_json_is_a_document(alice: User) -> None:
    ran = alice.runs("test", "@a/b", "--json", "--timeout", "soon")

    assert json.loads(ran.out)["code"] == "invalid_use"
    assert ran.err == ""


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "@a/../../b",
        "/etc/none",
        "%2e%2e",
        "@a/b.",
        "@A/b",
        "@a/" + "b" * 400,
        "x" * 10_000,
        "a b",
        "@a/b@",
        "",
    ],
)
def test_test__I3_a_strange_name_is_refused_unsent(alice: User, service: Service, name: str) -> None:
    ran = alice.runs("test", "--", name)

    assert ran.code == 2
    assert ran.err.startswith("❌ ")
    assert len(ran.err) < 500
    assert service.seen == []


def test_test__a_file_that_is_no_archive_is_refused(alice: User, service: Service) -> None:
    (alice.folder / "notes.txt").write_text("x")

    assert "is neither a folder nor a .tar.gz archive" in alice.runs("test", "notes.txt").err
    assert service.seen == []


def test_prpm__an_odd_locale_is_no_traceback(tmp_path: Path) -> None:
    environ = {
        "PATH": "",
        "HOME": str(tmp_path),
        "PYTHONIOENCODING": "ascii",
        "PRPM_LOCAL_URL": "http://127.0.0.1:9",
    }

    ran = subprocess.run([OURS / "prpm", "test", "@a/b"], env=environ, capture_output=True, text=True, check=False)

    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert "Login with `prpm login`" in ran.stdout
