# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting the program: a child of ours, under the filter.

run.running waits for it.  The child installs the filter in itself, hands us its listener and
becomes the program; where one of these fails it says which and why.

Invariants
    The program has the terminal, the process group, the signals and the descriptors that
        it would have without us.
    It is killed where this process is: nobody would answer its calls.
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

# As env(1) and timeout(1) have them.
CANNOT_RUN = 125
CANNOT_EXECUTE = 126
NOT_FOUND = 127

_PR_SET_PDEATHSIG = 1
_LISTENER, _NO_FILTER, _NO_PROGRAM = b"L", b"F", b"P"
# What Python itself changed, and programs expect to be as usual.
_CHANGED_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)

_WHY = {
    errno.EBUSY: "another supervisor has this process already (fusenotify run in fusenotify run, "
    "or a container's): one filter with a listener is all that Linux allows",
    errno.EINVAL: "the kernel is too old for it (it takes Linux 5.14)",
    errno.ENOSYS: "the kernel has no seccomp, or what runs this process forbids it",
    errno.EPERM: "what runs this process, as a container's profile, forbids it",
    errno.EACCES: "what runs this process, as a container's profile, forbids it",
}


class NotStarted(Exception):
    """The program does not run; status is the exit status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def start(
    command: Sequence[str], reserved: Range, signals: set[int], directory: str | None
) -> tuple[int, int]:
    """Start a program, and return its process id and the listener of its filter.

    signals are to be blocked in it as they were; directory is where it starts, or None for ours.

    Raises NotStarted.
    """
    abis = architectures_here()
    if not abis:
        raise NotStarted(
            CANNOT_RUN,
            f"the system calls of {os.uname().machine} are not known: run serves programs of "
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
    signals: set[int],
    answer: socket.socket,
    parent: int,
    directory: str | None,
) -> None:
    """Be the program; return where that fails, when it was said."""
    stage = _NO_FILTER
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(CANNOT_RUN)
        if directory is not None:
            os.chdir(directory)
        for number in _CHANGED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        listener = install(code)
        socket.send_fds(answer, [_LISTENER], [listener])
        os.close(listener)
        stage = _NO_PROGRAM
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        os.execvp(command[0], list(command))  # noqa: S606
    except OSError as error:
        answer.send(stage + str(error.errno or errno.EIO).encode())


def _listener_of(child: int, command: Sequence[str], answer: socket.socket) -> int:
    """Return the listener when the program runs."""
    said, descriptors, _, _ = socket.recv_fds(answer, 64, 1)
    if said == _LISTENER:
        listener = descriptors[0]
        os.set_inheritable(listener, False)
        said = answer.recv(64)  # nothing, once it is the program
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
