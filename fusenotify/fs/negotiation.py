# SPDX-License-Identifier: GPL-2.0-or-later
"""INIT, FUSE's first exchange, where more is asked for than libfuse and pyfuse3 have words for.

The kernel says what it can do, and the filesystem answers what of it is to be
done.  libfuse gives that answer by itself.  So for this one exchange its
descriptor is an end of a pair of sockets: it is handed the kernel's request
there, and its answer goes to the kernel with WANTED added.  Then the descriptor
is the connection again, and libfuse never knows.

fs.polling says when pyfuse3 is about to read; fs.ownership and fs.set_id do
what was asked for.  Linux: fs/fuse/inode.c fuse_send_init(), process_init_reply().

Invariants
    Nothing is asked for that the kernel did not offer: an older one goes on
        as libfuse has it.
    Between begin() and end() nobody waits for the descriptor.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

# FUSE_DONT_MASK: the umask is ours to apply.  Below a default ACL it does not count, which the
# kernel's FUSE cannot know.
_DONT_MASK = 1 << 6
# FUSE_HANDLE_KILLPRIV_V2: taking set-id bits is ours (fs.set_id).  So the kernel may remember that
# a file has no capabilities, and does not ask before each write.
_HANDLE_KILLPRIV_V2 = 1 << 28
WANTED = _DONT_MASK | _HANDLE_KILLPRIV_V2

# The least that the kernel takes for a buffer, FUSE_MIN_READ_BUFFER.
_BUFFER = 8192
# Where the flags are: behind fuse_in_header, major, minor, max_readahead; behind fuse_out_header
# and the same three.
_OFFERED = struct.Struct("=52xI")
_ANSWERED = struct.Struct("=28xI")


class Negotiation:
    """One connection's INIT: begin() when it can be read, end() when libfuse has answered it."""

    def __init__(self) -> None:
        self._connection = -1
        self._offered = 0
        self._libfuse: socket.socket | None = None

    @property
    def begun(self) -> bool:
        """libfuse has the request before it."""
        return self._libfuse is not None

    def begin(self, fd: int) -> None:
        """Put the request before libfuse, which reads from fd.

        Raises OSError; then libfuse may read it itself, or see that it was
        unmounted (ENODEV).
        """
        ours, libfuses = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with libfuses:
            self._libfuse = ours
            try:
                self._connection = os.dup(fd)
                request = os.read(fd, _BUFFER)  # the last that may fail: it is read only once
            except OSError:
                self.close()
                raise
            (self._offered,) = _OFFERED.unpack_from(request)
            ours.send(request)
            os.dup2(libfuses.fileno(), fd, inheritable=False)

    def end(self, fd: int) -> None:
        """Answer the kernel, and make fd the connection again."""
        assert self._libfuse is not None
        answer = bytearray(self._libfuse.recv(_BUFFER))
        os.dup2(self._connection, fd, inheritable=False)
        self.close()
        if len(answer) >= _ANSWERED.size:  # not an error
            (flags,) = _ANSWERED.unpack_from(answer)
            struct.pack_into("=I", answer, _ANSWERED.size - 4, flags | WANTED & self._offered)
        with suppress(OSError):  # unmounted meanwhile, as libfuse will see
            os.write(fd, answer)

    def close(self) -> None:
        """Let go of what is held between begin() and end()."""
        if self._libfuse is not None:
            self._libfuse.close()
            self._libfuse = None
        if self._connection >= 0:
            os.close(self._connection)
            self._connection = -1
