# SPDX-License-Identifier: GPL-2.0-or-later
"""The thread of a notification: its memory, descriptors, signals and credentials.

run.calls uses it; run.paths resolves paths for it.  Everything is read by the thread's id,
which another thread may get when this one was killed.  So what was read is valid only if the
notification is still valid afterwards (Listener.is_valid).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

_PATH_MAX = 4096
_PAGE = 4096
_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Target:
    """A thread under our filter.  word is the size of its pointers."""

    def __init__(self, thread: int, word: int) -> None:
        self.thread = thread
        self.word = word
        self.proc = b"/proc/%d/" % thread

    def is_open_to_us(self) -> bool:
        """Return whether we may read the thread's memory: it is dumpable, or we are privileged."""
        try:
            os.close(os.open(self.proc + b"mem", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def effective_user(self) -> int:
        """Return the thread's effective user id; root's if it is not dumpable.

        Raises OSError if the thread is gone.
        """
        return os.stat(self.proc).st_uid

    def text(self, address: int) -> bytes:
        """Return the string at an address, without its NUL.

        Raises OSError: EFAULT, ENAMETOOLONG, EPERM.
        """
        found = b""
        while len(found) < _PATH_MAX:
            step = min(_PAGE - address % _PAGE, _PATH_MAX - len(found))
            piece, end, _ = self.memory(address, step).partition(b"\0")
            found += piece
            if end:
                return found
            address += step
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    def memory(self, address: int, size: int) -> bytes:
        """Return size bytes at an address, or fewer if the rest cannot be read.

        Raises OSError: EFAULT, EPERM.
        """
        buffer = ctypes.create_string_buffer(size)
        done = self._transfer(_libc.process_vm_readv, buffer, [(address, size)])
        return buffer.raw[:done]

    def store(self, data: bytes, places: Sequence[tuple[int, int]]) -> int:
        """Write bytes into buffers, given by addresses and sizes, one after the other.

        Returns how many were written before the first that could not be.

        Raises OSError: EPERM, ESRCH.
        """
        if not data:
            return 0
        buffer = ctypes.create_string_buffer(data, len(data))
        try:
            return self._transfer(_libc.process_vm_writev, buffer, places)
        except OSError as error:
            if error.errno == errno.EFAULT:
                return 0
            raise

    def vector(self, address: int, count: int) -> list[tuple[int, int]]:
        """Return the addresses and sizes in an array of count ``struct iovec``.

        Raises OSError: EFAULT, EINVAL, EPERM.
        """
        if not 0 <= count <= 1024:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        shape = struct.Struct("=QQ" if self.word == 8 else "=II")
        data = self.memory(address, count * shape.size) if count else b""
        if len(data) < count * shape.size:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return list(shape.iter_unpack(data))

    def descriptor(self, number: int) -> bytes:
        """Return the target of a descriptor's link in /proc, such as b"pipe:[123]".

        Raises OSError: ENOENT if it is not open, EACCES.
        """
        return os.readlink(b"%sfd/%d" % (self.proc, number))

    def free_number(self, first: int, end: int) -> int | None:
        """Return the lowest number in a range that no descriptor has; None if there is none."""
        for number in range(first, end):
            try:
                self.descriptor(number)
            except FileNotFoundError:
                return number
            except OSError:
                return None
        return None

    def flags(self, number: int) -> int:
        """Return the flags of an open descriptor, as fcntl(F_GETFL) does.

        Raises OSError.
        """
        with open(b"%sfdinfo/%d" % (self.proc, number), "rb") as lines:
            for line in lines:
                if line.startswith(b"flags:"):
                    return int(line.split()[1], 8)
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def status(self) -> dict[bytes, bytes]:
        """Return the values in /proc/PID/status by their names.

        Raises OSError.
        """
        return status_at(self.proc + b"status")

    def has_signal(self, taken: set[int]) -> bool:
        """Return whether a signal is pending that this thread will handle.

        A signal of the whole process is for one thread; then its process id is added to taken.
        If it is there already, the signal is another thread's.

        Raises OSError if the thread is gone.
        """
        status = self.status()
        own, shared, blocked = (int(status[n], 16) for n in (b"SigPnd", b"ShdPnd", b"SigBlk"))
        if own & ~blocked:
            return True
        process = int(status[b"Tgid"])
        shared &= ~blocked
        if shared and process != self.thread:
            # The kernel chooses the first thread, unless that one blocks the signal or has ended.
            first = Target(process, self.word).status()
            if first[b"State"][:1] not in b"ZX":
                shared &= int(first[b"SigBlk"], 16)
        if not shared or process in taken:
            return False
        taken.add(process)
        return True

    def _transfer(self, call: object, local: object, places: Sequence[tuple[int, int]]) -> int:
        size = ctypes.sizeof(local)  # type: ignore[arg-type]
        ours = _Iovec(ctypes.addressof(local), size)  # type: ignore[arg-type]
        theirs = (_Iovec * len(places))(*(_Iovec(*place) for place in places))
        done: int = call(  # type: ignore[operator]
            self.thread, ctypes.byref(ours), 1, ctypes.byref(theirs), len(places), 0
        )
        if done < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return done


def status_at(path: bytes) -> dict[bytes, bytes]:
    """Return the values in a file like /proc/PID/status by their names.  Raises OSError."""
    lines = contents(path).splitlines()
    return {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}


def contents(path: bytes) -> bytes:
    """Return the contents of a file in /proc.  Raises OSError."""
    # A file object of Python would make system calls to find out what it has opened.
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while piece := os.read(number, _PAGE):
            text += piece
        return text
    finally:
        os.close(number)
