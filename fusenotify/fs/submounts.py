# SPDX-License-Identifier: GPL-2.0-or-later
"""The mounts below SOURCE, and a tree of SOURCE in which nothing is mounted.

fs.inodes looks up in that tree, which is a detached clone of SOURCE's mount: no
name in it leads onto another mount, whatever is mounted where and whenever, so
none leads back into ours.  Other mounts below SOURCE are shown by a table, each
by a clone of its own; fs.mount keeps it up to date.

Where the daemon may not clone (a user other than root; a mount that is locked
or unbindable), SOURCE is walked as it is, and the table has what must not be
stepped onto.

Invariants
    What may lead back, or is a server that a user runs, is not shown: the
        directory below it is, or, without a clone, nothing.
    A mount that was taken away in the daemon's namespace is not held here.
    A mount whose directories are renamed while it is looked for stays where it
        was shown: its place is told by the directory, not by its path.
    Nothing asks a filesystem that may not answer: the way to a mount point is
        in the kernel's memory.
"""

from __future__ import annotations

import errno
import os
import select
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import trio

from fusenotify.fs.syscalls import clone_mount, open_cached, set_mount_attributes
from fusenotify.mountinfo import (
    FSTYPE,
    Mount,
    MountId,
    contains,
    mount_id,
    mount_of,
    mount_with_id,
    mounts,
    said_of,
)


class Place(NamedTuple):
    """A name: its directory's st_dev and st_ino, and what it is."""

    device: int
    ino: int
    name: bytes


class Found(NamedTuple):
    """A mount that is at a place now.

    fd is a descriptor of its root, or None where it must not be stepped onto, or
    needs none because it is known: shown there already.  A descriptor
    keeps a disk from being unmounted.
    """

    fd: int | None
    mount: Mount
    known: Shown | None = None


class Seen(NamedTuple):
    """What is mounted below SOURCE: found by place, missed by id.

    missed are the mounts that are not where the table of mounts said: hidden by others, out
    of reach, or a directory above was renamed meanwhile.  is_whole says that only hidden ones
    were missed.
    """

    found: dict[Place, Found]
    missed: set[int]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A mount below SOURCE.

    fd is a descriptor of the root of its clone, or -1 where it must not be stepped onto; device is
    its st_dev; id and ino, its root's st_ino, say that it is the same as before.
    """

    fd: int
    id: MountId
    device: int
    ino: int
    fstype: str

    def is_of(self, fd: int) -> bool:
        """Return whether fd is of the root of this very mount."""
        with suppress(OSError):
            status = os.fstat(fd)
            here = mount_id(fd), status.st_dev, status.st_ino
            return here == (self.id, self.device, self.ino)
        return False


_MOUNT_ATTR_NOATIME = 0x10
# MOUNT_ATTR_RDONLY and those of access times, which a clone has like its mount; and the words for
# them.  Without a word about files' access times each is kept.
_ATTRIBUTES = {"ro": 0x01, "noatime": _MOUNT_ATTR_NOATIME, "nodiratime": 0x80, "relatime": 0}
_STRICTATIME = 0x20
_FOLLOWED = 0x01 | 0x70 | 0x80
# What open(2) says where no descriptor is left.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# Each failed look is a rename between reading where a mount is and opening it.
_LOOKS = 16
# The fd of a mount that must not be stepped onto.
_NOT_SHOWN = -1


class Submounts:
    """What is mounted below SOURCE, of which source is a descriptor (O_PATH).

    attributes are those of mount_setattr(2) that the clones get, cleared those
    that they lose.  root is a descriptor of SOURCE to be looked up in, is_live says
    that it is no clone.  is_asked says that names have to be asked for.  count is how many mounts
    are in the table, devices are the kinds of the filesystems shown, by st_dev.
    """

    def __init__(self, source: int, attributes: int = 0, cleared: int = 0) -> None:
        self.source = source
        self._attributes = attributes
        self._cleared = cleared
        self._places: dict[Place, Shown] = {}
        self.devices: dict[int, str] = {}
        self.count = 0
        # What each clone has of its mount's attributes, by descriptor.
        self._inherited: dict[int, int] = {}
        try:
            self.root = self._clone(source, mount_with_id(said_of(source, "mnt_id")))
            self.is_live = False
        except OSError:
            self.root = os.dup(source)
            self.is_live = True
        self.is_asked = self.is_live
        # Each open file of the table tells of a change once: to changed(), and to at().
        self._tables: list[int] = []
        self._changes: select.poll | None = None
        self._waiting = trio.CapacityLimiter(1)
        self._looks = select.poll()
        if self.is_live:
            self._looks.register(self._open_table(), select.POLLPRI)

    @property
    def open_flags(self) -> int:
        """The flags of open(2) that stand in for a clone's attributes where there is no clone."""
        return os.O_NOATIME if self.is_live and self._attributes & _MOUNT_ATTR_NOATIME else 0

    async def changed(self) -> None:
        """Return when the mounts may have changed since this was called before."""
        if self._changes is None:
            self._changes = select.poll()
            self._changes.register(self._open_table(), select.POLLPRI)
            return
        # In a thread: trio would look twice, and the table says only once that it has changed.
        await trio.to_thread.run_sync(
            self._changes.poll, abandon_on_cancel=True, limiter=self._waiting
        )

    def at(self, device: int, ino: int, name: bytes) -> Shown | None:
        """Return what is mounted on a name in the directory with st_dev device and st_ino ino.

        Raises OSError, ENOENT, where a mount is there that must not be stepped onto.
        """
        if self.is_live and self._looks.poll(0):
            self.update(self.scan())
        shown = self._places.get(Place(device, ino, name))
        if shown is not None and shown.fd == _NOT_SHOWN:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return shown

    def on(self, directory: int, name: bytes) -> int:
        """Return a new descriptor of what is mounted on a name in a directory, or -1.

        Raises OSError as at().
        """
        status = os.fstat(directory)
        shown = self.at(status.st_dev, status.st_ino, name)
        return -1 if shown is None else os.dup(shown.fd)

    def scan(self) -> Seen:
        """Return what is mounted below SOURCE now; a thread may call it.

        Raises OSError where no descriptor is left to look.
        """
        seen = self._look()
        for _ in range(_LOOKS - 1):
            if seen.is_whole:
                break
            _close(seen.found)
            seen = self._look()
        return seen

    def update(self, seen: Seen) -> tuple[list[Place], list[Shown]]:
        """Take over what scan() returned.

        Returns the places where something changed, and the mounts that are
        gone, for the caller to close.
        """
        changed: list[Place] = []
        gone: list[Shown] = []
        for place, shown in list(self._places.items()):
            if place not in seen.found and shown.id.number not in seen.missed:
                changed.append(place)
                gone.append(self._places.pop(place))
        for place, found in seen.found.items():
            before = self._places.pop(place, None)
            now = self._shown(found, before)
            if now is not None:
                self._places[place] = now
            if now is before:
                continue
            changed.append(place)
            if before is not None:
                gone.append(before)
        _close(seen.found)
        own = mount_with_id(said_of(self.source, "mnt_id"))
        if own is not None and not self.is_live:
            self._follow(self.root, own)
        self.is_asked = self.is_live or bool(self._places)
        self.count = len(self._places)
        shown_now = [shown for shown in self._places.values() if shown.fd != _NOT_SHOWN]
        self.devices = {shown.device: shown.fstype for shown in shown_now}
        return changed, [shown for shown in gone if shown.fd != _NOT_SHOWN]

    def close(self) -> None:
        """Let go of all but root, which belongs to the table of inodes."""
        for shown in self._places.values():
            if shown.fd != _NOT_SHOWN:
                os.close(shown.fd)
        self._places.clear()
        for table in self._tables:
            os.close(table)
        os.close(self.source)

    def _open_table(self) -> int:
        self._tables.append(os.open("/proc/self/mountinfo", os.O_RDONLY))
        return self._tables[-1]

    def _clone(self, fd: int, mount: Mount | None) -> int:
        clone = clone_mount(fd)
        try:
            self._follow(clone, mount)
        except OSError:
            os.close(clone)
            raise
        return clone

    def _follow(self, clone: int, mount: Mount | None) -> None:
        """Give a clone the attributes that its mount has by now, and those that are wanted."""
        inherited = _attributes_of(mount)
        if self._inherited.get(clone) != inherited:
            attributes = inherited & ~self._cleared | self._attributes
            set_mount_attributes(clone, attributes, _FOLLOWED | self._cleared)
            self._inherited[clone] = inherited

    def _shown(self, found: Found, before: Shown | None) -> Shown | None:
        """Return a found mount with a clone of its own, or the one that is shown already."""
        fd, mount, known = found
        if fd is None and known is None:
            if before is not None and (before.fd, before.id.number) == (_NOT_SHOWN, mount.id):
                return before
            return Shown(_NOT_SHOWN, MountId(mount.id, None), 0, 0, mount.fstype)
        with suppress(OSError):
            if known is not None:  # it is before: scan() and update() take turns
                self._follow(known.fd, mount)
                return known
            assert fd is not None
            status = os.fstat(fd)
            return Shown(
                self._clone(fd, mount), mount_id(fd), status.st_dev, status.st_ino, mount.fstype
            )
        return None  # unbindable, or gone already

    def _look(self) -> Seen:
        source = os.fsencode(os.readlink(f"/proc/self/fd/{self.source}"))
        own = mount_with_id(said_of(self.source, "mnt_id"))
        by_id = {mount.id: mount for mount in mounts()}
        below = {
            number: mount
            for number, mount in by_id.items()
            if mount.mountpoint != source and contains(source, mount.mountpoint)
        }
        seen = Seen({}, set(below), True)
        refused: list[bytes] = []
        for point in sorted(
            {mount.mountpoint for mount in below.values()}, key=lambda path: path.count(b"/")
        ):
            if any(contains(above, point) for above in refused):
                continue
            try:
                place, fd = self._reach(point[len(source) :].strip(b"/"))
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    _close(seen.found)
                    raise
                mount = None
            else:
                mount = by_id.get(said_of(fd, "mnt_id") or 0)
                if mount is None or mount.mountpoint != point:
                    os.close(fd)
                    mount = None
            if mount is None:
                if _is_on_top(point, by_id, below, own):
                    seen = seen._replace(is_whole=False)
                continue
            seen.missed.discard(mount.id)
            may_be_shown = _may_be_shown(mount, own)
            if not may_be_shown:
                refused.append(point)
            known = self._places.get(place)
            if may_be_shown and not self.is_live and not (known and known.is_of(fd)):
                seen.found[place] = Found(fd, mount)
                continue
            os.close(fd)
            if may_be_shown and not self.is_live:
                seen.found[place] = Found(None, mount, known)
            if self.is_live and not may_be_shown:
                seen.found[place] = Found(None, mount)
        return seen

    def _reach(self, path: bytes) -> tuple[Place, int]:
        """Return the place that a path below SOURCE leads to, and a descriptor of what is there."""
        path, _, name = path.rpartition(b"/")
        parent = open_cached(self.source, path or b".")
        try:
            directory = os.fstat(parent)
            return Place(directory.st_dev, directory.st_ino, name), open_cached(parent, name)
        finally:
            os.close(parent)


def _close(found: dict[Place, Found]) -> None:
    for each in found.values():
        if each.fd is not None:
            os.close(each.fd)


def _is_on_top(
    point: bytes, by_id: dict[int, Mount], below: dict[int, Mount], own: Mount | None
) -> bool:
    """Return whether the path of a mount point leads there, as the table of mounts has it.

    by_id is that table, below the part of it that is below SOURCE, own the mount of SOURCE.
    """
    mount = mount_of(point, list(by_id.values()))
    if mount is not None and mount.mountpoint != point:
        return False  # below another mount
    while mount is not None and mount.id in below:
        mount = by_id.get(mount.parent)
    return mount is not None and own is not None and mount.id == own.id


def _attributes_of(mount: Mount | None) -> int:
    if mount is None:
        return 0
    attributes = 0
    for word in _ATTRIBUTES.keys() & set(mount.options):
        attributes |= _ATTRIBUTES[word]
    return attributes if {"noatime", "relatime"} & set(mount.options) else attributes | _STRICTATIME


def _may_be_shown(mount: Mount, source: Mount | None) -> bool:
    """Return whether a mount neither leads back nor is a server that some user runs.

    source is SOURCE's mount.
    """
    if mount.fstype in (FSTYPE, "autofs"):
        return False
    if mount.fstype.startswith("fuse"):
        return any(f"user_id={user}" in mount.options for user in (0, os.geteuid()))
    if source is None or mount.device != source.device:
        return True
    # A directory in which the mount point itself is goes on for ever.
    with suppress(ValueError):
        return not contains(mount.root, source.inner_path(mount.mountpoint))
    return True
