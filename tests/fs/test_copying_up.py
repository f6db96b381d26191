# SPDX-License-Identifier: GPL-2.0-or-later
"""What an overlay copies up before a request is done keeps only that request's program waiting.

The lower layer is lower_disk.py, where each object is copied when the test lets it.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.fs.below import NEVER, Below
from fusenotify.masks import IN_ALL_EVENTS
from tests.cli.command import until
from tests.conftest import Mounting
from tests.differential.operations import RENAME_EXCHANGE, renameat2
from tests.fs.conftest import FailingDisk, unmount
from tests.fs.lower_disk import CONTENT

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts overlays"),
]

SOON = 20.0
ATTRIBUTE = "trusted.below"
# The numbers of the lower disk: two directories, and in each a file, one with two names, a
# symbolic link, a fifo and a directory.
D, E = 100, 200
F, H, S, P, DIRECTORY = range(1, 6)
# POSIX ACL: version 2; rw- for owner, group and others.
ACL = b"\2\0\0\0" + b"".join(bytes((tag, 0, 6, 0)) + b"\xff" * 4 for tag in (1, 4, 32))


@dataclass(frozen=True)
class Layered:
    """A mount in which the overlay is at top."""

    mount: Mounted
    top: Path
    disk: FailingDisk

    def is_answered(self) -> None:
        """Make calls of all sorts elsewhere on the overlay."""

        def use() -> None:
            path = self.top / "free" / "new"
            assert not path.exists()
            path.write_text("content")
            path.chmod(0o600)
            path.rename(self.top / "free" / "newer")
            (self.top / "free" / "newer").unlink()

        with calling(use):
            pass


@contextmanager
def layered(
    tmp_path: Path, mounting: Mounting, place: str = "", options: str = "index=on"
) -> Iterator[Layered]:
    # While the overlay copies, renames in its upper layer's filesystem may wait: nobody else's do.
    disk_of_its_own = tmp_path / "layers"
    lower, upper, work = (disk_of_its_own / name for name in ("lower", "upper", "work"))
    overlay = tmp_path / "source" / place
    with ExitStack() as ending:
        disk_of_its_own.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", disk_of_its_own], check=True)
        ending.callback(unmount, disk_of_its_own)
        for path in (lower, upper, work, overlay):
            path.mkdir(exist_ok=True)
        disk = FailingDisk(lower, "lower_disk.py")
        ending.callback(disk.end)
        ending.callback(unmount, lower)
        layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", f"{layers},{options}", overlay], check=True
        )
        ending.callback(unmount, overlay)
        for name in ("free", "other"):
            (overlay / name).mkdir()
        (overlay / "other" / "x").touch()
        with mounting() as mount:
            try:
                yield Layered(mount, Path(mount.mountpoint) / place, disk)
            finally:
                disk.let_go(100)  # where a test failed


@pytest.fixture
def overlay(tmp_path: Path, mounting: Mounting) -> Iterator[Layered]:
    """SOURCE is an overlay."""
    with layered(tmp_path, mounting) as found:
        yield found


@contextmanager
def calling(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """Make a call in a thread that must have returned once the block is left."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield thread
    thread.join(SOON)
    assert not thread.is_alive()
    assert not failed, failed


def is_waited_for_alone(
    overlay: Layered, call: Callable[[Path], object], copied: list[int]
) -> None:
    """Make a call that has the objects with these numbers copied up, and others at each."""
    for path in ("b/d/f", "b/d/h", "b/e/f"):
        (overlay.top / path).stat()
    with overlay.mount.client() as client:
        device = client.init(nonblock=True)
        for path in ("b/d", "b/e", "other"):
            device.add_watch(
                overlay.top.relative_to(overlay.mount.mountpoint) / path, IN_ALL_EVENTS
            )
        with calling(lambda: call(overlay.top)) as thread:
            for number in copied:
                overlay.disk.expect(str(number))
                overlay.is_answered()
                client.sync()
                assert not device.fionread()
                assert thread.is_alive()
                overlay.disk.let_go()
        client.sync()
        assert device.fionread()


def touch(path: Path, flags: int) -> None:
    os.close(os.open(path, flags, 0o644))


def set_acl(path: Path) -> None:
    os.setxattr(path, "system.posix_acl_access", ACL)


@pytest.mark.parametrize(
    ("call", "copied"),
    [
        pytest.param(lambda top: (top / "b/d/f").chmod(0o600), [D, D + F], id="chmod"),
        pytest.param(
            lambda top: (top / "b/d/d").chmod(0o700), [D, D + DIRECTORY], id="a directory"
        ),
        pytest.param(lambda top: (top / "b/d/p").chmod(0o600), [D, D + P], id="a fifo"),
        pytest.param(lambda top: os.chown(top / "b/d/f", 7, 8), [D, D + F], id="chown"),
        pytest.param(lambda top: os.lchown(top / "b/d/s", 7, 8), [D, D + S], id="of a link"),
        pytest.param(lambda top: os.utime(top / "b/d/f", (1, 2)), [D, D + F], id="utime"),
        pytest.param(
            lambda top: os.setxattr(top / "b/d/f", "user.a", b"b"), [D, D + F], id="setxattr"
        ),
        pytest.param(lambda top: set_acl(top / "b/d/f"), [D, D + F], id="an ACL"),
        pytest.param(
            lambda top: os.removexattr(top / "b/d/f", ATTRIBUTE), [D, D + F], id="removexattr"
        ),
        pytest.param(lambda top: os.truncate(top / "b/d/f", 3), [D, D + F], id="truncate"),
        pytest.param(lambda top: touch(top / "b/d/f", os.O_WRONLY), [D, D + F], id="open"),
        pytest.param(
            lambda top: touch(top / "b/d/f", os.O_RDWR | os.O_TRUNC), [D, D + F], id="open anew"
        ),
        pytest.param(
            lambda top: touch(top / "b/d/f", os.O_RDONLY | os.O_TRUNC),
            [D, D + F],
            id="open anew for reading",
        ),
        pytest.param(
            lambda top: touch(top / "b/d/new", os.O_WRONLY | os.O_CREAT), [D], id="create"
        ),
        pytest.param(lambda top: (top / "b/d/new").mkdir(), [D], id="mkdir"),
        pytest.param(lambda top: os.mkfifo(top / "b/d/new"), [D], id="mknod"),
        pytest.param(lambda top: (top / "b/d/new").symlink_to("f"), [D], id="symlink"),
        pytest.param(lambda top: os.link(top / "b/d/f", top / "other/new"), [D, D + F], id="link"),
        pytest.param(lambda top: os.link(top / "other/x", top / "b/d/new"), [D], id="link into it"),
        pytest.param(lambda top: (top / "b/d/f").unlink(), [D], id="unlink"),
        pytest.param(lambda top: (top / "b/d/h").unlink(), [D, D + H], id="unlink of two"),
        pytest.param(lambda top: (top / "b/d/d").rmdir(), [D], id="rmdir"),
        pytest.param(lambda top: (top / "b/d/f").rename(top / "b/d/g"), [D, D + F], id="rename"),
        pytest.param(
            lambda top: (top / "b/d/f").rename(top / "b/e/g"), [D, D + F, E], id="rename elsewhere"
        ),
        pytest.param(
            lambda top: (top / "other/x").rename(top / "b/d/new"), [D], id="rename into it"
        ),
        pytest.param(
            lambda top: (top / "other/x").rename(top / "b/d/f"), [D], id="rename over another"
        ),
        pytest.param(
            lambda top: (top / "other/x").rename(top / "b/d/h"),
            [D, D + H],
            id="rename over one of two",
        ),
        pytest.param(
            lambda top: renameat2(top / "other/x", top / "b/d/f", RENAME_EXCHANGE),
            [D, D + F],
            id="exchange",
        ),
    ],
)
def test_only_the_program_that_makes_an_overlay_copy_waits(
    overlay: Layered, call: Callable[[Path], object], copied: list[int]
) -> None:
    is_waited_for_alone(overlay, call, copied)


@pytest.mark.parametrize(
    ("call", "copied"),
    [
        pytest.param(lambda top: (top / "b/d/f").chmod(0o600), [D, D + F], id="chmod"),
        pytest.param(lambda top: touch(top / "b/d/f", os.O_WRONLY), [D, D + F], id="open"),
        pytest.param(lambda top: (top / "b/d/new").mkdir(), [D], id="mkdir"),
    ],
)
def test_so_it_is_where_a_disk_below_source_is_an_overlay(
    tmp_path: Path, mounting: Mounting, call: Callable[[Path], object], copied: list[int]
) -> None:
    with layered(tmp_path, mounting, "disk") as overlay:
        is_waited_for_alone(overlay, call, copied)


def test_a_copy_is_what_was_there_and_is_made_once(overlay: Layered) -> None:
    path = overlay.top / "b/d/f"
    overlay.disk.let_go(2)
    path.chmod(0o600)
    os.utime(path, ns=(1, 2))
    os.setxattr(path, "user.a", b"b")
    with path.open("ab") as file:
        file.write(b"!")
    path.rename(overlay.top / "b/d/g")
    found = (overlay.top / "b/d/g").stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert (overlay.top / "b/d/g").read_bytes() == CONTENT + b"!"
    assert os.getxattr(overlay.top / "b/d/g", ATTRIBUTE) == b"below"


def test_to_remove_an_attribute_that_is_not_there_copies_nothing(overlay: Layered) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.removexattr(overlay.top / "b/d/f", "trusted.other")


def test_without_an_index_a_removed_file_is_not_copied(tmp_path: Path, mounting: Mounting) -> None:
    with layered(tmp_path, mounting, options="index=off") as overlay:
        overlay.disk.let_go()  # its directory is
        (overlay.top / "b/d/h").unlink()
        assert (overlay.top / "b/d/i").read_bytes() == CONTENT


def test_impossible_changes_are_refused_as_on_the_overlay(
    tmp_path: Path, mounting: Mounting
) -> None:
    with layered(tmp_path, mounting) as overlay:
        subprocess.run(["mount", "-o", "remount,ro", overlay.mount.source], check=True)
        calls: list[Callable[[], None]] = [
            lambda: (overlay.top / "b/d/f").chmod(0o600),
            lambda: (overlay.top / "b/d/new").mkdir(),
            lambda: (overlay.top / "b/d/f").unlink(),
        ]
        for call in calls:
            with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
                call()


def test_a_program_killed_while_its_file_is_copied_ends_and_changes_nothing(
    overlay: Layered,
) -> None:
    path = overlay.top / "b/d/f"
    program = subprocess.Popen(
        [sys.executable, "-c", "import os, sys; os.chmod(sys.argv[1], 0)", path]
    )
    overlay.disk.expect(str(D))
    program.kill()
    assert program.wait(SOON) == -signal.SIGKILL
    overlay.disk.let_go()
    overlay.disk.expect(str(D + F))
    overlay.disk.let_go()
    path.chmod(0o640)  # behind the copying
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    overlay.is_answered()


@pytest.mark.parametrize("change", ["chmod", "open"])
@pytest.mark.parametrize("call", ["unlink", "rename over it"])
def test_an_object_that_loses_its_name_while_it_is_copied_stops_nobody(
    overlay: Layered, change: str, call: str
) -> None:
    path = overlay.top / "b/d/f"
    changes = {"chmod": "os.chmod(sys.argv[1], 0)", "open": "os.open(sys.argv[1], os.O_WRONLY)"}
    program = subprocess.Popen([sys.executable, "-c", f"import os, sys; {changes[change]}", path])
    overlay.disk.let_go()
    overlay.disk.expect(str(D))
    overlay.disk.expect(str(D + F))
    program.kill()
    assert program.wait(SOON) == -signal.SIGKILL
    new = overlay.top / "b/d/new"
    new.write_text("new")
    with ExitStack() as ending:
        client = ending.enter_context(overlay.mount.client())
        before = client.status().tasks
        remove = path.unlink if call == "unlink" else lambda: new.rename(path)
        thread = ending.enter_context(calling(remove))
        ending.callback(overlay.disk.let_go, 10)  # where the daemon hangs
        with calling(lambda: until(lambda: client.status().tasks > before, "it waits")):
            pass
        overlay.is_answered()
        assert thread.is_alive()
        overlay.disk.let_go()
    assert path.exists() == (call != "unlink")
    overlay.is_answered()


@pytest.mark.parametrize(
    ("options", "links"),
    [("index=off", NEVER), ("index=on", 2), ("index=on,nfs_export=on", 1)],
)
def test_which_removed_files_an_overlay_copies(tmp_path: Path, options: str, links: int) -> None:
    places = [tmp_path / name for name in ("lower", "upper", "work", "overlay")]
    for place in places:
        place.mkdir()
    lower, upper, work, overlay = places
    layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", f"{layers},{options}", overlay], check=True
    )
    try:
        fd = os.open(overlay, os.O_PATH)
        try:
            assert Below.of(fd).links_copied == links
        finally:
            os.close(fd)
    finally:
        unmount(overlay)
