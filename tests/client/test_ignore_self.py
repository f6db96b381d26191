# SPDX-License-Identifier: GPL-2.0-or-later
"""What a watch leaves out: names by patterns, and what its own process does."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.client import Inotify
from fusenotify.masks import IN_CLOSE_WRITE, IN_CREATE, IN_MODIFY
from tests.conftest import Mounting

pytestmark = pytest.mark.mount


@pytest.fixture
def mount(mounting: Mounting) -> Iterator[Mounted]:
    with mounting() as mount:
        yield mount


def names(inotify: Inotify) -> list[bytes]:
    inotify.sync()
    return [os.fsencode(event.name or "") for event in inotify.read(timeout=0)]


@pytest.mark.parametrize("tree", [False, True])
def test_ones_own_doings_are_not_told_and_a_childs_are(mount: Mounted, tree: bool) -> None:
    top = Path(mount.mountpoint)
    with Inotify() as inotify:
        mask = IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE
        inotify.add_watch(top, mask, tree=tree, ignore_self=True)
        (top / "own").write_text("x")
        thread = threading.Thread(target=(top / "by a thread").touch)
        thread.start()
        thread.join()
        subprocess.run(["sh", "-c", f"echo x > '{top}/a child'"], check=True)
        assert names(inotify) == [b"a child"] * 3


def test_patterns_reach_the_daemon_and_come_with_ordinary_watches_too(mount: Mounted) -> None:
    top = Path(mount.mountpoint)
    (top / "build").mkdir()
    with Inotify() as inotify:
        inotify.add_watch(top, IN_CREATE, tree=True, exclude=["build/", b"*.\xff"])
        inotify.add_watch(top, IN_CREATE, exclude=["a"])
        for name in (b"a", b"b.\xff", b"build/c"):
            (top / os.fsdecode(name)).touch()
        assert names(inotify) == [b"a", b"b.\xff"]


def test_bad_patterns_are_refused(mount: Mounted) -> None:
    with Inotify() as inotify:
        with pytest.raises(TypeError, match="several patterns"):
            inotify.add_watch(mount.mountpoint, IN_CREATE, exclude="*.o")
        with pytest.raises(OSError, match="the pattern '!'") as refusal:
            inotify.add_watch(mount.mountpoint, IN_CREATE, exclude=["!"])
        assert refusal.value.errno == errno.EINVAL
        with pytest.raises(OSError, match="1001 patterns"):
            inotify.add_watch(mount.mountpoint, IN_CREATE, exclude=["a"] * 1001)


def test_patterns_survive_the_daemon(mounting: Mounting, tmp_path: Path) -> None:
    with Inotify(reconnect=True) as inotify:
        with mounting() as mount:
            inotify.add_watch(mount.mountpoint, IN_CREATE, tree=True, exclude=["*.o"])
        with mounting() as mount:
            assert [event.mask for event in inotify.read(timeout=5.0)]
            for name in ("a.o", "b"):
                (Path(mount.mountpoint) / name).touch()
            assert names(inotify) == [b"b"]
