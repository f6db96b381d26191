# SPDX-License-Identifier: GPL-2.0-or-later
"""The mounts in /proc/self/mountinfo.  Linux: proc(5).

Client, daemon and command line import this module; it imports nothing of ours.
Paths are bytes, since a mount point need not be text.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

FSTYPE = "fuse.fusenotify"

_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_MNT_ID_UNIQUE = 0x4000
_STX_MNT_ID = 0x90  # its offset in struct statx

_MOUNTINFO = "/proc/self/mountinfo"
_ESCAPED = re.compile(rb"\\([0-7]{3})")


class MountId(NamedTuple):
    """The identity of a mount, even when it is gone and another one has its number.

    number is that of mountinfo, which the kernel uses again; unique is never used again,
    and is None if it is unknown (before Linux 6.8).
    """

    number: int
    unique: int | None

    def may_be(self, other: MountId) -> bool:
        """Return whether both are the same mount, as far as is known."""
        if self.unique is None or other.unique is None:
            return self.number == other.number
        return self.unique == other.unique


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo.

    id is the mount's number, parent that of the mount on which it is mounted.  device is
    the number of the filesystem, as in "0:39".  root is the path in the filesystem of the
    directory that is visible at mountpoint: "/", or another one for a bind mount of a
    subtree.  source is the name of the mounted source; options has the words of the mount
    and of its filesystem.
    """

    id: int
    parent: int
    device: str
    root: bytes
    mountpoint: bytes
    fstype: str
    source: bytes
    options: tuple[str, ...] = ()

    @property
    def user(self) -> int:
        """The uid of the user who made a FUSE mount, as seen from this user namespace; or 0."""
        return self._number("user_id=")

    @property
    def group(self) -> int:
        """The gid of the user who made a FUSE mount; or 0."""
        return self._number("group_id=")

    def _number(self, word: str) -> int:
        return next((int(o.removeprefix(word)) for o in self.options if o.startswith(word)), 0)

    def refusal(self, uid: int) -> str | None:
        """Return why the kernel lets a user do nothing in a FUSE mount, or None if it does."""
        if uid == self.user or "allow_other" in self.options:
            return None
        return f"user {self.user} mounted it without -o allow_other, so no other user may use it"

    def inner_path(self, path: bytes) -> bytes:
        """Return the path in the filesystem for an absolute path on this mount.

        It begins with a slash and has no symbolic links if path has none.

        Raises ValueError if path is not on the mount.
        """
        if not contains(self.mountpoint, path):
            raise ValueError(f"{path!r} is not in {self.mountpoint!r}")
        below = path[len(self.mountpoint.rstrip(b"/")) :].strip(b"/")
        return b"/" + b"/".join(part for part in (self.root.strip(b"/"), below) if part)


def contains(directory: bytes, path: bytes) -> bool:
    """Return whether an absolute path is that of a directory or is below it."""
    return path.rstrip(b"/") == directory.rstrip(b"/") or path.startswith(
        directory.rstrip(b"/") + b"/"
    )


def parse(text: bytes) -> list[Mount]:
    """Return the mounts in the text of a mountinfo file, in its order."""
    mounts = []
    for line in text.rstrip(b"\n").split(b"\n"):  # a lone CR is part of a name
        # Optional fields end with a lone "-".
        fields, _, filesystem = line.partition(b" - ")
        number, parent, device, root, mountpoint, options = fields.split(b" ")[:6]
        fstype, source, further = filesystem.split(b" ")[:3]
        mounts.append(
            Mount(
                id=int(number),
                parent=int(parent),
                device=device.decode(),
                root=_unescape(root),
                mountpoint=_unescape(mountpoint),
                fstype=os.fsdecode(_unescape(fstype)),
                source=_unescape(source),
                options=tuple(map(os.fsdecode, options.split(b",") + further.split(b","))),
            )
        )
    return mounts


def mounts() -> list[Mount]:
    """Return the mounts that this process sees, in the order in which they were made."""
    with open(_MOUNTINFO, "rb") as file:
        return parse(file.read())


def mount_of(path: bytes, among: Sequence[Mount] | None = None) -> Mount | None:
    """Return the mount of an absolute path without symbolic links.

    The path need not exist.  If mounts cover each other, the uppermost one counts.
    among defaults to mounts().
    """
    found: Mount | None = None
    if among is None:
        among = mounts()
    children: dict[int, list[Mount]] = {}
    for mount in among:
        children.setdefault(mount.parent, []).append(mount)
    numbers = {mount.id for mount in among}
    # Start at the root of the visible tree, then go down as the kernel does: from a
    # mount to the mount on it that the path reaches first.
    candidates = [mount for mount in among if mount.parent not in numbers]
    while candidates:
        met = [mount for mount in candidates if contains(mount.mountpoint, path)]
        if not met:
            break
        found = min(reversed(met), key=lambda mount: len(mount.mountpoint))
        candidates = [mount for mount in children.get(found.id, ()) if mount.id != found.id]
    return found


def mount_of_descriptor(descriptor: int) -> Mount | None:
    """Return the mount of an open file; None if this process cannot see the mount."""
    return mount_with_id(said_of(descriptor, "mnt_id"))


def mount_id(descriptor: int) -> MountId:
    """Return the id of an open file's mount, without asking the filesystem."""
    number = said_of(descriptor, "mnt_id")
    assert number is not None  # it is there for all files since Linux 3.15
    return MountId(number, _unique_id(descriptor))


def _unique_id(descriptor: int) -> int | None:
    """Call statx(2) for STATX_MNT_ID_UNIQUE; return None if the kernel does not return it."""
    import ctypes

    answer = ctypes.create_string_buffer(256)
    flags = _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC
    if ctypes.CDLL(None).statx(descriptor, b"", flags, _STATX_MNT_ID_UNIQUE, answer):
        return None
    (mask,) = struct.unpack_from("=I", answer)
    (unique,) = struct.unpack_from("=Q", answer, _STX_MNT_ID)
    return unique if mask & _STATX_MNT_ID_UNIQUE else None


def mount_with_id(number: int | None) -> Mount | None:
    """Return the mount with an id, or None."""
    return next((mount for mount in mounts() if mount.id == number), None)


def said_of(descriptor: int, word: str) -> int | None:
    """Return a number from the fdinfo of an open file, or None.

    word is "mnt_id", for any file, or "fuse_connection", for /dev/fuse.  The filesystem is not
    asked.
    """
    with open(f"/proc/self/fdinfo/{descriptor}") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{word}:")), None)


def _unescape(field: bytes) -> bytes:
    """Decode the kernel's escapes of space, tab, newline, backslash and '#'."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field)
