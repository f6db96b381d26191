# SPDX-License-Identifier: GPL-2.0-or-later
"""Set-id bits on mounts that are not root's, or do not show SOURCE as it is.

What they do on any other is in tests/differential, beside Linux.
"""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

import fusenotify
from fusenotify import Mounted
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
from fusenotify.bits import IN_ALL_EVENTS, names

with fusenotify.mounted(*sys.argv[1:]) as mount, Inotify() as inotify:
    inotify.add_watch(mount.mountpoint, IN_ALL_EVENTS)
    os.close(os.open(mount.mountpoint + "/opened", os.O_WRONLY | os.O_TRUNC))
    os.truncate(mount.mountpoint + "/truncated", 1)
    with open(mount.mountpoint + "/written", "r+b", buffering=0) as file:
        file.write(b"x")
    with mount.client() as client:
        client.sync()
    seen = [event for event in inotify.read() if event.name]
print(*[f"{event.name}:{'|'.join(names(event.mask))}" for event in seen])
"""


def test_in_an_ordinary_users_mount_the_kernel_of_source_clears_what_the_daemon_may_not(
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


@pytest.fixture
def tops(public_path: Path) -> tuple[Path, Path]:
    """A source in which all may write, and a place to mount it at."""
    source, mnt = public_path / "source", public_path / "mnt"
    source.mkdir()
    source.chmod(0o777)
    mnt.mkdir()
    return source, mnt


def showing(tops: tuple[Path, Path], *options: str) -> AbstractContextManager[Mounted]:
    return fusenotify.mounted(*tops, options=["allow_other", *options])


def make(path: Path, mode: int, uid: int = 0, gid: int = 0) -> Path:
    path.write_bytes(b"content")
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_owner_may_take_set_id_bits_and_no_other(tops: tuple[Path, Path]) -> None:
    source, mnt = tops
    make(source / "f", 0o4755, OWNER)
    with showing(tops, f"uid={OWNER}"):
        assert as_user(STRANGER, lambda: os.chown(mnt / "f", -1, -1)) == "EPERM"
        assert mode_of(source / "f") == 0o4755
        assert as_user(OWNER, lambda: os.chown(mnt / "f", -1, -1)) == "ok"
        assert mode_of(source / "f") == 0o755


def test_without_shown_set_id_bits_nothing_is_refused(tops: tuple[Path, Path]) -> None:
    source, mnt = tops
    make(source / "f", 0o4755)
    with showing(tops, "umask=022"):
        assert as_user(STRANGER, lambda: os.chown(mnt / "f", -1, -1)) == "ok"
    assert mode_of(source / "f") == 0o4755


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([f"uid={OWNER}"], 0o2755),
        ([f"gid={OWNER}"], 0o4755),
        ([f"uid={OWNER}", f"gid={OWNER}"], 0o755),
        (["uid=0", "gid=0"], 0o6755),
        (["umask=022"], 0o755),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else None,
)
def test_a_set_id_bit_is_shown_with_whom_it_means_or_not_at_all(
    tops: tuple[Path, Path], options: list[str], shown: int
) -> None:
    make(tops[0] / "f", 0o6755)
    with showing(tops, *options):
        assert mode_of(tops[1] / "f") == shown


def test_a_users_program_does_not_run_as_its_shown_owner(
    tops: tuple[Path, Path], nobody: User
) -> None:
    source, mnt = tops
    shutil.copy(shutil.which("id") or "", source / "id")
    os.chown(source / "id", nobody.uid, nobody.uid)
    (source / "id").chmod(0o6755)
    with showing(tops, "uid=0", "gid=0", "suid"):
        assert nobody.run(mnt / "id", "-u").stdout.split() == [str(nobody.uid)]
        assert nobody.run(mnt / "id", "-g").stdout.split() == [str(nobody.uid)]


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o6755))


def _make_node(path: Path) -> None:
    os.mknod(path, 0o106755)


@pytest.mark.parametrize("shown", [f"uid={OWNER}", f"gid={OWNER}", "umask=0"])
def test_a_bit_that_would_not_be_shown_is_not_set(tops: tuple[Path, Path], shown: str) -> None:
    """Otherwise the shown owner could fill root's set-id file with any program."""
    source, mnt = tops
    hidden = {"uid": 0o4000, "gid": 0o2000, "umask": 0o6000}[shown.partition("=")[0]]
    make(source / "file", 0o777)
    (source / "directory").mkdir()
    with showing(tops, shown):
        for user in (0, OWNER):
            for name in ("file", "directory"):
                changed = as_user(user, partial(os.chmod, mnt / name, hidden | 0o711))
                assert changed == "EPERM"
        assert [mode_of(source / name) for name in ("file", "directory")] == [0o777, 0o755]
        for kind in (_create, _make_node):
            assert as_user(STRANGER, partial(kind, mnt / "new")) == "ok"
            assert mode_of(source / "new") & hidden == 0
            assert (source / "new").stat().st_uid == STRANGER
            (source / "new").unlink()


def test_bits_that_are_shown_may_be_set(tops: tuple[Path, Path]) -> None:
    source, mnt = tops
    make(source / "f", 0o755, OWNER, OWNER)
    with showing(tops, f"uid={OWNER}", f"gid={OWNER}"):
        assert as_user(OWNER, lambda: os.chmod(mnt / "f", 0o6755)) == "ok"
        assert mode_of(source / "f") == 0o6755
        assert as_user(OWNER, lambda: _create(mnt / "new")) == "ok"
        assert mode_of(source / "new") == 0o6755


def test_in_a_set_gid_directory_the_group_is_the_directorys(tops: tuple[Path, Path]) -> None:
    source, mnt = tops
    (source / "d").mkdir()
    os.chown(source / "d", 0, STRANGER)
    (source / "d").chmod(0o2777)
    with showing(tops, f"gid={OWNER}"):
        assert as_user(OWNER, lambda: _create(mnt / "d" / "new")) == "ok"
        assert (source / "d" / "new").stat().st_gid == STRANGER
        assert mode_of(source / "d" / "new") == 0o4755
        (mnt / "d").chmod(0o2755)  # it is set-gid already
        assert mode_of(source / "d") == 0o2755


def _write(path: Path) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.write(b"evil")


def _store(path: Path) -> None:
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 7) as mapping:
        mapping[:4] = b"evil"


def _truncate(path: Path) -> None:
    os.truncate(path, 1)


def _open_and_truncate(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))


@pytest.mark.parametrize("change", [_write, _store, _truncate, _open_and_truncate])
@pytest.mark.parametrize("shown", [f"uid={OWNER}", "umask=0"])
def test_a_written_file_loses_the_bits_that_are_not_shown(
    tops: tuple[Path, Path], shown: str, change: Callable[[Path], None]
) -> None:
    """The kernel does not see them, and so does not ask for it."""
    source, mnt = tops
    make(source / "f", 0o4755)
    with showing(tops, shown):
        assert as_user(OWNER, lambda: change(mnt / "f")) == "ok"
    assert (source / "f").read_bytes() != b"content"
    assert mode_of(source / "f") == 0o755


def _chmod(path: Path) -> None:
    path.chmod(0o6777)


def _set_acl(path: Path) -> None:
    entries = [(tag, 7, 0xFFFFFFFF) for tag in (0x01, 0x04, 0x10, 0x20)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", acl)


@pytest.mark.parametrize("give", [_chmod, _set_acl])
def test_a_file_that_others_may_write_loses_bits_and_capabilities_that_are_not_shown(
    tops: tuple[Path, Path], give: Callable[[Path], None]
) -> None:
    """Else they store another program to a mapping of the file in SOURCE, which takes neither."""
    source, mnt = tops
    make(source / "bits", 0o6755)
    make(source / "capable", 0o755)
    os.setxattr(source / "capable", "security.capability", struct.pack("<5I", 2 << 24, 1, 0, 0, 0))
    with showing(tops, f"uid={OWNER}", f"gid={OWNER}"):
        assert as_user(OWNER, partial(give, mnt / "bits")) == "ok"
        assert as_user(OWNER, lambda: (mnt / "capable").chmod(0o777)) == "ok"
    assert mode_of(source / "bits") == 0o777
    assert "security.capability" not in os.listxattr(source / "capable")


def test_a_set_id_file_of_somebody_elses_gets_no_further_name(tops: tuple[Path, Path]) -> None:
    source, mnt = tops
    make(source / "f", 0o4755)
    make(source / "plain", 0o755)
    with showing(tops, f"uid={OWNER}"):
        assert as_user(OWNER, lambda: os.link(mnt / "f", mnt / "g")) == "EPERM"
        assert as_user(OWNER, lambda: os.link(mnt / "plain", mnt / "g")) == "ok"


def test_the_shown_owner_does_not_become_the_owner_in_source(tops: tuple[Path, Path]) -> None:
    """To Linux it is a chown that changes nothing."""
    source, mnt = tops
    make(source / "f", 0o644)
    with showing(tops, f"uid={OWNER}", f"gid={OWNER}"):
        assert as_user(OWNER, lambda: os.chown(mnt / "f", OWNER, OWNER)) == "ok"
        assert ((source / "f").stat().st_uid, (source / "f").stat().st_gid) == (0, 0)
        os.chown(mnt / "f", OWNER, OWNER)  # root says what it is to be there
        assert ((source / "f").stat().st_uid, (source / "f").stat().st_gid) == (OWNER, OWNER)


def test_the_shown_owner_gives_no_capabilities(tops: tuple[Path, Path], nobody: User) -> None:
    """The root of a user namespace may, of its own files."""
    source, mnt = tops
    make(source / "f", 0o755)
    capabilities = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0).hex()
    set_them = (
        f"import os; os.setxattr('f', 'security.capability', bytes.fromhex('{capabilities}'))"
    )
    as_owner = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"]
    command = [
        *as_owner,
        "unshare",
        "--user",
        "--map-root-user",
        "/usr/bin/python3",
        "-c",
        set_them,
    ]
    with showing(tops, f"uid={OWNER}", f"gid={OWNER}"):
        refused = subprocess.run(command, cwd=mnt, check=False, capture_output=True, text=True)
        if "unshare" in refused.stderr:
            pytest.skip(refused.stderr)
        assert "Operation not permitted" in refused.stderr
        assert "security.capability" not in os.listxattr(source / "f")
        os.chown(mnt / "f", OWNER, OWNER)
    with showing(tops):
        subprocess.run(command, cwd=mnt, check=True)  # its own indeed
    assert "security.capability" in os.listxattr(source / "f")
