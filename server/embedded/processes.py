"""Child processes that never outlive this one: who runs them, how they learn of our death, how they stop."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
# What the user namespace calls us. Any uid but 0 with a passwd entry does; 65534 is `nobody` nearly
# everywhere.
NOBODY = 65534

# Loaded before any fork: dlopen between fork and exec may wait for a lock that nobody can release there.
_LIBC = ctypes.CDLL(None, use_errno=True)


class CannotStart(Exception):
    """A child cannot be started or has died; `str()` is a sentence that says what to do."""


class FolderInUse(CannotStart):
    """Another process holds the data folder."""


class Identity(Struct, frozen=True, kw_only=True):
    """Who a child runs as.

    `same`: as we are. `user`: setuid to `uid` and `gid`. `namespace`: as we are, but seen by itself as `uid`,
    for programs that refuse root or a uid without a name.
    """

    kind: Literal["same", "user", "namespace"]
    uid: int
    gid: int

    @property
    def owner(self) -> tuple[int, int]:
        """uid and gid, as the file system knows them, that must own what the child writes."""
        return (self.uid, self.gid) if self.kind == "user" else (os.geteuid(), os.getegid())


def unprivileged_identity(*, owned: Path, read: Sequence[Path]) -> Identity:
    """An identity that is not root and has a name, able to reach the folder `owned` and the files `read`.

    As root this is the present owner of `owned` when that is somebody else, so that a folder made by an
    ordinary user stays theirs; otherwise `nobody`. Whoever cannot pass the folders above (modes 0700) gives
    way to a namespace.
    """
    if os.geteuid() != 0:
        named = _has_name(os.geteuid())
        return _same() if named else _namespace()
    candidate = _preferred_user(owned)
    if candidate and all(may_reach(path, uid=candidate.uid, gid=candidate.gid) for path in (owned, *read)):
        return candidate
    return _namespace()


def may_reach(path: Path, *, uid: int, gid: int) -> bool:
    """Whether the mode bits let `uid` pass every folder above `path` and, if that is a file, run it."""

    def allows(target: Path, bits: int) -> bool:
        found = target.stat()
        shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
        return (found.st_mode >> shift) & bits == bits

    path = path.resolve()
    return all(allows(folder, stat.S_IXOTH) for folder in path.parents) and (
        not path.is_file() or allows(path, stat.S_IROTH | stat.S_IXOTH)
    )


def _same() -> Identity:
    return Identity(kind="same", uid=os.geteuid(), gid=os.getegid())


def _namespace() -> Identity:
    named = NOBODY if _has_name(NOBODY) else next((u.pw_uid for u in pwd.getpwall() if u.pw_uid), NOBODY)
    return Identity(kind="namespace", uid=named, gid=NOBODY)


def _preferred_user(owned: Path) -> Identity | None:
    found = owned.stat()
    if found.st_uid and _has_name(found.st_uid):
        return Identity(kind="user", uid=found.st_uid, gid=found.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return None
    return Identity(kind="user", uid=nobody.pw_uid, gid=nobody.pw_gid)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def hand_over(folder: Path, *, identity: Identity) -> None:
    """`folder` and all in it belong to `identity`. Safe to call twice; a no-op for whoever is not root."""
    wanted = identity.owner
    found = folder.stat()
    if os.geteuid() != 0 or (found.st_uid, found.st_gid) == wanted:
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent, name), *wanted, follow_symlinks=False)
    # Last, so that a hand-over that was cut short is done again.
    os.chown(folder, *wanted)


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Signals that ask us to stop arrive after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def spawn(
    command: Sequence[str | Path],
    *,
    death_signal: signal.Signals,
    log: Path,
    identity: Identity | None = None,
    environment: Mapping[str, str] | None = None,
    folder: str = "/",
) -> subprocess.Popen[bytes]:
    """A running child in a session of its own (Ctrl-C reaches us alone) whose output is appended to `log`.

    It gets `death_signal` when we die, however we die. Only from the main thread: the kernel sends that
    signal when the *thread* that forked ends. Raises CannotStart.
    """
    if threading.current_thread() is not threading.main_thread():
        raise CannotStart("Servers can be started from the main thread only.")
    identity = identity or _same()
    with log.open("ab") as output:
        try:
            return subprocess.Popen(  # noqa: S603 (the commands are ours)
                [str(part) for part in command],
                cwd=folder,
                env=dict(environment) if environment is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_in_child(identity, death_signal),  # noqa: PLW1509 (takes no lock)
                user=identity.uid if identity.kind == "user" else None,
                group=identity.gid if identity.kind == "user" else None,
                extra_groups=[] if identity.kind == "user" else None,
            )
        except subprocess.SubprocessError as error:
            raise CannotStart(_why_not(command, identity)) from error
        except OSError as error:
            raise CannotStart(f"Cannot run {command[0]}: {error.strerror}.") from error


def _in_child(identity: Identity, death_signal: signal.Signals) -> Callable[[], None]:
    parent, outer_uid, outer_gid = os.getpid(), os.geteuid(), os.getegid()

    def prepare() -> None:
        # A mask is inherited, and would keep the child from its own stop (see signals_held_back).
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if identity.kind == "namespace":
            _enter_namespace(identity, outer_uid=outer_uid, outer_gid=outer_gid)
        # After any change of credentials: the kernel forgets the death signal at each.
        if _LIBC.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:  # we died before the line above
            os._exit(1)

    return prepare


def _enter_namespace(identity: Identity, *, outer_uid: int, outer_gid: int) -> None:
    # https://man7.org/linux/man-pages/man7/user_namespaces.7.html: one id may be mapped without privilege,
    # and setgroups must be denied before gid_map is written.
    if _LIBC.unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{identity.uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{identity.gid} {outer_gid} 1")


def _why_not(command: Sequence[str | Path], identity: Identity) -> str:
    program = Path(command[0]).name
    if identity.kind != "namespace":
        return f"Cannot start {program} as uid {identity.uid}."
    if os.geteuid() == 0:
        return (
            f"{program} refuses to run as root, the user `nobody` cannot reach the data folder or the "
            "programs (a folder above them has no x permission for others), and this system allows no user "
            "namespaces. Start as an ordinary user, or keep both below folders of mode 0755, or set "
            "PRPM_DATABASE_URL."
        )
    return (
        f"{program} needs a user with a name: uid {os.geteuid()} has no entry in /etc/passwd, and this "
        "system allows no user namespaces. Add the entry, or set PRPM_DATABASE_URL."
    )


def stop(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> None:
    """The process has ended. A step is a signal and its seconds; SIGKILL comes last. Safe to call twice."""
    for number, seconds in steps:
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return
    process.kill()
    process.wait()


def outlive(pid: int, *, program: str, folder: Path, signal_number: signal.Signals, seconds: float = 10.0) -> None:
    """No `program` with this pid works in `folder` any more: it has a second to end, then is asked to.

    A pid that now belongs to something else is left alone. Raises CannotStart.
    """
    asked = False
    deadline = time.monotonic() + seconds
    while works_in(pid, program=program, folder=folder):
        if time.monotonic() > deadline:
            raise CannotStart(f"{program} (process {pid}) still runs in {folder} and does not stop. End it first.")
        if not asked and time.monotonic() > deadline - seconds + 1.0:
            asked = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        time.sleep(0.01)


def works_in(pid: int, *, program: str, folder: Path) -> bool:
    """Whether the live process `pid` is `program`, working in `folder`, as both servers do in theirs."""
    try:
        runs = Path(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
        where = Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:  # gone, a zombie, or somebody else's
        return False
    return runs.name == program and where == folder.resolve()


def tail(log: Path, *, lines: int = 15) -> str:
    """The last lines of a log, for an error message; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""
