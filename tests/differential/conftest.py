# SPDX-License-Identifier: GPL-2.0-or-later
"""The two worlds in which scenarios run: a native directory, and a mount of ours."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusenotify
from fusenotify.client import Client
from tests.differential.linux import LinuxDevice
from tests.differential.scenario import AnyDevice, Scenario, record


class OurDevice:
    """A device of ours, by the blocking client; paths are absolute, below mountpoint."""

    def __init__(self, client: Client, mountpoint: Path, queue: int | None = None) -> None:
        self._client = client
        self._prefix = os.fsencode(mountpoint)
        self._device = client.init(nonblock=True, max_queued_events=queue)

    def add_watch(self, path: Path | bytes, mask: int) -> int:
        return self._device.add_watch(os.fsencode(path).removeprefix(self._prefix) or b"/", mask)

    def rm_watch(self, wd: int) -> None:
        self._device.rm_watch(wd)

    def read(self, size: int) -> bytes:
        return self._device.read(size)

    def fionread(self) -> int:
        return self._device.fionread()

    def poll(self) -> bool:
        return self._device.poll(timeout=0)

    def fence(self) -> None:
        self._client.sync()

    def close(self) -> None:
        self._device.close()


class World:
    """A place where scenarios run: fresh directories and fresh devices."""

    def __init__(self, top: Path, client: Client | None) -> None:
        self.top = top
        self._client = client
        self._made = 0

    def directory(self) -> Path:
        self._made += 1
        made = self.top / f"d{self._made}"
        made.mkdir()
        return made

    @property
    def connection(self) -> Client:
        """Our connection, where it is a mount of ours."""
        assert self._client is not None
        return self._client

    def device(self, queue: int | None = None) -> AnyDevice:
        """Return a new device, which queues this many events (None: the default)."""
        if self._client is None:
            return LinuxDevice(queue)
        return OurDevice(self._client, self.top, queue)


def both(run: Scenario, *worlds: World) -> list[list[str]]:
    """Run a scenario in each world and return what was recorded there."""
    recorded = []
    for world in worlds:
        device = world.device()
        try:
            recorded.append(record(run, world.directory(), device))
        finally:
            device.close()
    return recorded


@pytest.fixture(scope="package")
def public_top() -> Iterator[Path]:
    """A directory that other users may reach, as pytest's are not."""
    top = Path(tempfile.mkdtemp(prefix="fusenotify-"))
    top.chmod(0o755)
    yield top
    shutil.rmtree(top)


@pytest.fixture(scope="package")
def linux(public_top: Path) -> World:
    (public_top / "native").mkdir()
    return World(public_top / "native", None)


@pytest.fixture(scope="package")
def ours(public_top: Path) -> Iterator[World]:
    for name in ("source", "mnt"):
        (public_top / name).mkdir()
    with (
        fusenotify.mounted(
            public_top / "source", public_top / "mnt", options=["allow_other"]
        ) as mount,
        mount.client() as client,
    ):
        yield World(public_top / "mnt", client)
