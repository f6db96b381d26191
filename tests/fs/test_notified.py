# SPDX-License-Identifier: GPL-2.0-or-later
"""A client may say that SOURCE was changed: the daemon looks, tells, and has the kernel forget."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.bits import IN_ALL_EVENTS, IN_MOVED_TO, IN_OPEN, names
from fusenotify.events import unpack
from tests.conftest import Mounting, User

pytestmark = pytest.mark.mount


@pytest.fixture
def exclusive(mounting: Mounting) -> Iterator[Mounted]:
    """A mount that does not hear changes of SOURCE, and remembers for a day."""
    with mounting(exclusive=True, socket_mode=0o666, options=["allow_other"]) as mount:
        yield mount


def test_what_is_said_is_looked_at_told_and_forgotten(exclusive: Mounted) -> None:
    source, top = Path(exclusive.source), Path(exclusive.mountpoint)
    (top / "f").write_text("before")
    assert (top / "f").stat().st_size == 6
    assert not (top / "new").exists()
    with exclusive.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/", IN_ALL_EVENTS & ~IN_OPEN)

        def told() -> list[str]:
            return [
                f"{'|'.join(names(event.mask))} {os.fsdecode(event.name or b'')}"
                for event in unpack(device.read(4096))
            ]

        (source / "f").write_text("afterwards")
        client.notify("/f")
        assert told() == ["MODIFY f"]
        assert (top / "f").read_text() == "afterwards"
        (source / "new").mkdir()
        client.notify("new")
        assert told() == ["ACCESS f", "CLOSE_NOWRITE f", "CREATE|ISDIR new"]
        (source / "f").unlink()
        client.notify("f")
        assert told() == ["DELETE f"]
        client.notify("gone", "delete")
        client.notify("new", ["attrib"])
        assert told() == ["DELETE gone", "ATTRIB|ISDIR new"]
        for path, what, code in (
            ("nothing", 0, errno.ENOENT),
            ("new/../f", 0, errno.EINVAL),
            ("/", 0, errno.EINVAL),
            ("new\0", 0, errno.EINVAL),
            ("n" * 256, 0, errno.ENAMETOOLONG),
            ("nowhere/f", 0, errno.ENOENT),
            ("new", IN_MOVED_TO, errno.EINVAL),
        ):
            with pytest.raises(OSError, match=r".") as error:
                client.notify(path, what)
            assert error.value.errno == code


def test_what_is_notified_shows_at_once_though_it_hardly_differs(exclusive: Mounted) -> None:
    source, top = Path(exclusive.source), Path(exclusive.mountpoint)
    (source / "same").write_text("before")
    os.utime(source / "same", (1, 1))
    with (top / "same").open("rb") as file, exclusive.client() as client:
        assert file.read() == b"before"
        assert not (top / "missing").exists()
        (source / "same").write_text("after!")
        os.utime(source / "same", (1, 1))
        client.notify("same")
        assert os.pread(file.fileno(), 6, 0) == b"after!"
        (source / "missing").touch()
        client.notify("missing")
        assert (top / "missing").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts what is not FUSE")
def test_mounts_and_open_files_below_what_is_notified_stay(exclusive: Mounted) -> None:
    source, top = Path(exclusive.source), Path(exclusive.mountpoint)
    (source / "d" / "mounted").mkdir(parents=True)
    (source / "d" / "f").touch()
    subprocess.run(["mount", "-t", "tmpfs", "none", top / "d" / "mounted"], check=True)
    try:
        with exclusive.client() as client, open(top / "d" / "f") as file:
            client.notify("d")
            client.notify("d/f")
            assert os.readlink(f"/proc/self/fd/{file.fileno()}") == f"{top}/d/f"
        assert (top / "d" / "mounted").is_mount()
    finally:
        subprocess.run(["umount", top / "d" / "mounted"], check=False)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "No such file or directory"),
        (".", "the path must be below the mount's root"),
        ("d/..", "the path must be below the mount's root"),
        ("link/../f", "the path does not exist, and was not known before"),
        ("missing/f", "No such file or directory"),
        ("d/missing", "the path does not exist, and was not known before"),
    ],
)
def test_the_command_takes_a_path_as_other_programs_do(
    exclusive: Mounted, path: str, said: str
) -> None:
    source = Path(exclusive.source)
    (source / "d" / "e").mkdir(parents=True)
    (source / "f").touch()
    (source / "link").symlink_to("d/e")
    ran = subprocess.run(
        [sys.executable, "-m", "fusenotify", "notify", path],
        cwd=exclusive.mountpoint,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"fusenotify: {path}: ")
    assert said in ran.stderr


def test_the_command_says_it_for_root_and_for_no_other_user(
    exclusive: Mounted, tmp_path: Path, nobody: User
) -> None:
    with exclusive.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/", IN_ALL_EVENTS)
        Path(exclusive.source, "f").touch()
        command = ["-m", "fusenotify", "notify", f"{exclusive.mountpoint}/f"]
        subprocess.run([sys.executable, *command], check=True)
        assert [event.name for event in unpack(device.read(4096))] == [b"f"]
    said = nobody.run(
        nobody.python,
        "-c",
        "import sys; from fusenotify.client import Client; Client(sys.argv[1]).notify('f')",
        exclusive.socket,
    )
    assert "only root and the daemon's user may say what changed" in said.stderr
    missing = subprocess.run(
        [sys.executable, "-m", "fusenotify", "notify", str(tmp_path / "x")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == 1
    assert missing.stderr.startswith(f"fusenotify: {tmp_path}/x: ")
