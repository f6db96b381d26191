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
# What a read takes unless told otherwise: whatever record there is fits.
READ_SIZE = MOST_BYTES
# What is asked of the socket at a time.
RECEIVE_SIZE = 256 * 1024

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
    """Return the error of a connect(2) with a message that helps."""
    code = error.errno or errno.EIO
    return OSError(code, _CONNECT_REFUSALS.get(code, os.strerror(code)), name)


def is_the_sockets(error: OSError) -> bool:
    """Return whether the system call failed; False where a signal handler raised during it."""
    assert error.__traceback__ is not None
    return error.__traceback__.tb_next is None


def no_answer(name: str) -> OSError:
    """Return the error for a daemon that takes connections and does not serve them."""
    return OSError(
        errno.ETIMEDOUT, f"the daemon does not answer in {HELLO_SECONDS:g} s: is it stopped?", name
    )


def deadline_of(timeout: float | None) -> float:
    """Return when so many seconds have passed, in the time of time.monotonic().

    Raises TypeError where it is no number, OSError (EINVAL) where it is too large for a time.
    """
    if timeout is None:
        return math.inf
    try:
        return time.monotonic() + timeout
    except OverflowError:
        raise OSError(errno.EINVAL, "so many seconds are no time") from None
    except TypeError:
        raise TypeError(f"a time is a number of seconds, not {timeout!r}") from None


def check_flags(**flags: bool) -> None:
    """Raise TypeError where one of them is neither True nor False."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name} is True or False, not {flag!r}")


def rights(descriptors: list[int]) -> list[tuple[int, int, array[int]]]:
    """Return the control messages that pass descriptors.  Linux: SCM_RIGHTS of unix(7)."""
    if not descriptors:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]


def client_closed() -> OSError:
    """Return the error for requests to a client that was closed."""
    return OSError(errno.EBADF, "the client was closed")
