# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts below SOURCE: shown, let go of, and never a way back into the mount."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import fusenotify
from fusenotify.events import unpack
from fusenotify.fs.submounts import Submounts
from fusenotify.masks import IN_ALL_EVENTS, IN_CREATE, IN_IGNORED, IN_ISDIR, IN_UNMOUNT
from fusenotify.mountinfo import Mount, mounts
from tests.cli.command import until
from tests.conftest import Mounting

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts other filesystems"),
]

# What waits for ever where a name leads back.
SOON = 15


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON, check=True)
    return done.stdout


def tmpfs(path: Path, *names: str) -> Path:
    """Mount a filesystem with some files."""
    path.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "none", path)
    for name in names:
        (path / name).write_text(name)
    return path


def refused(code: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=os.strerror(code)):
        call()


def listed(path: Path) -> list[str]:
    """List a directory in another process, which may hang."""
    return sorted(run("ls", path).split())


def shows(path: Path, name: str) -> bool:
    """Return whether a directory has this name; while what it is changes it may be ESTALE."""
    try:
        return listed(path) == [name]
    except subprocess.CalledProcessError:
        return False


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """SOURCE, a mount of its own, so that all in it goes with it."""
    path = tmp_path / "source"
    path.mkdir()
    run("mount", "-t", "tmpfs", "none", path)
    run("mount", "--make-private", path)
    yield path
    run("umount", "--recursive", "--lazy", path)


@pytest.fixture(params=["clone", "live"])
def either(request: pytest.FixtureRequest, source: Path) -> str:
    """Both ways to SOURCE: what is unbindable cannot be cloned."""
    if request.param == "live":
        run("mount", "--make-unbindable", source)
    return str(request.param)


def test_a_disk_mounted_before_is_shown(either: str, source: Path, mounting: Mounting) -> None:
    tmpfs(source / "disk", "f")
    tmpfs(source / "disk" / "inner", "g")
    with mounting() as mount, mount.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/disk/inner", IN_CREATE)
        top = Path(mount.mountpoint)
        assert listed(top / "disk") == ["f", "inner"]
        assert (top / "disk" / "inner" / "g").read_text() == "g"
        (top / "disk" / "inner" / "new").touch()
        assert (source / "disk" / "inner" / "new").exists()
        client.sync()
        assert [event.name for event in unpack(device.read(4096))] == [b"new"]
        refused(errno.EXDEV, lambda: (top / "disk" / "f").rename(top / "f"))
        refused(errno.EXDEV, lambda: os.link(top / "disk" / "f", top / "f"))
        for disk in (top / "disk", top / "disk" / "inner"):
            refused(errno.EBUSY, disk.rmdir)
            refused(errno.EBUSY, partial(disk.rename, disk.parent / "other"))


def test_a_disk_mounted_afterwards_is_shown(either: str, source: Path, mounting: Mounting) -> None:
    (source / "disk").mkdir()
    (source / "disk" / "below").touch()
    with mounting() as mount:
        top = Path(mount.mountpoint)
        assert listed(top / "disk") == ["below"]
        tmpfs(source / "disk", "f")
        until(lambda: shows(top / "disk", "f"), "the disk shows")
        tmpfs(source / "disk", "g")
        until(lambda: shows(top / "disk", "g"), "what is mounted upon it shows")


def test_a_file_mounted_on_a_file_is_shown(source: Path, mounting: Mounting) -> None:
    (source / "f").write_text("below")
    (source / "g").write_text("above")
    run("mount", "--bind", source / "g", source / "f")
    with mounting() as mount:
        assert (Path(mount.mountpoint) / "f").read_text() == "above"


def test_a_directory_renamed_above_a_disk_takes_it_along(source: Path, mounting: Mounting) -> None:
    (source / "a").mkdir()
    tmpfs(source / "a" / "disk", "f")
    with mounting() as mount:
        top = Path(mount.mountpoint)
        (top / "a").rename(top / "b")
        (top / "a" / "disk").mkdir(parents=True)
        assert listed(top / "b" / "disk") == ["f"]
        assert listed(top / "a" / "disk") == []
        run("mount", "--bind", source / "a", source / "a")  # the table is read again
        assert listed(top / "b" / "disk") == ["f"]
        assert listed(top / "a" / "disk") == []


@pytest.fixture
def submounts(source: Path) -> Iterator[Submounts]:
    """What is mounted below SOURCE, before it was looked at."""
    found = Submounts(os.open(source, os.O_PATH))
    yield found
    found.close()
    os.close(found.root)


class Renamer:
    """Renames a directory of SOURCE to and fro whenever the table of mounts was read."""

    def __init__(self, directory: Path, *, times: int) -> None:
        self._names = [directory, directory.with_name("elsewhere")]
        self._left = times

    def mounts(self) -> list[Mount]:
        told = mounts()
        if self._left:
            self._left -= 1
            self._names[0].rename(self._names[1])
            self._names[0].mkdir()
            self._names[0].rmdir()
            self._names.reverse()
        return told


def place_of(disk: Path) -> tuple[int, int, bytes]:
    status = disk.parent.stat()
    return status.st_dev, status.st_ino, os.fsencode(disk.name)


def test_a_rename_while_disks_are_looked_for_is_no_reason_to_miss_one(
    source: Path, submounts: Submounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").mkdir()
    disk = tmpfs(source / "a" / "disk", "f")
    place = place_of(disk)
    monkeypatch.setattr("fusenotify.fs.submounts.mounts", Renamer(source / "a", times=3).mounts)
    submounts.update(submounts.scan())
    assert submounts.at(*place) is not None


def test_a_disk_that_is_shown_can_be_unmounted_while_disks_are_looked_for(
    source: Path, submounts: Submounts
) -> None:
    disks = [tmpfs(source / name, "f") for name in ("one", "other")]
    places = [place_of(disk) for disk in disks]
    submounts.update(submounts.scan())
    seen = submounts.scan()
    run("umount", disks[0])
    submounts.update(seen)
    assert submounts.at(*places[1]) is not None
    _, gone = submounts.update(submounts.scan())
    for shown in gone:
        os.close(shown.fd)
    assert [submounts.at(*place) is not None for place in places] == [False, True]


def test_shown_mounts_stay_shown_while_a_user_renames_without_end(
    source: Path, submounts: Submounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").mkdir()
    disk = tmpfs(source / "a" / "disk", "f")
    place = place_of(disk)
    submounts.update(submounts.scan())
    shown = submounts.at(*place)
    assert shown is not None
    with monkeypatch.context() as patched:
        patched.setattr("fusenotify.fs.submounts.mounts", Renamer(source / "a", times=10**6).mounts)
        seen = submounts.scan()
    assert not seen.is_whole
    assert submounts.update(seen) == ([], [])
    assert submounts.at(*place) is shown
    run("umount", disk if disk.exists() else source / "elsewhere" / "disk")
    changed, gone = submounts.update(submounts.scan())
    assert (changed, gone) == ([place], [shown])
    os.close(shown.fd)


@contextmanager
def renaming(directory: Path) -> Iterator[None]:
    """Rename a directory to and fro all the time."""
    is_over = threading.Event()

    def rename() -> None:
        elsewhere = directory.with_name("elsewhere")
        while not is_over.is_set():
            directory.rename(elsewhere)
            elsewhere.rename(directory)

    thread = threading.Thread(target=rename)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_disks_are_found_and_kept_while_a_user_renames_what_is_above(
    source: Path, mounting: Mounting
) -> None:
    (source / "a" / "after").mkdir(parents=True)
    tmpfs(source / "a" / "before", "f")
    (source / "other").mkdir()
    with mounting() as mount:
        top = Path(mount.mountpoint)
        with renaming(top / "a"):

            def is_mounted() -> bool:
                # mount(8) finds nothing where the directory has its other name.
                command = ["mount", "-t", "tmpfs", "none", f"{source}/a/after"]
                return subprocess.run(command, capture_output=True, check=False).returncode == 0

            until(is_mounted, "another disk is mounted")
            for _ in range(20):
                run("mount", "--bind", source / "other", source / "other")
                run("umount", "--lazy", source / "other")
        assert listed(top / "a" / "before") == ["f"]
        (source / "a" / "after" / "g").touch()
        until(lambda: shows(top / "a" / "after", "g"), "the disk shows")


def test_a_view_put_into_source_is_not_stepped_onto(
    either: str, source: Path, mounting: Mounting
) -> None:
    (source / "d").mkdir()
    (source / "d" / "below").touch()
    with mounting() as mount:
        top = Path(mount.mountpoint)
        run("mount", "--bind", top, source / "d")
        if either == "clone":
            assert listed(top / "d") == ["below"]
        else:
            with pytest.raises(subprocess.CalledProcessError):
                listed(top / "d")
        listed(top)
        run("find", top)
        refused(errno.EBUSY, lambda: (top / "d").rmdir()) if either == "clone" else None
        with mount.client() as client:
            client.init().add_watch("/", IN_ALL_EVENTS)


def test_two_mounts_that_show_each_other_are_no_way_back(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "other").mkdir(parents=True)
        (tmp_path / f"view-{name}").mkdir()
    with (
        fusenotify.mounted(tmp_path / "a", tmp_path / "view-a"),
        fusenotify.mounted(tmp_path / "b", tmp_path / "view-b"),
    ):
        run("mount", "--bind", tmp_path / "view-b", tmp_path / "a" / "other")
        run("mount", "--bind", tmp_path / "view-a", tmp_path / "b" / "other")
        try:
            assert run("find", tmp_path / "view-a", tmp_path / "view-b").count("other") == 2
        finally:
            run("umount", tmp_path / "a" / "other")
            run("umount", tmp_path / "b" / "other")


def test_a_view_that_propagates_into_source_is_not_stepped_onto(
    tmp_path: Path, source: Path
) -> None:
    """The mount point is in a peer of SOURCE's mount: the kernel mounts it in SOURCE, too."""
    run("mount", "--make-shared", source)
    (source / "sub" / "mnt").mkdir(parents=True)
    peer = tmp_path / "peer"
    peer.mkdir()
    run("mount", "--bind", source / "sub", peer)
    try:
        with fusenotify.mounted(source, peer / "mnt"):
            assert b"%s/sub/mnt" % bytes(source) in [each.mountpoint for each in mounts()]
            assert listed(peer / "mnt" / "sub") == ["mnt"]
            assert listed(peer / "mnt" / "sub" / "mnt") == []
    finally:
        run("mount", "--make-private", source)
        run("umount", "--recursive", "--lazy", peer)


def test_a_directory_mounted_in_itself_ends_there(source: Path, mounting: Mounting) -> None:
    (source / "a" / "b").mkdir(parents=True)
    run("mount", "--bind", source / "a", source / "a" / "b")
    with mounting() as mount:
        found = run("find", mount.mountpoint, "-mindepth", "1", "-printf", "%P\n").split()
        assert sorted(found) == ["a", "a/b"]


def test_an_unmounted_disk_is_let_go_of(source: Path, mounting: Mounting, tmp_path: Path) -> None:
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    run("mkfs.ext4", "-q", image)
    loop = run("losetup", "--find", "--show", image).strip()
    try:
        (source / "disk").mkdir()
        (source / "disk" / "below").touch()
        run("mount", loop, source / "disk")
        (source / "disk" / "d").mkdir()
        with mounting() as mount, mount.client() as client:
            top = Path(mount.mountpoint)
            inside = os.open(top / "disk" / "d", os.O_PATH)
            device = client.init(nonblock=True)
            device.add_watch("/disk/d", IN_ALL_EVENTS)
            run("umount", source / "disk")
            until(lambda: device.fionread() > 0, "watches hear of it")
            heard = [event.mask for event in unpack(device.read(4096))]
            assert heard == [IN_UNMOUNT | IN_ISDIR, IN_IGNORED]
            until(lambda: listed(top / "disk") == ["below"], "the directory below shows")
            refused(errno.ESTALE, lambda: os.listdir(f"/proc/self/fd/{inside}"))
            os.close(inside)
            # A mounted filesystem's device cannot be opened exclusively.
            until(lambda: is_free(loop), "the disk is free")
            run("mkfs.ext4", "-q", "-F", loop)
            run("mount", loop, source / "disk")
            until(lambda: listed(top / "disk") == ["lost+found"], "the new filesystem shows")
            run("umount", source / "disk")
            until(lambda: is_free(loop), "the disk is free")
    finally:
        run("losetup", "--detach", loop)


def is_free(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        assert error.errno == errno.EBUSY  # noqa: PT017
        return False
    return True


def test_a_disk_that_was_looked_at_can_be_unmounted(
    either: str, source: Path, mounting: Mounting
) -> None:
    tmpfs(source / "disk", "f")
    with mounting() as mount:
        assert (Path(mount.mountpoint) / "disk" / "f").read_text() == "f"
        until(
            lambda: (
                not subprocess.run(
                    ["umount", source / "disk"], stderr=subprocess.DEVNULL, check=False
                ).returncode
            ),
            "it is not busy any more",
        )


def moved(source: Path, mounting: Mounting, words: list[str], age: int) -> str:
    """Read all kinds of things, age seconds after the last time; return those whose time moved."""
    (source / "directory").mkdir()
    (source / "file").write_text("data")
    (source / "program").write_text("#!/bin/sh\n")
    (source / "program").chmod(0o755)
    (source / "link").symlink_to("file")
    before = time.time_ns() - age * 10**9
    names = ["directory", "file", "link", "program"]
    for name in names:
        os.utime(source / name, ns=(before, before - 1), follow_symlinks=False)
    with mounting(options=words, attr_timeout=0) as mount:
        top = Path(mount.mountpoint)
        os.listdir(top / "directory")
        (top / "file").read_text()
        (top / "link").readlink()
        run(top / "program")
    return " ".join(name for name in names if os.lstat(source / name).st_atime_ns != before)


_DAYS = 3 * 86_400
# A time of reading that is later than all changes: relatime leaves it alone.
_AHEAD = -60
_ALL = "directory file link program"


@pytest.mark.parametrize(
    ("words", "age", "move"),
    [
        ([], _DAYS, _ALL),
        ([], _AHEAD, ""),
        (["noatime"], _DAYS, ""),
        (["noatime", "relatime"], _DAYS, ""),
        (["nodiratime"], _DAYS, "file link program"),
        (["strictatime"], _AHEAD, _ALL),
        (["strictatime", "nodiratime"], _AHEAD, "file link program"),
    ],
    ids=str,
)
def test_the_words_about_access_times_hold_in_source(
    source: Path, mounting: Mounting, words: list[str], age: int, move: str
) -> None:
    assert moved(source, mounting, words, age) == move


def test_without_a_clone_noatime_holds_for_what_is_opened(source: Path, mounting: Mounting) -> None:
    run("mount", "--make-unbindable", source)
    assert moved(source, mounting, ["noatime"], _DAYS) == "link"


def test_ro_reaches_source(source: Path, mounting: Mounting) -> None:
    (source / "f").touch()
    with mounting(options=["ro"]) as mount:
        refused(errno.EROFS, lambda: (Path(mount.mountpoint) / "f").write_text("x"))


def test_a_daemon_without_descriptors_goes_on_and_shows_mounts_later(
    source: Path, tmp_path: Path
) -> None:
    tmpfs(source / "before", "f")
    (source / "after").mkdir()
    top = tmp_path / "mnt"
    top.mkdir()
    command = [sys.executable, "-m", "fusenotify", "mount", "-f", str(source), str(top)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            until(top.is_mount, "it is mounted")
            assert listed(top / "before") == ["f"]
            limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
            tmpfs(source / "after", "g")
            assert daemon.stderr is not None
            assert "cannot be seen now: Too many open files" in daemon.stderr.readline()
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
            until(lambda: shows(top / "after", "g"), "the mount is shown")
            assert listed(top / "before") == ["f"]
        finally:
            daemon.terminate()
    assert daemon.returncode == 0
