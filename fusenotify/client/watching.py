# SPDX-License-Identifier: GPL-2.0-or-later
"""What Inotify does: finds the mount, remembers paths, survives its daemon.

client.inotify and client.aio.inotify are the fronts, which say what each
method is for; client.locate finds, client.calls asks, client.events remembers
paths, and a driver (client.driver) connects and waits.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from fusenotify.client.calls import ClientLogic, DeviceLogic
from fusenotify.client.common import READ_SIZE, AnyPath, client_closed, socket_name
from fusenotify.client.driver import Driver
from fusenotify.client.events import InotifyEvent, Watch, WatchedPaths
from fusenotify.client.locate import Place, locate
from fusenotify.client.outage import Outage, is_away
from fusenotify.masks import IN_DONT_FOLLOW
from fusenotify.protocol.connection import ConnectionLost

T = TypeVar("T")


class InotifyLogic:
    """One device, on the mount in which the first watched path lies."""

    def __init__(
        self,
        driver: Driver,
        *,
        socket: AnyPath | None,
        semantics: str | None,
        max_queued_events: int | None,
        reconnect: bool,
        reconnect_seconds: float,
    ) -> None:
        self._driver = driver
        self._socket = socket
        self._semantics = semantics
        self._max_queued_events = max_queued_events
        self._place: Place | None = None
        self.client: ClientLogic | None = None
        self._device: DeviceLogic | None = None
        self.paths = WatchedPaths(outlives_mount=reconnect)
        self._reconnect = reconnect
        self._reconnect_seconds = reconnect_seconds
        self._outage: Outage | None = None
        self._synthetic: list[InotifyEvent] = []  # to be read first
        self._closed = False
        self._connecting = driver.turn()

    async def add_watch(self, path: AnyPath, mask: int) -> int:
        self._check_open()
        follow = not mask & IN_DONT_FOLLOW
        # In a thread: the path leads into a mount, whose daemon may be busy.
        place = await self._driver.in_thread(
            partial(locate, path, follow=follow, socket=self._socket)
        )
        client = await self._connecting.take(partial(self._connected, place))
        inner_path = place.inner_path(client.mountpoint)
        wd = await self._ask(lambda device: device.add_watch(inner_path, mask))
        return self.paths.add(wd, os.fsencode(path), inner_path, mask)

    async def rm_watch(self, wd: int) -> None:
        await self._ask(lambda device: device.rm_watch(self.paths.device_wd(wd)))

    async def read(self, timeout: float | None) -> list[InotifyEvent]:
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
                if events := self.paths.events(records):
                    return events
            if timeout is not None:
                timeout = max(0.0, deadline - time.monotonic())

    async def sync(self) -> None:
        self._check_open()
        if self._device is not None:
            await self._ask(lambda _: self._synced())

    async def close(self) -> None:
        self._closed = True
        if self.client is not None:
            await self.client.close()

    async def _synced(self) -> None:
        assert self.client is not None
        await self.client.sync()

    async def _connected(self, place: Place) -> ClientLogic:
        """Return the client for a place; it and the device are made for the first one."""
        if self.client is None:
            self.client = await self._connect(place)
        if self._device is None:
            self._device = await self._init(self.client)
            self._place = place
        assert self._place is not None
        self._place.check_same_mount(place)
        return self.client

    async def _connect(self, place: Place) -> ClientLogic:
        return ClientLogic(await self._driver.connect(socket_name(place.socket)))

    async def _init(self, client: ClientLogic) -> DeviceLogic:
        return await client.init(self._max_queued_events, self._semantics)

    async def _ask(self, request: Callable[[DeviceLogic], Coroutine[Any, Any, T]]) -> T:
        """Ask the device, and where the connection is lost the next one."""
        while True:
            device = self._watching()
            try:
                return await request(device)
            except ConnectionLost as lost:
                await self._restored(device, lost, math.inf)

    async def _restored(self, lost: DeviceLogic, reason: ConnectionLost, deadline: float) -> bool:
        """Go over from a device that was lost to a new one; False where the deadline passed.

        Raises the reason where that is not wanted or the daemon does not come
        back in time, OSError where it refuses.
        """
        if not self._reconnect:
            raise reason
        return await self._connecting.take(partial(self._restore, lost, reason, deadline))

    async def _restore(self, lost: DeviceLogic, reason: ConnectionLost, deadline: float) -> bool:
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
                await self._driver.sleep(pause)
        return True

    async def _reopen(self) -> None:
        """Connect again and make the watches again.

        Raises OSError, where nothing is changed.
        """
        assert self._place is not None
        client = await self._connect(self._place)
        try:
            device = await self._init(client)
            watched: list[tuple[int, Watch]] = []
            for watch in self.paths.watches():
                try:
                    wd = await device.add_watch(watch.inner_path, watch.mask)
                except ConnectionLost:
                    raise
                except OSError:
                    continue  # it is gone, and move() tells it
                watched.append((wd, watch))
        except BaseException:
            await client.close()
            raise
        old, self.client, self._device = self.client, client, device
        self._synthetic += self.paths.move(watched)
        if old is not None:
            await old.close()
        if self._closed:  # meanwhile
            await client.close()

    def _watching(self) -> DeviceLogic:
        self._check_open()
        if self._device is None:
            raise OSError(errno.EINVAL, "nothing is watched yet: add_watch() comes first")
        return self._device

    def _check_open(self) -> None:
        if self._closed:
            raise client_closed()
