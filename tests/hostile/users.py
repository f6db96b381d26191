# SPDX-License-Identifier: GPL-2.0-or-later
"""The users of a run: numbers that nobody else has, and processes in their name.

Invariant
    A process that is forked here has none of our descriptors but those it was
        given, and no supplementary group.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

_FIRST = 61_000
_SLOTS = 500
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def two_users() -> Iterator[tuple[int, int]]:
    """Yield two user numbers that no other run has meanwhile: an attacker's and another's."""
    for slot in range(_SLOTS):
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0fusenotify-hostile-{slot}")
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            yield _FIRST + 2 * slot, _FIRST + 2 * slot + 1
            return
    raise OSError(errno.EUSERS, "there are too many runs at a time")


def inherit_orphans() -> None:
    """Make orphans of our descendants our children, so that they can be found and ended."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def fork_as(uid: int, function: Callable[[int], None]) -> tuple[int, int]:
    """Run a function in a child in a user's name, in a session of its own.

    It gets the end of a pipe to write to.  Returns the child's pid and the
    other end of the pipe.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _become(uid, function, writing)
    os.close(writing)
    return pid, reading


def _become(uid: int, function: Callable[[int], None], writing: int) -> NoReturn:
    status = 1
    try:
        os.setsid()
        Path("/proc/self/oom_score_adj").write_text("1000")
        os.dup2(writing, 3)
        os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1):
            os.dup2(null, standard)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # As after login: else /proc/self is root's, and user namespaces cannot be set up.
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        os.chdir("/")
        os.umask(0o022)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        function(3)
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def ask_as(uid: int, function: Callable[[], Any], seconds: float) -> Any:
    """Return what a function returns in a user's name (of what JSON has).

    Raises TimeoutError where it takes longer, ChildProcessError where it fails.
    """

    def answer(writing: int) -> None:
        os.write(writing, json.dumps(function()).encode())

    pid, reading = fork_as(uid, answer)
    deadline = time.monotonic() + seconds
    data = b""
    with open(reading, "rb", buffering=0) as pipe:
        while True:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                os.kill(pid, signal.SIGKILL)
                reap(pid, 5.0)
                raise TimeoutError(f"no answer within {seconds:g} s")
            if not (more := pipe.read(1 << 16)):
                break
            data += more
    reap(pid, 5.0)
    if not data:
        raise ChildProcessError("it ended without an answer")
    return json.loads(data)


def reap(pid: int, seconds: float) -> bool:
    """Wait for a child's end; return False where it does not end in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)


def end_all(uid: int, seconds: float) -> list[int]:
    """Kill all processes of a user; return those that do not end in time."""

    def kill(_: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # all that this user may

    deadline = time.monotonic() + seconds
    while True:
        pid, reading = fork_as(uid, kill)
        os.close(reading)
        reap(pid, 5.0)
        left = processes_of(uid)
        for child in left:
            reap(child, 0.0)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def processes_of(uid: int) -> list[int]:
    """Return the processes of a user, zombies left out."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _owner(pid) == uid]


def _owner(pid: int) -> int | None:
    """Return the real user of a process; None if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return None if fields["State"].split()[0] in "ZX" else int(fields["Uid"].split()[0])


def children() -> dict[int, str]:
    """Return our children, orphans that came to us included, and what each is."""
    found = {}
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            for pid in map(int, Path(f"/proc/self/task/{task}/children").read_text().split()):
                with contextlib.suppress(OSError):
                    name = Path(f"/proc/{pid}/comm").read_text().strip()
                    found[pid] = f"{name} ({pid}) of user {_owner(pid)}"
    return found
