# SPDX-License-Identifier: GPL-2.0-or-later
"""Inotify for ordinary paths.

client.watching does the work; client.aio.inotify is the same with ``async``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import AnyStr, Generic, Literal, Self, overload

from fusenotify.client.calls import ClientLogic
from fusenotify.client.common import AnyPath, deadline_of
from fusenotify.client.driver import run
from fusenotify.client.events import (
    DetailedInotifyEvent,
    HasPath,
    InotifyEvent,
    Text,
    Told,
)
from fusenotify.client.link import BLOCKING
from fusenotify.client.watched import WatchedPaths, kind_of
from fusenotify.client.watching import InotifyLogic
from fusenotify.masks import AnyMask


class Inotify(Generic[Told]):
    """One device, on the mount that contains the first watched path.

    socket is the path of the daemon's socket; without it, the socket is found
    from the watched path.  semantics and max_queued_events are those of
    Client.init().  With detailed, events are DetailedInotifyEvent
    (docs/reference/events.md).

    With reconnect, calls wait for a daemon that went away, for at most
    reconnect_seconds, on the same socket, even if the mount was unmounted
    normally.  When a daemon is back, the watches are made again under their
    descriptors and by their old paths in the mount, and the next read() begins
    with IN_Q_OVERFLOW: events may have been missed, so look at the directories
    again.  A watch that cannot be made again ends with IN_IGNORED.
    ConnectionLost is raised only when the time has passed.

    since is a cursor (docs/reference/history.md): reading begins with what the
    mount's journal has after it at the watched paths, and goes on with what
    happens from the add_watch() on, without a gap and without a repetition.
    Changes that may be missing are an IN_Q_OVERFLOW at their place.

    Raises TypeError for a parameter of the wrong type, OSError: EINVAL for a
    number that is too large, ENAMETOOLONG for the socket.
    """

    @overload
    def __init__(
        self: Inotify[InotifyEvent[Text]],
        *,
        socket: AnyPath | None = None,
        semantics: str | None = None,
        max_queued_events: int | None = None,
        detailed: Literal[False] = False,
        reconnect: bool = False,
        reconnect_seconds: float = 30.0,
        since: str | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: Inotify[DetailedInotifyEvent[Text]],
        *,
        socket: AnyPath | None = None,
        semantics: str | None = None,
        max_queued_events: int | None = None,
        detailed: Literal[True],
        reconnect: bool = False,
        reconnect_seconds: float = 30.0,
        since: str | None = None,
    ) -> None: ...

    def __init__(
        self,
        *,
        socket: AnyPath | None = None,
        semantics: str | None = None,
        max_queued_events: int | None = None,
        detailed: bool = False,
        reconnect: bool = False,
        reconnect_seconds: float = 30.0,
        since: str | None = None,
    ) -> None:
        self._logic: InotifyLogic[Told] = InotifyLogic(
            BLOCKING,
            socket=socket,
            semantics=semantics,
            max_queued_events=max_queued_events,
            detailed=detailed,
            reconnect=reconnect,
            reconnect_seconds=reconnect_seconds,
            since=since,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def add_watch(
        self: Inotify[HasPath[AnyStr]],
        path: AnyStr | os.PathLike[AnyStr],
        mask: AnyMask,
        *,
        tree: bool = False,
        exclude: Iterable[str | bytes] = (),
        ignore_self: bool = False,
    ) -> int:
        """Watch a path and return the watch descriptor.

        mask is an int, words such as ``"CREATE|DELETE"``, or a list of words.
        Paths and names in events have the type of path, as in the os module.

        With tree, watch a directory and everything that is or will be below
        it, under one descriptor; names are then paths from that directory
        (docs/reference/trees.md).

        exclude leaves out events of the names that it matches, and of
        everything below them: each pattern is a line of a .gitignore file in
        the watched directory.  With ignore_self, the watch leaves out
        everything that this process does.

        Raises TypeError for a parameter of the wrong type, ValueError for a word
        that names no event, OSError: as inotify_add_watch(2), EXDEV for a path on
        no fusenotify mount or on another one than before, ENOTCONN if the mount's
        daemon is dead; with since, also EOPNOTSUPP if the mount keeps no journal, EINVAL
        for an invalid cursor or IN_ONESHOT, ENOENT for an object without a name.
        """
        return run(self._logic.add_watch, path, mask, kind_of(tree, exclude, ignore_self))

    def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED follows.

        Raises TypeError, OSError (EINVAL) if there is no such watch.
        """
        run(self._logic.rm_watch, wd)

    def read(self, timeout: float | None = None) -> list[Told]:
        """Return the queued events; wait for the first one, at most timeout seconds.

        Without a timeout the wait has no limit.  The list is empty if the
        timeout passed.

        Raises OSError: EINVAL if nothing was ever watched, EBADF if this was
        closed; ConnectionLost.
        """
        return run(self._logic.read, timeout)

    def __iter__(self) -> Iterator[Told]:
        """Return an iterator over the events as they arrive; it ends when this is closed."""
        return self.events()

    def events(self, timeout: float | None = None) -> Iterator[Told]:
        """Return an iterator over the events as they arrive.

        It ends when none has arrived for timeout seconds, or when this is
        closed.  Events that it did not yield are left for the next read or
        iterator.  It raises what read() raises.
        """
        deadline_of(timeout)
        return _Events(self._logic, timeout)

    def fileno(self) -> int:
        """Return a descriptor for select(2), asyncio's add_reader() and the like.

        It is readable while there is something to read, and sometimes without
        reason: read with timeout=0 when it is.  It always stays the same, from
        before the first watch until after a reconnection, and has no other use.

        Raises OSError (EBADF) if this was closed.
        """
        return self._logic.fileno()

    def sync(self) -> None:
        """Wait until the events of everything done through the mount before this call are queued.

        Raises OSError (EBADF) if this was closed, ConnectionLost.
        """
        run(self._logic.sync)

    def cursor(self) -> str:
        """Return a cursor: the place in the mount's journal after everything done before this call.

        The events of everything before it are queued when the call returns.  If the cursor is
        stored when these have been read and handled, an Inotify that is made with it goes on there.

        Raises OSError: EINVAL if nothing was ever watched, EBADF if this was closed, EOPNOTSUPP
        if the mount keeps no journal; ConnectionLost.
        """
        return run(self._logic.cursor)

    def close(self) -> None:
        """Drop the watches.  Closing twice is harmless."""
        run(self._logic.close)

    @property
    def _client(self) -> ClientLogic | None:
        return self._logic.client

    @property
    def _paths(self) -> WatchedPaths:
        return self._logic.paths


class _Events(Generic[Told]):
    """An iterator over the events of an Inotify."""

    def __init__(self, logic: InotifyLogic[Told], timeout: float | None) -> None:
        self._logic = logic
        self._timeout = timeout

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Told:
        came = run(self._logic.next, self._timeout)
        if not came:
            raise StopIteration
        return came[0]
