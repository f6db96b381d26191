# SPDX-License-Identifier: GPL-2.0-or-later
"""The data of ``fusenotify top``: the events below a directory, and the daemon's status.

Events come from a detailed device with one tree watch, the status from the same
connection.  A thread of its own waits for each, so that a daemon that does not answer
does not delay drawing and reading of keys.

Invariant
    The threads change the public attributes by single assignments, and call changed
        afterwards.  Nothing else is shared except the Activity, which has a lock.
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
    """The reason why nothing more comes.  in_order says that it is an unmount, not a failure."""

    reason: str
    in_order: bool


class Source:
    """A connection to a daemon, and the data from it.

    directory is the watched directory, as a path from the mount's root.  status is the
    daemon's latest answer, or None before the first one.  asked_since is the
    time.monotonic() at which the present request was made, or None without one.  end is set
    when nothing more comes.
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
        """Ask for the status, unless a request is under way already."""
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
        """Set the reason why nothing more comes; only the first one counts."""
        self.end = self.end or end
        self.changed()


def connected(path: str | None, socket: str | None) -> Source:
    """Return a source for the directory at path, or for the whole mount that a socket serves.

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
    """Do nothing, while no function is set to call on changes."""
