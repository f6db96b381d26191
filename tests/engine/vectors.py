# SPDX-License-Identifier: GPL-2.0-or-later
"""The seed's vectors: sequences of operations with the answers of the seed's own C code.

tests/engine runs them on the engine itself, tests/server through a server and
its clients.  docs/explanation/testing.md gives the format.  FUSENOTIFY_VECTORS names
further files, separated by ``:``.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from fusenotify.engine.core import Inode
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.policy import LINUX_2_6_18
from fusenotify.events import HEADER, record_size, unpack

POLICIES = {
    "head": LINUX_2_6_18,
    "tail": replace(LINUX_2_6_18, merge_with_newest=True),
}

_OWN = Path(__file__).with_name("seed-engine.jsonl")
_POLLIN_AND_POLLRDNORM = 65

Answer = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


class SeedEngine:
    """An engine with a method for each operation of the vectors.

    Its devices are whatever do for a process what an inotify descriptor does.
    A subclass that has others than engine.device's says how they are made and
    what they are asked otherwise.
    """

    def __init__(self, table: DeviceTable) -> None:
        self.table = table
        self.inodes: dict[int, Inode] = {}
        self.devices: dict[int, Any] = {}

    def answer(self, op: str, **arguments: Any) -> Answer:
        """Do one operation and return its result."""
        try:
            result = getattr(self, op)(**arguments)
        except OSError as refusal:
            return {"ret": f"-{errno.errorcode[refusal.errno or errno.EIO]}"}
        return result if isinstance(result, dict) else {"ret": result or 0}

    def device(self, label: int) -> Any:
        """Return the open device that a label stands for."""
        if label not in self.devices:
            raise OSError(errno.EBADF, "the label stands for no open device")
        return self.devices[label]

    # What a subclass does in its own way.

    def produce(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call into the engine as a filesystem does."""
        return call(*args, **kwargs)

    def new_inode(self, inode: int) -> None:
        self.inodes[inode] = Inode(is_dir=True)

    def init(self, dev: int, uid: int) -> None:
        self.devices[dev] = self.table.init(uid)

    def add_watch(self, dev: int, inode: int, mask: int) -> int:
        wd: int = self.device(dev).add_watch(self.inodes[inode], mask)
        return wd

    def records(self, dev: int, size: int, nonblock: bool) -> bytes:
        records: bytes = self.device(dev).read(size)
        return records

    def is_readable(self, dev: int) -> bool:
        return bool(self.device(dev).poll())

    # The other operations of devices.

    def close(self, dev: int) -> None:
        self.device(dev).close()
        del self.devices[dev]

    def rm_watch(self, dev: int, wd: int) -> None:
        self.device(dev).rm_watch(wd)

    def read(self, dev: int, size: int, nonblock: bool) -> Answer:
        records = self.records(dev, size, nonblock)
        events = [
            {
                "wd": event.wd,
                "mask": event.mask,
                "cookie": event.cookie,
                "len": record_size(event.name) - HEADER.size,
                "name": None if event.name is None else event.name.decode(),
            }
            for event in unpack(records)
        ]
        return {"ret": len(records), "hex": records.hex(), "events": events}

    def fionread(self, dev: int) -> int:
        queued: int = self.device(dev).fionread()
        return queued

    def poll(self, dev: int) -> int:
        return _POLLIN_AND_POLLRDNORM if self.is_readable(dev) else 0

    # What happens in the filesystem and to the machine.

    def queue_event(self, inode: int, mask: int, cookie: int, name: str | None) -> None:
        encoded = None if name is None else name.encode()
        self.produce(self.table.core.queue_event, self.inodes[inode], mask, cookie, encoded)

    def inode_is_dead(self, inode: int) -> None:
        self.produce(self.table.core.inode_is_dead, self.inodes[inode])

    def unmount(self, inodes: list[int]) -> None:
        self.produce(self.table.core.unmount, [self.inodes[label] for label in inodes])

    def set_limits(self, **limits: int) -> None:
        for name, value in limits.items():
            self.produce(setattr, self.table.limits, name, value)

    def counters(self, uid: int) -> Answer:
        counts = self.produce(self.table.users.counts, uid)
        return {"ret": 0, "inotify_watches": counts.watches, "inotify_devs": counts.devices}


def vectors() -> list[Any]:
    """Return the parameters of a test that takes a vector."""
    further = os.environ.get("FUSENOTIFY_VECTORS", "")
    files = [_OWN, *(Path(path) for path in further.split(":") if path)]
    return [
        pytest.param(json.loads(line), id=f"{path.stem}:{json.loads(line)['id']}")
        for path in files
        for line in path.read_text().splitlines()
    ]


def check(engine: SeedEngine, vector: dict[str, Any]) -> None:
    """Fail where an answer is not the seed's."""
    for step, (operation, expected) in enumerate(
        zip(vector["ops"], vector["results"], strict=True)
    ):
        assert engine.answer(**operation) == expected, f"operation {step}: {operation}"
