# SPDX-License-Identifier: GPL-2.0-or-later
"""In whose name the daemon writes: default ACLs, quotas, reserved room, and no root behind it.

What owners, groups and set-id bits become is in tests/differential/answers.py;
here is what needs another mount, or another disk, than the one there.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import fusenotify
from fusenotify import mountinfo
from tests.conftest import NOBODY, User
from tests.differential.operations import renameat2
from tests.differential.scenario import as_user

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others"),
]

GROUP = 4321
RENAME_WHITEOUT = 4
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def acl(owner: int, user: int, group: int, mask: int, others: int) -> bytes:
    """Return an ACL as extended attributes have it; user is what GROUP's namesake may."""
    nobody = 0xFFFFFFFF
    entries = [
        (1, owner, nobody),
        (2, user, GROUP),
        (4, group, nobody),
        (16, mask, nobody),
        (32, others, nobody),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def shown(path: Path) -> tuple[Any, ...]:
    """Return what two runs of the same calls share of an object."""
    found = path.lstat()
    acls: list[bytes | None] = []
    for name in (ACCESS, DEFAULT):
        try:
            acls.append(os.getxattr(path, name, follow_symlinks=False))
        except OSError as error:
            assert error.errno in (errno.ENODATA, errno.EOPNOTSUPP)  # noqa: PT017
            acls.append(None)
    return (path.name, found.st_mode, found.st_uid, found.st_gid, found.st_nlink, *acls)


@pytest.fixture(params=["acl", "allow_other"], ids=["with acl", "without"])
def tops(request: pytest.FixtureRequest, public_path: Path) -> Iterator[list[Path]]:
    """A native directory and a mount."""
    native, source, mnt = (public_path / name for name in ("native", "source", "mnt"))
    for place in (native, source, mnt):
        place.mkdir()
    try:
        os.setxattr(native, DEFAULT, acl(7, 7, 5, 7, 0))
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    os.removexattr(native, DEFAULT)
    with fusenotify.mounted(source, mnt, options=["allow_other", request.param]):
        yield [native, mnt]


def made(d: Path, default: bytes | None, user: int, mode: int, umask: int) -> list[Any]:
    """Make one of each in a new directory; return how it went and what they are."""
    d.mkdir()
    os.chown(d, 0, 12)
    d.chmod(mode)
    if default is not None:
        os.setxattr(d, DEFAULT, default)

    def act() -> None:
        os.umask(umask)
        os.close(os.open(d / "file", os.O_WRONLY | os.O_CREAT, 0o666))
        os.close(os.open(d / "setid", os.O_WRONLY | os.O_CREAT, 0o6755))
        (d / "directory").mkdir()
        (d / "directory" / "below").mkdir(mode=0o750)
        os.mkfifo(d / "fifo", 0o660)
        os.mknod(d / "node", 0o644)
        (d / "symlink").symlink_to("file")
        os.link(d / "file", d / "link")

    answered = as_user(user, act)
    return [answered, *(shown(path) for path in sorted(d.rglob("*")))]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077], ids="umask {:03o}".format)
@pytest.mark.parametrize(
    "default",
    [None, acl(7, 7, 5, 7, 0), acl(7, 7, 7, 3, 4)],
    ids=["no default", "all but others", "no reading"],
)
def test_a_new_object_has_the_acl_and_mode_that_linux_gives(
    default: bytes | None, umask: int, tops: list[Path]
) -> None:
    for user in (0, GROUP):
        for mode in (0o777, 0o2777):
            name = f"{user}-{mode:o}"
            native, ours = (made(top / name, default, user, mode, umask) for top in tops)
            assert native[0] == "ok"
            assert ours == native


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def fill(path: Path, most: int = 64 << 20) -> int:
    """Write until it is refused or most bytes are written; return the errno, or 0."""
    block = b"x" * 65536
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        for _ in range(most // len(block)):
            os.write(fd, block)
    except OSError as error:
        return error.errno or -1
    finally:
        os.close(fd)
    return 0


def expect_refusal(path: Path, code: int) -> None:
    if fill(path) != code:
        raise OSError(errno.EBADMSG, "it was not refused so")


@pytest.fixture
def disk(public_path: Path) -> Iterator[Path]:
    """A directory to mount a filesystem on, in which all may write."""
    path = public_path / "disk"
    path.mkdir()
    yield path
    for mount in mountinfo.mounts():
        if mount.mountpoint == os.fsencode(path):
            run("umount", "--lazy", path)


def test_space_that_a_disk_reserves_for_root_is_for_root_only(
    disk: Path, public_path: Path
) -> None:
    """As ext4 does natively: ENOSPC for a user, while root still has room."""
    image, mnt = public_path / "image", public_path / "mnt"
    mnt.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    try:
        run("mkfs.ext4", "-q", "-m", "25", "-O", "^has_journal", image)
        run("mount", "-o", "loop", image, disk)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no ext4 in a file here: {error}")
    disk.chmod(0o777)
    with fusenotify.mounted(disk, mnt, options=["allow_other"]):
        assert as_user(NOBODY, lambda: expect_refusal(mnt / "users", errno.ENOSPC)) == "ok"
        room = os.statvfs(mnt)
        assert room.f_bavail * room.f_frsize < 1 << 16
        assert room.f_bfree * room.f_frsize > 1 << 20
        assert fill(mnt / "roots", 1 << 20) == 0


def take_all(path: Path) -> None:
    """Write to a new file until not a block is left, not even of those kept for metadata."""
    with open(path, "wb", buffering=0) as file:
        for _ in range(3):
            with suppress(OSError):
                while file.write(b"x" * 1024):
                    pass
            os.fsync(file)


def name(number: int) -> str:
    return f"{number:0250}"  # a block takes few of them


def set_attribute(d: Path) -> None:
    os.setxattr(d / "f", "user.a", b"x" * 900)


def make_long_symlink(d: Path) -> None:
    (d / "symlink").symlink_to("x" * 900)


def make_directory(d: Path) -> None:
    (d / "directory").mkdir()


def link(d: Path) -> None:
    for number in range(20):
        os.link(d / "f", d / name(number))


def rename(d: Path) -> None:
    for number in range(20):
        (d / str(number)).rename(d / name(number))


def make_whiteouts(d: Path) -> None:
    for number in range(20):
        renameat2(d / str(number), d / name(number), RENAME_WHITEOUT)


@pytest.mark.parametrize(
    "act", [set_attribute, make_long_symlink, make_directory, link, rename, make_whiteouts]
)
def test_calls_that_take_space_take_none_of_roots(
    act: Callable[[Path], None], disk: Path, public_path: Path
) -> None:
    image, mnt = public_path / "image", public_path / "mnt"
    mnt.mkdir()
    with open(image, "wb") as file:
        file.truncate(4 << 20)
    try:
        run("mkfs.ext4", "-q", "-m", "25", "-b", "1024", "-O", "^has_journal", image)
        run("mount", "-o", "loop", image, disk)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no ext4 in a file here: {error}")
    for place in ("native", "ours", "roots"):
        d = disk / place
        d.mkdir()
        for made in ("f", *map(str, range(20))):
            (d / made).touch()
            os.chown(d / made, NOBODY, NOBODY)
        os.chown(d, NOBODY, NOBODY)
    assert as_user(NOBODY, lambda: take_all(disk / "native" / "f")) == "ok"
    with fusenotify.mounted(disk, mnt, options=["allow_other"]):
        assert as_user(NOBODY, lambda: act(disk / "native")) == "ENOSPC"
        assert as_user(NOBODY, lambda: act(mnt / "ours")) == "ENOSPC"
        act(mnt / "roots")


def test_a_whiteout_belongs_to_its_maker(public_path: Path) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    for place in (source, mnt):
        place.mkdir()
        place.chmod(0o777)
    with fusenotify.mounted(source, mnt, options=["allow_other"]):
        for d, made in ((source, "native"), (mnt, "ours")):
            (d / made).touch()
            went = as_user(NOBODY, partial(renameat2, d / made, d / "moved", RENAME_WHITEOUT))
            if went == "EINVAL":
                pytest.skip("no whiteouts here")
            found = (d / made).stat()
            assert (found.st_uid, found.st_gid, found.st_rdev) == (NOBODY, NOBODY, 0)
            assert stat.S_ISCHR(found.st_mode)


def test_a_users_quota_is_edquot_and_the_daemon_lives_on(disk: Path, public_path: Path) -> None:
    mnt = public_path / "mnt"
    mnt.mkdir()
    limits = "usrquota,usrquota_block_hardlimit=1m,usrquota_inode_hardlimit=5"
    try:
        run("mount", "-t", "tmpfs", "-o", limits, "quota", disk)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this kernel's tmpfs has no quotas: {error.stderr.decode().strip()}")
    disk.chmod(0o1777)
    with fusenotify.mounted(disk, mnt, options=["allow_other"]):

        def too_many() -> None:
            for number in range(10):
                (mnt / str(number)).touch()

        assert as_user(NOBODY, lambda: expect_refusal(mnt / "f", errno.EDQUOT)) == "ok"
        assert as_user(NOBODY, too_many) == "EDQUOT"
        assert all(path.stat().st_uid == NOBODY for path in mnt.iterdir())
        assert as_user(NOBODY, lambda: (mnt / "f").unlink()) == "ok"
        assert as_user(NOBODY, lambda: (mnt / "g").touch()) == "ok"
        assert fill(mnt / "roots", 2 << 20) == 0


def test_the_daemon_cannot_lift_quotas(public_path: Path) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    source.mkdir()
    mnt.mkdir()
    with fusenotify.mounted(source, mnt) as mount:
        lines = Path(f"/proc/{mount.pid}/status").read_text().splitlines()
        sets = dict(line.split(":\t") for line in lines if line.startswith("Cap"))
    resource = 1 << 24  # CAP_SYS_RESOURCE
    assert not int(sets["CapEff"], 16) & resource
    assert not int(sets["CapPrm"], 16) & resource
    assert int(sets["CapEff"], 16) & 0x1F == 0x1F  # those about files


def test_through_a_users_own_mount_all_is_the_users(public_path: Path, nobody: User) -> None:
    """And what the user may not do to SOURCE, the mount does not do either."""
    source, mnt = public_path / "source", public_path / "mnt"
    source.mkdir()
    mnt.mkdir()
    (source / "roots").write_text("x")
    (source / "roots").chmod(0o600)
    for place in (source, mnt):
        os.chown(place, NOBODY, NOBODY)
    program = (
        "import errno, os, sys, fusenotify\n"
        "with fusenotify.mounted(*sys.argv[1:]) as mount:\n"
        "    os.chdir(mount.mountpoint)\n"
        "    os.umask(0o027)\n"
        "    os.mkdir('directory')\n"
        "    os.close(os.open('file', os.O_CREAT | os.O_WRONLY, 0o666))\n"
        "    for call, *arguments in (\n"
        "        (os.chown, 'file', 0, 0),\n"
        "        (os.chown, 'roots', os.getuid(), -1),\n"
        "        (os.chmod, 'roots', 0o666),\n"
        "        (os.open, 'roots', os.O_RDONLY),\n"
        "        (os.mknod, 'device', 0o20600, 0x103),\n"
        "        (os.setxattr, 'file', 'trusted.x', b'x'),\n"
        "    ):\n"
        "        try:\n"
        "            call(*arguments)\n"
        "            print('done')\n"
        "        except OSError as error:\n"
        "            print(errno.errorcode[error.errno])\n"
        "    os.chdir('/')\n"
    )
    done = nobody.run_with_fuse(nobody.python, "-c", program, source, mnt)
    with suppress(OSError):
        os.rmdir(f"/tmp/fusenotify-{NOBODY}")
    assert done.stderr == ""
    assert done.stdout.split() == ["EPERM", "EPERM", "EPERM", "EACCES", "EPERM", "EPERM"]
    for name, mode in (("file", 0o640), ("directory", 0o750)):
        made = (source / name).stat()
        assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (NOBODY, mode)
