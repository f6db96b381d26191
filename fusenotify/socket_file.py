# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of a mount's socket: it is made, replaced if dead, and removed.

server.listener makes it, mounting.daemon removes it.  After a daemon was killed, its
dead socket is removed by the commands that clean up.  The directory is opened once, and
everything is done by its descriptor.

Invariants
    A lock is held between looking at the name and changing it, so that two
        daemons cannot take the same name, and a socket that is bound and not
        listening yet does not count as dead.
    A socket has its permissions from the beginning: they are not changed by path.
    Only the file that was made, or found dead, is removed, and no other file in
        its place.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

# Linux: sun_path has 108 bytes, with the NUL.
_LONGEST_PATH = 107
_BACKLOG = 128
# How many seconds to wait for the lock, which other processes hold only for some system calls.
_LOCK_SECONDS = 5.0


class SocketFile:
    """A name for a socket, in a directory that is held open; a context manager that closes it.

    With make, a missing directory is made: open to all users for root, otherwise only to this
    user.  With private, it must be a directory of this user, not a link, to which nobody else may
    write.

    Raises OSError: EPERM if it is not private, ENAMETOOLONG, and as mkdir(2) and open(2).
    """

    def __init__(self, path: str, *, make: bool = True, private: bool = False) -> None:
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise _too_long(path, f"a socket's path has at most {_LONGEST_PATH} bytes")
        self.path = path
        directory, self._name = os.path.split(os.path.abspath(path))
        if make and not os.path.lexists(directory):
            os.makedirs(os.path.dirname(directory), exist_ok=True)
            with suppress(FileExistsError), _no_umask():
                os.mkdir(directory, 0o755 if os.geteuid() == 0 else 0o700)
        kind = os.O_NOFOLLOW if private else 0
        try:
            self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | kind)
            try:
                self._here = f"/proc/self/fd/{self._directory}/{self._name}"
                if len(os.fsencode(self._here)) > _LONGEST_PATH:
                    room = _LONGEST_PATH - len(self._here) + len(self._name)
                    raise _too_long(path, f"a socket's name has at most {room} bytes here")
                found = os.fstat(self._directory)
                if private and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
                    raise NotADirectoryError
            except BaseException:
                os.close(self._directory)
                raise
        except NotADirectoryError:
            raise PermissionError(
                errno.EPERM,
                "not a directory of yours alone; name another place with --socket",
                directory,
            ) from None
        self._made: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._directory)

    def listen(self, mode: int) -> socket.socket:
        """Return a socket that listens here with the permissions mode; replace a dead one.

        Users who may write to the socket may connect.

        Raises OSError: EADDRINUSE if somebody listens, EEXIST if there is a file that is not a
        socket.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with self._locked():
                self._clear()
                os.fchmod(listener.fileno(), mode)
                try:
                    with _no_umask():
                        listener.bind(self._here)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, self.path) from None
                self._made = self._identity()
                listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def remove(self) -> None:
        """Unlink the socket that listen() made, but no other file in its place.

        Nobody else removes the socket as long as it listens, so this needs no lock.
        """
        if self._made is not None and self._identity() == self._made:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._directory)
        self._made = None

    def remove_dead(self) -> None:
        """Unlink a socket on which nobody listens any more; leave any other file alone.

        Raises OSError if this user may not.
        """
        if self._identity() is None:
            return
        with self._locked():
            if self._is_dead():
                os.unlink(self._name, dir_fd=self._directory)

    def _clear(self) -> None:
        """Make the name free: unlink a dead socket.

        Raises OSError (EADDRINUSE, EEXIST).
        """
        if self._identity() is None:
            return
        if not self._is_socket():
            raise FileExistsError(errno.EEXIST, "there is a file that is not a socket", self.path)
        if not self._is_dead():
            raise OSError(errno.EADDRINUSE, "another daemon listens there", self.path)
        os.unlink(self._name, dir_fd=self._directory)

    def _is_dead(self) -> bool:
        """Return whether there is a socket that nobody listens on."""
        if not self._is_socket():
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a socket with a full backlog also has a listener
            return probe.connect_ex(self._here) == errno.ECONNREFUSED

    def _is_socket(self) -> bool:
        found = self._status()
        return found is not None and stat.S_ISSOCK(found.st_mode)

    def _identity(self) -> tuple[int, int] | None:
        found = self._status()
        return None if found is None else (found.st_dev, found.st_ino)

    def _status(self) -> os.stat_result | None:
        try:
            return os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of this name: a file beside it, which exists while somebody holds it."""
        name = f".{self._name}.lock"
        deadline = time.monotonic() + _LOCK_SECONDS
        while (lock := self._try_lock(name)) is None:
            if time.monotonic() > deadline:
                raise OSError(errno.EADDRINUSE, "another daemon is about to listen", self.path)
            time.sleep(0.005)
        try:
            yield
        finally:
            os.unlink(name, dir_fd=self._directory)
            os.close(lock)

    def _try_lock(self, name: str) -> int | None:
        """Return a descriptor that holds the lock, or None if another process holds it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            lock = os.open(name, flags, 0o600, dir_fd=self._directory)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None
        try:
            found = os.fstat(lock)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                beside = os.path.join(os.path.dirname(self.path), name)
                raise FileExistsError(errno.EEXIST, "somebody else's file is in the way", beside)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return lock  # its last holder has not removed this file
        except BlockingIOError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        return None


@contextmanager
def _no_umask() -> Iterator[None]:
    """Set the umask to 0, so that new files get their exact mode; it is that of the process."""
    umask = os.umask(0)
    try:
        yield
    finally:
        os.umask(umask)


def _too_long(path: str, why: str) -> OSError:
    return OSError(errno.ENAMETOOLONG, f"{why}; choose another one with --socket", path)
