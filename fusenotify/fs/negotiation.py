# SPDX-License-Identifier: GPL-2.0-or-later
"""INIT, FUSE's first exchange, which asks for more than libfuse and pyfuse3 can express.

In this exchange the kernel offers features, and the filesystem answers which of
them it wants.  libfuse writes that answer itself.  So for this one exchange, its
descriptor is an end of a pair of sockets: libfuse gets the kernel's request there,
and its answer goes to the kernel with WANTED added.  Then the descriptor is the
connection again, without libfuse noticing.

fs.polling calls this when pyfuse3 is about to read; fs.ownership and fs.set_id
implement the features.  Linux: fs/fuse/inode.c fuse_send_init(), process_init_reply().

Invariants
    Only features that the kernel offers are asked for; with an older kernel,
        the answer is libfuse's.
    If the exchange is not as it was when this was written, it is passed on
        unchanged, and a warning says so.
    Between begin() and end() nobody waits for the descriptor.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
from contextlib import suppress

log = logging.getLogger(__name__)

# FUSE_DONT_MASK: we apply the umask.  Where a default ACL holds, the umask does not count, which
# the kernel's FUSE cannot know.
_DONT_MASK = 1 << 6
# FUSE_HANDLE_KILLPRIV_V2: we remove set-id bits (fs.set_id).  So the kernel may remember that a
# file has no capabilities, and does not ask before each write.
_HANDLE_KILLPRIV_V2 = 1 << 28
WANTED = _DONT_MASK | _HANDLE_KILLPRIV_V2

LESS = "the kernel is asked for no more than libfuse asks"
# The smallest buffer that the kernel accepts, FUSE_MIN_READ_BUFFER.
_BUFFER = 8192
# Length, opcode and unique number of fuse_in_header, then major and the flags;
# length, error and unique number of fuse_out_header, then major and the flags.
_OFFERED = struct.Struct("=IIQ24xI8xI")
_ANSWERED = struct.Struct("=IiQI8xI")
_INIT = 26
_MAJOR = 7


class Negotiation:
    """The INIT of one connection.

    Call begin() when the request can be read, end() when libfuse has answered it.
    """

    def __init__(self) -> None:
        self._connection = -1
        self._offered = 0
        self._unique = 0
        self._libfuse: socket.socket | None = None

    @property
    def begun(self) -> bool:
        """Whether libfuse has the request."""
        return self._libfuse is not None

    def begin(self, fd: int) -> None:
        """Pass the request on to libfuse, which reads from fd.

        Raises OSError.  libfuse can then read the request itself, or notice that the
        mount is unmounted (ENODEV).
        """
        ours, libfuses = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with libfuses:
            self._libfuse = ours
            try:
                self._connection = os.dup(fd)
                request = os.read(fd, _BUFFER)  # it is read only once, so nothing after may fail
            except OSError:
                self.close()
                raise
            self._look_at(request)
            ours.send(request)
            os.dup2(libfuses.fileno(), fd, inheritable=False)

    def end(self, fd: int) -> bool:
        """Answer the kernel, and make fd the connection again.

        Returns False if libfuse has not read the request yet.  If it has not answered
        the request by now, it will answer the kernel itself.
        """
        assert self._libfuse is not None
        if select.select([fd], [], [], 0)[0]:
            return False
        try:
            answer = self._libfuse.recv(_BUFFER, socket.MSG_DONTWAIT)
        except BlockingIOError:
            answer = b""
        os.dup2(self._connection, fd, inheritable=False)
        self.close()
        if answer:
            with suppress(OSError):  # unmounted, which libfuse will notice
                os.write(fd, self._with_more(answer))
        else:
            log.warning("%s: libfuse did not answer as expected", LESS)
        return True

    def _look_at(self, request: bytes) -> None:
        """Store what the kernel offers, if this is an INIT of the known form."""
        if len(request) >= _OFFERED.size:
            length, opcode, unique, major, offered = _OFFERED.unpack_from(request)
            if (length, opcode, major) == (len(request), _INIT, _MAJOR):
                self._offered, self._unique = offered, unique
                return
        log.warning("%s: its first request is not as expected", LESS)

    def _with_more(self, answer: bytes) -> bytes:
        """Return libfuse's answer with WANTED added, if it is an answer to INIT."""
        if len(answer) < _ANSWERED.size:  # a refusal
            return answer
        length, error, unique, major, flags = _ANSWERED.unpack_from(answer)
        if not self._offered:
            return answer
        if (length, error, unique, major) != (len(answer), 0, self._unique, _MAJOR):
            log.warning("%s: libfuse's answer is not as expected", LESS)
            return answer
        head = _ANSWERED.pack(length, error, unique, major, flags | WANTED & self._offered)
        # The bytes that the format leaves out stay as they are.
        middle = answer[20:28]
        return head[:20] + middle + head[28:] + answer[_ANSWERED.size :]

    def close(self) -> None:
        """Close the descriptors that are open between begin() and end()."""
        if self._libfuse is not None:
            self._libfuse.close()
            self._libfuse = None
        if self._connection >= 0:
            os.close(self._connection)
            self._connection = -1
