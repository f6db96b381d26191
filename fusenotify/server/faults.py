# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults for tests: this finds the devices that a fault is for, and sets their levers.

server.service has a Faults if the mount was made with --faults; server.session
passes requests on.  The devices with faults are those of engine.faulty.

Invariants
    On a mount with Faults, every device is an AnyFaultyDevice, and its number is
        unique on the mount: no other connection has it.
    Only root and the daemon's user cause faults.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import count
from typing import Protocol, TypeVar

import trio

from fusenotify.bits import IN_Q_OVERFLOW
from fusenotify.credentials import Credentials
from fusenotify.engine.base_device import Shared
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.faulty import (
    AnyFaultyDevice,
    FaultyDetailedDevice,
    FaultyDevice,
    Levers,
)
from fusenotify.engine.limits import MOST
from fusenotify.engine.policy import Policy
from fusenotify.protocol.faults import (
    AnyFault,
    Clear,
    Delay,
    Disconnect,
    Inject,
    LastingFault,
    Lose,
    Overflow,
    Refuse,
)
from fusenotify.protocol.messages import (
    CauseFault,
)
from fusenotify.protocol.status import (
    FaultStatus,
)
from fusenotify.server.devices import ConnectionDevices
from fusenotify.server.peer import is_privileged

# The longest delay of an event, in seconds: an hour.
MOST_SECONDS = 3600.0

_REFUSALS = {"ENOSPC": errno.ENOSPC, "ENOMEM": errno.ENOMEM}
# The most bytes in a name, and in a path, as events of tree watches have it.
_NAME_MAX, _PATH_MAX = 255, 4095
_ALL_BITS = 0xFFFFFFFF


D = TypeVar("D", FaultyDevice, FaultyDetailedDevice)


class Connection(Protocol):
    """A connection that faults may affect.  server.session implements it."""

    who: Credentials
    devices: ConnectionDevices

    def drop(self) -> None:
        """End the connection."""


class Faults:
    """The levers of a mount.

    connections is a live view of its connections; numbers yields the numbers of its
    devices.
    """

    def __init__(self, table: DeviceTable, connections: Collection[Connection]) -> None:
        self.numbers: Iterator[int] = count(1)
        self._connections = connections
        self._shared = Levers()
        self._alarm = trio.CancelScope()
        table.make = self._made(FaultyDevice)
        table.make_detailed = self._made(FaultyDetailedDevice)

    def cause(self, asking: Connection, request: CauseFault) -> None:
        """Cause a fault of one device, or of all devices of the mount.

        Raises OSError: EPERM for other users than root and the daemon's, EBADF for
        a device that does not exist, EINVAL.
        """
        if not is_privileged(asking.who):
            raise OSError(errno.EPERM, "only root and the daemon's user may cause faults")
        _check(request.fault)
        reached = [
            (connection, device)
            for connection, number, device in self._devices()
            if request.device in (None, number)
        ]
        if request.device is not None and not reached:
            raise OSError(errno.EBADF, f"this mount has no open device {request.device}")
        devices = [device for _, device in reached]
        match request.fault:
            case Overflow():
                for device in devices:
                    device.overflow()
            case Inject(wd, mask, cookie, name):
                for device in devices:
                    device.inject(wd, mask, cookie, name)
            case Disconnect():
                for connection in dict.fromkeys(connection for connection, _ in reached):
                    if connection is not asking or request.device is not None:
                        connection.drop()
            case Clear():
                if request.device is None:
                    self._shared.clear()
                for device in devices:
                    device.clear()
            case lasting:
                levers = self._shared if request.device is None else devices[0].levers
                _set(levers, lasting)
                if isinstance(lasting, Delay):
                    for device in devices:
                        device.release()

    def status(self, devices: Collection[int]) -> list[FaultStatus]:
        """Return the lasting faults of the mount, and of the devices with those numbers."""
        lasting = [FaultStatus(device=None, fault=fault) for fault in _lasting(self._shared)]
        for _, number, device in self._devices():
            if number in devices:
                for fault in _lasting(device.levers):
                    lasting.append(FaultStatus(device=number, fault=fault))
        return lasting

    async def wake_readers(self) -> None:
        """Wake waiting requests whenever an event that was held back can be read; never return."""
        while True:
            dues = [device.next_due() for _, _, device in self._devices()]
            soonest = min((due for due in dues if due is not None), default=math.inf)
            with trio.CancelScope(deadline=soonest) as self._alarm:
                await trio.sleep_forever()
            for _, _, device in self._devices():
                device.wake()

    def _made(self, kind: Callable[..., D]) -> Callable[[Shared, Policy, int, int], D]:
        """Return the function that makes devices of a kind with our levers."""
        return partial(kind, shared=self._shared, now=trio.current_time, on_held=self._held_until)

    def _held_until(self, due: float) -> None:
        self._alarm.deadline = min(self._alarm.deadline, due)

    def _devices(self) -> Iterator[tuple[Connection, int, AnyFaultyDevice]]:
        for connection in self._connections:
            for served in connection.devices:
                assert isinstance(served.device, AnyFaultyDevice)
                yield connection, served.number, served.device


def _check(fault: AnyFault) -> None:
    """Check that all numbers are in their range.

    Raises OSError (EINVAL).
    """
    match fault:
        case Inject(wd, mask, cookie, name):
            if not -MOST - 1 <= wd <= MOST:
                raise _invalid(f"a watch descriptor has 32 bits: {wd} does not fit")
            if not (0 < mask <= _ALL_BITS and 0 <= cookie <= _ALL_BITS):
                raise _invalid("mask and cookie have 32 bits, and the mask cannot be 0")
            if mask & IN_Q_OVERFLOW:
                raise _invalid("IN_Q_OVERFLOW cannot be injected: use the fault 'overflow'")
            if name is not None:
                _check_name(name)
        case Lose(number, mask):
            _check_count(number)
            if not 0 < mask <= _ALL_BITS:
                raise _invalid("a mask has 32 bits, and cannot be 0")
        case Refuse(number, error):
            _check_count(number)
            if error not in _REFUSALS:
                raise _invalid(f"add_watch is refused with {' or '.join(_REFUSALS)}, not '{error}'")
        case Delay(seconds):
            if not 0 <= seconds <= MOST_SECONDS:  # true of NaN, too
                raise _invalid(f"a delay is 0 to {MOST_SECONDS:g} seconds, not {seconds}")


def _check_name(name: bytes) -> None:
    most = _PATH_MAX if b"/" in name else _NAME_MAX
    if not (0 < len(name) <= most and b"\0" not in name):
        raise _invalid(
            f"a name has 1 to {_NAME_MAX} bytes, a path at most {_PATH_MAX}, and neither has a NUL"
        )


def _check_count(number: int) -> None:
    if not 0 <= number <= MOST:
        raise _invalid(f"a count is 0 to {MOST}, not {number}")


def _invalid(message: str) -> OSError:
    return OSError(errno.EINVAL, message)


def _set(levers: Levers, fault: LastingFault) -> None:
    match fault:
        case Lose(number, mask):
            levers.lose, levers.lose_mask = number, mask
        case Refuse(number, error):
            levers.refuse, levers.refuse_code = number, _REFUSALS[error]
        case Delay(seconds):
            levers.delay = float(seconds)


def _lasting(levers: Levers) -> Iterator[LastingFault]:
    """Yield the faults that are set, in the form in which they can be requested."""
    if levers.lose:
        yield Lose(levers.lose, levers.lose_mask)
    if levers.refuse:
        yield Refuse(levers.refuse, errno.errorcode[levers.refuse_code])
    if levers.delay:
        yield Delay(levers.delay)
