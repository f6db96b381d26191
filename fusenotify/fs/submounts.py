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
    Nothing asks a filesystem that may not answer: the way to a mount point is
        in the kernel's memory.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
    """A mount that is at a place now: a descriptor of its root, or None where it is not shown."""

    fd: int | None
    mount: Mount


@dataclass(frozen=True, slots=True)
class Shown:
    """A mount below SOURCE.

    fd is a descriptor of the root of its clone, device its st_dev; id and ino,
    its root's st_ino, say that it is the same as before.
    """

    fd: int
    id: MountId
    device: int
    ino: int
    fstype: str


_MOUNT_ATTR_NOATIME = 0x10
# MOUNT_ATTR_RDONLY and those of access times, which a clone has like its mount; and the words for
# them.  Without a word about files' access times each is kept.
_ATTRIBUTES = {"ro": 0x01, "noatime": _MOUNT_ATTR_NOATIME, "nodiratime": 0x80, "relatime": 0}
_STRICTATIME = 0x20
_FOLLOWED = 0x01 | 0x70 | 0x80
# What the table answers for a name that it does not have.
_NOTHING = Shown(-1, MountId(0, None), 0, 0, "")


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
        self._places: dict[Place, Shown | None] = {}
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
        shown = self._places.get(Place(device, ino, name), _NOTHING)
        if shown is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return None if shown is _NOTHING else shown

    def on(self, directory: int, name: bytes) -> int:
        """Return a new descriptor of what is mounted on a name in a directory, or -1.

        Raises OSError as at().
        """
        status = os.fstat(directory)
        shown = self.at(status.st_dev, status.st_ino, name)
        return -1 if shown is None else os.dup(shown.fd)

    def scan(self) -> dict[Place, Found]:
        """Return what is mounted below SOURCE now; a thread may call it.

        Raises OSError where no descriptor is left to look.
        """
        found: dict[Place, Found] = {}
        try:
            for place, each in self._scanned():
                found[place] = each
        except OSError:
            for each in found.values():
                if each.fd is not None:
                    os.close(each.fd)
            raise
        return found

    def update(self, found: dict[Place, Found]) -> tuple[list[Place], list[Shown]]:
        """Take over what scan() returned.

        Returns the places where something changed, and the mounts that are
        gone, for the caller to close.
        """
        changed: list[Place] = []
        gone: list[Shown] = []
        for place in [place for place in self._places if place not in found]:
            changed.append(place)
            if shown := self._places.pop(place):
                gone.append(shown)
        for place, (fd, mount) in found.items():
            before = self._places.get(place)
            now = None
            if fd is not None:
                now = self._shown(fd, mount, before)
                os.close(fd)
            if now is before and place in self._places:
                continue
            changed.append(place)
            if before is not None:
                gone.append(before)
            if now is not None or self.is_live:
                self._places[place] = now
            else:
                self._places.pop(place, None)
        own = mount_with_id(said_of(self.source, "mnt_id"))
        if own is not None and not self.is_live:
            self._follow(self.root, own)
        self.is_asked = self.is_live or bool(self._places)
        self.count = len(self._places)
        self.devices = {shown.device: shown.fstype for shown in self._places.values() if shown}
        return changed, gone

    def close(self) -> None:
        """Let go of all but root, which belongs to the table of inodes."""
        for shown in self._places.values():
            if shown is not None:
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

    def _shown(self, fd: int, mount: Mount, before: Shown | None) -> Shown | None:
        """Return a found mount with a clone of its own, or the one that is shown already."""
        with suppress(OSError):
            status = os.fstat(fd)
            identity = mount_id(fd)
            if before and (before.id, before.device, before.ino) == (
                identity,
                status.st_dev,
                status.st_ino,
            ):
                self._follow(before.fd, mount)
                return before
            return Shown(
                self._clone(fd, mount), identity, status.st_dev, status.st_ino, mount.fstype
            )
        return None  # unbindable, or gone already

    def _scanned(self) -> Iterator[tuple[Place, Found]]:
        source = os.fsencode(os.readlink(f"/proc/self/fd/{self.source}"))
        own = mount_with_id(said_of(self.source, "mnt_id"))
        by_id = {mount.id: mount for mount in mounts()}
        points = {
            mount.mountpoint
            for mount in by_id.values()
            if mount.mountpoint != source and contains(source, mount.mountpoint)
        }
        refused: list[bytes] = []
        for point in sorted(points, key=lambda path: path.count(b"/")):
            if any(contains(above, point) for above in refused):
                continue
            path, _, name = point[len(source) :].strip(b"/").rpartition(b"/")
            with _gone_already(), ExitStack() as opened:
                parent = open_cached(self.source, path or b".")
                opened.callback(os.close, parent)
                fd = open_cached(parent, name)
                opened.callback(os.close, fd)
                mount = by_id.get(said_of(fd, "mnt_id") or 0)
                if mount is None or mount.id == said_of(parent, "mnt_id"):
                    continue  # hidden by another mount, or gone
                directory = os.fstat(parent)
                place = Place(directory.st_dev, directory.st_ino, name)
                if not _may_be_shown(mount, own):
                    refused.append(point)
                    if self.is_live:
                        yield place, Found(None, mount)
                elif not self.is_live:
                    opened.pop_all()
                    os.close(parent)
                    yield place, Found(fd, mount)


@contextmanager
def _gone_already() -> Iterator[None]:
    """Return a block that ends where what it looks at is gone, but not where it cannot look."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise


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
