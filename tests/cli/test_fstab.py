# SPDX-License-Identifier: GPL-2.0-or-later
"""mount(8) and umount(8) do what ``fusenotify mount`` and ``unmount`` do, fstab included."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import FUSENOTIFY, environment

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts by mount(8)"),
    pytest.mark.skipif(
        shutil.which("mount.fuse3", path=f"{os.environ['PATH']}:/sbin:/usr/sbin") is None,
        reason="mount.fuse3 is missing: install the Debian package fuse3",
    ),
]

# mount(8) looks for programs in the system's directories only, so one of them
# is ours in a mount namespace of the script's own.
_WITH_FUSENOTIFY = 'mount --bind "$1" /usr/local/sbin || exit; shift; eval "$*"'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A source with a file, a mount point, and a directory with the program."""
    for name in ("source", "mnt", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "file").write_text("content\n")
    program = tmp_path / "bin" / "fusenotify"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(FUSENOTIFY)} "$@"\n')
    program.chmod(0o755)
    return tmp_path


def script(place: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a place; {} in it is the place."""
    namespace = ["unshare", "--mount", "sh", "-ec", _WITH_FUSENOTIFY, "sh", str(place / "bin")]
    return subprocess.run(
        [*namespace, text.replace("{}", str(place))],
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


_LOOK = "cat {}/mnt/file; findmnt -n -o SOURCE,FSTYPE,OPTIONS {}/mnt; umount {}/mnt; ls {}/mnt"


def test_mount_by_type(place: Path) -> None:
    done = script(place, f"mount -t fuse.fusenotify {{}}/source {{}}/mnt; {_LOOK}")
    assert done.stderr == ""
    content, source, fstype, options = done.stdout.split()
    assert (content, source) == ("content", str(place / "source"))
    assert fstype == "fuse.fusenotify"
    assert {"rw", "default_permissions"} <= set(options.split(","))


def test_a_line_of_fstab(place: Path) -> None:
    words = "ro,noauto,nofail,user,_netdev,x-systemd.automount,comment=ours,allow_other"
    (place / "fstab").write_text(f"{place}/source {place}/mnt fuse.fusenotify {words} 0 0\n")
    done = script(place, f"mount --fstab {{}}/fstab {{}}/mnt; {_LOOK}")
    assert done.stderr == ""
    options = set(done.stdout.split()[3].split(","))
    assert {"ro", "nosuid", "nodev", "noexec", "allow_other"} <= options


def test_a_remount_by_mount8(place: Path) -> None:
    done = script(
        place,
        "mount -t fuse.fusenotify {}/source {}/mnt -o noexec,nosuid,strictatime; cd {}/mnt; "
        "mount -o remount,ro {}/mnt; findmnt -n -o OPTIONS {}/mnt; touch x 2>/dev/null || echo no; "
        "mount -o remount,rw,exec {}/mnt; findmnt -n -o OPTIONS {}/mnt; touch x && echo yes; "
        "cd /; umount {}/mnt",
    )
    assert done.stderr == ""
    fuse = "user_id=0,group_id=0,default_permissions"
    before, no, after, yes = done.stdout.split()
    assert before == f"ro,nosuid,noexec,{fuse}"
    assert after == f"rw,nosuid,{fuse}"
    assert (no, yes) == ("no", "yes")


def test_words_of_fstab_for_every_filesystem(place: Path) -> None:
    words = "nodiratime,lazytime,iversion,silent,nosymfollow,dirsync,users"
    (place / "fstab").write_text(f"{place}/source {place}/mnt fuse.fusenotify {words} 0 0\n")
    done = script(place, f"mount --fstab {{}}/fstab {{}}/mnt; {_LOOK}")
    assert done.stderr == ""
    options = set(done.stdout.split()[3].split(","))
    expected = {"nosuid", "nodev", "noexec", "nodiratime", "lazytime", "nosymfollow", "dirsync"}
    assert expected <= options


def test_what_is_wrong_is_mounts_failure(place: Path) -> None:
    done = script(place, "mount -t fuse.fusenotify {}/gone {}/mnt")
    assert done.stderr == f"fusenotify: {place}/gone: SOURCE does not exist\n"
    assert done.returncode
