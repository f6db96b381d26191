# SPDX-License-Identifier: GPL-2.0-or-later
"""The logic of Inotify: it finds the mount, remembers paths and can survive its daemon.

client.inotify and client.aio.inotify are the fronts; their docstrings describe
the methods.  client.locate finds the mount, client.calls makes the requests,
client.watched remembers paths, and a driver (client.driver) connects and waits.

Invariants
    A path is stored when the answer to add_watch arrives, and records become
        events when they are taken; both happen in the order of the socket and
        under the link's lock.  So no event names a watch whose path is not
        stored yet, or whose path was removed by IN_IGNORED.
    A connection, its device and its paths are made and dropped together
        (_Session).
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from fusenotify.bits import IN_DONT_FOLLOW
from fusenotify.client.calls import ClientLogic, DeviceLogic, unread_of
from fusenotify.client.common import (
    READ_SIZE,
    AnyPath,
    check_flags,
    client_closed,
    deadline_of,
    socket_name,
)
from fusenotify.client.driver import Driver
from fusenotify.client.events import Told
from fusenotify.client.locate import Place, locate
from fusenotify.client.outage import Outage, is_away
from fusenotify.client.process import Process, foreign
from fusenotify.client.readiness import Readiness
from fusenotify.client.replay import Replays, check_replayable
from fusenotify.client.watched import Kind, Watch, WatchedPaths, without_details
from fusenotify.masks import AnyMask, plain
from fusenotify.protocol.connection import ConnectionLost, encoded
from fusenotify.protocol.messages import Init, WatchAdded

T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class _Session:
    """One connection with its device and the paths of its watches.  place was watched first."""

    place: Place
    client: ClientLogic
    device: DeviceLogic[Any]
    paths: WatchedPaths


class InotifyLogic(Generic[Told]):
    """One device, on the mount that contains the first watched path."""

    def __init__(
        self,
        driver: Driver,
        *,
        socket: AnyPath | None,
        semantics: str | None,
        max_queued_events: int | None,
        detailed: bool,
        reconnect: bool,
        reconnect_seconds: float,
        since: str | None = None,
    ) -> None:
        check_flags(reconnect=reconnect, detailed=detailed)
        deadline_of(reconnect_seconds)
        if not isinstance(since, str | None):
            raise TypeError(f"a cursor is a str, not {since!r}")
        # Wrong parameters raise here, not only when a path is watched.
        encoded(Init(max_queued_events=max_queued_events, semantics=semantics))
        self._driver = driver
        self._socket = None if socket is None else socket_name(socket)
        self._semantics = semantics
        self._max_queued_events = max_queued_events
        self._detailed = detailed
        self._reconnect = reconnect
        self._reconnect_seconds = reconnect_seconds
        self._outage: Outage | None = None
        self._readiness: Readiness | None = None
        self._session: _Session | None = None
        self._first_paths = WatchedPaths(outlives_mount=reconnect)
        self._ready: deque[Told] = deque()  # to be read first
        self._replays = None if since is None else Replays(since, detailed)
        self._closed = False
        self._process = Process()
        self._connecting, self._replaying = driver.turn(), driver.turn()

    @property
    def client(self) -> ClientLogic | None:
        """The connection, where there is one."""
        return None if self._session is None else self._session.client

    @property
    def paths(self) -> WatchedPaths:
        """The paths of the watches."""
        return self._first_paths if self._session is None else self._session.paths

    async def add_watch(self, path: AnyPath, mask: AnyMask, kind: Kind) -> int:
        try:
            return await self._add_watch(path, mask, kind)
        except OSError as error:
            if isinstance(error.filename, bytes) and not isinstance(os.fspath(path), bytes):
                error.filename = os.fsdecode(error.filename)
            raise

    async def _add_watch(self, path: AnyPath, mask: AnyMask, kind: Kind) -> int:
        self._check_usable()
        bits = plain(mask)
        follow = not bits & IN_DONT_FOLLOW
        # In a thread: the path leads into a mount, and its daemon may be busy.
        place = await self._driver.in_thread(
            partial(locate, path, follow=follow, socket=self._socket)
        )
        session = await self._connecting.take(partial(self._connected, place))
        nameless = place.nameless  # it has no path by which it could be watched again
        inner_path = b"" if nameless else place.inner_path(session.client.mountpoint)
        if self._replays is not None:
            check_replayable(bits, nameless=nameless is not None)
        shown = 0

        async def watch(session: _Session) -> None:
            replay = None
            if self._replays is not None:
                replay = await self._replays.make(session.client, inner_path, kind)

            def store(added: WatchAdded) -> None:
                nonlocal shown
                wd = added.wd
                if replay is not None:
                    replay.end_with(added.past, is_known=session.paths.watch(wd) is not None)
                shown = session.paths.add(wd, os.fspath(path), inner_path, bits, kind)
                if replay is not None:
                    replay.watch = session.paths.watch(wd)

            target, past = nameless or inner_path, replay is not None
            try:
                await session.device.add_watch(target, bits, kind, store, past=past)
            except OSError:
                if self._replays is not None and replay is not None:
                    self._replays.drop(replay)
                raise

        await self._ask(watch)
        if self._replays and self._readiness is not None:
            self._readiness.set()
        return shown

    async def rm_watch(self, wd: int) -> None:
        if not isinstance(wd, int):
            raise TypeError(f"a watch descriptor is an int, not {wd!r}")
        await self._ask(lambda session: session.device.rm_watch(session.paths.device_wd(wd)))

    async def read(self, timeout: float | None, most: int | None = None) -> list[Told]:
        """Return the queued events, at most so many of them as most says if it is given."""
        deadline = deadline_of(timeout)
        events: list[Told] | deque[Told] = []
        gone: set[int] = set()
        try:
            while True:
                session = self._watching()
                with suppress(IndexError):  # raised by popleft() when none is left
                    # One step that no exception can interrupt.
                    events.extend(islice(iter(self._ready.popleft, None), most))
                if events:
                    self._report()
                    return list(events)
                if self._replays:
                    if await self._replayed(session, deadline):
                        continue
                    return []
                try:
                    events, gone = await session.device.read(
                        READ_SIZE, timeout, self._meaning(session)
                    )
                    session.paths.forget(gone)
                except BlockingIOError:
                    return []
                except ConnectionLost as lost:
                    if not await self._restored(session, lost, deadline):
                        return []
                if events and most is None:
                    return list(events)
                events = deque(events)
                with suppress(IndexError):
                    self._ready.extend(iter(events.popleft, None))
                if timeout is not None:
                    timeout = max(0.0, deadline - time.monotonic())
        except BaseException:
            self._ready.extendleft(reversed(events))
            self._report()
            raise

    async def _replayed(self, session: _Session, deadline: float) -> bool:
        """Fetch replayed events; return False if the deadline passed without a connection."""
        assert self._replays is not None
        try:
            await self._replaying.take(partial(self._replays.move, session.client, self._ready))
        except ConnectionLost as lost:
            return await self._restored(session, lost, deadline)
        return True

    async def next(self, timeout: float | None) -> list[Told]:
        """Return a list of one event; an empty one if the timeout passed or this was closed."""
        try:
            return await self.read(timeout, 1)
        except OSError:
            if self._closed and self._process.is_this():
                return []
            raise

    async def sync(self) -> None:
        self._check_usable()
        if self._session is not None:
            await self._ask(lambda session: session.client.sync())

    async def cursor(self) -> str:
        return await self._ask(lambda session: session.client.cursor())

    def fileno(self) -> int:
        self._check_usable()
        readiness = self._readiness
        if readiness is None:
            readiness = self._readiness = Readiness()
            if self._session is not None:
                self._session.device.report_to(readiness)
            self._report()
        return readiness.fileno()

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.client.close()

    async def _connected(self, place: Place) -> _Session:
        """Return the session, which is made for the first place.

        Raises OSError (EXDEV) if another socket serves the place.
        """
        if self._session is None:
            client = await self._connect(place)
            try:
                device = await self._init(client)
            except BaseException:
                await client.close()
                raise
            self._session = _Session(place, client, device, self._first_paths)
            if self._closed:  # meanwhile
                await client.close()
        self._session.place.check_same_mount(place)
        return self._session

    async def _connect(self, place: Place) -> ClientLogic:
        return ClientLogic(await self._driver.connect(socket_name(place.socket)))

    async def _init(self, client: ClientLogic) -> DeviceLogic[Any]:
        unread = unread_of(self._detailed)
        device = await client.init(self._max_queued_events, self._semantics, unread)
        if self._readiness is not None:
            device.report_to(self._readiness)
        return device

    def _report(self) -> None:
        """Bring the readiness, if there is one, up to date with what can be read."""
        if self._readiness is not None:
            if self._session is not None:
                self._session.device.report()
            if self._ready or self._replays:
                self._readiness.set()

    def _meaning(self, session: _Session) -> Callable[[Any], tuple[list[Any], set[int]]]:
        """Return the function that converts what a session's device returns to events."""
        paths = session.paths
        return paths.converted_details if self._detailed else paths.converted

    async def _ask(self, request: Callable[[_Session], Coroutine[Any, Any, T]]) -> T:
        """Make a request of the device; if the connection is lost, of the next device."""
        while True:
            session = self._watching()
            try:
                return await request(session)
            except ConnectionLost as lost:
                await self._restored(session, lost, math.inf)

    async def _restored(self, lost: _Session, reason: ConnectionLost, deadline: float) -> bool:
        """Replace a lost session by a new one; return False if the deadline passed.

        Raises the reason if no reconnection is wanted or the daemon does not
        come back in time, OSError if the new daemon refuses.
        """
        if not self._reconnect:
            raise reason
        return await self._connecting.take(partial(self._restore, lost, reason, deadline))

    async def _restore(self, lost: _Session, reason: ConnectionLost, deadline: float) -> bool:
        while self._session is lost:
            self._check_usable()
            outage = self._outage = self._outage or Outage(self._reconnect_seconds)
            try:
                await self._reopen(lost)
                self._outage = None
            except OSError as error:
                if not is_away(error):
                    raise
                pause = outage.pause()
                if pause is None:
                    raise reason from None
                left = deadline - time.monotonic()
                if left <= 0:
                    if self._readiness is not None:
                        self._readiness.rest(lost.client.link.fileno(), pause)
                    return False
                await self._driver.sleep(min(pause, left))
        return True

    async def _reopen(self, lost: _Session) -> None:
        """Connect again and make the watches again.

        Raises OSError; nothing is changed then.
        """
        client = await self._connect(lost.place)
        try:
            device = await self._init(client)
            watched: list[tuple[int, Watch]] = []
            ends: dict[int, int | None] = {}  # by the caller's descriptor
            for watch in lost.paths.watches():

                def note(added: WatchAdded, watch: Watch = watch) -> None:
                    ends[watch.wd] = added.past

                try:
                    wd = await device.add_watch(
                        watch.inner_path, watch.mask, watch.kind, note, past=bool(self._replays)
                    )
                except ConnectionLost:
                    raise
                except OSError:
                    continue  # it is gone, and moved() reports that
                watched.append((wd, watch))
        except BaseException:
            await client.close()
            raise
        paths, told = lost.paths.moved(watched)
        ours: Iterable[Any] = map(without_details, told) if self._detailed else told
        self._ready.extend(ours)
        if self._replays is not None:
            self._replays.go_on(ends)
        self._session = _Session(lost.place, client, device, paths)
        await lost.client.close()
        if self._closed:  # meanwhile
            await client.close()

    def _watching(self) -> _Session:
        self._check_usable()
        if self._session is None:
            raise OSError(errno.EINVAL, "nothing is watched yet: add_watch() comes first")
        return self._session

    def _check_usable(self) -> None:
        """Raise OSError (EBADF) if this was closed or belongs to another process."""
        if self._closed:
            raise client_closed()
        if not self._process.is_this():
            if self._session is not None:
                raise foreign(self._process)
            # Nothing is shared yet, so this process may use the object.  The turn is a new one,
            # since another thread of the parent may have had it.
            self._process = Process()
            self._connecting, self._replaying = self._driver.turn(), self._driver.turn()
