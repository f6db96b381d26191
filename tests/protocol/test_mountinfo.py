# SPDX-License-Identifier: GPL-2.0-or-later
"""A path finds its mount, and its place in the mounted filesystem."""

from __future__ import annotations

import os

import pytest

from fusenotify.mountinfo import FSTYPE, mount_of, mount_of_descriptor, mounts, parse

TEXT = rb"""27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:50 / /mnt/x rw,nosuid,nodev shared:7 master:1 - fuse.fusenotify /srv/x rw
41 27 0:50 /docs /home/me/my\040docs rw - fuse.fusenotify /srv/x rw
42 27 0:50 /a\134b /back\134slash\011tab rw - fuse.fusenotify /srv/x rw
43 40 0:51 / /mnt/x/sub rw - tmpfs tmpfs rw
44 27 0:52 / /mnt/over/deep rw - tmpfs below rw
45 27 0:53 / /mnt/over rw - tmpfs above rw
46 40 0:54 / /mnt/x rw - fuse.fusenotify /mnt/x rw
"""
MOUNTS = parse(TEXT)


@pytest.mark.parametrize(
    ("path", "mount", "inner"),
    [
        pytest.param(b"/etc/passwd", 27, b"/etc/passwd", id="the root"),
        pytest.param(b"/mnt/xyz", 27, b"/mnt/xyz", id="a name that only begins like a mount"),
        pytest.param(b"/mnt/x", 46, b"/", id="a mount in place covers the one below"),
        pytest.param(b"/mnt/x/sub/a", 46, b"/sub/a", id="and what was mounted on that"),
        pytest.param(b"/home/me/my docs/a b", 41, b"/docs/a b", id="a bind mount of a subtree"),
        pytest.param(b"/home/me/my docs", 41, b"/docs", id="the top of one"),
        pytest.param(b"/back\\slash\ttab/f", 42, b"/a\\b/f", id="escaped characters"),
        pytest.param(b"/mnt/over/deep/f", 45, b"/deep/f", id="a mount covered from above"),
        pytest.param(b"/", 27, b"/", id="the root itself"),
    ],
)
def test_a_path_finds_its_mount(path: bytes, mount: int, inner: bytes) -> None:
    found = mount_of(path, MOUNTS)
    assert found is not None
    assert found.id == mount
    assert found.inner_path(path) == inner


def test_all_fields_are_read() -> None:
    mount = MOUNTS[2]
    assert (mount.id, mount.parent, mount.root) == (41, 27, b"/docs")
    assert (mount.mountpoint, mount.fstype, mount.source) == (
        b"/home/me/my docs",
        FSTYPE,
        b"/srv/x",
    )


def test_a_path_outside_a_mount_has_no_place_in_it() -> None:
    with pytest.raises(ValueError, match="not in"):
        MOUNTS[1].inner_path(b"/mnt/xyz")


def test_nothing_is_in_no_mounts() -> None:
    assert mount_of(b"/a", []) is None


def test_the_live_kernel_and_we_agree() -> None:
    for path in (b"/", b"/proc", b"/proc/self", b"/dev/null"):
        descriptor = os.open(path, os.O_PATH)
        try:
            assert mount_of_descriptor(descriptor) == mount_of(os.path.realpath(path))
        finally:
            os.close(descriptor)
    assert mount_of(b"/proc") in mounts()
