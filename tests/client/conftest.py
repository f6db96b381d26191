# SPDX-License-Identifier: GPL-2.0-or-later
"""A running server, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify.client import Client
from tests.client.running import MOUNTPOINT, Running


@pytest.fixture
def mountpoint() -> bytes:
    return MOUNTPOINT


@pytest.fixture
def running(tmp_path: Path, mountpoint: bytes) -> Iterator[Running]:
    running = Running(str(tmp_path / "x.sock"), mountpoint)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(running.socket) as client:
        yield client
