# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify wait`` and ``watch`` watch, in one mount or several, and what happens there.

cli.wait and cli.watch say what to watch, and print or count what comes; this
module says of each event by which path it is shown.  An Inotify serves one
mount; where there are several, or a signal may end the wait, a selector says
which has something to read, so that what is not read stays in its queue.

Invariants
    A watch is in _watched from add() until its IN_IGNORED was read.
    Of two paths of one object the first one counts, as for inotifywait.
"""

from __future__ import annotations

import os
import selectors
import stat
import time
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

from fusenotify.bits import IN_DONT_FOLLOW, IN_IGNORED
from fusenotify.client import Inotify
from fusenotify.client.events import DetailedInotifyEvent, InotifyEvent
from fusenotify.client.locate import is_out_of_sight, locate

# How many seconds epoll_wait(2) is asked to wait: it takes no more than 24 days.
_LONGEST = 86400.0

AnyEvent = InotifyEvent[bytes] | DetailedInotifyEvent[bytes]
AnyInotify = Inotify[InotifyEvent[bytes]] | Inotify[DetailedInotifyEvent[bytes]]


class Told(NamedTuple):
    """An event and how it is shown.

    watched is the path that was named; directory the one, from there, in which
    it happened, with a slash behind, or the file that is watched; name what it
    happened to there, or nothing.  All are empty where it is about no watch.
    """

    watched: bytes
    directory: bytes
    name: bytes
    event: AnyEvent

    @property
    def path(self) -> bytes:
        """What an event is about, as inotifywait's patterns match it."""
        return self.directory + self.name


@dataclass
class Named:
    """A path that was named.

    given is how, path as what it is shown: a directory's with a slash behind.
    tree says that all below is watched.  before has paths that were named
    before and lie in it: the way down to each, and as what it is shown.
    """

    given: bytes
    path: bytes
    tree: bool = False
    before: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass
class _Watched:
    """What a watch is on, how the library calls that, and what is left out below."""

    named: Named
    called: bytes
    excluded: tuple[bytes, ...]

    def split(self, way: bytes | None) -> tuple[bytes, bytes, bytes]:
        """Return how the way down to something is shown: watched, directory and name of Told.

        What a directory says of itself has no name.
        """
        down, slash, name = (way or b"").rpartition(b"/")
        down += slash
        for above, path in self.named.before:
            if down.startswith(above):
                return path, path + down[len(above) :], name
        return self.named.path, self.named.path + down, name

    def told(self, event: AnyEvent) -> Told | None:
        """Return an event as it is shown; None where it is left out."""
        watched, directory, name = self.split(event.name)
        seen = not directory.startswith(self.excluded) if self.excluded else True
        if isinstance(event, DetailedInotifyEvent):
            old = None
            if event.old_path is not None:
                way = event.old_path[len(self.called) :].removeprefix(b"/")
                _, old_directory, old_name = self.split(way)
                old = _joined(old_directory, old_name)
                seen = seen or not old_directory.startswith(self.excluded)
            event = event._replace(path=_joined(directory, name), old_path=old)
        return Told(watched, directory, name, event) if seen else None


class Watching:
    """Watches in any mounts.  It is true while there is one.

    Where detailed, events are DetailedInotifyEvent, else InotifyEvent.
    interrupt() ends a read() only where interruptible.
    """

    def __init__(self, *, detailed: bool, interruptible: bool = False) -> None:
        self._detailed = detailed
        self._mounts: dict[str, AnyInotify] = {}  # by their sockets
        self._watched: dict[tuple[str, int], _Watched] = {}
        self._selector: selectors.BaseSelector | None = None
        self._interruption = os.eventfd(0) if interruptible else -1

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
        if self._selector is not None:
            self._selector.close()
        if self._interruption >= 0:
            os.close(self._interruption)

    def __bool__(self) -> bool:
        return bool(self._watched)

    def add(
        self,
        named: Named,
        mask: int,
        excluded: Iterable[bytes] = (),
        ignored: Sequence[bytes] = (),
    ) -> bool:
        """Watch what was named; a link itself where the mask has IN_DONT_FOLLOW.

        Of directories below, those that are excluded by their paths are left out,
        and what patterns of gitignore(5) name is not told.
        Return whether it was not watched before.

        Raises OSError as Inotify.add_watch(), ProtocolError.
        """
        path = named.path
        socket = locate(path, follow=not mask & IN_DONT_FOLLOW).socket
        inotify = self._mounts.get(socket)
        if inotify is None:
            inotify = Inotify(detailed=True) if self._detailed else Inotify()
            self._mounts[socket] = inotify
        wd = inotify.add_watch(path, mask, tree=named.tree, exclude=ignored)
        below = [each for each in map(with_slash, excluded) if each != path]
        left_out = tuple([each for each in below if named.tree and each.startswith(path)])
        is_new = (socket, wd) not in self._watched
        watched = self._watched.setdefault((socket, wd), _Watched(named, path, left_out))
        watched.called = path  # the latest
        return is_new

    def read(self, timeout: float | None) -> list[Told] | None:
        """Return events, each as it is shown; wait for the first one.

        None is returned where the timeout, in seconds, passed, and where the
        read was interrupted.  All that came may be left out.

        Raises OSError as Inotify.read().
        """
        if len(self._mounts) == 1 and self._interruption < 0:
            (socket,) = self._mounts
            events = self._mounts[socket].read(timeout)
            return self._told(socket, events) if events else None
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            at_once = None if remaining is None else min(remaining, _LONGEST)
            ready = [key for key, _ in self._selecting().select(at_once)]
            if any(key.fd == self._interruption for key in ready):
                os.eventfd_read(self._interruption)
                return None
            if not ready and remaining == at_once:
                return None
            came = [(key.data, self._read_ready(key)) for key in ready]
            if any(events for _, events in came):
                return [told for socket, events in came for told in self._told(socket, events)]

    def interrupt(self) -> None:
        """End a read, or else the next one; a signal's handler may call it."""
        os.eventfd_write(self._interruption, 1)

    def last(self) -> list[Told]:
        """Watch nothing any more, and return what happened before and was not read yet.

        Of a mount whose daemon is dead that is nothing.
        """
        found: list[Told] = []
        for socket, inotify in self._mounts.items():
            with suppress(OSError):
                inotify.sync()
                removed: set[int] = set()
                for wd in [wd for its_socket, wd in self._watched if its_socket == socket]:
                    with suppress(OSError):  # it is gone, and that was not read yet
                        inotify.rm_watch(wd)
                        removed.add(wd)
                while events := inotify.read(0):
                    for event in events:
                        if event.wd not in removed or not event.mask & IN_IGNORED:
                            found += self._told(socket, [event])
        return found

    def _selecting(self) -> selectors.BaseSelector:
        """Return what waits for all mounts, and for an interruption."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            for socket, inotify in self._mounts.items():
                self._selector.register(inotify.fileno(), selectors.EVENT_READ, socket)
            if self._interruption >= 0:
                self._selector.register(self._interruption, selectors.EVENT_READ)
        return self._selector

    def _read_ready(self, key: selectors.SelectorKey) -> Sequence[AnyEvent]:
        """Read what is there; nobody listens to a mount any more in which nothing is watched.

        Raises OSError as Inotify.read().
        """
        try:
            return self._mounts[key.data].read(0)
        except OSError:
            if any(socket == key.data for socket, _ in self._watched):
                raise
            self._selecting().unregister(key.fileobj)
            return []

    def _told(self, socket: str, events: Sequence[AnyEvent]) -> list[Told]:
        found: list[Told] = []
        for event in events:
            key = socket, event.wd
            watched = self._watched.get(key)
            told = watched.told(event) if watched else Told(b"", b"", b"", event)
            if event.mask & IN_IGNORED:
                self._watched.pop(key, None)
            if told is not None:
                found.append(told)
        return found


def named(path: bytes) -> Named:
    """Return what a path names, and nothing below."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        is_directory = False  # adding the watch says why
    return Named(path, with_slash(path) if is_directory else path)


def named_trees(paths: Sequence[bytes], excluded: Iterable[bytes] = ()) -> list[Named]:
    """Return what paths name, directories with all below.

    A directory that lies in another one, or is named before, is part of that
    one, so that no event is told twice; unless it lies in one that is excluded.
    """
    places = [_place(path) for path in paths]
    hidden = [os.path.realpath(path) for path in excluded]
    directories: dict[_Place, Named] = {}
    for path, place in zip(paths, places, strict=True):
        if place is not None:
            directories.setdefault(place, Named(path, with_slash(path), tree=True))
    shown: list[Named] = []
    known: set[_Place] = set()
    for path, place in zip(paths, places, strict=True):
        if place is None:
            tree = is_out_of_sight(path)
            shown.append(Named(path, with_slash(path) if tree else path, tree=tree))
            continue
        if place in known:
            continue
        known.add(place)
        above = _outermost(place, directories, hidden)
        if above == place:
            shown.append(directories[place])
        elif above not in known:
            way = place.path[len(above.path.rstrip(b"/")) + 1 :] + b"/"
            directories[above].before.append((way, directories[place].path))
    return shown


class _Place(NamedTuple):
    """A directory's real path and its filesystem."""

    path: bytes
    device: int


def _place(path: bytes) -> _Place | None:
    """Return where a directory is; None for what is none."""
    try:
        status = os.stat(path)
        is_directory = stat.S_ISDIR(status.st_mode)
        return _Place(os.path.realpath(path), status.st_dev) if is_directory else None
    except OSError:
        return None  # adding the watch says why


def _outermost(place: _Place, named: Container[_Place], hidden: Container[bytes]) -> _Place:
    """Return the outermost of the named directories that place is part of, it or one above."""
    found = above = place
    while above.path != b"/" and above.path not in hidden:
        above = above._replace(path=os.path.dirname(above.path))
        if above in named:
            found = above
    return found


def with_slash(path: bytes) -> bytes:
    """Return a directory's path as it is shown."""
    return path if path.endswith(b"/") else path + b"/"


def _joined(directory: bytes, name: bytes) -> bytes:
    """Return the path of what a directory has by a name, or its own; no slash is at the end."""
    return os.path.join(directory, name) if name else directory.rstrip(b"/") or b"/"
