# SPDX-License-Identifier: GPL-2.0-or-later
"""What happened at watched paths between a cursor and the moment at which they were watched.

client.watching makes a replay for each watch of an Inotify with a cursor, and returns the events
of all replays before those of the device.  The daemon says which entry of the journal was the
last one before a watch: its replay ends there, and the device's events begin there.

Invariants
    Events of all replays come in the order of the journal.
    A batch of events and the cursor after it are replaced together, so an exception from outside
        neither loses nor repeats an event.
"""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from fusenotify.bits import (
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_ISDIR,
    IN_MOVE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONESHOT,
    IN_Q_OVERFLOW,
)
from fusenotify.client.calls import ClientLogic
from fusenotify.client.events import DetailedInotifyEvent, InotifyEvent
from fusenotify.client.watched import Kind, Watch
from fusenotify.masks import MASKS
from fusenotify.protocol.messages import Past
from fusenotify.protocol.past import PastEvent

AnyEvent = InotifyEvent[Any] | DetailedInotifyEvent[Any]

# Cookies of replayed renames have this bit and the last bits of the entry's number.
_COOKIE = 1 << 31
# The errors that mean that the user may not ask for the path any more, or that it is gone.
_NOT_TOLD = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV}


class _Batch(NamedTuple):
    """Events to be returned, with their numbers, the cursor after them, and whether all came."""

    events: deque[tuple[int, AnyEvent]]
    cursor: str
    is_last: bool


class Replay:
    """The past of one watch.  It begins with the answer to add_watch.

    first has the first events after the cursor, inner_path is the path from the mount's root.
    """

    def __init__(self, first: Past, inner_path: bytes, kind: Kind, detailed: bool) -> None:
        self.watch: Watch | None = None
        self._first = first
        self._path = inner_path.strip(b"/")
        self._inside = self._path + b"/" if self._path else b""
        self._kind = kind
        self._detailed = detailed
        self._end: int | None = None
        self._batch: _Batch | None = None

    def end_with(self, sequence: int | None, *, is_known: bool) -> None:
        """Note the number of the last entry; nothing is replayed if the watch is an old one.

        The first call counts.
        """
        if self._end is None:
            self._end = -1 if is_known else sequence

    def go_on(self, sequence: int | None) -> None:
        """Note another number of the last entry, since the watch was made again."""
        if self._end == -1:
            return  # an earlier replay goes on with this watch
        self._end = sequence
        if self._batch is not None:
            self._batch = self._batch._replace(is_last=False)

    @property
    def is_over(self) -> bool:
        """Whether all events were returned."""
        batch = self._batch
        return self._end == -1 or (batch is not None and batch.is_last and not batch.events)

    @property
    def events(self) -> deque[tuple[int, AnyEvent]]:
        """The events that were fetched and not returned yet."""
        assert self._batch is not None, "fetch() comes first"
        return self._batch.events

    @property
    def may_lack(self) -> bool:
        """Whether no event is there, and the next one, if there is one, has to be fetched."""
        return self._batch is None or not (self._batch.events or self._batch.is_last)

    async def fetch(self, client: ClientLogic) -> None:
        """Fetch events.

        Raises OSError (EIO, ENOSPC) if the journal cannot be read or written.
        """
        batch = self._batch
        if batch is None:
            # It came before the watch was made, so it may not reach to the end.
            self._batch = self._of(self._first, "")._replace(is_last=False)
            return
        try:
            past = await client.since(batch.cursor, self._path, wait=False, kind=self._kind)
        except OSError as error:
            if error.errno not in _NOT_TOLD:
                raise
            self._batch = _Batch(deque([(-1, self._gap(None))]), batch.cursor, is_last=True)
        else:
            self._batch = self._of(past, batch.cursor)

    def _of(self, past: Past, cursor: str) -> _Batch:
        """Return what an answer has up to the last entry; cursor is the one that was asked for."""
        assert self._end is not None
        events: deque[tuple[int, AnyEvent]] = deque()
        for event in past.events:
            if event.sequence > self._end:
                return _Batch(events, cursor, is_last=True)
            events.extend((event.sequence, told) for told in self._converted(event))
            cursor = event.cursor
        return _Batch(events, past.cursor, past.complete)

    def _converted(self, event: PastEvent) -> Iterator[AnyEvent]:
        """Yield the events that the watch would have reported."""
        assert self.watch is not None
        wanted, mask, old_path = self.watch.mask, event.mask, event.old_path
        if mask & IN_Q_OVERFLOW:
            yield self._gap(event)
            return
        if mask & (IN_CREATE | IN_DELETE | IN_MOVE) and self._leads(event.path, old_path):
            if mask & IN_MOVE:  # what is at and below the path belongs to something else now
                yield self._gap(event)
            elif mask & IN_DELETE and wanted & IN_DELETE_SELF and event.path == self._path:
                yield self._event(IN_DELETE_SELF, 0, b"", event)
            return
        new, old = self._name(event.path), None if old_path is None else self._name(old_path)
        cookie = _COOKIE | event.sequence & (_COOKIE - 1) if mask & IN_MOVE else 0
        if old is not None and wanted & IN_MOVED_FROM:
            if self._detailed and new is not None and wanted & IN_MOVED_TO:
                yield self._event(mask, cookie, new, event, old)
                return
            yield self._event(IN_MOVED_FROM | mask & IN_ISDIR, cookie, old, event)
        if new is not None and mask & wanted & ~IN_ISDIR:
            yield self._event(mask & (wanted | IN_ISDIR), cookie, new, event)

    def _leads(self, *paths: bytes | None) -> bool:
        """Return whether one of the paths is the watched one, or one above it."""
        return any(path is not None and self._inside.startswith(path + b"/") for path in paths)

    def _name(self, path: bytes) -> bytes | None:
        """Return a path from the watched directory; None if the watch does not hear of it."""
        if path == self._path:
            return b""
        if not path.startswith(self._inside):
            return None
        name = path[len(self._inside) :]
        return name if self._kind.tree or b"/" not in name else None

    def _event(
        self, mask: int, cookie: int, name: bytes, event: PastEvent, old: bytes | None = None
    ) -> AnyEvent:
        watch = self.watch
        assert watch is not None
        spelled = watch.spelled(name or None)
        told = InotifyEvent(watch.wd, MASKS[mask], cookie, spelled, watch.path_of(spelled))
        if not self._detailed:
            return told
        return DetailedInotifyEvent(
            *told,
            is_dir=bool(event.mask & IN_ISDIR),
            old_path=None if old is None else watch.path_of(watch.spelled(old)),
            time=event.time,
            pid=event.pid,
            uid=event.uid,
            gid=event.gid,
            command=watch.spelled(event.command),
            past=event,
        )

    def _gap(self, event: PastEvent | None) -> AnyEvent:
        """Return the event for changes that may be missing."""
        assert self.watch is not None
        told = InotifyEvent(-1, MASKS[IN_Q_OVERFLOW], 0, None, self.watch.path[:0])
        if not self._detailed:
            return told
        return DetailedInotifyEvent(*told, time=0 if event is None else event.time, past=event)


class Replays:
    """The replays of a device's watches, from a cursor on."""

    def __init__(self, cursor: str, detailed: bool) -> None:
        self._cursor = cursor
        self._detailed = detailed
        self._replays: list[Replay] = []
        self._last_gap: int | None = None

    def __bool__(self) -> bool:
        """Return whether there is something to fetch or to take."""
        return any(replay.watch is not None for replay in self._replays)

    async def make(self, client: ClientLogic, inner_path: bytes, kind: Kind) -> Replay:
        """Return the replay for a watch that is still to be made.

        Raises OSError: EOPNOTSUPP (no journal), EINVAL (not a cursor), and as add_watch.
        """
        first = await client.since(self._cursor, inner_path, wait=False, kind=kind)
        replay = Replay(first, inner_path, kind, self._detailed)
        self._replays.append(replay)
        return replay

    def drop(self, replay: Replay) -> None:
        """Forget a replay, as of a watch that was not made."""
        with contextlib.suppress(ValueError):
            self._replays.remove(replay)

    def go_on(self, watched: dict[int, int | None]) -> None:
        """Note up to which entry each watch is replayed that was made again, and drop others.

        Watches are named by the caller's descriptors, since add_watch may have changed their masks.
        """
        for replay in list(self._replays):
            if replay.watch is None:
                continue
            if replay.watch.wd in watched:
                replay.go_on(watched[replay.watch.wd])
            else:
                self.drop(replay)

    async def move(self, client: ClientLogic, ready: deque[Any]) -> None:
        """Append the next events to ready.

        Raises OSError, as Replay.fetch().
        """
        for replay in list(self._replays):
            if replay.watch is None:
                continue  # its watch is still to be made
            while not replay.is_over and replay.may_lack:
                await replay.fetch(client)
            if replay.is_over:
                self.drop(replay)
        begun = [replay for replay in self._replays if replay.watch is not None]
        while begun and all(replay.events for replay in begun):
            first = min(begun, key=_next_number)
            number, event = first.events[0]
            is_gap = bool(event.mask & IN_Q_OVERFLOW)
            if is_gap and number == self._last_gap:
                first.events.popleft()  # another watch's replay reported it
                continue
            # Each is one step that no exception can interrupt.
            taken = iter(first.events.popleft, None)
            with contextlib.suppress(IndexError):  # raised by popleft() when none is left
                ready.extend(map(itemgetter(1), islice(taken, 1) if is_gap or begun[1:] else taken))
            if is_gap:
                self._last_gap = number


def check_replayable(mask: int, *, nameless: bool) -> None:
    """Check that there can be a replay for a watch.

    Raises OSError: EINVAL for IN_ONESHOT, ENOENT for an object without a name.
    """
    if mask & IN_ONESHOT:
        raise OSError(errno.EINVAL, "IN_ONESHOT takes one event, so it does not go with since")
    if nameless:
        raise OSError(errno.ENOENT, "the object has no name, and the journal goes by names")


def _next_number(replay: Replay) -> int:
    return replay.events[0][0]
