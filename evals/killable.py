"""A program of ours in a process of its own, which asks and answers in lines of JSON and can be killed.

What must not run here (patterns that backtrack, an author's code) runs there: its environment is empty, it inherits
no open file, it limits its own memory and processor time, and it is killed when an answer takes too long.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer
from typing import IO, Final, NamedTuple, TypeVar

from evals.errors import EngineError
from evals.types import JsonValue

MAX_ANSWER: Final = 4_000_000  # bytes of one answer
_START_SECONDS: Final = 20.0  # for the process to be ready; a loaded machine takes its time

Result = TypeVar("Result")


class TookTooLong(EngineError):
    """No answer came in time; the process was killed."""


class Broke(EngineError):
    """The process ended by itself: it ran out of memory, or its engine crashed."""


class _EndedBefore(Broke):
    """Somebody else had ended the process, or was about to: no fault of the question."""


class _Warm(NamedTuple):
    """A process that has said that it is ready, or is about to."""

    process: subprocess.Popen[bytes]
    questions: IO[bytes]
    answers: IO[bytes]


class Killable:
    """One warm process, started when it is first asked and again after it was killed. Safe to use from any thread.

    Questions wait for each other; waiting counts for nobody's time.
    """

    def __init__(self, module: str) -> None:
        """The module's `main()` writes `{}` when it is ready, and then answers each line with one line."""
        self._module = module
        self._asking = Lock()
        self._warm: _Warm | None = None
        self._is_late = False
        atexit.register(self.close)

    @property
    def process_id(self) -> int | None:
        """The warm process, None while there is none."""
        return self._warm.process.pid if self._warm else None

    def ask(self, question: JsonValue, *, seconds: float) -> JsonValue:
        """The answer; blocks this thread for as long as others ask, and then for `seconds` at most.

        Raises TookTooLong, or Broke. In both cases the next question finds a new process.
        """
        line = json.dumps(question).encode() + b"\n"
        with self._asking:
            try:
                return self._exchange(self._ready(), line, seconds=seconds)
            except _EndedBefore:
                return self._exchange(self._ready(), line, seconds=seconds)

    def close(self) -> None:
        """Ends the process. Safe to call twice; a later question starts a new one."""
        with self._asking:
            self._end()

    def _ready(self) -> _Warm:
        if self._warm is not None and self._warm.process.poll() is not None:
            self._end()  # somebody else ended it between two questions
        if self._warm is None:
            self._warm = _start(self._module)
            greeting = self._exchange(self._warm, b"", seconds=_START_SECONDS)
            if greeting:
                self._end()
                raise Broke(str(greeting))
        return self._warm

    def _exchange(self, warm: _Warm, line: bytes, *, seconds: float) -> JsonValue:
        self._is_late = False
        timer = Timer(seconds, self._kill, args=(warm.process,))
        timer.daemon = True
        timer.start()
        answer, was_asked = b"", False
        try:
            warm.questions.write(line)
            warm.questions.flush()
            was_asked = True
            answer = warm.answers.readline(MAX_ANSWER)
        except OSError:
            pass  # the process ended; the empty answer below says so
        finally:
            timer.cancel()
            timer.join()  # it may be killing just now; after this, late is late
        if self._is_late or not answer.endswith(b"\n"):
            self._end()
            if not was_asked and not self._is_late:
                raise _EndedBefore("ended before it was asked")
            raise _trouble(is_late=self._is_late, size=len(answer), seconds=seconds)
        return json.loads(answer)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        self._is_late = True
        _kill_group(process)

    def _end(self) -> None:
        warm, self._warm = self._warm, None
        if warm is None:
            return
        _kill_group(warm.process)
        warm.process.wait()
        for pipe in (warm.questions, warm.answers):
            with suppress(OSError):  # what is still buffered for a process that is gone
                pipe.close()


async def off_the_loop(work: Callable[[], Result]) -> Result:
    """What `work` returns, which may block on a Killable; the event loop goes on. First come, first served."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)


# One thread: the questions wait for each other anyway, and must not use up the loop's own threads.
_THREAD: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="killable")


# The child imports from where this process does, whatever made that so, and runs nothing else at its start.
_BOOT: Final = "import sys; sys.path[:] = sys.argv[2:]; __import__(sys.argv[1], fromlist=['main']).main()"


def _start(module: str) -> _Warm:
    process = subprocess.Popen(  # noqa: S603 - our own program, by its full path
        [sys.executable, "-I", "-S", "-B", "-c", _BOOT, module, *(path or str(Path.cwd()) for path in sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        cwd=Path(sys.executable).anchor,
        start_new_session=True,  # Ctrl-C is ours to handle, and what the program starts can be killed with it
    )
    assert process.stdin is not None  # noqa: S101 - pipes were asked for
    assert process.stdout is not None  # noqa: S101 - the same
    return _Warm(process, process.stdin, process.stdout)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Nothing of ours; Windows starts no Python without its own folder's name."""
    if sys.platform == "win32":
        return {"SYSTEMROOT": os.environ.get("SYSTEMROOT", r"C:\Windows")}
    return {}


def _trouble(*, is_late: bool, size: int, seconds: float) -> EngineError:
    if is_late:
        return TookTooLong(f"took longer than {seconds:g} s")
    if size >= MAX_ANSWER:
        return Broke(f"made more than {MAX_ANSWER:,} bytes")
    return Broke("ran out of memory, or broke the engine that runs it")
