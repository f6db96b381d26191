# SPDX-License-Identifier: GPL-2.0-or-later
"""Start the program as a child of ours, under the filter.

run.back calls start().  The child installs the filter in itself, passes its listener to us and
executes the program.  If one of these steps fails, the child reports the step and the errno.

Invariants
    The program has the terminal, the process group, the signals and the descriptors that
        it would have without us.
    If this process is killed, the program is killed too: nobody would answer its calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
from collections.abc import Sequence

from fusenotify.run.architectures import architectures_here
from fusenotify.run.filter import Range, install, program
from fusenotify.run.inherited import Inherited

# The exit statuses of env(1) and timeout(1).
CANNOT_RUN = 125
CANNOT_EXECUTE = 126
NOT_FOUND = 127

_PR_SET_PDEATHSIG = 1
_LISTENER, _NO_FILTER, _NO_PROGRAM = b"L", b"F", b"P"

# What Python makes of the "C" locale where it starts.
_COERCED = {b"C.UTF-8", b"C.utf8", b"UTF-8"}

_WHY = {
    errno.EBUSY: "another supervisor has this process already (fusenotify run in fusenotify run, "
    "or a container's): Linux allows only one filter with a listener",
    errno.EINVAL: "the kernel is too old (Linux 5.14 is needed)",
    errno.ENOSYS: "the kernel has no seccomp, or the profile of a container forbids it",
    errno.EPERM: "the environment, such as the profile of a container, forbids it",
    errno.EACCES: "the environment, such as the profile of a container, forbids it",
}


class NotStarted(Exception):
    """The program could not be started; status is the exit status for this failure."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def start(
    command: Sequence[str], reserved: Range, signals: Inherited, directory: str | None
) -> tuple[int, int]:
    """Start a program, and return its process id and the listener of its filter.

    signals are those that the program inherits.  It starts in directory, or in ours if that is
    None.

    Raises NotStarted.
    """
    abis = architectures_here()
    if not abis:
        raise NotStarted(
            CANNOT_RUN,
            f"the system calls of {os.uname().machine} are not known: run serves programs for "
            "x86_64, i386 and aarch64",
        )
    code = program(abis, reserved)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    child = os.fork()
    if not child:
        try:
            ours.close()
            _become(command, code, signals, theirs, parent, directory)
        finally:
            os._exit(CANNOT_RUN)
    theirs.close()
    with ours:
        return child, _listener_of(child, command, ours)


def _become(
    command: Sequence[str],
    code: bytes,
    signals: Inherited,
    answer: socket.socket,
    parent: int,
    directory: str | None,
) -> None:
    """Execute the program; return only if that fails, after reporting the failure."""
    stage = _NO_FILTER
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(CANNOT_RUN)
        if directory is not None:
            os.chdir(directory)
        listener = install(code)
        socket.send_fds(answer, [_LISTENER], [listener])
        os.close(listener)
        stage = _NO_PROGRAM
        signals.restore()
        _restore_locale()
        _execute(command)
    except OSError as error:
        answer.send(stage + str(error.errno or errno.EIO).encode())


def _execute(command: Sequence[str]) -> None:
    """Execute a program; a script without an interpreter's name is sh's, as in execvp(3).

    Raises OSError.
    """
    words = [os.fsencode(word) for word in command]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.execvp(words[0], (ctypes.c_char_p * (len(words) + 1))(*words, None))
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _restore_locale() -> None:
    """Take LC_CTYPE out of the environment if Python has put it there (PEP 538)."""
    with open("/proc/self/environ", "rb") as file:
        given = file.read().split(b"\0")
    was = next((word[9:] for word in given if word.startswith(b"LC_CTYPE=")), None)
    if os.environb.get(b"LC_CTYPE") in _COERCED:
        if was is None:
            del os.environb[b"LC_CTYPE"]
        else:
            os.environb[b"LC_CTYPE"] = was


def _listener_of(child: int, command: Sequence[str], answer: socket.socket) -> int:
    """Wait until the program runs, and return its listener.  Raises NotStarted."""
    said, descriptors, _, _ = socket.recv_fds(answer, 64, 1)
    if said == _LISTENER:
        listener = descriptors[0]
        os.set_inheritable(listener, False)
        said = answer.recv(64)  # empty as soon as the program is executed
        if not said:
            return listener
        os.close(listener)
    os.waitpid(child, 0)
    code = int(said[1:] or b"0")
    if said[:1] == _NO_PROGRAM:
        status = NOT_FOUND if code == errno.ENOENT else CANNOT_EXECUTE
        raise NotStarted(status, f"{command[0]}: {os.strerror(code)}")
    why = _WHY.get(code, os.strerror(code))
    raise NotStarted(CANNOT_RUN, f"the program's system calls cannot be trapped: {why}")
