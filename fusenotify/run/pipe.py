# SPDX-License-Identifier: GPL-2.0-or-later
"""The pipe behind a program's inotify descriptor.  Linux: pipe(7).

run.descriptor decides what is written.  The program's end is open for reading and writing,
so that the program never reads an end of file; when the supervisor is gone, nothing comes.

Invariants
    Only whole records are written: a write of up to 4096 bytes is done whole or not at all.
    We hold an end for reading only for moments.  So EPOLLERR on the write end means that all
        of the program's copies are closed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

# A page: the most that one write does whole, and more than any record.
CAPACITY = 4096


class Pipe:
    """The write end of a pipe; call close() at the end."""

    def __init__(self) -> None:
        """Raises OSError: EMFILE, ENFILE."""
        reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(reader)
        fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._path = b"/proc/self/fd/%d" % self._writer
        # What readlink(2) returns for the program's descriptor in /proc.
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
        """Return how many bytes are in the pipe."""
        answer = bytearray(4)
        fcntl.ioctl(self._writer, termios.FIONREAD, answer)
        return int(struct.unpack("=i", answer)[0])

    def write(self, records: bytes) -> bool:
        """Write records; return False if there is no room for them."""
        try:
            return os.write(self._writer, records) == len(records)
        except BlockingIOError:
            return False
        except BrokenPipeError:
            return False  # all copies are closed: EPOLLERR will report that

    def take(self, size: int) -> bytes:
        """Take up to size bytes out of the pipe, and return them; b"" if it is empty."""
        reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(reader, size)
        except BlockingIOError:
            return b""
        finally:
            os.close(reader)
