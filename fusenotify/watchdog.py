# SPDX-License-Identifier: GPL-2.0-or-later
"""An observer for watchdog: FusenotifyObserver replaces watchdog.observers.Observer.

    from fusenotify.watchdog import FusenotifyObserver as Observer

It uses watchdog's base classes and event classes, and a detailed Inotify for each
scheduled path, with a tree watch for recursive ones.  So no event is missed in new
directories, a rename has both names in one event, and lost events are reported.
docs/reference/python.md lists the differences from watchdog's own observer on Linux.

Invariants
    Events come in the order in which they happened.
    An emitter's Inotify is closed when the emitter ends, for whatever reason.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

try:
    from watchdog.events import (
        DirAttribEvent,
        DirCreatedEvent,
        DirDeletedEvent,
        DirModifiedEvent,
        DirMovedEvent,
        FileAttribEvent,
        FileClosedEvent,
        FileClosedNoWriteEvent,
        FileCreatedEvent,
        FileDeletedEvent,
        FileModifiedEvent,
        FileMovedEvent,
        FileOpenedEvent,
        FileSystemEvent,
        generate_sub_created_events,
        generate_sub_moved_events,
    )
    from watchdog.observers.api import (
        DEFAULT_EMITTER_TIMEOUT,
        DEFAULT_OBSERVER_TIMEOUT,
        BaseObserver,
        EventEmitter,
        EventQueue,
        ObservedWatch,
    )
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] == "watchdog":
        error.add_note("pip install 'fusenotify[watchdog]' installs it")
    raise

from fusenotify.bits import (
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_DONT_FOLLOW,
    IN_IGNORED,
    IN_MODIFY,
    IN_MOVE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_OPEN,
    IN_Q_OVERFLOW,
)
from fusenotify.client import ConnectionLost, DetailedInotifyEvent, Inotify
from fusenotify.client.common import AnyPath

__all__ = ["FusenotifyEmitter", "FusenotifyObserver", "OverflowEvent"]

_LOGGER = logging.getLogger(__name__)

# The events that a device needs for each kind of watchdog's events.  A move with only one half in
# the tree is a creation or a deletion, and every change in a directory is a modification of it.
_WANTED: Mapping[type[FileSystemEvent], int] = {
    DirAttribEvent: IN_ATTRIB,
    DirCreatedEvent: IN_CREATE | IN_MOVE,
    DirDeletedEvent: IN_DELETE | IN_MOVE,
    DirModifiedEvent: IN_CREATE | IN_DELETE | IN_MOVE | IN_CLOSE_WRITE,
    DirMovedEvent: IN_MOVE,
    FileAttribEvent: IN_ATTRIB,
    FileClosedEvent: IN_CLOSE_WRITE,
    FileClosedNoWriteEvent: IN_CLOSE_NOWRITE,
    FileCreatedEvent: IN_CREATE | IN_MOVE,
    FileDeletedEvent: IN_DELETE | IN_MOVE,
    FileModifiedEvent: IN_MODIFY,
    FileMovedEvent: IN_MOVE,
    FileOpenedEvent: IN_OPEN,
}


@dataclass(unsafe_hash=True)
class OverflowEvent(DirModifiedEvent):
    """Events were lost, so the watched directory has to be looked at again.

    src_path is the scheduled path.  lost is the number of lost events, or None if it is
    unknown.  Handlers that do not know this class see a modification of the directory.
    Event filters do not apply to it.
    """

    lost: int | None = None


class FusenotifyEmitter(EventEmitter):
    """The source of events for one scheduled path.  The options are FusenotifyObserver's."""

    def __init__(
        self,
        event_queue: EventQueue,
        watch: ObservedWatch,
        *,
        timeout: float = DEFAULT_EMITTER_TIMEOUT,
        event_filter: list[type[FileSystemEvent]] | None = None,
        generate_full_events: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(event_queue, watch, timeout=timeout, event_filter=event_filter)
        self._full = generate_full_events
        self._inotify: Inotify[DetailedInotifyEvent[Any]] = Inotify(detailed=True, **options)

    def on_thread_start(self) -> None:
        """Add the watch, in the thread that schedules.

        Raises OSError as Inotify.add_watch().
        """
        try:
            self._inotify.add_watch(self.watch.path, self._mask(), tree=self.watch.is_recursive)
        except BaseException:
            self._inotify.close()
            raise

    def on_thread_stop(self) -> None:
        """Wake the thread, which then ends."""
        self._inotify.close()

    def queue_events(self, timeout: float) -> None:
        """Queue the next events; wait at most timeout seconds for them."""
        try:
            for event in self._inotify.read(timeout):
                self._tell(event)
        except OSError as error:
            if self.should_keep_running():
                gone = "the daemon is gone" if isinstance(error, ConnectionLost) else str(error)
                _LOGGER.error("%r is not watched any more: %s", self.watch.path, gone)
                self.stop()

    def _mask(self) -> int:
        """Return the mask for the wanted events and the end of the watch."""
        wanted = self._event_filter
        mask = IN_DELETE_SELF
        for kind, bits in _WANTED.items():
            if wanted is None or any(issubclass(kind, each) for each in wanted):
                mask |= bits
        return mask if self.watch.follow_symlink else mask | IN_DONT_FOLLOW

    def _tell(self, event: DetailedInotifyEvent[Any]) -> None:
        """Queue watchdog's events for an event."""
        mask, path = int(event.mask), event.path
        if mask & IN_MOVED_TO:
            self._tell_arrival(path, event.old_path, event.is_dir)
        elif mask & IN_MOVED_FROM and self._full:
            self.queue_event((DirMovedEvent if event.is_dir else FileMovedEvent)(path))
            self._tell_change_around(path)
        elif mask & (IN_MOVED_FROM | IN_DELETE):
            self.queue_event((DirDeletedEvent if event.is_dir else FileDeletedEvent)(path))
            self._tell_change_around(path)
        elif mask & IN_CREATE:
            self.queue_event((DirCreatedEvent if event.is_dir else FileCreatedEvent)(path))
            self._tell_change_around(path)
        elif mask & IN_ATTRIB:
            self.queue_event((DirAttribEvent if event.is_dir else FileAttribEvent)(path))
        elif mask & IN_DELETE_SELF and event.name is None:
            self.queue_event((DirDeletedEvent if event.is_dir else FileDeletedEvent)(path))
            self.stop()
        elif mask & IN_Q_OVERFLOW:
            self._tell_overflow(event.lost)
        elif mask & IN_IGNORED:
            self.stop()
        elif not event.is_dir:
            self._tell_use(mask, path)

    def _tell_arrival(self, path: Any, old: Any, is_dir: bool) -> None:
        """Queue a move to path, from old or from outside of the tree (None)."""
        if old is None and not self._full:
            self.queue_event((DirCreatedEvent if is_dir else FileCreatedEvent)(path))
        else:
            self.queue_event((DirMovedEvent if is_dir else FileMovedEvent)(old or path[:0], path))
        if old is not None:
            self._tell_change_around(old)
        self._tell_change_around(path)
        if is_dir and self.watch.is_recursive:
            # The contents of a moved directory have no events of their own.
            for below in (
                generate_sub_created_events(path)
                if old is None
                else generate_sub_moved_events(old, path)
            ):
                self.queue_event(below)

    def _tell_use(self, mask: int, path: Any) -> None:
        """Queue an event of the use of a file."""
        if mask & IN_MODIFY:
            self.queue_event(FileModifiedEvent(path))
        elif mask & IN_OPEN:
            self.queue_event(FileOpenedEvent(path))
        elif mask & IN_CLOSE_WRITE:
            self.queue_event(FileClosedEvent(path))
            self._tell_change_around(path)
        elif mask & IN_CLOSE_NOWRITE:
            self.queue_event(FileClosedNoWriteEvent(path))

    def _tell_change_around(self, path: Any) -> None:
        """Queue a modification of the directory of path."""
        self.queue_event(DirModifiedEvent(os.path.dirname(path)))

    def _tell_overflow(self, lost: int | None) -> None:
        """Queue an OverflowEvent, without filtering: wanted events may be among the lost ones."""
        watch = self.watch
        place = watch.resolved_path if watch.is_file else watch.path
        self._event_queue.put((OverflowEvent(place, lost=lost), watch))


class FusenotifyObserver(BaseObserver):
    """Calls handlers for events on fusenotify mounts, as watchdog's Observer does elsewhere.

    With generate_full_events, a move out of the watched tree, or into it, is a move
    whose other path is empty, instead of a deletion or a creation.

    socket, semantics, max_queued_events, reconnect and reconnect_seconds are
    those of fusenotify.client.Inotify.
    """

    def __init__(
        self,
        *,
        timeout: float = DEFAULT_OBSERVER_TIMEOUT,
        generate_full_events: bool = False,
        socket: AnyPath | None = None,
        semantics: str | None = None,
        max_queued_events: int | None = None,
        reconnect: bool = False,
        reconnect_seconds: float = 30.0,
    ) -> None:
        super().__init__(
            FusenotifyEmitter,
            timeout=timeout,
            generate_full_events=generate_full_events,
            socket=socket,
            semantics=semantics,
            max_queued_events=max_queued_events,
            reconnect=reconnect,
            reconnect_seconds=reconnect_seconds,
        )
