# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify wait`` watches, in one mount or several, and what happens there.

cli.wait says what to watch and prints what comes.  An Inotify serves one
mount.  Where there are several, a thread reads each, and hands over one read
at a time: what comes meanwhile stays in the mount's queue, as with one.

Invariants
    A directory's path ends in a slash, a file's does not.
    A watch is in _watched from add() until its IN_IGNORED was read.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from fusenotify.bits import IN_IGNORED
from fusenotify.client import Inotify
from fusenotify.client.events import DetailedInotifyEvent, InotifyEvent
from fusenotify.client.locate import locate

AnyEvent = InotifyEvent[bytes] | DetailedInotifyEvent[bytes]
AnyInotify = Inotify[InotifyEvent[bytes]] | Inotify[DetailedInotifyEvent[bytes]]


class Watching:
    """Watches in any mounts.  It is true while there is one.

    Where detailed, events are DetailedInotifyEvent, else InotifyEvent.
    """

    def __init__(self, *, detailed: bool) -> None:
        self._detailed = detailed
        self._mounts: dict[str, AnyInotify] = {}  # by their sockets
        self._watched: dict[tuple[str, int], bytes] = {}
        self._threads: list[threading.Thread] = []
        self._came: queue.Queue[tuple[str, Sequence[AnyEvent] | Exception]] = queue.Queue(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for inotify in self._mounts.values():
            inotify.close()

    def __bool__(self) -> bool:
        return bool(self._watched)

    def add(self, path: bytes, mask: int, *, tree: bool, exclude: Sequence[str] = ()) -> None:
        """Watch a path, a directory and all below it where tree, but for what exclude names.

        Raises OSError as Inotify.add_watch(), ProtocolError.
        """
        bare = path.rstrip(b"/") or b"/"
        socket = locate(bare).socket
        inotify = self._mounts.get(socket)
        if inotify is None:
            inotify = Inotify(detailed=True) if self._detailed else Inotify()
            self._mounts[socket] = inotify
        wd = inotify.add_watch(bare, mask, tree=tree, exclude=exclude)
        self._watched[socket, wd] = path

    def read(self, timeout: float | None) -> list[tuple[bytes, AnyEvent]]:
        """Return events, each with the path that is watched; wait for the first one.

        The path is empty where the event is about no watch.  Nothing is returned where
        the timeout, in seconds, passed.

        Raises OSError as Inotify.read().
        """
        if len(self._mounts) == 1:
            (socket,) = self._mounts
            return self._told(socket, self._mounts[socket].read(timeout))
        if not self._threads:
            for socket in self._mounts:
                # As a daemon: nobody waits for one whose mount has no more to say.
                thread = threading.Thread(target=self._read_all, args=[socket], daemon=True)
                self._threads.append(thread)
                thread.start()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                socket, outcome = self._came.get(timeout=remaining)
            except queue.Empty:
                return []
            if not isinstance(outcome, Exception):
                return self._told(socket, outcome)
            if any(its_socket == socket for its_socket, _ in self._watched):
                raise outcome

    def _read_all(self, socket: str) -> None:
        inotify = self._mounts[socket]
        try:
            while True:
                self._came.put((socket, inotify.read()))
        except Exception as error:
            self._came.put((socket, error))

    def _told(self, socket: str, events: Sequence[AnyEvent]) -> list[tuple[bytes, AnyEvent]]:
        told = [(self._watched.get((socket, event.wd), b""), event) for event in events]
        for event in events:
            if event.mask & IN_IGNORED:
                self._watched.pop((socket, event.wd), None)
        return told


def outermost(paths: Sequence[bytes]) -> list[bytes]:
    """Return the paths without directories that lie in another one, or are named before.

    So no event is told twice.
    """
    places = [_place(path) for path in paths]
    first: dict[tuple[bytes, int], int] = {}
    for number, place in enumerate(places):
        if place is not None:
            first.setdefault(place, number)

    def is_covered(number: int) -> bool:
        place = places[number]
        if place is None:
            return False
        above, device = place
        if first[place] != number:
            return True
        while above != b"/":
            above = os.path.dirname(above)
            if (above, device) in first:
                return True
        return False

    return [path for number, path in enumerate(paths) if not is_covered(number)]


def _place(path: bytes) -> tuple[bytes, int] | None:
    """Return the real path and the filesystem of a directory; None for what is none."""
    try:
        status = os.stat(path)
        return (os.path.realpath(path), status.st_dev) if stat.S_ISDIR(status.st_mode) else None
    except OSError:
        return None  # adding the watch says why
