# SPDX-License-Identifier: GPL-2.0-or-later
"""The mounts below SOURCE, and a tree of SOURCE in which nothing is mounted.

fs.inodes looks names up in that tree, which is a detached clone of SOURCE's mount.
No name in it leads onto another mount, whatever is mounted where and when, so no
name leads back into our mount.  A table has the other mounts below SOURCE, each
with a clone of its own; fs.mount keeps it up to date.

If the daemon may not clone (it is not root, or a mount is locked or unbindable),
SOURCE is walked as it is, and the table has the mounts that must not be entered.

Invariants
    A mount that may lead back, or that is a server run by a user, is not shown.
        The directory that it covers is shown instead or, without a clone,
        nothing.
    A mount that was unmounted in the daemon's namespace is not kept busy here.
    A mount whose directories are renamed while it is looked for stays where it
        was shown: its place is its directory, not its path.
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
    """A name in a directory, which has the st_dev device and the st_ino ino."""

    device: int
    ino: int
    name: bytes


class Found(NamedTuple):
    """A mount that is at a place now.

    fd is a descriptor of its root.  It is None if the mount must not be entered,
    or if it is shown there already (known): a descriptor keeps a filesystem from
    being unmounted.
    """

    fd: int | None
    mount: Mount
    known: Shown | None = None


class Seen(NamedTuple):
    """The mounts below SOURCE: those found, by place, and the ids of those missed.

    missed has the mounts that are not where the table of mounts says: others hide them,
    they cannot be reached, or a directory above was renamed in between.  is_whole says that
    only hidden ones were missed.
    """

    found: dict[Place, Found]
    missed: set[int]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A mount below SOURCE.

    fd is a descriptor of the root of its clone, or -1 if the mount must not be entered.  device is
    its st_dev, ino the st_ino of its root; with id they identify the mount.
    """

    fd: int
    id: MountId
    device: int
    ino: int
    fstype: str

    def is_of(self, fd: int) -> bool:
        """Return whether fd is a descriptor of the root of this mount."""
        with suppress(OSError):
            status = os.fstat(fd)
            here = mount_id(fd), status.st_dev, status.st_ino
            return here == (self.id, self.device, self.ino)
        return False


_MOUNT_ATTR_NOATIME = 0x10
# MOUNT_ATTR_RDONLY and the attributes for access times, which a clone has from its mount, by the
# words in mountinfo.  Without a word about the access times of files, strictatime holds.
_ATTRIBUTES = {"ro": 0x01, "noatime": _MOUNT_ATTR_NOATIME, "nodiratime": 0x80, "relatime": 0}
_STRICTATIME = 0x20
_FOLLOWED = 0x01 | 0x70 | 0x80
# The errors of open(2) when no descriptor is left.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# How often to look.  A look fails if something is renamed between reading where a mount is and
# opening it.
_LOOKS = 16
# The fd of a mount that must not be entered.
_NOT_SHOWN = -1


class Submounts:
    """The mounts below SOURCE; source is an O_PATH descriptor of SOURCE.

    attributes has the attributes of mount_setattr(2) that clones get, cleared those that
    they lose.  root is a descriptor of SOURCE for lookups; is_live says that it is not a clone.
    is_asked says that at() has to be called for each name.  count is the number of mounts in
    the table.  devices has the types of the shown filesystems, by st_dev.
    """

    def __init__(self, source: int, attributes: int = 0, cleared: int = 0) -> None:
        self.source = source
        self._attributes = attributes
        self._cleared = cleared
        self._places: dict[Place, Shown] = {}
        self.devices: dict[int, str] = {}
        self.count = 0
        # The attributes that each clone has from its mount, by descriptor.
        self._inherited: dict[int, int] = {}
        try:
            self.root = self._clone(source, mount_with_id(said_of(source, "mnt_id")))
            self.is_live = False
        except OSError:
            self.root = os.dup(source)
            self.is_live = True
        self.is_asked = self.is_live
        # An open file of the table reports each change once, so changed() and at() have one each.
        self._tables: list[int] = []
        self._changes: select.poll | None = None
        self._waiting = trio.CapacityLimiter(1)
        self._looks = select.poll()
        if self.is_live:
            self._looks.register(self._open_table(), select.POLLPRI)

    @property
    def open_flags(self) -> int:
        """The flags of open(2) that replace a clone's attributes if there is no clone."""
        return os.O_NOATIME if self.is_live and self._attributes & _MOUNT_ATTR_NOATIME else 0

    async def changed(self) -> None:
        """Wait until the mounts may have changed since the last call; at first, return at once."""
        if self._changes is None:
            self._changes = select.poll()
            self._changes.register(self._open_table(), select.POLLPRI)
            return
        # In a thread: trio would look twice, but the table reports a change only once.
        await trio.to_thread.run_sync(
            self._changes.poll, abandon_on_cancel=True, limiter=self._waiting
        )

    def at(self, device: int, ino: int, name: bytes) -> Shown | None:
        """Return the mount on a name in the directory with st_dev device and st_ino ino, or None.

        Raises OSError (ENOENT) if it is a mount that must not be entered.
        """
        if self.is_live and self._looks.poll(0):
            self.update(self.scan())
        shown = self._places.get(Place(device, ino, name))
        if shown is not None and shown.fd == _NOT_SHOWN:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return shown

    def on(self, directory: int, name: bytes) -> int:
        """Return a new descriptor of the mount on a name in a directory, or -1.

        Raises OSError as at().
        """
        status = os.fstat(directory)
        shown = self.at(status.st_dev, status.st_ino, name)
        return -1 if shown is None else os.dup(shown.fd)

    def scan(self) -> Seen:
        """Return the mounts below SOURCE now; a thread may call it.

        Raises OSError if no descriptor is left for it.
        """
        seen = self._look()
        for _ in range(_LOOKS - 1):
            if seen.is_whole:
                break
            _close(seen.found)
            seen = self._look()
        return seen

    def update(self, seen: Seen) -> tuple[list[Place], list[Shown]]:
        """Update the table with the result of scan().

        Returns the places where something changed, and the mounts that are gone,
        which the caller has to close.
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

    def place_of(self, device: int, ino: int) -> Place | None:
        """Return the place at which an object is shown as the root of a mount."""
        for place, shown in self._places.items():
            if (shown.device, shown.ino) == (device, ino) and shown.fd != _NOT_SHOWN:
                return place
        return None

    def roots(self) -> dict[int, int]:
        """Return the filesystems that are shown: a descriptor of a directory of each, by st_dev."""
        shown = self._places.values()
        return {each.device: each.fd for each in shown if each.fd != _NOT_SHOWN}

    def close(self) -> None:
        """Close all descriptors except root, which belongs to the table of inodes."""
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
        """Give a clone the present attributes of its mount, and those that are wanted."""
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
            if known is not None:  # the same as before, since scan() and update() alternate
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
        """Return the place at a path below SOURCE, and a descriptor of the object there."""
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
    """Return whether, by the table of mounts, the path of a mount point leads to its mount.

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
    """Return whether a mount neither leads back to ours nor is a server that some user runs.

    source is SOURCE's mount.
    """
    if mount.fstype in (FSTYPE, "autofs"):
        return False
    if mount.fstype.startswith("fuse"):
        return any(f"user_id={user}" in mount.options for user in (0, os.geteuid()))
    if source is None or mount.device != source.device:
        return True
    # A mount that shows a directory which contains its own mount point has no end.
    with suppress(ValueError):
        return not contains(mount.root, source.inner_path(mount.mountpoint))
    return True
