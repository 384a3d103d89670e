"""Where agents run: namespaces of their own by bubblewrap, no network, no file of the machine but programs.

https://github.com/containers/bubblewrap
"""

from __future__ import annotations

import asyncio
import base64
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from evals.agents.grants import tool_names
from evals.agents.plugins import PinnedPlugin, check_files
from evals.agents.tasks import AgentLimits, AgentTask
from evals.errors import EngineError

PROGRAM: Final = Path(__file__).with_name("program.py")
RELAY: Final = "/run/relay.sock"  # where the program inside looks for it
LOOK_SECONDS: Final = 0.2  # how often the processes inside are counted
_PROBE_SECONDS: Final = 20.0
_LARGEST_REPORT: Final = 1_000_000  # bytes
# No home of the machine's user, no /etc but what the loader reads, no /var, no /run.
_SYSTEM: Final = ("/usr",)
_SYSTEM_LINKS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
_READ_IF_THERE: Final = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_REFUSED_TOOLS: Final = ("Task", "Agent", "WebFetch", "WebSearch", "AskUserQuestion")


class SandboxExceeded(EngineError):
    """The processes inside took more than they may, and were killed."""


class ListedTool(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin's tool: the digest of all that a model reads of it, and that itself."""

    digest: str
    description: str
    input_schema: dict[str, Any]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How the program inside ended, in its own words; `how` is `died` if it said nothing."""

    ended: str
    is_error: bool = False
    plugin: str = ""
    detail: str = ""
    tools: dict[str, ListedTool] = {}  # of a plugin that was listed


@functools.cache
def why_no_agents() -> str | None:
    """A sentence about what this machine lacks to run agents; None if it can. Looked at once a process."""
    if sys.platform != "linux":
        return "agents run on Linux alone, in a sandbox by bubblewrap"
    if importlib.util.find_spec("claude_agent_sdk") is None:
        return "the Claude Agent SDK is not installed (pip install 'prpm-testing[agent]')"
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (on Debian: apt install bubblewrap)"
    try:
        command = [*_bubblewrap(AgentLimits(), binds=()), "--", "/usr/bin/true"]
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)  # noqa: S603 - ours
    except (OSError, subprocess.TimeoutExpired):
        return "bubblewrap does not start"
    if done.returncode != 0:
        return "bubblewrap may not make namespaces here (a container needs user namespaces for that)"
    return None


def require_sandbox() -> None:
    """Raises CannotRunAgents where there is none."""
    if why := why_no_agents():
        raise CannotRunAgents(f"Agents cannot be run here: {why}.")


class CannotRunAgents(EngineError):
    """This machine has no sandbox, or no SDK."""


async def run_agent(task: AgentTask, *, prompt: str, model: str, max_tokens: int, relay: Path) -> Ended:
    """Runs the agent to its end. Raises SandboxExceeded, PluginChanged. Cancelled, it leaves no process."""
    await asyncio.to_thread(_check_plugins, task.plugins)
    builtin = tool_names(task.rules)
    message = {
        "files": {path: base64.b64encode(content).decode() for path, content in task.files.items()},
        "prompt": prompt,
        "system": task.system or None,
        "tools": builtin,
        "allowed": task.rules,
        "disallowed": _REFUSED_TOOLS,
        "skills": [task.name] if task.kind == "skill" else [],
        "model": model,
        "max_turns": task.limits.turns,
        "max_tokens": max_tokens,
    }
    return await _run(message, task.plugins, task.limits, relay=relay)


async def list_tools(plugin: PinnedPlugin, *, relay: Path) -> Ended:
    """The plugin's tools with their digests, for who approves them. Raises as `run_agent`."""
    return await _run({"files": {}, "pin": plugin.name}, (plugin,), AgentLimits(), relay=relay)


async def _run(message: dict[str, Any], plugins: Sequence[PinnedPlugin], limits: AgentLimits, *, relay: Path) -> Ended:
    told = message | {
        "limits": {"file_bytes": limits.file_bytes, "threads": limits.threads},
        "plugins": {plugin.name: _told(plugin) for plugin in plugins},
    }
    command = [
        *_bubblewrap(limits, binds=[path for plugin in plugins for path in (*plugin.files, *plugin.folders)]),
        *("--ro-bind", str(relay), RELAY),
        *("--ro-bind", str(PROGRAM), "/run/program.py"),
        *_sealed(),
        *("--", sys.executable, "-I", "-B", "/run/program.py"),
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # It may quote prompts and answers, so nobody keeps it.
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
        limit=_LARGEST_REPORT,
    )
    try:
        return await _see_through(process, msgspec.json.encode(told) + b"\n", limits)
    finally:
        await _kill(process)


def _told(plugin: PinnedPlugin) -> dict[str, Any]:
    where = {"command": plugin.command} if plugin.command else {}
    return {"tools": plugin.tools, "start_seconds": plugin.start_seconds} | where


def _check_plugins(plugins: Sequence[PinnedPlugin]) -> None:
    for plugin in plugins:
        check_files(plugin)


async def _see_through(process: asyncio.subprocess.Process, task: bytes, limits: AgentLimits) -> Ended:
    watch = asyncio.create_task(_watch(process.pid, limits))
    talk = asyncio.create_task(_talk(process, task))
    try:
        await asyncio.wait([watch, talk], return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            watch.result()
        return await talk
    finally:
        watch.cancel()
        talk.cancel()
        await asyncio.gather(watch, talk, return_exceptions=True)


async def _talk(process: asyncio.subprocess.Process, task: bytes) -> Ended:
    assert process.stdin is not None  # noqa: S101 - pipes were asked for
    assert process.stdout is not None  # noqa: S101 - the same
    with suppress(OSError):  # it may have ended already; its silence says so
        process.stdin.write(task)
        await process.stdin.drain()
        process.stdin.close()
    try:
        return msgspec.json.decode(await process.stdout.readline(), type=Ended)
    except (msgspec.MsgspecError, ValueError):
        return Ended(ended="died", is_error=True)


async def _watch(pid: int, limits: AgentLimits) -> None:
    """Returns never. Raises SandboxExceeded: the kernel's own limits do not count what root starts."""
    while True:
        threads, memory = _usage(pid)
        if threads > limits.threads:
            raise SandboxExceeded(f"The agent started more than {limits.threads} processes and threads.")
        if memory > limits.memory_bytes:
            raise SandboxExceeded(f"The agent used more than {limits.memory_bytes // 2**20} MB of memory.")
        await asyncio.sleep(LOOK_SECONDS)


def _usage(pid: int) -> tuple[int, int]:
    """Threads and resident bytes of the process and all below it."""
    threads = memory = 0
    waiting = [pid]
    while waiting and threads < 10_000:
        process = Path("/proc", str(waiting.pop()))
        try:
            tasks = os.listdir(process / "task")
            pages = int((process / "statm").read_text().split()[1])
            for task in tasks:
                waiting += map(int, (process / "task" / task / "children").read_text().split())
        except (OSError, IndexError, ValueError):
            continue  # it ended meanwhile
        threads += len(tasks)
        memory += pages * os.sysconf("SC_PAGE_SIZE")
    return threads, memory


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Nothing of it is left: with its first process the kernel ends the whole namespace."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _bubblewrap(limits: AgentLimits, *, binds: Sequence[str]) -> list[str]:
    """The command up to what is special to a run. Each place that can be written to has a size."""
    size = str(limits.folder_bytes)
    return [
        shutil.which("bwrap") or "bwrap",
        *("--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
        *_programs(),
        *("--proc", "/proc", "--dev", "/dev"),
        *(word for place in ("/tmp", "/project", "/home/agent") for word in ("--size", size, "--tmpfs", place)),  # noqa: S108 - its own
        *(word for path in binds for word in ("--ro-bind", path, path)),
        *("--setenv", "HOME", "/home/agent", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin"),
        *("--setenv", "TMPDIR", "/tmp", "--setenv", "LANG", "C.UTF-8"),  # noqa: S108 - as above
        *("--chdir", "/project"),
    ]


def _sealed() -> list[str]:
    """bubblewrap's own root and /dev are in memory, without a limit: they cannot be written to."""
    return ["--remount-ro", "/dev", "--remount-ro", "/"]


def _programs() -> list[str]:
    words = [word for path in _SYSTEM for word in ("--ro-bind", path, path)]
    for path in _SYSTEM_LINKS:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path]
    for path in _READ_IF_THERE:
        words += ["--ro-bind-try", path, path]
    # The interpreter and the SDK. A virtual environment's folder holds packages; its project is not in it.
    for path in dict.fromkeys((sys.base_prefix, sys.prefix)):
        if not path.startswith("/usr/") and path != "/usr":
            words += ["--ro-bind", path, path]
    return words
