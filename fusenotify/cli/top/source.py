# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify top`` asks a daemon: the events below a directory, and its status.

Events come on a detailed device with one tree watch, and the status on the same
connection.  Each is waited for by a thread of its own, so that a daemon that does not
answer keeps nobody waiting who draws, or reads keys.

Invariant
    The threads change what is public here by single assignments, and call changed
        afterwards; nothing else is shared but the Activity, which has a lock.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fusenotify.bits import IN_ALL_EVENTS, IN_IGNORED, IN_UNMOUNT
from fusenotify.cli.top.activity import Activity
from fusenotify.client import Client, ConnectionLost, Device
from fusenotify.client.locate import locate
from fusenotify.mounting.failure import describe
from fusenotify.protocol.details import DetailedEvent
from fusenotify.protocol.errors import ProtocolError
from fusenotify.protocol.messages import Status


@dataclass(frozen=True, slots=True)
class End:
    """Why nothing more comes.  in_order says that the mount was taken away, and nothing failed."""

    reason: str
    in_order: bool


class Source:
    """A connection to a daemon, and what came by it.

    directory is what is watched, as a path from the mount's root.  status is the daemon's
    latest answer, None before the first one, asked_since when the one that is waited for
    was asked for, in time.monotonic(), and None where none is.  end is set when nothing
    more comes.
    """

    def __init__(self, client: Client, directory: bytes) -> None:
        """Watch a directory.

        Raises OSError as Client.init() and Device.add_watch(), ProtocolError.
        """
        self.activity = Activity()
        self.directory = directory
        self.status: Status | None = None
        self.asked_since: float | None = None
        self.end: End | None = None
        self.changed: Callable[[], None] = _nothing
        self._client = client
        self._asking = threading.Event()
        device = client.init(detailed=True)
        device.add_watch(directory, IN_ALL_EVENTS, tree=True)
        threading.Thread(target=self._read, args=(device,), daemon=True).start()
        threading.Thread(target=self._ask, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end = self.end or End("closed", in_order=True)
        self._client.close()

    def ask(self) -> None:
        """Ask for the status, unless an answer is waited for already."""
        if self.asked_since is None:
            self.asked_since = time.monotonic()
            self._asking.set()

    def _read(self, device: Device[tuple[DetailedEvent, ...]]) -> None:
        unmounted = False
        try:
            for events in device.stream():
                self.activity.take(events)
                for event in events:
                    if event.mask & (IN_UNMOUNT | IN_IGNORED):
                        unmounted = unmounted or bool(event.mask & IN_UNMOUNT)
                        if event.mask & IN_IGNORED:
                            reason = "unmounted" if unmounted else "the directory is gone"
                            self._ended(End(reason, in_order=unmounted))
        except (OSError, ProtocolError) as error:
            self._ended(_because(error))

    def _ask(self) -> None:
        try:
            while True:
                self._asking.wait()
                self._asking.clear()
                self.status = self._client.status()
                self.asked_since = None
                self.changed()
        except (OSError, ProtocolError) as error:
            self._ended(_because(error))

    def _ended(self, end: End) -> None:
        """Say why nothing more comes; the first reason counts."""
        self.end = self.end or end
        self.changed()


def connected(path: str | None, socket: str | None) -> Source:
    """Return what watches a directory by its path, or all of the mount that a socket serves.

    Raises OSError as locate() and Client(), ProtocolError.
    """
    if path is None:
        assert socket is not None
        client = Client(socket)
        directory = b"/"
    else:
        place = locate(path)
        client = Client(place.socket)
        directory = place.inner_path(client.mountpoint)
    try:
        return Source(client, directory)
    except OSError as error:
        client.close()
        if error.filename is None and path is not None:
            error.filename = os.path.abspath(path)
        raise
    except BaseException:
        client.close()
        raise


def _because(error: OSError | ProtocolError) -> End:
    if isinstance(error, ConnectionLost):
        return End("the daemon is gone", in_order=False)
    return End(describe(error) if isinstance(error, OSError) else str(error), in_order=False)


def _nothing() -> None:
    """Nobody is to be told."""
