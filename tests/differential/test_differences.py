# SPDX-License-Identifier: GPL-2.0-or-later
"""Where FUSE hides what Linux would tell; docs/reference/differences.md gives the reasons.

Each is a strict xfail: should one agree one day, the documentation must change.
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusenotify.bits import (
    IN_ACCESS,
    IN_ALL_EVENTS,
    IN_ATTRIB,
    IN_DELETE_SELF,
    IN_MODIFY,
    IN_OPEN,
)
from tests.differential.conftest import World, both
from tests.differential.scenario import AnyDevice, as_user, outcome

pytestmark = pytest.mark.mount

# struct vfs_cap_data, revision 2: CAP_NET_RAW, effective and permitted.
CAPABILITIES = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def use_of_a_fifo(root: Path, device: AnyDevice) -> None:
    os.mkfifo(root / "p")
    device.add_watch(root, IN_ALL_EVENTS)
    os.close(os.open(root / "p", os.O_RDWR))


def use_of_a_device_file(root: Path, device: AnyDevice) -> Any:
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    device.add_watch(root, IN_OPEN)
    return outcome(lambda: os.close(os.open(root / "null", os.O_WRONLY)))


def reading_a_page_twice_with_one_descriptor(root: Path, device: AnyDevice) -> list[bytes]:
    (root / "f").write_bytes(b"content")
    device.add_watch(root, IN_ACCESS)
    fd = os.open(root / "f", os.O_RDONLY)
    os.pread(fd, 7, 0)
    device.fence()
    seen = [device.read(4096)]
    os.pread(fd, 7, 0)
    os.close(fd)
    device.fence()
    return [*seen, device.read(4096) if device.poll() else b""]


def an_anonymous_file(root: Path, device: AnyDevice) -> Any:
    device.add_watch(root, IN_ALL_EVENTS)
    return outcome(lambda: os.close(os.open(root, os.O_TMPFILE | os.O_WRONLY)))


def a_store_through_a_shared_mapping(root: Path, device: AnyDevice) -> None:
    (root / "f").write_bytes(b"." * 4096)
    fd = os.open(root / "f", os.O_RDWR)
    device.add_watch(root, IN_ALL_EVENTS)
    with mmap.mmap(fd, 4096) as mapping:
        mapping[0:1] = b"x"
        mapping.flush()
    os.close(fd)


def removing_what_is_held_by_path_only(root: Path, device: AnyDevice) -> list[bool]:
    (root / "f").touch()
    device.add_watch(root / "f", IN_DELETE_SELF)
    fd = os.open(root / "f", os.O_PATH)
    (root / "f").unlink()
    device.fence()
    told_while_held = device.poll()
    os.close(fd)
    return [told_while_held]


def reading_a_large_file_in_small_pieces(root: Path, device: AnyDevice) -> list[bool]:
    (root / "f").write_bytes(b"x" * (1 << 20))
    device.add_watch(root, IN_ACCESS)
    fd = os.open(root / "f", os.O_RDONLY)
    told = []
    for _ in range(8):
        os.read(fd, 1 << 14)
        device.fence()
        told.append(device.poll())
        if device.poll():
            device.read(4096)
    os.close(fd)
    return told


def a_write_over_the_end_of_a_page(root: Path, device: AnyDevice) -> None:
    device.add_watch(root, IN_MODIFY)
    fd = os.open(root / "f", os.O_WRONLY | os.O_CREAT)
    device.add_watch(root / "f", IN_MODIFY)
    os.pwrite(fd, b"x" * 4096, 1)
    os.close(fd)


def a_stranger_chowns_nothing_of_a_set_id_file_open_for_writing(
    root: Path, device: AnyDevice
) -> list[object]:
    (root / "f").touch()
    (root / "f").chmod(0o4755)
    device.add_watch(root, IN_ATTRIB)
    fd = os.open(root / "f", os.O_WRONLY)
    changed = as_user(1234, lambda: os.chown(root / "f", -1, -1))
    os.close(fd)
    return [changed, (root / "f").stat().st_mode]


def root_writes_to_a_set_id_file_with_capabilities(root: Path, device: AnyDevice) -> int:
    (root / "f").touch()
    (root / "f").chmod(0o4755)
    os.setxattr(root / "f", "security.capability", CAPABILITIES)
    device.add_watch(root, IN_MODIFY)
    with (root / "f").open("r+b") as f:
        f.write(b"x")
    return (root / "f").stat().st_mode


def an_ordinary_user_with_cap_fsetid_truncates_a_set_id_file(root: Path, device: AnyDevice) -> int:
    (root / "f").touch()
    (root / "f").chmod(0o4777)
    device.add_watch(root, IN_MODIFY)
    user = ["setpriv", "--reuid=1234", "--inh-caps=+fsetid", "--ambient-caps=+fsetid"]
    subprocess.run([*user, "truncate", "-s", "1", "f"], cwd=root, check=True)
    return (root / "f").stat().st_mode


def fchmod_of_a_file_with_two_links(root: Path, device: AnyDevice) -> None:
    (root / "f").touch()
    os.link(root / "f", root / "g")
    device.add_watch(root, IN_ATTRIB)
    fd = os.open(root / "f", os.O_RDONLY)
    (root / "g").stat()
    os.fchmod(fd, 0o600)
    os.close(fd)


def looking_at_one_name_and_opening_the_other_soon_after_a_link(
    root: Path, device: AnyDevice
) -> None:
    (root / "f").touch()
    os.link(root / "f", root / "g")
    device.add_watch(root, IN_OPEN)
    (root / "g").stat()
    os.close(os.open(root / "f", os.O_RDONLY))


def the_same_where_the_directory_is_watched_before(root: Path, device: AnyDevice) -> None:
    device.add_watch(root, IN_OPEN)
    (root / "f").touch()
    os.link(root / "f", root / "g")
    (root / "g").stat()
    os.close(os.open(root / "f", os.O_RDONLY))


def chmod_of_the_first_name_soon_after_a_link(root: Path, device: AnyDevice) -> None:
    (root / "f").touch()
    os.link(root / "f", root / "g")
    device.add_watch(root, IN_ATTRIB)
    (root / "g").chmod(0o600)
    (root / "f").chmod(0o640)


@pytest.mark.xfail(strict=True, reason="FUSE hides it: docs/reference/differences.md")
@pytest.mark.parametrize(
    "run",
    [
        use_of_a_fifo,
        use_of_a_device_file,
        reading_a_page_twice_with_one_descriptor,
        an_anonymous_file,
        a_store_through_a_shared_mapping,
        removing_what_is_held_by_path_only,
        reading_a_large_file_in_small_pieces,
        fchmod_of_a_file_with_two_links,
        looking_at_one_name_and_opening_the_other_soon_after_a_link,
        the_same_where_the_directory_is_watched_before,
        chmod_of_the_first_name_soon_after_a_link,
        a_write_over_the_end_of_a_page,
        a_stranger_chowns_nothing_of_a_set_id_file_open_for_writing,
        root_writes_to_a_set_id_file_with_capabilities,
        an_ordinary_user_with_cap_fsetid_truncates_a_set_id_file,
    ],
    ids=lambda run: run.__name__.replace("_", " "),
)
def test_differs_from_linux(
    run: Callable[[Path, AnyDevice], Any], linux: World, ours: World
) -> None:
    on_linux, through_the_mount = both(run, linux, ours)
    assert through_the_mount == on_linux
