# SPDX-License-Identifier: GPL-2.0-or-later
"""The processes that make a program's calls: this one, and one of another user.

Neither has its working directory in the mount, and neither keeps anything
open between programs.
"""

from __future__ import annotations

import errno
import os
import pickle
import socket
from typing import Any, Protocol

from tests.differential.operations import OTHER_USER
from tests.differential.scenario import outcome

_MESSAGE = 1 << 17


class Runnable(Protocol):
    def run(self, process: Process) -> Any: ...


class Process:
    """Descriptors by slot, and the directory that paths are relative to."""

    def __init__(self) -> None:
        self.directory = "/"
        self._fds: dict[int, int] = {}

    def at(self, path: str) -> str:
        return f"{self.directory}/{path}"

    def fd(self, slot: int) -> int:
        """Raises OSError (EBADF) where the slot is empty."""
        if slot not in self._fds:
            raise OSError(errno.EBADF, f"slot {slot} is empty")
        return self._fds[slot]

    def put(self, slot: int, fd: int) -> None:
        """Fill a slot; what was in it is closed."""
        if slot in self._fds:
            os.close(self._fds[slot])
        self._fds[slot] = fd

    def drop(self, slot: int) -> None:
        os.close(self.fd(slot))
        del self._fds[slot]

    def begin(self, directory: str) -> None:
        """Work in this directory from now on, with nothing open."""
        for slot in sorted(self._fds):
            self.drop(slot)
        self.directory = directory

    def make(self, call: Runnable) -> Any:
        """Return what a call returned, or its errno's name.  The umask is 0."""
        umask = os.umask(0)
        try:
            return outcome(lambda: call.run(self))
        finally:
            os.umask(umask)


class OtherProcess:
    """A process of OTHER_USER that does what a Process does.

    Takes a message at a time over a socket, and descriptors with it.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if not self._pid:
            try:
                _serve(theirs)
            finally:
                os._exit(0)
        theirs.close()

    def begin(self, directory: str) -> None:
        self._ask(("begin", directory))

    def make(self, call: Runnable) -> Any:
        return self._ask(("make", call))

    def send(self, slot: int, to: Process, to_slot: int) -> Any:
        """Pass the descriptor in slot to another process; returns an errno's name or None."""
        self._socket.send(pickle.dumps(("send", slot)))
        message, fds, _, _ = socket.recv_fds(self._socket, _MESSAGE, 1)
        for fd in fds:
            to.put(to_slot, fd)
        return pickle.loads(message)

    def receive(self, fd: int, to_slot: int) -> Any:
        """Pass it a descriptor."""
        socket.send_fds(self._socket, [pickle.dumps(("receive", to_slot))], [fd])
        return self._answer()

    def close(self) -> None:
        self._socket.close()
        os.waitpid(self._pid, 0)

    def _ask(self, message: object) -> Any:
        self._socket.send(pickle.dumps(message))
        return self._answer()

    def _answer(self) -> Any:
        answer = self._socket.recv(_MESSAGE)
        assert answer, "the other process has ended"
        return pickle.loads(answer)


def _serve(connection: socket.socket) -> None:
    """Be the other process, until the socket is closed."""
    own = os.dup2(connection.fileno(), 3)
    os.closerange(4, 1 << 16)
    connection = socket.socket(fileno=own)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(OTHER_USER, OTHER_USER, OTHER_USER)
    os.setresuid(OTHER_USER, OTHER_USER, OTHER_USER)
    process = Process()
    while True:
        message, fds, _, _ = socket.recv_fds(connection, _MESSAGE, 1)
        if not message:
            return
        answer: Any = None
        sent: list[int] = []
        match pickle.loads(message):
            case ("begin", directory):
                process.begin(directory)
            case ("make", call):
                answer = process.make(call)
            case ("receive", slot):
                process.put(slot, fds[0])
            case ("send", slot):
                sent = [process.fd(slot)]
        socket.send_fds(connection, [pickle.dumps(answer)], sent)
