# SPDX-License-Identifier: GPL-2.0-or-later
"""Several devices and users on one inode, the limits, and the end of a mount, as on Linux."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fusenotify
from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_IGNORED,
    IN_ONESHOT,
    IN_OPEN,
)
from fusenotify.client import Client
from fusenotify.events import Event, unpack
from tests.differential.conftest import OurDevice
from tests.differential.linux import LinuxDevice, machine_limits
from tests.differential.scenario import AnyDevice, events, outcome, readable

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can set limits and be other users"),
]

FIRST_USER, SECOND_USER = 5551, 5552
LIMITS = {"max_user_watches": 3, "max_user_instances": 2, "max_queued_events": 4}


class Place:
    """A directory to act in, and devices of any user on it."""

    def __init__(self, top: Path, socket: str | None) -> None:
        self.top = top
        self._socket = socket
        self._opened = contextlib.ExitStack()

    def device(self, uid: int) -> UserDevice:
        with as_user(uid):
            if self._socket is None:
                device: AnyDevice = LinuxDevice()
            else:
                client = self._opened.enter_context(Client(self._socket))
                device = OurDevice(client, self.top)
        self._opened.callback(lambda: outcome(device.close))
        return UserDevice(device, uid)

    def close(self) -> None:
        self._opened.close()


class UserDevice:
    """A device whose user adds the watches."""

    def __init__(self, device: AnyDevice, uid: int) -> None:
        self.plain = device
        self._uid = uid

    def add_watch(self, path: Path, mask: int) -> int:
        with as_user(self._uid):
            return self.plain.add_watch(path, mask)

    def told(self) -> list[str]:
        return readable(events(self.plain))


@contextlib.contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Be another user in the block, for the kernel and for the server alike."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def lowered_limits() -> Iterator[None]:
    """Give the machine's inotify the limits that our mount has."""
    with machine_limits(**LIMITS):
        yield


@pytest.fixture
def places(public_path: Path, lowered_limits: None) -> Iterator[tuple[Place, Place]]:
    """The two places: a native directory and a mount, with the same limits."""
    for name in ("native", "source", "mnt"):
        (public_path / name).mkdir()
    source, mnt = public_path / "source", public_path / "mnt"
    with fusenotify.mounted(source, mnt, options=["allow_other"], **LIMITS) as mount:  # type: ignore[arg-type]
        native, ours = Place(public_path / "native", None), Place(mnt, mount.socket)
        with contextlib.closing(native), contextlib.closing(ours):
            yield native, ours


def two_users_watch_one_file(place: Place) -> list[list[str]]:
    (place.top / "f").touch()
    (place.top / "f").chmod(0o644)
    devices = [place.device(FIRST_USER), place.device(SECOND_USER)]
    devices[0].add_watch(place.top / "f", IN_ATTRIB | IN_CLOSE_WRITE)
    devices[1].add_watch(place.top / "f", IN_OPEN | IN_ONESHOT)
    (place.top / "f").write_bytes(b"x")
    (place.top / "f").chmod(0o600)
    return [device.told() for device in devices]


def two_devices_of_one_user_are_independent(place: Place) -> list[Any]:
    first, second = place.device(FIRST_USER), place.device(FIRST_USER)
    wds = [device.add_watch(place.top, IN_CREATE) for device in (first, second)]
    (place.top / "f").touch()
    first.plain.rm_watch(wds[0])
    (place.top / "g").touch()
    return [wds, first.told(), second.told()]


def read_permission_is_needed_when_adding_only(place: Place) -> list[Any]:
    (place.top / "f").touch()
    (place.top / "f").chmod(0o644)
    device = place.device(FIRST_USER)
    device.add_watch(place.top / "f", IN_ATTRIB)
    (place.top / "f").chmod(0o600)
    refused = outcome(lambda: device.add_watch(place.top / "f", IN_ATTRIB | IN_OPEN))
    return [refused, device.told()]


def watches_are_limited_per_user(place: Place) -> list[Any]:
    for name in "abcde":
        (place.top / name).mkdir()
    first, other = place.device(FIRST_USER), place.device(FIRST_USER)
    second = place.device(SECOND_USER)

    def added(device: UserDevice, name: str) -> Any:
        return outcome(lambda: device.add_watch(place.top / name, IN_CREATE))

    seen = [added(first, "a"), added(first, "b"), added(other, "a"), added(first, "c")]
    seen += [added(first, "missing"), added(first, "a"), added(second, "c"), added(other, "b")]
    first.plain.rm_watch(1)
    return [*seen, added(first, "d"), added(other, "e")]


def instances_are_limited_per_user(place: Place) -> list[Any]:
    seen = []
    for uid in (FIRST_USER, FIRST_USER, FIRST_USER, SECOND_USER):
        seen.append(outcome(lambda uid=uid: place.device(uid) and "made"))  # type: ignore[misc]
    return seen


def a_short_queue_overflows(place: Place) -> list[Any]:
    device = place.device(FIRST_USER)
    device.add_watch(place.top, IN_CREATE | IN_DELETE)
    for name in "abcdefg":
        (place.top / name).touch()
    device.plain.fence()
    seen: list[Any] = [readable(unpack(device.plain.read(64)))]
    (place.top / "h").touch()
    (place.top / "i").touch()
    return [*seen, device.told()]


def a_full_queue_merges_nothing(place: Place) -> list[Any]:
    device = place.device(FIRST_USER)
    device.add_watch(place.top, IN_ATTRIB)
    for name in "abcd":
        (place.top / name).touch()
    for name in "abcddd":
        (place.top / name).chmod(0o600)
    return device.told()


def a_fired_one_shot_is_used_up_though_its_event_was_lost(place: Place) -> list[Any]:
    device = place.device(FIRST_USER)
    (place.top / "s").mkdir()
    device.add_watch(place.top, IN_CREATE)
    device.add_watch(place.top / "s", IN_CREATE | IN_ONESHOT)
    for name in "abcde":
        (place.top / name).touch()
    (place.top / "s" / "x").touch()
    seen = device.told()
    (place.top / "s" / "y").touch()
    return [seen, device.told(), outcome(lambda: device.plain.rm_watch(2))]


@pytest.mark.parametrize(
    "run",
    [
        two_users_watch_one_file,
        two_devices_of_one_user_are_independent,
        read_permission_is_needed_when_adding_only,
        watches_are_limited_per_user,
        instances_are_limited_per_user,
        a_short_queue_overflows,
        a_full_queue_merges_nothing,
        a_fired_one_shot_is_used_up_though_its_event_was_lost,
    ],
    ids=lambda run: run.__name__.replace("_", " "),
)
def test_agrees_with_linux(run: Callable[[Place], Any], places: tuple[Place, Place]) -> None:
    on_linux, through_the_mount = (run(place) for place in places)
    assert through_the_mount == on_linux


@pytest.mark.parametrize(
    "lazily", [False, True], ids=["unmounted", "unmounted while a file is open"]
)
def test_the_end_of_a_mount_is_told_as_on_linux(lazily: bool, public_path: Path) -> None:
    for name in ("native", "source", "mnt"):
        (public_path / name).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", public_path / "native"], check=True)
    on_linux = end_of_a_mount(public_path / "native", None, lazily)
    with fusenotify.mounted(public_path / "source", public_path / "mnt") as mount:
        through_the_mount = end_of_a_mount(public_path / "mnt", mount.socket, lazily)
    assert through_the_mount == on_linux


def end_of_a_mount(top: Path, socket: str | None, lazily: bool) -> list[list[str]]:
    """Watch a directory and a file, unmount, and return the events of each watch."""
    place = Place(top, socket)
    device = place.device(0)
    (top / "f").touch()
    device.add_watch(top, IN_ALL_EVENTS)
    device.add_watch(top / "f", IN_ALL_EVENTS)
    fd = os.open(top / "f", os.O_WRONLY)
    if lazily:
        subprocess.run(["umount", "-l", top], check=True)
        os.close(fd)
    else:
        os.close(fd)
        subprocess.run(["umount", top], check=True)
    found: list[Event] = []
    while len([event for event in found if event.mask & IN_IGNORED]) < 2:
        with contextlib.suppress(BlockingIOError):
            found += list(unpack(device.plain.read(4096)))
    place.close()
    return [readable(event for event in found if event.wd == wd) for wd in (1, 2)]
