# SPDX-License-Identifier: GPL-2.0-or-later
"""INIT, FUSE's first exchange, where more is asked for than libfuse and pyfuse3 have words for.

The kernel says what it can do, and the filesystem answers what of it is to be
done.  libfuse gives that answer by itself.  So for this one exchange its
descriptor is an end of a pair of sockets: it is handed the kernel's request
there, and its answer goes to the kernel with WANTED added.  Then the descriptor
is the connection again, and libfuse never knows.

fs.polling says when pyfuse3 is about to read; fs.ownership and fs.set_id do
what was asked for.  fs.names has the kernel look names up again, which libfuse
has no word for either.  Linux: fs/fuse/inode.c fuse_send_init(),
process_init_reply(); fs/fuse/dev.c fuse_notify_inc_epoch().

Invariants
    Nothing is asked for that the kernel did not offer: an older one goes on
        as libfuse has it.
    Where the exchange is not as it was when this was written, it passes as it
        is, and a warning says so.
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

# FUSE_DONT_MASK: the umask is ours to apply.  Below a default ACL it does not count, which the
# kernel's FUSE cannot know.
_DONT_MASK = 1 << 6
# FUSE_HANDLE_KILLPRIV_V2: taking set-id bits is ours (fs.set_id).  So the kernel may remember that
# a file has no capabilities, and does not ask before each write.
_HANDLE_KILLPRIV_V2 = 1 << 28
WANTED = _DONT_MASK | _HANDLE_KILLPRIV_V2

LESS = "the kernel is asked for no more than libfuse asks"
# The least that the kernel takes for a buffer, FUSE_MIN_READ_BUFFER.
_BUFFER = 8192
# fuse_in_header's length, opcode and unique number, then major, minor, max_readahead, the flags;
# fuse_out_header's length, error and unique number, then the same four.
_OFFERED = struct.Struct("=IIQ24xII4xI")
_ANSWERED = struct.Struct("=IiQI8xI")
_INIT = 26
_MAJOR = 7
# FUSE_NOTIFY_INC_EPOCH, a notice of a header alone, and the first minor version that has it.
_NEXT_EPOCH = struct.pack("=IiQ", 16, 8, 0)
_EPOCHS_SINCE = 44


class Negotiation:
    """One connection's INIT: begin() when it can be read, end() when libfuse has answered it."""

    def __init__(self) -> None:
        self._connection = -1
        self._offered = 0
        self._unique = 0
        self._has_epochs = False
        # The connection as libfuse has it.
        self._fd = -1
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
            self._look_at(request)
            self._fd = fd
            ours.send(request)
            os.dup2(libfuses.fileno(), fd, inheritable=False)

    def end(self, fd: int) -> bool:
        """Answer the kernel, and make fd the connection again.

        Returns whether that is done: not while libfuse has not read the request.  One that
        it has not answered by now it answers by itself.
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
            with suppress(OSError):  # unmounted meanwhile, as libfuse will see
                os.write(fd, self._with_more(answer))
        else:
            log.warning("%s: libfuse did not answer as was expected", LESS)
        return True

    def next_epoch(self) -> bool:
        """Have the kernel look up all names that it remembers before it uses them again.

        It takes no lock for it.  Returns whether it will: since Linux 6.16.
        """
        if not self._has_epochs:
            return False
        try:
            os.write(self._fd, _NEXT_EPOCH)
        except OSError:  # unmounted, or it has no such notice after all
            self._has_epochs = False
        return self._has_epochs

    def _look_at(self, request: bytes) -> None:
        """Learn what the kernel offers, where this is an INIT as it is known."""
        if len(request) >= _OFFERED.size:
            length, opcode, unique, major, minor, offered = _OFFERED.unpack_from(request)
            if (length, opcode, major) == (len(request), _INIT, _MAJOR):
                self._offered, self._unique = offered, unique
                self._has_epochs = minor >= _EPOCHS_SINCE
                return
        log.warning("%s: its first request is none that was expected", LESS)

    def _with_more(self, answer: bytes) -> bytes:
        """Return libfuse's answer with what is asked for beyond, where it is one to INIT."""
        if len(answer) < _ANSWERED.size:  # a refusal
            return answer
        length, error, unique, major, flags = _ANSWERED.unpack_from(answer)
        if not self._offered:
            return answer
        if (length, error, unique, major) != (len(answer), 0, self._unique, _MAJOR):
            log.warning("%s: libfuse's answer is none that was expected", LESS)
            return answer
        head = _ANSWERED.pack(length, error, unique, major, flags | WANTED & self._offered)
        # What the format leaves out stays.
        middle = answer[20:28]
        return head[:20] + middle + head[28:] + answer[_ANSWERED.size :]

    def close(self) -> None:
        """Let go of what is held between begin() and end()."""
        if self._libfuse is not None:
            self._libfuse.close()
            self._libfuse = None
        if self._connection >= 0:
            os.close(self._connection)
            self._connection = -1
