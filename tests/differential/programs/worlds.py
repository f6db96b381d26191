# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a program runs in one world: a directory, two devices and two processes."""

from __future__ import annotations

import os
import shutil
from typing import Any

from fusenotify.events import unpack
from tests.differential.conftest import World
from tests.differential.programs.processes import OtherProcess, Process
from tests.differential.programs.steps import (
    OTHER,
    AddWatch,
    Call,
    OfDevice,
    OfSlot,
    Pass,
    Queues,
    Renew,
    RmWatch,
    Step,
)
from tests.differential.scenario import AnyDevice, events, outcome, readable


class Place:
    """One world's side of programs, one program after the other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._process = Process()
        self._other = OtherProcess()
        self._devices: list[AnyDevice] = []
        self._directory = ""

    def begin(self, queues: Queues) -> None:
        """Start a program in an empty directory, with devices of these queue lengths."""
        self._top = self._world.directory()
        # A symbolic link may lead up, but not to other programs.
        made = self._top / "above" / "here"
        made.mkdir(parents=True)
        made.chmod(0o777)
        self._directory = os.fspath(made)
        self._queues = queues
        self._devices = [self._world.device(queue) for queue in queues]
        self._cookies = {0: 0}
        self._process.begin(self._directory)
        self._other.begin(self._directory)

    def end(self) -> list[list[str]]:
        """Close all files and return what each device has still queued."""
        self._process.begin("/")
        self._other.begin("/")
        return [readable(events(device), self._cookies) for device in self._devices]

    def clean(self) -> None:
        """Leave nothing behind, whatever happened."""
        self._process.begin("/")
        self._other.begin("/")
        while self._devices:
            self._devices.pop().close()
        shutil.rmtree(self._top, ignore_errors=True)  # the daemon may be gone

    def close(self) -> None:
        self._other.close()

    def do(self, step: Step) -> Any:
        """Make a step; return what it returned, or its errno's name."""
        match step:
            case Pass():
                return self._pass(step)
            case Call():
                return (self._process, self._other)[step.by].make(step)
            case Renew():
                self._devices[step.device].close()
                self._devices[step.device] = self._world.device(self._queues[step.device])
                return None
            case OfDevice():
                return self._ask(step)
        raise TypeError(step)

    def at(self, path: str) -> str:
        """Return where a step's path is."""
        return f"{self._directory}/{path}"

    def opened(self, by: int, slot: int) -> os.stat_result | None:
        """Return the attributes of what is open in a slot; None where it is empty."""
        answer = (self._process, self._other)[by].make(_Attributes(by, slot))
        return answer if isinstance(answer, os.stat_result) else None

    def _pass(self, step: Pass) -> Any:
        if step.by == OTHER:
            return self._other.send(step.slot, self._process, step.to)
        return outcome(lambda: self._other.receive(self._process.fd(step.slot), step.to))

    def _ask(self, step: OfDevice) -> Any:
        device = self._devices[step.device]
        if not isinstance(step, AddWatch | RmWatch):  # which need no fence
            device.fence()
        answer = outcome(lambda: step.run(device, self._directory))
        return readable(unpack(answer), self._cookies) if isinstance(answer, bytes) else answer


class _Attributes(OfSlot):
    """All attributes of an open file; callers decide which are left out."""

    def run(self, process: Process) -> os.stat_result:
        return os.fstat(process.fd(self.slot))
