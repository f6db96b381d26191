# SPDX-License-Identifier: GPL-2.0-or-later
"""A few hostile frames, and calls in any order beside a model of what they answer."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fusenotify.client import Client, Device
from fusenotify.events import unpack
from fusenotify.masks import IN_CREATE, IN_IGNORED, IN_MASK_CREATE
from tests.cli.command import until
from tests.client.running import MOUNTPOINT, Running
from tests.server.fuzz import daemon, fuzz_decoder, fuzz_server

PATHS = ("/", "d0", "d1", "d2")


def test_hostile_frames_on_the_decoder() -> None:
    refused = fuzz_decoder(20_000, seed=1)
    assert 200 < refused < 10_000


def test_hostile_frames_on_a_server_that_serves_another_client() -> None:
    with daemon() as served:
        fuzz_server(served, 1000, seed=2)
        before = served.descriptors()
        fuzz_server(served, 4000, seed=3)
        # A connection that the client closed is the daemon's to close yet.
        until(lambda: served.descriptors() <= before, "all connections are closed")


@contextlib.contextmanager
def told(expected: int) -> Iterator[None]:
    """Expect a refusal with that errno, or none for 0."""
    found = 0
    try:
        yield
    except OSError as refusal:
        found = refusal.errno or -1
    assert found == expected


class Calls(RuleBasedStateMachine):
    """One connection's devices and watches, and what they must answer."""

    def __init__(self) -> None:
        super().__init__()
        self._top = tempfile.TemporaryDirectory()
        self._running = Running(str(Path(self._top.name) / "x.sock"), MOUNTPOINT)
        self._running.start()
        for path in PATHS[1:]:
            self._running.make(path, directory=True)
        self._client = Client(self._running.socket)
        self._other = Client(self._running.socket)
        self._devices: list[Device] = []
        self._open: list[bool] = []
        self._watches: list[dict[str, int]] = []  # by path
        self._expected: list[list[tuple[int, int]]] = []  # wd and mask, not read yet
        self._files = 0

    def teardown(self) -> None:
        self._client.close()
        self._other.close()
        self._running.stop()
        self._top.cleanup()

    @rule()
    def init(self) -> None:
        self._devices.append(self._client.init(nonblock=True))
        self._open.append(True)
        self._watches.append({})
        self._expected.append([])

    @rule(which=st.integers(0, 3), path=st.sampled_from([*PATHS, "none"]), once=st.booleans())
    def add_watch(self, which: int, path: str, once: bool) -> None:
        if which >= len(self._devices):
            return
        watches = self._watches[which]
        expected = 0
        if not self._open[which]:
            expected = errno.EBADF
        elif path == "none":
            expected = errno.ENOENT
        elif once and path in watches:
            expected = errno.EEXIST
        mask = IN_CREATE | (IN_MASK_CREATE if once else 0)
        with told(expected):
            wd = self._devices[which].add_watch(path, mask)
            assert watches.setdefault(path, wd) == wd

    @rule(which=st.integers(0, 3), path=st.sampled_from(PATHS))
    def rm_watch(self, which: int, path: str) -> None:
        if which >= len(self._devices):
            return
        wd = self._watches[which].pop(path, None)
        expected = (errno.EINVAL if wd is None else 0) if self._open[which] else errno.EBADF
        with told(expected):
            self._devices[which].rm_watch(10_000 if wd is None else wd)
            assert wd is not None
            self._expected[which].append((wd, IN_IGNORED))

    @rule(path=st.sampled_from(PATHS))
    def make(self, path: str) -> None:
        self._files += 1
        self._running.make(f"{path}/f{self._files}")
        for which, watches in enumerate(self._watches):
            if self._open[which] and path in watches:
                self._expected[which].append((watches[path], IN_CREATE))

    @rule(which=st.integers(0, 3))
    def read(self, which: int) -> None:
        if which >= len(self._devices):
            return
        expected, self._expected[which] = self._expected[which], []
        code = errno.EAGAIN if self._open[which] else errno.EBADF
        with told(0 if expected else code):
            records = self._devices[which].read()
            assert [(wd, mask) for wd, mask, _, _ in unpack(records)] == expected

    @rule(which=st.integers(0, 3))
    def close(self, which: int) -> None:
        if which >= len(self._devices):
            return
        self._devices[which].close()
        self._open[which] = False
        self._watches[which].clear()
        self._expected[which].clear()

    @invariant()
    def counted_and_heard_by_others(self) -> None:
        (user,) = self._other.status().users
        assert user.uid == os.getuid()
        assert (user.devices, user.connections) == (sum(self._open), 2)
        assert user.watches == sum(map(len, self._watches))


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=30, stateful_step_count=25)
