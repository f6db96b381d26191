# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing back of stores to shared mappings before a file's times are set.

The kernel writes such pages back when it likes, as ordinary WRITEs, each of which
changes mtime; so a time that a program has set would be overwritten.  Therefore a
SETATTR of a file that may be mapped waits here until the stores are written back.

The daemon cannot ask the kernel for that itself.  It would sleep in the kernel
until the WRITEs are answered, with /dev/fuse open; if the daemon was killed during
that time, nobody would answer them, and the connection would never end.  So a
separate process does it, which has nothing else open: it opens the file through
the mount, by its handle (fs.file_requests answers that request, without an event).
Only root may do this.

For the same reason the process ends the connection of a daemon that was killed while a thread of
behind.forgetting waits in the kernel for the lock of a directory.  A program that waits for the
daemon holds that lock, and the connection lasts as long as the thread.

Invariants
    The process is forked before the mount.  It uses nothing with a lock that
        another thread of the daemon may hold, such as logging, and it ends with
        the daemon, in whatever way that ends.
    It closes the file only after its answer, since close(2) waits for the lock
        that the kernel holds for the SETATTR.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import struct
import threading
import warnings
from contextlib import suppress
from typing import NoReturn

import trio

from fusenotify.fs.own_root import OwnRoot
from fusenotify.fs.syscalls import AT_FDCWD, open_by_handle, sync_file
from fusenotify.fs.waiting import Obstacle

# The file handle that the process gets; there is no descriptor of SOURCE behind it.
OWN_FILE = 1 << 32

# A request: the id of the mount, and the inode's number.
_ASKED = struct.Struct("=QQ")
# struct file_handle of FUSE: its length, its type, FILEID_INO64_GEN, nodeid and generation.
_HANDLE = struct.Struct("=IiIII")
_HANDLE_TYPE = 0x81
_working_directory = threading.Lock()
# The signal that the process gets when the daemon's main thread ends, and how long the other
# threads may take to end.
_ENDED = signal.SIGUSR1
_ENDING_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_MNT_FORCE = 1
_libc = ctypes.CDLL(None)
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


class Unwritten(Obstacle):
    """Stores to a mapping of the file may not be written back yet."""


class _DaemonEnded(Exception):
    """The daemon's main thread has ended."""


class WriteBack:
    """The daemon's side of the process, which start() makes.

    under_way counts the requests to the process that are not done yet.
    """

    def __init__(self, control: socket.socket, pid: int) -> None:
        self._control = control
        self._pid = pid
        self._mount = 0
        self.under_way = 0

    @classmethod
    def start(cls) -> WriteBack | None:
        """Fork the process, before the mount is made, in the main thread.

        Returns None if the process would be of no use, or cannot be forked.
        """
        if os.geteuid():
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # there is another thread
                pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            return None
        if not pid:
            _run(theirs.detach())
        theirs.close()
        ours.setblocking(False)
        return cls(ours, pid)

    def mounted(self, mount: int) -> None:
        """Take the mount's id in mountinfo."""
        self._mount = mount
        with suppress(OSError):  # the process was killed
            self._control.send(_ASKED.pack(mount, 0))

    async def of(self, number: int) -> None:
        """Wait until all stores to mappings of an inode up to now are written back.

        Also returns if that is impossible: no path leads to the mount, the process was
        killed, or no descriptor is left.
        """
        try:
            reader, writer = os.pipe()
        except OSError:  # EMFILE
            return
        self.under_way += 1
        try:
            try:
                socket.send_fds(self._control, [_ASKED.pack(self._mount, number)], [writer])
            except OSError:  # the process was killed
                return
            finally:
                os.close(writer)
            await trio.lowlevel.wait_readable(reader)
        finally:
            self.under_way -= 1
            os.close(reader)

    def asks(self, pid: int) -> bool:
        """Return whether a request comes from the process.  Call it only while under_way."""
        with suppress(OSError):
            return os.getsid(pid) == self._pid
        return False

    def close(self) -> None:
        """Make the process end."""
        self._control.close()
        with suppress(OSError):
            os.waitpid(self._pid, os.WNOHANG)


def _run(control: int) -> None:
    """Run the process; never return."""
    try:
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        gc.freeze()  # memory stays shared with the daemon as long as it is not written to
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)
        os.closerange(3, control)
        # Inherited descriptors may be above the limit of open files.
        os.closerange(control + 1, max(map(int, os.listdir("/proc/self/fd"))) + 1)
        signal.signal(_ENDED, _ended)
        _libc.prctl(_PR_SET_PDEATHSIG, _ENDED, 0, 0, 0)
        with socket.socket(fileno=control) as asked:
            _serve(asked)
    finally:
        os._exit(0)


def _serve(asked: socket.socket) -> None:
    """Do what the daemon asks for until it ends, and end its connection if it does not end."""
    root = None
    try:
        while True:
            message, fds, _, _ = socket.recv_fds(asked, _ASKED.size, 1)
            if not message:
                return
            mount, inode = _ASKED.unpack(message)
            root = root or OwnRoot(mount)
            if fds:
                threading.Thread(target=_write, args=(root, inode, fds[0])).start()
    except _DaemonEnded:
        asked.settimeout(_ENDING_SECONDS)
        try:
            while asked.recv(_ASKED.size):
                pass
        except TimeoutError:
            if root is not None:
                _abort(root)


def _ended(*_: object) -> NoReturn:
    raise _DaemonEnded


def _abort(root: OwnRoot) -> None:
    """End the connection; the mount stays, dead, since it is in use here."""
    with suppress(OSError), root.opened() as directory:
        _libc.umount2(b"/proc/self/fd/%d" % directory, _MNT_FORCE)


def _write(root: OwnRoot, number: int, writer: int) -> None:
    """Write an inode's pages back; closing writer tells the other end that it is done."""
    opened = -1
    try:
        with suppress(OSError):
            with _working_directory:
                with root.opened() as directory:
                    os.fchdir(directory)
                try:
                    high, low = divmod(number, 1 << 32)
                    handle = _HANDLE.pack(_HANDLE.size - 8, _HANDLE_TYPE, high, low, 0)
                    opened = open_by_handle(AT_FDCWD, handle, os.O_RDONLY)
                finally:
                    os.chdir("/")
            sync_file(opened)
    finally:
        os.close(writer)
        if opened >= 0:
            os.close(opened)
