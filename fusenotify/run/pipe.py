# SPDX-License-Identifier: GPL-2.0-or-later
"""The pipe behind a program's inotify descriptor.  Linux: pipe(7).

run.descriptor decides what is written.  The program's end is open for reading and writing,
so that it never sees an end of file: where the supervisor is gone it is silent.

Invariants
    What is written are whole records: a write of up to 4096 bytes is done whole or not at all.
    We hold no end for reading but for a moment: the write end tells by EPOLLERR that all
        of the program's copies are closed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

# A page: what one write can do whole, and more than any record.
CAPACITY = 4096


class Pipe:
    """The write end; close() it."""

    def __init__(self) -> None:
        """Raises OSError: EMFILE, ENFILE."""
        reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(reader)
        fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._path = b"/proc/self/fd/%d" % self._writer
        # What readlink(2) of a program's descriptor says.
        self.name = os.readlink(self._path)

    def fileno(self) -> int:
        """Return the write end's descriptor."""
        return self._writer

    def close(self) -> None:
        """Close the write end."""
        os.close(self._writer)

    def program_end(self, *, nonblock: bool) -> int:
        """Return a new descriptor for the program, for the caller to close."""
        return os.open(self._path, os.O_RDWR | os.O_CLOEXEC | (os.O_NONBLOCK if nonblock else 0))

    def unread(self) -> int:
        """Return how many bytes are in it."""
        answer = bytearray(4)
        fcntl.ioctl(self._writer, termios.FIONREAD, answer)
        return int(struct.unpack("=i", answer)[0])

    def write(self, records: bytes) -> bool:
        """Write records; return False where there is no room for them."""
        try:
            return os.write(self._writer, records) == len(records)
        except BlockingIOError:
            return False
        except BrokenPipeError:
            return False  # nobody has it any more: we will hear of that

    def take(self, size: int) -> bytes:
        """Read up to so many bytes away, and return them."""
        reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(reader, size)
        except BlockingIOError:
            return b""
        finally:
            os.close(reader)
