# SPDX-License-Identifier: GPL-2.0-or-later
"""What the blocking and the async client share besides protocol.connection."""

from __future__ import annotations

import errno
import math
import os
import socket
import time
from array import array

from fusenotify.events import MOST_BYTES

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# How long a daemon may take to answer the first request.
HELLO_SECONDS = 10.0
# The default size of a read, in bytes: the largest record fits.
READ_SIZE = MOST_BYTES
# How many bytes of events one request asks the journal for: more than any event takes.
PAST_SIZE = 256 * 1024
# How many bytes one recv(2) asks for.  For more, malloc(3) would map memory each time.
RECEIVE_SIZE = 64 * 1024

# Linux: sun_path has 108 bytes, with the NUL.
_LONGEST_SOCKET_PATH = 107

_CONNECT_REFUSALS = {
    errno.ENOENT: "there is no such socket: is the mount's daemon running?",
    errno.ECONNREFUSED: "nobody listens there: the daemon that made this socket is dead",
    errno.EACCES: "you may not connect: the daemon serves its own user unless mounted with "
    "-o allow_other, --allow-user or --socket-mode",
}


def socket_name(path: AnyPath) -> str:
    """Return a socket's path as text.

    Raises OSError (ENAMETOOLONG).
    """
    name = os.fsdecode(path)
    if len(os.fsencode(name)) > _LONGEST_SOCKET_PATH:
        raise OSError(
            errno.ENAMETOOLONG, f"a socket's path has at most {_LONGEST_SOCKET_PATH} bytes", name
        )
    return name


def connect_refusal(error: OSError, name: str) -> OSError:
    """Return the error of a connect(2) with a message that says what to do."""
    code = error.errno or errno.EIO
    return OSError(code, _CONNECT_REFUSALS.get(code, os.strerror(code)), name)


def is_the_sockets(error: OSError) -> bool:
    """Return True if the system call itself failed, False if a signal handler raised during it."""
    assert error.__traceback__ is not None
    return error.__traceback__.tb_next is None


def no_answer(name: str) -> OSError:
    """Return the error for a daemon that accepts connections but does not answer on them."""
    return OSError(
        errno.ETIMEDOUT, f"the daemon does not answer in {HELLO_SECONDS:g} s: is it stopped?", name
    )


def deadline_of(timeout: float | None) -> float:
    """Return the time.monotonic() at which timeout seconds will have passed; inf for None.

    Raises TypeError if timeout is not a number, OSError (EINVAL) if it is too large.
    """
    if timeout is None:
        return math.inf
    try:
        return time.monotonic() + timeout
    except OverflowError:
        raise OSError(errno.EINVAL, "the timeout is too large") from None
    except TypeError:
        raise TypeError(f"a timeout is a number of seconds, not {timeout!r}") from None


def check_flags(**flags: bool) -> None:
    """Raise TypeError if one of the flags is not a bool; its keyword is the name to show."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name} is True or False, not {flag!r}")


def rights(descriptors: list[int]) -> list[tuple[int, int, array[int]]]:
    """Return the control messages that pass descriptors.  Linux: SCM_RIGHTS of unix(7)."""
    if not descriptors:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]


def client_closed() -> OSError:
    """Return the error for a request to a closed client."""
    return OSError(errno.EBADF, "the client was closed")
