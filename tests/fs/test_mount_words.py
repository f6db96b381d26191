# SPDX-License-Identifier: GPL-2.0-or-later
"""The words that mount(8) has for every filesystem do what they do natively, or are refused."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusenotify import MountFailed, mountinfo
from fusenotify.masks import IN_OPEN
from fusenotify.mounting.options import unknown_options
from tests.cli.command import fusenotify
from tests.conftest import Mounting, User

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts by mount(8)"),
]

# What FUSE's mounts have and others have not, and what is another filesystem's own.
NOT_GENERAL = ("user_id=", "group_id=", "default_permissions", "size=", "inode64")


def shown(place: str | Path) -> set[str]:
    """Return what the mount table shows of the uppermost mount on a directory."""
    mount = mountinfo.mount_of(os.fsencode(place))
    assert mount is not None
    return {word for word in mount.options if not word.startswith(NOT_GENERAL)}


@contextmanager
def native(place: Path, words: str) -> Iterator[Path]:
    """Mount a tmpfs with these words."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", words, "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


# defaults: a FUSE mount is otherwise nosuid,nodev.
@pytest.mark.parametrize(
    "words",
    [
        "defaults",
        "defaults,ro",
        "defaults,ro,rw",
        "defaults,nosuid,nodev,noexec,nosymfollow",
        "nosuid,nodev,noexec,nosymfollow,suid,dev,exec,symfollow",
        "defaults,sync,dirsync",
        "defaults,sync,async,lazytime",
        "defaults,lazytime,nolazytime,nodiratime",
        "defaults,noatime",
        "defaults,noatime,atime,diratime",
        "defaults,noatime,relatime",
        "defaults,relatime,norelatime",
        "defaults,strictatime",
        "defaults,strictatime,nodiratime",
        "defaults,strictatime,noatime",
        "defaults,strictatime,nostrictatime",
        "defaults,iversion,noiversion,silent,loud,nomand",
        "defaults,auto,noauto,nofail,_netdev,nouser,comment=c,x-y,X-z=1",
        "user",
        "users,exec",
        "owner",
        "group,suid",
    ],
)
def test_a_mount_has_the_flags_of_a_native_one(
    mounting: Mounting, tmp_path: Path, words: str
) -> None:
    with native(tmp_path / "native", words) as place:
        expected = shown(place)
    # "group,suid" and its like leave what they do not say to the default.
    said = words if words.startswith("nosuid") or "defaults" in words else f"defaults,{words}"
    with mounting(options=said.split(",")) as mount:
        assert shown(mount.mountpoint) == expected


def test_every_word_of_the_manual_is_known_or_refused_with_a_reason() -> None:
    """As mount(8) of util-linux lists them."""
    manual = (
        "async atime noatime auto noauto context=x fscontext=x defcontext=x rootcontext=x defaults "
        "dev nodev diratime nodiratime dirsync exec noexec group iversion noiversion nomand "
        "_netdev nofail relatime norelatime strictatime nostrictatime lazytime nolazytime suid "
        "nosuid silent loud owner remount ro rw sync user nouser users x-a nosymfollow symfollow"
    )
    assert unknown_options(manual.split()) == []


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("mand", "Linux has no mandatory locks any more"),
        ("X-mount.mkdir", r"mount\(8\) carries it out"),
        ("nosymfollows", "unknown option"),
    ],
)
def test_meaningless_words_are_refused(mounting: Mounting, word: str, reason: str) -> None:
    with pytest.raises(MountFailed, match=reason), mounting(options=[word]):
        pytest.fail("it was mounted")


@pytest.mark.parametrize("word", ["strictatime", "nodiratime", "lazytime", "nosymfollow"])
def test_options_that_fusermount3_cannot_set_are_for_root(
    public_path: Path, nobody: User, word: str
) -> None:
    command = [nobody.python, "-m", "fusenotify", "mount", "-o", word]
    done = nobody.run(*command, public_path, public_path / "mnt")
    assert f"'{word}': fusermount3 cannot set it, only root may have it" in done.stderr
    assert done.returncode == 2


def test_nosymfollow_follows_no_link(mounting: Mounting) -> None:
    with mounting(options=["nosymfollow"]) as mount:
        top = Path(mount.mountpoint)
        (top / "f").touch()
        (top / "l").symlink_to("f")
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            (top / "l").read_text()
        assert (top / "l").readlink() == Path("f")
        with mount.client() as client, pytest.raises(OSError, match="nosymfollow") as refusal:
            client.init().add_watch("/l", IN_OPEN)
        assert refusal.value.errno == errno.ELOOP


def remount(mountpoint: str, words: str) -> str:
    done = fusenotify("mount", mountpoint, "-o", f"remount,{words}")
    assert done.returncode == (1 if done.stderr else 0)
    return done.stderr


def test_a_remount_changes_only_the_given_words(mounting: Mounting) -> None:
    with mounting(options=["noexec", "nosymfollow"]) as mount:
        top = Path(mount.mountpoint)
        has = shown(top)
        assert remount(mount.mountpoint, "ro") == ""
        assert shown(top) == has - {"rw"} | {"ro"}
        with pytest.raises(OSError, match="Read-only"):
            (top / "f").touch()
        assert remount(mount.mountpoint, "rw,exec,lazytime") == ""
        assert shown(top) == has - {"noexec"} | {"lazytime"}
        (top / "f").touch()


def test_a_mount_that_was_made_read_only_can_be_written_to_once_it_is_rw(
    mounting: Mounting,
) -> None:
    with mounting(options=["ro"]) as mount:
        assert remount(mount.mountpoint, "rw") == ""
        (Path(mount.mountpoint) / "f").write_text("content")
        assert remount(mount.mountpoint, "ro") == ""
        assert (Path(mount.mountpoint) / "f").read_text() == "content"


def test_a_remount_refuses_what_it_cannot_change(mounting: Mounting) -> None:
    with mounting(options=["sync"]) as mount:
        place = mount.mountpoint
        has = shown(place)
        for word in ("async", "noatime", "dirsync", "nosymfollow"):
            assert remount(place, word) == (
                f"fusenotify: {place}: '{word}' cannot be changed by a remount, because the daemon "
                "carries it out; unmount it first\n"
            )
        for word in ("acl", "uid=7", "allow_other", "fsname=x"):
            assert f"'{word}' cannot be changed by a remount" in remount(place, word)
        with (Path(place) / "f").open("w"):
            assert "busy, programs have files open for writing" in remount(place, "ro")
        assert remount(place, "sync,default_permissions") == ""
        assert shown(place) == has


def test_a_remount_wants_a_mount(tmp_path: Path) -> None:
    assert "no fusenotify mount is there" in remount(str(tmp_path), "ro")
