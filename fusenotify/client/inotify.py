# SPDX-License-Identifier: GPL-2.0-or-later
"""Inotify for ordinary paths.

client.watching is what it does; client.aio.inotify is the same with ``async``.
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
    """One device, on the mount in which the first watched path lies.

    socket overrides what is found; semantics and max_queued_events are those
    of Client.init().  A detailed one gives DetailedInotifyEvent (docs/reference/events.md).

    With reconnect, a daemon that goes away is waited for, reconnect_seconds
    at most, on the same socket; also where the mount was taken away in order.
    Then the watches are made again under their descriptors, by the paths in
    the mount that they had, and the next read() begins with IN_Q_OVERFLOW:
    there is no telling what was missed, so look at the directories again.  A
    watch that cannot be made again ends with IN_IGNORED.  ConnectionLost comes
    only where the time passed.
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
    ) -> None:
        self._logic: InotifyLogic[Told] = InotifyLogic(
            BLOCKING,
            socket=socket,
            semantics=semantics,
            max_queued_events=max_queued_events,
            detailed=detailed,
            reconnect=reconnect,
            reconnect_seconds=reconnect_seconds,
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

        mask is an int, words such as ``"CREATE|DELETE"``, or a list of them.  Events
        have paths and names of the type of path, as the os module has them.

        With tree, watch a directory and all that is or will be below it, under
        one descriptor; names are paths from it then (docs/reference/trees.md).

        Of what exclude names nothing is told, nor of what is below it: each
        pattern is a line of a .gitignore file in the watched directory.  With
        ignore_self nothing is told of what this process does itself.

        Raises TypeError for what no watch is made of, ValueError for a word that is no
        event, OSError: as inotify_add_watch(2), EXDEV outside of any
        fusenotify mount or in another one than before, ENOTCONN where the
        mount's daemon is dead.
        """
        return run(self._logic.add_watch, path, mask, kind_of(tree, exclude, ignore_self))

    def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED follows.

        Raises OSError (EINVAL) where there is no such watch.
        """
        run(self._logic.rm_watch, wd)

    def read(self, timeout: float | None = None) -> list[Told]:
        """Return what is queued; wait for the first event, at most timeout seconds.

        Returns nothing where the timeout passed.

        Raises OSError (EINVAL) where nothing was ever watched, ConnectionLost.
        """
        return run(self._logic.read, timeout)

    def __iter__(self) -> Iterator[Told]:
        """Return an iterator over the events as they come; its end is when this is closed."""
        return self.events()

    def events(self, timeout: float | None = None) -> Iterator[Told]:
        """Return an iterator over the events as they come.

        It ends where none comes for timeout seconds, or this is closed.  What it
        did not give is there for the next read or iterator.  It raises what read() does.
        """
        deadline_of(timeout)
        return _Events(self._logic, timeout)

    def fileno(self) -> int:
        """Return a descriptor for select(2), asyncio's add_reader() and their like.

        It is readable while a read has something to give, and at times for
        nothing: read with timeout=0 when it is.  It stays the same, also before
        anything is watched and on another daemon (reconnect), and is for nothing else.

        Raises OSError (EBADF) where this was closed.
        """
        return self._logic.fileno()

    def sync(self) -> None:
        """Return when the events of what was done through the mount before are queued."""
        run(self._logic.sync)

    def close(self) -> None:
        """Drop the watches; a second close is nothing."""
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
