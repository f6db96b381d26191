# SPDX-License-Identifier: GPL-2.0-or-later
"""When set-id bits go on mounts that are not root's, or do not show SOURCE as it is.

What they do on any other is in tests/differential, beside Linux.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fusenotify
from tests.conftest import User
from tests.differential.scenario import as_user

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others"),
]

OWNER, STRANGER = 4321, 4322

CHANGE = """
import os, sys, fusenotify
from fusenotify.client import Inotify
from fusenotify.masks import IN_ALL_EVENTS, names

with fusenotify.mounted(*sys.argv[1:]) as mount, Inotify() as inotify:
    inotify.add_watch(mount.mountpoint, IN_ALL_EVENTS)
    os.close(os.open(mount.mountpoint + "/opened", os.O_WRONLY | os.O_TRUNC))
    os.truncate(mount.mountpoint + "/truncated", 1)
    with open(mount.mountpoint + "/written", "r+b", buffering=0) as file:
        file.write(b"x")
    with mount.client() as client:
        client.sync()
    seen = [event for event in inotify.read() if event.name]
print(*[f"{event.name.decode()}:{'|'.join(names(event.mask))}" for event in seen])
"""


def test_in_an_ordinary_users_mount_sources_kernel_takes_what_the_daemon_may_not(
    public_path: Path, nobody: User
) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    for place in (source, mnt):
        place.mkdir()
        os.chown(place, nobody.uid, nobody.uid)
    for name in ("opened", "truncated", "written"):
        (source / name).write_bytes(b"content")
        os.chown(source / name, 0, nobody.uid)  # root's, and the group may write
        (source / name).chmod(0o2770)
    done = nobody.run_with_fuse(nobody.python, "-c", CHANGE, source, mnt)
    os.rmdir(f"/tmp/fusenotify-{nobody.uid}")  # of its socket
    assert done.stderr == ""
    assert done.stdout.split() == [
        "opened:OPEN",
        "opened:MODIFY|ATTRIB",
        "opened:CLOSE_WRITE",
        "truncated:MODIFY|ATTRIB",
        "written:OPEN",
        "written:MODIFY",
        "written:CLOSE_WRITE",
    ]
    modes = [(source / name).stat().st_mode & 0o7777 for name in os.listdir(source)]
    assert modes == [0o770] * 3


def test_who_is_shown_as_the_owner_may_take_set_id_bits_and_no_other(public_path: Path) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    source.mkdir()
    mnt.mkdir()
    (source / "f").touch()
    os.chown(source / "f", STRANGER, -1)
    (source / "f").chmod(0o4755)
    with fusenotify.mounted(source, mnt, options=["allow_other", f"uid={OWNER}"]):
        assert as_user(STRANGER, lambda: os.chown(mnt / "f", -1, -1)) == "EPERM"
        assert (source / "f").stat().st_mode & 0o7777 == 0o4755
        assert as_user(OWNER, lambda: os.chown(mnt / "f", -1, -1)) == "ok"
        assert (source / "f").stat().st_mode & 0o7777 == 0o755


def test_where_no_set_id_bits_are_shown_there_is_nothing_to_refuse(public_path: Path) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    source.mkdir()
    mnt.mkdir()
    (source / "f").touch()
    (source / "f").chmod(0o4755)
    with fusenotify.mounted(source, mnt, options=["allow_other", "umask=022"]):
        assert as_user(STRANGER, lambda: os.chown(mnt / "f", -1, -1)) == "ok"
    assert (source / "f").stat().st_mode & 0o7777 == 0o4755
