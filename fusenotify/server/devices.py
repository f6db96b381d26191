# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection's devices: requests that are answered at once, and waiting for events.

server.session calls it for each request; engine.device does the work and
calls back when it has queued an event.

Invariants
    Nothing awaits between the resolution of a path and the adding of the watch.
    A device's on_queued is set only while a request waits, so an event that
        nobody waits for costs nothing here.
    Numbers of devices are not used again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import trio

from fusenotify.bits import IN_DONT_FOLLOW, IN_ONLYDIR
from fusenotify.credentials import Credentials
from fusenotify.engine.detailed_device import DetailedDevice
from fusenotify.engine.details import QueuedEvent
from fusenotify.engine.device import AnyDevice, DeviceTable
from fusenotify.engine.limits import MOST
from fusenotify.engine.policy import semantics
from fusenotify.protocol.details import DetailedEvent
from fusenotify.protocol.messages import (
    MAX_READ,
    AddWatch,
    AnyAnswer,
    Close,
    Count,
    DeviceMade,
    Done,
    Events,
    Fionread,
    Init,
    Records,
    RmWatch,
    WatchAdded,
)
from fusenotify.server.history import History, required
from fusenotify.server.inlet import Passed
from fusenotify.server.peer import is_privileged, own_process
from fusenotify.server.tree import Tree

_ALL_BITS = 0xFFFFFFFF


class Waiting:
    """A request that waits for a device's events until cancel() is called."""

    __slots__ = ("cancelled", "served")

    def __init__(self, served: ServedDevice) -> None:
        self.served = served
        self.cancelled = False

    def cancel(self) -> None:
        """Make readable() return."""
        self.cancelled = True
        self.served.wake()


class ServedDevice:
    """A device under the number that its connection gave it."""

    __slots__ = ("_parked", "device", "number")

    def __init__(self, number: int, device: AnyDevice) -> None:
        self.number = number
        self.device = device
        self._parked = trio.lowlevel.ParkingLot()

    async def readable(self, waiting: Waiting) -> None:
        """Wait until there is something to read, or waiting is cancelled.

        Raises DeviceClosed (EBADF), also if the device is closed during the wait.
        """
        while not (waiting.cancelled or self.device.poll()):
            self.device.on_queued = self.wake
            await self._parked.park()

    def wake(self) -> None:
        """Wake the requests that wait."""
        self.device.on_queued = None
        self._parked.unpark_all()


def read_from(device: AnyDevice, number: int, size: int) -> Records | Events:
    """Return the answer to the request with that number: the events that fit size bytes.

    Raises OSError: EAGAIN, EINVAL, EBADF.
    """
    size = min(size, MAX_READ)
    if isinstance(device, DetailedDevice):
        return Events(id=number, events=tuple(map(message_of, device.read_events(size))))
    return Records(id=number, data=device.read(size))


def message_of(event: QueuedEvent) -> DetailedEvent:
    """Return an event as it is sent."""
    message = DetailedEvent(
        sequence=event.sequence,
        time=event.time,
        wd=event.wd,
        mask=event.mask,
        cookie=event.cookie,
        path=event.path,
        is_dir=event.is_dir,
        old_path=event.old_path,
        lost=event.lost,
    )
    process = event.process
    if process is not None:
        message.pid = process.pid or None
        message.uid = None if process.uid < 0 else process.uid
        message.gid = None if process.gid < 0 else process.gid
        message.command = process.command
        message.behind = process.behind
    return message


class ConnectionDevices:
    """The devices of one client.  who is the client; numbers yields the devices' numbers."""

    def __init__(
        self,
        table: DeviceTable,
        tree: Tree,
        who: Credentials,
        numbers: Iterator[int],
        history: History | None = None,
    ) -> None:
        self._table = table
        self._tree = tree
        self._who = who
        self._numbers = numbers
        self._history = history
        self._devices: dict[int, ServedDevice] = {}

    def __iter__(self) -> Iterator[ServedDevice]:
        return iter(self._devices.values())

    def __getitem__(self, number: int) -> ServedDevice:
        """Return the device with that number.

        Raises OSError (EBADF).
        """
        served = self._devices.get(number)
        if served is None:
            raise OSError(errno.EBADF, f"this connection has no open device {number}")
        return served

    def close(self) -> None:
        """Close all devices."""
        for served in self._devices.values():
            served.device.close()
        self._devices.clear()

    async def wait_for_time(self, request: AddWatch) -> None:
        """Wait until the request's patterns may be compiled.  Call answer() right after it."""
        while wait := self._table.exclusions.wait(self._who.uid, request.exclude):
            await trio.sleep(wait)

    def answer(
        self, request: Init | AddWatch | RmWatch | Fionread | Close, passed: Passed | None = None
    ) -> AnyAnswer:
        """Do what the syscall of that name does, and return the answer.

        passed is the descriptor that came with the request.

        Raises OSError, as the syscall does.
        """
        match request:
            case AddWatch():
                if not request.past:
                    return WatchAdded(id=request.id, wd=self._add_watch(request, passed))
                journal = required(self._history).journal
                wd = self._add_watch(request, passed)
                return WatchAdded(id=request.id, wd=wd, past=journal.now().sequence)
            case RmWatch():
                self[request.device].device.rm_watch(request.wd)
                return Done(id=request.id)
            case Fionread():
                return Count(id=request.id, bytes=self[request.device].device.fionread())
            case Init():
                return DeviceMade(id=request.id, device=self._init(request))
            case Close():
                self[request.device].device.close()
                del self._devices[request.device]
                return Done(id=request.id)

    def _init(self, request: Init) -> int:
        """Seed: sys_inotify_init()."""
        wanted = request.max_queued_events
        if wanted is not None and wanted < 0:
            raise OSError(errno.EINVAL, f"max_queued_events cannot be negative: {wanted}")
        if wanted is not None and wanted > MOST:
            raise OSError(errno.EINVAL, f"max_queued_events is at most {MOST}, not {wanted}")
        limit = self._table.limits.max_queued_events
        if wanted is not None and wanted > limit and not is_privileged(self._who):
            raise OSError(
                errno.EPERM,
                f"the mount's limit is max_queued_events = {limit}: "
                "only root and the daemon's user may have more",
            )
        try:
            policy = semantics(request.semantics) if request.semantics is not None else None
        except ValueError as unknown:
            raise OSError(errno.EINVAL, str(unknown)) from None
        who = self._who
        device: AnyDevice
        if request.detailed:
            device = self._table.init_detailed(
                who.uid,
                who=who,
                policy=policy,
                max_queued_events=wanted,
                sees_all=is_privileged(who),
            )
        else:
            device = self._table.init(who.uid, who=who, policy=policy, max_queued_events=wanted)
        number = next(self._numbers)
        self._devices[number] = ServedDevice(number, device)
        return number

    def _add_watch(self, request: AddWatch, passed: Passed | None) -> int:
        """Seed: sys_inotify_add_watch()."""
        device, mask = self[request.device].device, request.mask
        if not 0 <= mask <= _ALL_BITS:
            raise OSError(errno.EINVAL, f"a mask has 32 bits: {mask:#x} does not fit")
        device.check_mask(mask)
        exclusion = None
        if request.exclude:
            exclusion = self._table.exclusions.of(device.uid, request.exclude)
        ignored = own_process(self._table.core.details, self._who) if request.ignore_self else 0
        directory = bool(mask & IN_ONLYDIR) or request.tree
        if request.path is not None:
            follow = not mask & IN_DONT_FOLLOW
            found = self._tree.resolved(request.path, self._who, follow=follow, directory=directory)
        else:
            assert passed is not None
            found = self._tree.passed(passed.number, self._who, directory=directory)
        with found as inode:
            if passed is not None and inode.is_dir:
                passed.close_here()
            return device.add_watch(
                inode, mask, tree=request.tree, exclusion=exclusion, ignored=ignored
            )
