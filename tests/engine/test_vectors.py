# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine answers as the seed's C code did.

Each line of a vectors file is a sequence of operations with the answers of the
seed's code; docs/testing.md gives the format.  FUSENOTIFY_VECTORS names further
files, separated by ``:``.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusenotify.engine.core import Core, Inode
from fusenotify.engine.device import Device, DeviceTable
from fusenotify.engine.limits import Limits
from fusenotify.engine.policy import LINUX_2_6_18, Policy
from fusenotify.errors import NotifyError
from fusenotify.events import unpack

OWN = Path(__file__).with_name("seed-engine.jsonl")
POLLIN_AND_POLLRDNORM = 65
POLICIES = {
    "head": LINUX_2_6_18,
    "tail": replace(LINUX_2_6_18, merge_with_newest=True),
}

Answer = dict[str, Any]


class BadDescriptor(NotifyError):
    """A label that stands for no open device."""

    code = 9


class SeedEngine:
    """The engine behind the operations of the vectors, one method each."""

    def __init__(self, policy: Policy) -> None:
        self.core = Core()
        self.limits = Limits()
        self.table = DeviceTable(self.core, self.limits, policy)
        self.inodes: dict[int, Inode] = {}
        self.devices: dict[int, Device] = {}

    def device(self, label: int) -> Device:
        if label not in self.devices:
            raise BadDescriptor
        return self.devices[label]

    def answer(self, op: str, **arguments: Any) -> Answer:
        try:
            result = getattr(self, op)(**arguments)
        except NotifyError as refusal:
            return {"ret": f"-{errno_name(refusal.code)}"}
        return result if isinstance(result, dict) else {"ret": result or 0}

    def new_inode(self, inode: int) -> None:
        self.inodes[inode] = Inode(is_dir=True)

    def init(self, dev: int, uid: int) -> None:
        self.devices[dev] = self.table.init(uid)

    def close(self, dev: int) -> None:
        self.device(dev).close()
        del self.devices[dev]

    def add_watch(self, dev: int, inode: int, mask: int) -> int:
        return self.device(dev).add_watch(self.inodes[inode], mask)

    def rm_watch(self, dev: int, wd: int) -> None:
        self.device(dev).rm_watch(wd)

    def queue_event(self, inode: int, mask: int, cookie: int, name: str | None) -> None:
        self.core.queue_event(
            self.inodes[inode], mask, cookie, None if name is None else name.encode()
        )

    def inode_is_dead(self, inode: int) -> None:
        self.core.inode_is_dead(self.inodes[inode])

    def unmount(self, inodes: list[int]) -> None:
        self.core.unmount(self.inodes[label] for label in inodes)

    def read(self, dev: int, size: int, nonblock: bool) -> Answer:
        records = self.device(dev).read(size)
        events = [
            {
                "wd": event.wd,
                "mask": event.mask,
                "cookie": event.cookie,
                "name": None if event.name is None else event.name.decode(),
            }
            for event in unpack(records)
        ]
        return {"ret": len(records), "hex": records.hex(), "events": events}

    def fionread(self, dev: int) -> int:
        return self.device(dev).fionread()

    def poll(self, dev: int) -> int:
        return POLLIN_AND_POLLRDNORM if self.device(dev).poll() else 0

    def set_limits(self, **limits: int) -> None:
        for name, value in limits.items():
            setattr(self.limits, name, value)

    def counters(self, uid: int) -> Answer:
        counts = self.table.users.counts(uid)
        return {"ret": 0, "inotify_watches": counts.watches, "inotify_devs": counts.devices}


def errno_name(code: int) -> str:
    import errno

    return errno.errorcode[code]


def vector_files() -> list[Path]:
    further = os.environ.get("FUSENOTIFY_VECTORS", "")
    return [OWN, *(Path(path) for path in further.split(":") if path)]


def vectors() -> list[Any]:
    return [
        pytest.param(json.loads(line), id=f"{path.stem}:{json.loads(line)['id']}")
        for path in vector_files()
        for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize("vector", vectors())
def test_answers_as_the_seed_does(vector: dict[str, Any]) -> None:
    engine = SeedEngine(POLICIES[vector["coalesce"]])
    for step, (operation, expected) in enumerate(
        zip(vector["ops"], vector["results"], strict=True)
    ):
        for event in expected.get("events", ()):
            del event["len"]  # the hex has it
        assert engine.answer(**operation) == expected, f"operation {step}: {operation}"
