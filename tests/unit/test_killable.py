"""A process that can be killed: what it inherits, how it is killed, and that another takes its place."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from evals.errors import CannotJudge
from evals.killable import Broke, Killable, TookTooLong, off_the_loop
from evals.scripts import evaluate


@pytest.fixture
def quickjs() -> Iterator[Killable]:
    killable = Killable("evals.quickjs_program")
    yield killable
    killable.close()


def question(code: str) -> dict[str, Any]:
    return {"code": code, "seconds": 1}


def test_killable__is_started_when_it_is_asked_and_stays_warm(quickjs: Killable) -> None:
    assert quickjs.process_id is None

    assert quickjs.ask(question("1 + 1"), seconds=5) == {"value": 2}
    first = quickjs.process_id
    assert quickjs.ask(question("'a' + 'b'"), seconds=5) == {"value": "ab"}

    assert first is not None
    assert quickjs.process_id == first


def test_killable__a_late_answer_kills_it_and_the_next_question_finds_a_new_one(quickjs: Killable) -> None:
    quickjs.ask(question("1"), seconds=5)
    first = quickjs.process_id
    assert first is not None

    with pytest.raises(TookTooLong, match=r"took longer than 0\.2 s"):
        quickjs.ask(question("for (;;) {}"), seconds=0.2)

    assert not psutil.pid_exists(first)
    assert quickjs.ask(question("1"), seconds=5) == {"value": 1}
    assert quickjs.process_id != first


def test_killable__one_that_was_ended_by_others_is_replaced(quickjs: Killable) -> None:
    quickjs.ask(question("1"), seconds=5)
    assert quickjs.process_id is not None
    os.kill(quickjs.process_id, signal.SIGKILL)
    # It counts as a zombie while its other threads are still there, and with them its end of the pipe.
    os.waitid(os.P_PID, quickjs.process_id, os.WEXITED | os.WNOWAIT)

    assert quickjs.ask(question("2"), seconds=5) == {"value": 2}


def test_killable__L_nothing_of_ours_is_in_its_environment(quickjs: Killable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    quickjs.ask(question("1"), seconds=5)

    assert psutil.Process(quickjs.process_id).environ() == {}


def test_killable__inherits_no_open_file(quickjs: Killable, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        quickjs.ask(question("1"), seconds=5)

        assert [opened.path for opened in psutil.Process(quickjs.process_id).open_files()] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_killable__R1_its_memory_is_limited_beside_the_engines_own_limit(quickjs: Killable) -> None:
    quickjs.ask(question("1"), seconds=5)

    assert psutil.Process(quickjs.process_id).rlimit(psutil.RLIMIT_AS) == (512 * 1024 * 1024, 512 * 1024 * 1024)
    assert psutil.Process(quickjs.process_id).rlimit(psutil.RLIMIT_FSIZE) == (0, 0)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("'x'.repeat(2 ** 28)", "out of memory"),
        ("const a = []; for (;;) a.push('x'.repeat(1e6) + a.length)", "out of memory"),
        ("const f = () => f() + 1; f()", "stack"),
        ("throw new Error('no\\nand no')", "Error: no"),
        ("'\\ud800'", "half of a surrogate pair"),
        ("(", "SyntaxError"),
    ],
)
def test_script__what_goes_wrong_is_one_sentence(code: str, said: str) -> None:
    with pytest.raises(CannotJudge) as caught:
        evaluate(code, seconds=5)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["require", "process", "std", "os", "setTimeout", "fetch", "print", "load", "Deno", "python"]
)
def test_script__has_the_language_and_nothing_else(name: str) -> None:
    assert evaluate(f"typeof {name}", seconds=5) == "undefined"


def test_script__cannot_import_files() -> None:
    with pytest.raises(CannotJudge):
        evaluate("import * as os from 'os'; 1", seconds=5)


def test_script__leaves_nothing_behind_for_the_next() -> None:
    evaluate("globalThis.left = 1; RegExp.prototype.test = () => true; 1", seconds=5)

    assert evaluate("typeof left + /a/.test('b')", seconds=5) == "undefinedfalse"


def test_killable__questions_of_many_threads_wait_for_each_other(quickjs: Killable) -> None:
    """Waiting counts for nobody's time: each of them needs a quarter of a second, and has one."""
    slow = "const end = Date.now() + 250; while (Date.now() < end); 'done'"

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: quickjs.ask(question(slow), seconds=1), range(8)))

    assert answers == [{"value": "done"}] * 8


async def test_killable__a_cancelled_question_does_not_disturb_the_next(quickjs: Killable) -> None:
    task = asyncio.create_task(off_the_loop(lambda: quickjs.ask(question("for (;;) {}"), seconds=0.3)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await off_the_loop(lambda: quickjs.ask(question("3"), seconds=5)) == {"value": 3}


def test_killable__program_that_is_not_there_is_a_sentence() -> None:
    killable = Killable("evals.no_such_program")

    with pytest.raises(Broke, match="broke the engine that runs it"):
        killable.ask({}, seconds=5)

    assert killable.process_id is None


def test_killable__ends_with_the_process_that_started_it() -> None:
    """Killed without a chance to clean up, in the middle of a script that never ends by itself."""
    script = (
        "import threading, time\n"
        "from evals.scripts import QUICKJS\n"
        "QUICKJS.ask({'code': '1', 'seconds': 1}, seconds=5)\n"
        "work = threading.Thread(target=QUICKJS.ask, args=({'code': 'for (;;) {}', 'seconds': 0},),"
        " kwargs={'seconds': 60}, daemon=True)\n"
        "work.start()\n"
        "print(QUICKJS.process_id, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))

    parent.kill()
    parent.communicate()

    child.wait(timeout=20)
