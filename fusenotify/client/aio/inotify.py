# SPDX-License-Identifier: GPL-2.0-or-later
"""Async Inotify for ordinary paths: finds the mount, and gives events with paths.

client.locate finds; client.aio.syscalls asks; client.events remembers paths.
client.inotify is the same without ``async``.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import anyio

from fusenotify.client.aio.syscalls import Client, Device
from fusenotify.client.common import READ_SIZE, AnyPath, client_closed
from fusenotify.client.events import InotifyEvent, Watch, WatchedPaths
from fusenotify.client.locate import Place, locate
from fusenotify.client.outage import Outage, is_away
from fusenotify.masks import IN_DONT_FOLLOW
from fusenotify.protocol.connection import ConnectionLost

T = TypeVar("T")


class Inotify:
    """One device, on the mount in which the first watched path lies.

    socket overrides what is found; semantics and max_queued_events are those
    of Client.init().

    With reconnect, a daemon that goes away is waited for, reconnect_seconds
    at most, on the same socket; also where the mount was taken away in order.
    Then the watches are made again under their descriptors, by the paths in
    the mount that they had, and the next read() begins with IN_Q_OVERFLOW:
    there is no telling what was missed, so look at the directories again.  A
    watch that cannot be made again ends with IN_IGNORED.  ConnectionLost comes
    only where the time passed.
    """

    def __init__(
        self,
        *,
        socket: AnyPath | None = None,
        semantics: str | None = None,
        max_queued_events: int | None = None,
        reconnect: bool = False,
        reconnect_seconds: float = 30.0,
    ) -> None:
        self._socket = socket
        self._semantics = semantics
        self._max_queued_events = max_queued_events
        self._place: Place | None = None
        self._client: Client | None = None
        self._device: Device | None = None
        self._paths = WatchedPaths(outlives_mount=reconnect)
        self._reconnect = reconnect
        self._reconnect_seconds = reconnect_seconds
        self._outage: Outage | None = None
        self._synthetic: list[InotifyEvent] = []  # to be read first
        self._closed = False
        self._connecting = anyio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def add_watch(self, path: AnyPath, mask: int) -> int:
        """Watch a path and return the watch descriptor.

        Raises OSError: as inotify_add_watch(2), EXDEV outside of any
        fusenotify mount or in another one than before, ENOTCONN where the
        mount's daemon is dead.
        """
        self._check_open()
        follow = not mask & IN_DONT_FOLLOW
        # In a thread: the path leads into a mount, whose daemon may be busy.
        place = await anyio.to_thread.run_sync(
            partial(locate, path, follow=follow, socket=self._socket)
        )
        client = await self._connected(place)
        inner_path = place.inner_path(client.mountpoint)
        wd = await self._ask(lambda device: device.add_watch(inner_path, mask))
        return self._paths.add(wd, os.fsencode(path), inner_path, mask)

    async def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED follows.

        Raises OSError (EINVAL) where there is no such watch.
        """
        await self._ask(lambda device: device.rm_watch(self._paths.device_wd(wd)))

    async def read(self, timeout: float | None = None) -> list[InotifyEvent]:
        """Return what is queued; wait for the first event, at most timeout seconds.

        Returns nothing where the timeout passed.

        Raises OSError (EINVAL) where nothing was ever watched, ConnectionLost.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            device = self._watching()
            if self._synthetic:
                synthetic, self._synthetic = self._synthetic, []
                return synthetic
            try:
                records = await device.read(READ_SIZE, timeout)
            except BlockingIOError:
                return []
            except ConnectionLost as lost:
                if not await self._restored(device, lost, deadline):
                    return []
            else:
                if events := self._paths.events(records):
                    return events
            if timeout is not None:
                timeout = max(0.0, deadline - time.monotonic())

    async def sync(self) -> None:
        """Return when the events of what was done through the mount before are queued."""
        self._check_open()
        if self._device is not None:
            await self._ask(lambda _: self._synced())

    async def close(self) -> None:
        """Drop the watches; a second close is nothing."""
        self._closed = True
        if self._client is not None:
            await self._client.close()

    async def _synced(self) -> None:
        assert self._client is not None
        await self._client.sync()

    async def _connected(self, place: Place) -> Client:
        """Return the client for a place; it and the device are made for the first one."""
        async with self._connecting:
            if self._client is None:
                client = Client(place.socket)
                await client.connect()
                self._client = client
            if self._device is None:
                self._device = await self._client.init(
                    max_queued_events=self._max_queued_events, semantics=self._semantics
                )
                self._place = place
            assert self._place is not None
            self._place.check_same_mount(place)
            return self._client

    async def _ask(self, request: Callable[[Device], Awaitable[T]]) -> T:
        """Ask the device, and where the connection is lost the next one."""
        while True:
            device = self._watching()
            try:
                return await request(device)
            except ConnectionLost as lost:
                await self._restored(device, lost, math.inf)

    async def _restored(self, lost: Device, reason: ConnectionLost, deadline: float) -> bool:
        """Go over from a device that was lost to a new one; False where the deadline passed.

        Raises the reason where that is not wanted or the daemon does not come
        back in time, OSError where it refuses.
        """
        if not self._reconnect:
            raise reason
        async with self._connecting:
            while self._device is lost:
                self._check_open()
                outage = self._outage = self._outage or Outage(self._reconnect_seconds)
                try:
                    await self._reopen()
                    self._outage = None
                except OSError as error:
                    if not is_away(error):
                        raise
                    pause = outage.pause(deadline)
                    if pause is None:
                        raise reason from None
                    if time.monotonic() >= deadline:
                        return False
                    await anyio.sleep(pause)
        return True

    async def _reopen(self) -> None:
        """Connect again and make the watches again.

        Raises OSError, where nothing is changed.
        """
        assert self._place is not None
        client = Client(self._place.socket)
        await client.connect()
        try:
            device = await client.init(
                max_queued_events=self._max_queued_events, semantics=self._semantics
            )
            watched: list[tuple[int, Watch]] = []
            for watch in self._paths.watches():
                try:
                    wd = await device.add_watch(watch.inner_path, watch.mask)
                except ConnectionLost:
                    raise
                except OSError:
                    continue  # it is gone, and move() tells it
                watched.append((wd, watch))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await client.close()
            raise
        old, self._client, self._device = self._client, client, device
        self._synthetic += self._paths.move(watched)
        if old is not None:
            await old.close()
        if self._closed:  # meanwhile
            await client.close()

    def _watching(self) -> Device:
        self._check_open()
        if self._device is None:
            raise OSError(errno.EINVAL, "nothing is watched yet: add_watch() comes first")
        return self._device

    def _check_open(self) -> None:
        if self._closed:
            raise client_closed()
