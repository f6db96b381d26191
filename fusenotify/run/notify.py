# SPDX-License-Identifier: GPL-2.0-or-later
"""The listener of a seccomp filter: receives notifications, sends answers.

Linux: seccomp_unotify(2).  run.supervisor receives; run.calls and run.reads answer.

Invariants
    A thread sleeps until its notification is answered, so every notification must be.
    Answering a thread that is gone raises nothing; the result (False or None) tells it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
from typing import NamedTuple

# The ioctls: _IOWR('!', 0, 80), _IOWR('!', 1, 24), _IOW('!', 2, 8), _IOW('!', 3, 24),
# _IOW('!', 4, 8).
_RECV = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_ADDFD = 0x40182103
_SET_FLAGS = 0x40082104
_SYNC_WAKE_UP = 1
_CONTINUE = 1
_ADDFD_SETFD = 1
_ADDFD_SEND = 2

# struct seccomp_notif: id, pid, flags, then seccomp_data: nr, arch, instruction_pointer, args.
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
# struct seccomp_notif_resp: id, val, error, flags.
_RESPONSE = struct.Struct("=QqiI")
# struct seccomp_notif_addfd: id, flags, srcfd, newfd, newfd_flags.
_ID = struct.Struct("=Q")
assert _NOTIFICATION.size == 80
_ADD = struct.Struct("=QIIII")


class Notification(NamedTuple):
    """A system call in which a thread waits.

    thread is the thread's id in our pid namespace, or 0 if it has none there.  number and
    audit (AUDIT_ARCH_*) tell which call it is; arguments are its six arguments.
    """

    id: int
    thread: int
    number: int
    audit: int
    arguments: tuple[int, ...]


class Listener:
    """The listener's descriptor, which it owns; call close() at the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # before Linux 6.6
            # One of us and the thread always waits for the other: they share a processor.
            fcntl.ioctl(descriptor, _SET_FLAGS, _SYNC_WAKE_UP)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor, which is readable while a notification waits."""
        return self._descriptor

    def close(self) -> None:
        """Close the listener: calls that wait, and later ones, fail with ENOSYS."""
        os.close(self._descriptor)

    def receive(self) -> Notification | None:
        """Return the next notification; None if none waits, as when its thread was killed."""
        if not any(events & select.POLLIN for _, events in self._poll.poll(0)):
            return None
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._descriptor, _RECV, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        number, thread, _, call, audit, _, *arguments = _NOTIFICATION.unpack(buffer)
        return Notification(number, thread, call & 0xFFFFFFFF, audit, tuple(arguments))

    def has_users(self) -> bool:
        """Return whether a process is still under the filter."""
        return not any(events & select.POLLHUP for _, events in self._poll.poll(0))

    def is_valid(self, notification: int) -> bool:
        """Return whether the thread still waits; its id was not reused until then."""
        return self._control(_ID_VALID, bytearray(_ID.pack(notification))) is not None

    def answer(self, notification: int, value: int) -> bool:
        """Make the call return a value, or fail with an errno if the value is negative.

        Returns whether the thread got the answer.
        """
        error = value if value < 0 else 0
        return self._send(notification, max(value, 0), error, 0)

    def let_continue(self, notification: int) -> bool:
        """Let the kernel carry the call out, as if there were no filter.

        Returns whether the thread got the answer.
        """
        return self._send(notification, 0, 0, _CONTINUE)

    def add_descriptor(
        self, notification: int, descriptor: int, wanted: int | None, *, close_on_exec: bool
    ) -> int | None:
        """Make the call return a copy of our descriptor, with the wanted number if given.

        Returns the copy's number; None if the thread is gone.

        Raises OSError: EMFILE; EBADF if the wanted number is beyond the program's limit.
        """
        flags = _ADDFD_SEND | (_ADDFD_SETFD if wanted is not None else 0)
        on_exec = os.O_CLOEXEC if close_on_exec else 0
        request = _ADD.pack(notification, flags, descriptor, wanted or 0, on_exec)
        return self._control(_ADDFD, bytearray(request))

    def _send(self, notification: int, value: int, error: int, flags: int) -> bool:
        response = bytearray(_RESPONSE.pack(notification, value, error, flags))
        return self._control(_SEND, response) is not None

    def _control(self, request: int, buffer: bytearray) -> int | None:
        """Call ioctl(2), and return its value; None if the notification's thread is gone."""
        while True:
            try:
                # A bytearray is changed in place; of bytes, the kernel's changes would be lost.
                answer: int = fcntl.ioctl(self._descriptor, request, buffer)
                return answer
            except InterruptedError:
                continue
            except OSError as error:
                # EINPROGRESS: the notification was answered already.
                if error.errno in (errno.ENOENT, errno.EINPROGRESS):
                    return None
                raise
