# SPDX-License-Identifier: GPL-2.0-or-later
"""Refusing a mount that cannot be, before pyfuse3 is imported.

cli.mount calls check() in the process that will serve; testing asks some of it
beforehand.  Each refusal names the path and says what to do.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
from collections.abc import Collection

from fusenotify.mounting.failure import Failure, describe
from fusenotify.mounting.mountpoints import State, fusermount, look, take_away
from fusenotify.mounting.settings import Settings

_PACKAGES = "the Debian packages fuse3 libfuse3-dev pkg-config gcc"


def check(settings: Settings) -> None:
    """Refuse settings that cannot be mounted; clean a dead daemon's mount away.

    Raises Failure.
    """
    mountpoint = settings.mountpoint
    state = look(mountpoint)
    if state is State.DEAD:
        take_away(mountpoint, lazy=True)
    elif state is State.SILENT:
        raise Failure(
            f"{mountpoint}: already mounted by fusenotify, but its daemon does not answer; "
            "continue or kill it, or take the mount away by 'fusenotify unmount --lazy'"
        )
    elif state is State.LIVE:
        raise Failure(f"{mountpoint}: already mounted by fusenotify; see 'fusenotify status'")
    _check_directory(settings.source, "SOURCE")
    _check_directory(mountpoint, "MNT")
    if not settings.in_place:
        _check_apart(settings.source, mountpoint)
        if "nonempty" not in settings.options:
            _check_empty(mountpoint)
    check_fuse(settings.options)
    check_pyfuse3()


def check_pyfuse3() -> None:
    """Refuse to go on where pyfuse3 or what it needs cannot be imported.

    Raises Failure saying what to install.
    """
    for module in ("trio", "pyfuse3"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise Failure(
                f"a mount needs {module}, which cannot be imported ({error}): "
                f"pip install 'fusenotify[mount]' (to build it, first install {_PACKAGES})"
            ) from error


def _check_directory(path: str, role: str) -> None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise Failure(f"{path}: {role} does not exist") from None
    except OSError as error:
        raise Failure(describe(error)) from error
    if not stat.S_ISDIR(found.st_mode):
        raise Failure(f"{path}: {role} is not a directory")


def _check_apart(source: str, mountpoint: str) -> None:
    """Refuse two directories of which one is inside the other, by whatever names."""
    if os.path.samefile(source, mountpoint):
        raise Failure(
            f"{mountpoint}: SOURCE and MNT are one directory under two names; "
            "to mount it in place, give one name"
        )
    if _is_inside(mountpoint, source):
        raise Failure(f"{mountpoint}: MNT is inside SOURCE ({source}); the mount would show itself")
    if _is_inside(source, mountpoint):
        raise Failure(f"{source}: SOURCE is inside MNT ({mountpoint}); the mount would hide it")


def _is_inside(path: str, directory: str) -> bool:
    """Return whether directory is above path; both are absolute and resolved."""
    sought = os.stat(directory)
    while path != "/":
        path = os.path.dirname(path)
        if os.path.samestat(os.stat(path), sought):
            return True
    return False


def _check_empty(mountpoint: str) -> None:
    try:
        with os.scandir(mountpoint) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        raise Failure(describe(error)) from error
    if not empty:
        raise Failure(
            f"{mountpoint}: MNT is not empty, and the mount would hide what is in it; "
            "-o nonempty mounts nevertheless"
        )


def check_fuse(options: Collection[str]) -> None:
    """Refuse to go on where /dev/fuse or fusermount3 is missing or not for this user.

    options are FUSE's, of which users may not have all.

    Raises Failure saying how to get it.
    """
    if os.geteuid() and fusermount() is None:
        raise Failure("fusermount3 is missing: install the Debian package fuse3")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))  # the kernel may load the module now
    except FileNotFoundError:
        raise Failure(
            "/dev/fuse does not exist: load the module (modprobe fuse), or give it to the "
            "container (--device /dev/fuse --cap-add SYS_ADMIN)"
        ) from None
    except OSError as error:
        raise Failure(
            f"/dev/fuse cannot be opened ({error.strerror}): root may allow it to users "
            "(chmod 666 /dev/fuse) or to the container (--device /dev/fuse)"
        ) from error
    if os.geteuid() and "allow_other" in options and not _users_may_allow_other():
        raise Failure("-o allow_other needs the line user_allow_other in /etc/fuse.conf")


def _users_may_allow_other() -> bool:
    try:
        with open("/etc/fuse.conf") as lines:
            return any(line.strip() == "user_allow_other" for line in lines)
    except OSError as error:
        # Without the file fusermount3 refuses; what it cannot read we cannot either.
        return error.errno != errno.ENOENT
