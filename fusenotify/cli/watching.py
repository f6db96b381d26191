# SPDX-License-Identifier: GPL-2.0-or-later
"""The watches of ``fusenotify wait`` and ``watch``, on one mount or several, and their events.

cli.wait and cli.watch add watches, and print or count events; this module finds the
path by which each event is shown.  An Inotify serves one mount.  If there are
several mounts, or a signal may end the wait, a selector finds those with something
to read, so that unread events stay in their queues.

Invariants
    A watch is in _watched from add() until its IN_IGNORED was read.
    If two paths lead to one object, the first one counts, as for inotifywait.
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

# The longest timeout for epoll_wait(2), in seconds; it accepts at most 24 days.
_LONGEST = 86400.0

AnyEvent = InotifyEvent[bytes] | DetailedInotifyEvent[bytes]
AnyInotify = Inotify[InotifyEvent[bytes]] | Inotify[DetailedInotifyEvent[bytes]]


class Told(NamedTuple):
    """An event with the paths to show.

    watched is the named path.  directory is the path, beginning with watched, of the
    directory in which the event happened, with a slash at its end, or of the watched
    file.  name is the name in the directory, or b"".  All are empty if the event
    belongs to no watch.
    """

    watched: bytes
    directory: bytes
    name: bytes
    event: AnyEvent

    @property
    def path(self) -> bytes:
        """The path of the event's object, which inotifywait's patterns match."""
        return self.directory + self.name


@dataclass
class Named:
    """A path that the user named.

    given is the path as it was given; path is the path to show, which ends in a slash
    for a directory.  tree says that everything below is watched.  before has the
    paths below it that were named earlier: the way down to each, and its path to show.
    """

    given: bytes
    path: bytes
    tree: bool = False
    before: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass
class _Watched:
    """A watch: the named path, the path that was given to Inotify, and those left out below."""

    named: Named
    called: bytes
    excluded: tuple[bytes, ...]

    def split(self, way: bytes | None) -> tuple[bytes, bytes, bytes]:
        """Return watched, directory and name of Told for a way down from the watched directory.

        For an event of a directory itself, name is empty.
        """
        down, slash, name = (way or b"").rpartition(b"/")
        down += slash
        for above, path in self.named.before:
            if down.startswith(above):
                return path, path + down[len(above) :], name
        return self.named.path, self.named.path + down, name

    def told(self, event: AnyEvent) -> Told | None:
        """Return an event with the paths to show; None if it is left out."""
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
    """Watches on any mounts.  It is true while there is a watch.

    With detailed, events are DetailedInotifyEvent, otherwise InotifyEvent.
    interrupt() may be called only with interruptible.
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
        """Watch a named path; with IN_DONT_FOLLOW in the mask, a link itself.

        excluded has the paths of directories below that are left out, ignored has
        patterns of gitignore(5) for paths that are left out.
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
        """Return events with the paths to show; wait for the first one.

        Returns None if the timeout, in seconds, passed or the read was interrupted.
        The list is empty if all events are left out.

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
        """End the present read, or the next one; a signal handler may call this."""
        os.eventfd_write(self._interruption, 1)

    def last(self) -> list[Told]:
        """Remove all watches, and return the events before that which were not read yet.

        There are none of a mount whose daemon is dead.
        """
        found: list[Told] = []
        for socket, inotify in self._mounts.items():
            with suppress(OSError):
                inotify.sync()
                removed: set[int] = set()
                for wd in [wd for its_socket, wd in self._watched if its_socket == socket]:
                    with suppress(OSError):  # it is gone, and its IN_IGNORED is not read yet
                        inotify.rm_watch(wd)
                        removed.add(wd)
                while events := inotify.read(0):
                    for event in events:
                        if event.wd not in removed or not event.mask & IN_IGNORED:
                            found += self._told(socket, [event])
        return found

    def _selecting(self) -> selectors.BaseSelector:
        """Return the selector that waits for all mounts, and for an interruption."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            for socket, inotify in self._mounts.items():
                self._selector.register(inotify.fileno(), selectors.EVENT_READ, socket)
            if self._interruption >= 0:
                self._selector.register(self._interruption, selectors.EVENT_READ)
        return self._selector

    def _read_ready(self, key: selectors.SelectorKey) -> Sequence[AnyEvent]:
        """Read the events that are there.

        If that fails and the mount has no watch any more, it is left out of the selector.

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
    """Return the Named of a path, without anything below it."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        is_directory = False  # adding the watch will fail with the error
    return Named(path, with_slash(path) if is_directory else path)


def named_trees(paths: Sequence[bytes], excluded: Iterable[bytes] = ()) -> list[Named]:
    """Return the Named of paths, with everything below directories.

    A directory that lies in another named one, or was named before, becomes part of that
    one, so that no event is reported twice; unless it lies in an excluded directory.
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
    """Return the place of a directory; None if path is not a directory."""
    try:
        status = os.stat(path)
        is_directory = stat.S_ISDIR(status.st_mode)
        return _Place(os.path.realpath(path), status.st_dev) if is_directory else None
    except OSError:
        return None  # adding the watch will fail with the error


def _outermost(place: _Place, named: Container[_Place], hidden: Container[bytes]) -> _Place:
    """Return the outermost named directory that contains place, which may be place itself."""
    found = above = place
    while above.path != b"/" and above.path not in hidden:
        above = above._replace(path=os.path.dirname(above.path))
        if above in named:
            found = above
    return found


def with_slash(path: bytes) -> bytes:
    """Return a directory's path with a slash at its end."""
    return path if path.endswith(b"/") else path + b"/"


def _joined(directory: bytes, name: bytes) -> bytes:
    """Return the path of a name in a directory, or of the directory; without a slash at its end."""
    return os.path.join(directory, name) if name else directory.rstrip(b"/") or b"/"
