# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks for impossible mounts, before pyfuse3 is imported.

cli.mount calls check() in the process that will serve; testing makes some of the
checks beforehand.  Each Failure names the path and says what to do.
"""

from __future__ import annotations

import errno
import importlib
import os
import platform
import shutil
import stat
from collections.abc import Collection, Mapping
from typing import NamedTuple

from fusenotify.mountinfo import Mount
from fusenotify.mounting.failure import Failure, describe
from fusenotify.mounting.mountpoints import State, find, fusermount, id_of, state_of, take_away
from fusenotify.mounting.settings import Settings

# What pyfuse3 is compiled from, and mounts with, by the distribution's ID in os-release(5).
_PACKAGES = {
    "debian": "fuse3 libfuse3-dev pkg-config gcc python3-dev",
    "fedora": "fuse3 fuse3-devel pkgconf gcc python3-devel",
    "arch": "fuse3 pkgconf gcc",
    "alpine": "fuse3 fuse3-dev pkgconf gcc musl-dev python3-dev",
}


class Places(NamedTuple):
    """O_PATH descriptors of a mount's two directories: those that are checked are used."""

    source: int
    mountpoint: int


def check(settings: Settings) -> Places:
    """Check that the settings can be mounted; unmount the mount of a dead daemon at MNT.

    Returns descriptors of SOURCE and MNT.

    Raises Failure.
    """
    mountpoint = settings.mountpoint
    mount = find(mountpoint)
    if mount is not None:
        _clear(mount, mountpoint)
    source = _directory(settings.source, "SOURCE")
    if settings.in_place:
        places = Places(source, os.dup(source))
    else:
        places = Places(source, _directory(mountpoint, "MNT"))
        _check_apart(settings, places)
        if "nonempty" not in settings.options:
            _check_empty(settings, places)
    _check_journal(settings, places)
    check_fuse(settings.options)
    check_pyfuse3()
    return places


def _clear(mount: Mount, mountpoint: str) -> None:
    """Unmount a mount of ours if its daemon is dead; otherwise raise Failure."""
    which, state = id_of(mount), state_of(mount)
    if state is State.LIVE:
        raise Failure(f"{mountpoint}: already mounted by fusenotify; see 'fusenotify status'")
    if state is State.SILENT:
        raise Failure(
            f"{mountpoint}: already mounted by fusenotify, but its daemon does not answer; "
            "continue or kill it, or unmount it with 'fusenotify unmount --lazy'"
        )
    take_away(which, lazy=True)


def check_pyfuse3() -> None:
    """Check that pyfuse3 and the modules that it needs can be imported.

    Raises Failure, which says what to install.
    """
    for module in ("trio", "pyfuse3"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise Failure(
                f"a mount needs {module}, which cannot be imported ({error}): "
                "pip install 'fusenotify[mount]', which compiles pyfuse3; first install "
                f"{packages_to_install(_os_release())}"
            ) from error


def packages_to_install(os_release: Mapping[str, str]) -> str:
    """Return the packages that a distribution has for a mount; those of all if it is unknown."""
    for name in (os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()):
        if name in _PACKAGES:
            return _PACKAGES[name]
    each = [f"on {name.capitalize()} {packages}" for name, packages in _PACKAGES.items()]
    return ", ".join(each)


def _os_release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _directory(path: str, role: str) -> int:
    """Open a directory at a path whose symbolic links are resolved."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise Failure(f"{path}: {role} does not exist") from None
    except OSError as error:
        raise Failure(describe(error)) from error
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise Failure(f"{path}: {role} is not a directory")
    return descriptor


def _check_apart(settings: Settings, places: Places) -> None:
    """Check that neither directory is inside the other, whatever their names are."""
    source, mountpoint = settings.source, settings.mountpoint
    if _identity(places.source) == _identity(places.mountpoint):
        raise Failure(
            f"{mountpoint}: SOURCE and MNT are one directory under two names; "
            "to mount it in place, give one name"
        )
    if _is_inside(places.mountpoint, places.source):
        raise Failure(f"{mountpoint}: MNT is inside SOURCE ({source}); the mount would show itself")
    if _is_inside(places.source, places.mountpoint):
        raise Failure(f"{source}: SOURCE is inside MNT ({mountpoint}); the mount would hide it")


def _check_journal(settings: Settings, places: Places) -> None:
    """Check that the journal would not record its own changes, nor be hidden by the mount."""
    path = settings.journal_path
    if path is None:
        return
    if not os.path.isabs(path):
        raise Failure("you have no home directory for the journal; name a file: --journal=FILE")
    path = os.path.realpath(path)
    if os.path.isdir(path):
        raise Failure(
            f"{path}: a journal is a file, not a directory; write --journal without FILE as "
            "--journal= or as the last word"
        )
    directory = os.path.dirname(path)
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise Failure(describe(error)) from error
    try:
        for place, role in ((places.source, "SOURCE"), (places.mountpoint, "MNT")):
            if _identity(descriptor) == _identity(place) or _is_inside(descriptor, place):
                raise Failure(f"{path}: the journal must not be inside {role}; name another file")
    finally:
        os.close(descriptor)


def _is_inside(descriptor: int, directory: int) -> bool:
    """Return whether directory is above descriptor."""
    sought = _identity(directory)
    here = os.dup(descriptor)
    try:
        while True:
            above = os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=here)
            was = _identity(here)
            os.close(here)
            here = above
            if _identity(here) == sought:
                return True
            if _identity(here) == was:  # the root
                return False
    finally:
        os.close(here)


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _check_empty(settings: Settings, places: Places) -> None:
    try:
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=places.mountpoint)
        try:
            with os.scandir(readable) as entries:
                empty = next(entries, None) is None
        finally:
            os.close(readable)
    except OSError as error:
        raise Failure(f"{settings.mountpoint}: {error.strerror}") from error
    if not empty:
        raise Failure(
            f"{settings.mountpoint}: MNT is not empty, and the mount would hide what is in it; "
            "-o nonempty mounts nevertheless"
        )


def check_fuse(options: Collection[str]) -> None:
    """Check that this user can use /dev/fuse and fusermount3.

    options are FUSE's; ordinary users may not use all of them.

    Raises Failure, which says what is missing and how to get it.
    """
    if os.geteuid() and fusermount() is None:
        if program := shutil.which("fusermount3", os.F_OK):
            raise Failure(
                f"{program}: you may not run it; root can change that, or add you to its group"
            )
        raise Failure("fusermount3 is missing: install the package fuse3")
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
        # Without the file, fusermount3 refuses.  If we may not read it, fusermount3 decides.
        return error.errno != errno.ENOENT
