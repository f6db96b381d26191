# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of ``-o`` do on a real mount what users know them to do."""

from __future__ import annotations

import errno
import os
import signal
import stat
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import fusenotify
from fusenotify import Mounted, MountFailed, mountinfo
from fusenotify.events import unpack
from fusenotify.masks import IN_MODIFY
from tests.conftest import NOBODY, Mounting, User

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="options are root's"),
]


class Public:
    """A source and a mount point that other users reach."""

    def __init__(self, path: Path) -> None:
        self.source = path / "source"
        self.top = path / "mnt"
        self.source.mkdir(mode=0o755)
        self.top.mkdir()

    def mounted(self, *options: str, **settings: Any) -> AbstractContextManager[Mounted]:
        return fusenotify.mounted(self.source, self.top, options=options, **settings)


@pytest.fixture
def public(public_path: Path) -> Public:
    return Public(public_path)


def line_of(mount: Mounted) -> list[str]:
    """Return the mount's line of /proc/mounts, as words."""
    with open("/proc/mounts") as mounts:
        (line,) = [words for words in map(str.split, mounts) if words[1] == mount.mountpoint]
    return line


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], ["rw", "nosuid", "nodev", "default_permissions", "user_id=0", "group_id=0"]),
        (["ro"], ["ro"]),
        (["ro", "rw"], ["rw"]),
        (["rw", "ro"], ["ro"]),
        (["allow_other"], ["allow_other"]),
        (["noexec"], ["noexec"]),
        (["noatime"], ["noatime"]),
        (["sync"], ["sync"]),
        (["dirsync"], ["dirsync"]),
        (["nosuid", "nodev"], ["nosuid", "nodev"]),
    ],
    ids=",".join,
)
def test_the_mount_table_shows(mounting: Mounting, options: list[str], shown: list[str]) -> None:
    with mounting(options=options) as mount:
        assert set(shown) <= set(line_of(mount)[3].split(","))


def test_suid_and_dev_are_given_back_to_root(mounting: Mounting) -> None:
    with mounting(options=["suid", "dev"]) as mount:
        assert not {"nosuid", "nodev"} & set(line_of(mount)[3].split(","))


def test_the_mount_table_shows_another_name(mounting: Mounting) -> None:
    with mounting(options=["fsname=data", "subtype=fusenotify"]) as mount:
        assert line_of(mount)[0] == "data"
        assert line_of(mount)[2] == mountinfo.FSTYPE


def test_ro_refuses_to_write(mounting: Mounting) -> None:
    with mounting(options=["ro"]) as mount:
        (Path(mount.source) / "f").write_text("content")
        top = Path(mount.mountpoint)
        assert (top / "f").read_text() == "content"
        writes: list[Callable[[], object]] = [
            lambda: (top / "g").touch(),
            lambda: (top / "f").chmod(0o600),
            lambda: (top / "f").unlink(),
            lambda: (top / "f").write_text("other"),
        ]
        for write in writes:
            with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
                write()


def test_noexec_refuses_to_run(mounting: Mounting) -> None:
    with mounting(options=["noexec"]) as mount:
        script = Path(mount.mountpoint) / "script"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
        with pytest.raises(PermissionError):
            subprocess.run([script], check=False)


def test_others_see_nothing_unless_allowed(public: Public, nobody: User) -> None:
    (public.source / "f").write_text("content")
    with public.mounted():
        assert nobody.run("cat", public.top / "f").returncode == 1
    with public.mounted("allow_other"):
        assert nobody.run("cat", public.top / "f").stdout == "content"


def test_allow_root_keeps_other_users_out(public: Public, nobody: User) -> None:
    (public.source / "f").write_text("content")
    with public.mounted("allow_root"):
        assert (public.top / "f").read_text() == "content"
        refused = nobody.run("cat", public.top / "f")
        assert "Permission denied" in refused.stderr


def test_the_kernel_checks_modes(public: Public, nobody: User) -> None:
    (public.source / "f").write_text("secret")
    (public.source / "f").chmod(0o600)
    with public.mounted("allow_other"):
        assert "Permission denied" in nobody.run("cat", public.top / "f").stderr
        assert "Permission denied" in nobody.run("touch", public.top / "g").stderr


def test_owner_and_mode_are_shown_and_count(public: Public, nobody: User) -> None:
    (public.source / "f").write_text("content")
    (public.source / "f").chmod(0o600)
    (public.source / "s").mkdir(mode=0o700)
    with public.mounted("allow_other", f"uid={NOBODY}", "gid=12", "umask=027"):
        shown = (public.top / "f").stat()
        assert (shown.st_uid, shown.st_gid) == (NOBODY, 12)
        assert stat.S_IMODE(shown.st_mode) == 0o750
        assert stat.S_ISREG(shown.st_mode)
        assert (public.top / "s").stat().st_mode == stat.S_IFDIR | 0o750
        assert {entry.stat().st_uid for entry in public.top.iterdir()} == {NOBODY}
        assert nobody.run("cat", public.top / "f").stdout == "content"
        assert nobody.run("touch", public.top / "s" / "new").returncode == 0
    below = (public.source / "s" / "new").stat()
    assert below.st_uid == NOBODY
    assert (public.source / "f").stat().st_uid == 0
    assert stat.S_IMODE((public.source / "f").stat().st_mode) == 0o600


def test_permission_to_watch_follows_the_shown_attributes(public: Public, nobody: User) -> None:
    (public.source / "f").touch(mode=0o600)
    script = (
        "import sys\n"
        "from fusenotify.client import Client\n"
        "from fusenotify.masks import IN_OPEN\n"
        "Client(sys.argv[1]).init().add_watch('/f', IN_OPEN)\n"
    )
    with public.mounted("allow_other") as mount:
        refused = nobody.run(nobody.python, "-c", script, mount.socket)
        assert "PermissionError" in refused.stderr
    with public.mounted("allow_other", "umask=022") as mount:
        assert nobody.run(nobody.python, "-c", script, mount.socket).returncode == 0
    (public.source / "f").chmod(0o644)
    with public.mounted("allow_other", "umask=077") as mount:
        refused = nobody.run(nobody.python, "-c", script, mount.socket)
        assert "PermissionError" in refused.stderr


def set_acl(path: Path, permissions: int) -> None:
    """Give NOBODY permissions on a file whose other entries grant the owner alone."""
    nothing = 0xFFFFFFFF
    entries = [
        (1, 6, nothing),  # the owner
        (2, permissions, NOBODY),
        (4, 0, nothing),  # the group
        (16, 7, nothing),  # the mask
        (32, 0, nothing),  # others
    ]
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip("this filesystem has no ACLs")
        raise


def test_acls_are_enforced_with_acl(public: Public, nobody: User) -> None:
    with public.mounted("allow_other", "acl"):
        (public.top / "f").write_text("content")
        (public.top / "f").chmod(0o600)
        assert "Permission denied" in nobody.run("cat", public.top / "f").stderr
        set_acl(public.top / "f", 4)
        assert nobody.run("cat", public.top / "f").stdout == "content"
        write = nobody.run("sh", "-c", f"echo x >> {public.top}/f")
        assert "Permission denied" in write.stderr
        set_acl(public.top / "f", 6)
        assert nobody.run("sh", "-c", f"echo x >> {public.top}/f").returncode == 0
    below = os.getxattr(public.source / "f", "system.posix_acl_access")
    assert struct.pack("<HHI", 2, 6, NOBODY) in below


def test_acls_are_kept_and_not_enforced_without(public: Public, nobody: User) -> None:
    (public.source / "f").write_text("content")
    (public.source / "f").chmod(0o644)
    set_acl(public.source / "f", 0)
    with public.mounted("allow_other"):
        before = os.getxattr(public.source / "f", "system.posix_acl_access")
        assert os.getxattr(public.top / "f", "system.posix_acl_access") == before


def test_a_default_acl_is_inherited(public: Public) -> None:
    with public.mounted("allow_other", "acl"):
        (public.top / "s").mkdir()
        set_acl(public.top / "s", 7)
        value = os.getxattr(public.top / "s", "system.posix_acl_access")
        os.setxattr(public.top / "s", "system.posix_acl_default", value)
        (public.top / "s" / "f").touch()
        inherited = os.getxattr(public.top / "s" / "f", "system.posix_acl_access")
        assert struct.pack("<HHI", 2, 7, NOBODY) in inherited


def test_auto_unmount_leaves_no_dead_mount_behind(mounting: Mounting) -> None:
    def goes(place: bytes) -> bool:
        tick = threading.Event()
        return any(
            all(each.mountpoint != place for each in mountinfo.mounts()) or tick.wait(0.05)
            for _ in range(60)
        )

    # fusermount3 looks once, now and then before the kernel has ended the connection.
    for _ in range(5):
        with mounting(options=["auto_unmount"]) as mount:
            os.kill(mount.pid, signal.SIGKILL)
            if not goes(os.fsencode(mount.mountpoint)):
                continue
            # The danger: the path now is the directory below, and takes what is written.
            (Path(mount.mountpoint) / "astray").touch()
            assert not (Path(mount.source) / "astray").exists()
            (Path(mount.mountpoint) / "astray").unlink()
            return
    pytest.fail("it is still mounted")


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("uid=root", "not a whole number"),
        ("gid=-1", "not a whole number"),
        ("uid=99999999999", "too large"),
        ("umask=8", "not an octal number"),
        ("umask=7777", "too large"),
        ("max_read=8192", "pyfuse3 cannot limit reads"),
        ("fsname=", "a name is missing"),
        ("subtype=mine", "the subtype is fusenotify"),
        ("wavelength", "unknown option"),
    ],
)
def test_bad_options_are_refused(mounting: Mounting, option: str, complaint: str) -> None:
    with pytest.raises(MountFailed, match=complaint), mounting(options=[option]):
        pytest.fail("it was mounted")


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e12])
def test_bad_timeouts_are_refused(mounting: Mounting, seconds: float) -> None:
    with pytest.raises(MountFailed, match="not a number of seconds"):  # noqa: SIM117
        with mounting(attr_timeout=seconds):
            pytest.fail("it was mounted")


def test_sync_mounts_still_tell(mounting: Mounting) -> None:
    with mounting(options=["sync"]) as mount, mount.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/", IN_MODIFY)
        (Path(mount.mountpoint) / "f").write_text("x")
        client.sync()
        assert [event.name for event in unpack(device.read(4096))] == [b"f"]
