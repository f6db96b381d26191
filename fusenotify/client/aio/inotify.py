# SPDX-License-Identifier: GPL-2.0-or-later
"""Async Inotify for ordinary paths: finds the mount, and gives events with paths.

client.locate finds; client.aio.syscalls asks; client.events remembers paths.
client.inotify is the same without ``async``.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from types import TracebackType
from typing import Self

import anyio

from fusenotify.client.aio.syscalls import Client, Device
from fusenotify.client.common import READ_SIZE, AnyPath, client_closed
from fusenotify.client.events import InotifyEvent, WatchedPaths
from fusenotify.client.locate import Place, locate
from fusenotify.masks import IN_DONT_FOLLOW


class Inotify:
    """One device, on the mount in which the first watched path lies.

    socket overrides what is found; semantics and max_queued_events are those
    of Client.init().
    """

    def __init__(
        self,
        *,
        socket: AnyPath | None = None,
        semantics: str | None = None,
        max_queued_events: int | None = None,
    ) -> None:
        self._socket = socket
        self._semantics = semantics
        self._max_queued_events = max_queued_events
        self._place: Place | None = None
        self._client: Client | None = None
        self._device: Device | None = None
        self._paths = WatchedPaths()
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
        client, device = await self._connected(place)
        wd = await device.add_watch(place.inner_path(client.mountpoint), mask)
        self._paths.add(wd, os.fsencode(path))
        return wd

    async def rm_watch(self, wd: int) -> None:
        """Remove a watch; IN_IGNORED follows.

        Raises OSError (EINVAL) where there is no such watch.
        """
        await self._watching().rm_watch(wd)

    async def read(self, timeout: float | None = None) -> list[InotifyEvent]:
        """Return what is queued; wait for the first event, at most timeout seconds.

        Returns nothing where the timeout passed.

        Raises OSError (EINVAL) where nothing was ever watched, ConnectionLost.
        """
        try:
            records = await self._watching().read(READ_SIZE, timeout)
        except BlockingIOError:
            return []
        return self._paths.events(records)

    async def sync(self) -> None:
        """Return when the events of what was done through the mount before are queued."""
        self._check_open()
        if self._client is not None:
            await self._client.sync()

    async def close(self) -> None:
        """Drop the watches; a second close is nothing."""
        self._closed = True
        if self._client is not None:
            await self._client.close()

    async def _connected(self, place: Place) -> tuple[Client, Device]:
        """Return the client and device for a place, made for the first one."""
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
            return self._client, self._device

    def _watching(self) -> Device:
        self._check_open()
        if self._device is None:
            raise OSError(errno.EINVAL, "nothing is watched yet: add_watch() comes first")
        return self._device

    def _check_open(self) -> None:
        if self._closed:
            raise client_closed()
