# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts, as /proc/self/mountinfo tells them.  Linux: proc(5).

Client, daemon and command line import this module; it imports nothing of ours.
Paths are bytes: a mountpoint may be no text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

FSTYPE = "fuse.fusenotify"

_MOUNTINFO = "/proc/self/mountinfo"
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo.

    id is the mount's, parent that of the mount it is on.  root is the path,
    in the filesystem, of what is visible at mountpoint: "/", or for a bind
    mount of a subtree that subtree.  source is what was mounted, by name.
    """

    id: int
    parent: int
    root: bytes
    mountpoint: bytes
    fstype: str
    source: bytes

    def inner_path(self, path: bytes) -> bytes:
        """Return the path in the filesystem of an absolute path in this mount.

        It begins with a slash and has no symbolic links if path has none.

        Raises ValueError where path is not in the mount.
        """
        if not contains(self.mountpoint, path):
            raise ValueError(f"{path!r} is not in {self.mountpoint!r}")
        below = path[len(self.mountpoint.rstrip(b"/")) :].strip(b"/")
        return b"/" + b"/".join(part for part in (self.root.strip(b"/"), below) if part)


def contains(directory: bytes, path: bytes) -> bool:
    """Return whether an absolute path is a directory's or that of something below it."""
    return path.rstrip(b"/") == directory.rstrip(b"/") or path.startswith(
        directory.rstrip(b"/") + b"/"
    )


def parse(text: bytes) -> list[Mount]:
    """Return the mounts in the text of a mountinfo file, in its order."""
    mounts = []
    for line in text.rstrip(b"\n").split(b"\n"):  # a lone CR is part of a name
        # Optional fields end with a lone "-".
        fields, _, filesystem = line.partition(b" - ")
        number, parent, _device, root, mountpoint = fields.split(b" ")[:5]
        fstype, source = filesystem.split(b" ")[:2]
        mounts.append(
            Mount(
                id=int(number),
                parent=int(parent),
                root=_unescape(root),
                mountpoint=_unescape(mountpoint),
                fstype=os.fsdecode(_unescape(fstype)),
                source=_unescape(source),
            )
        )
    return mounts


def mounts() -> list[Mount]:
    """Return the mounts that this process sees, those made later behind."""
    with open(_MOUNTINFO, "rb") as file:
        return parse(file.read())


def mount_of(path: bytes, among: Sequence[Mount] | None = None) -> Mount | None:
    """Return the mount in which an absolute path without symbolic links lies.

    The path need not exist.  Where mounts cover each other, the uppermost
    counts.  among defaults to mounts().
    """
    found: Mount | None = None
    if among is None:
        among = mounts()
    children: dict[int, list[Mount]] = {}
    for mount in among:
        children.setdefault(mount.parent, []).append(mount)
    numbers = {mount.id for mount in among}
    # Start where the tree that we see starts, then go down as the kernel does:
    # from a mount to the mount on it that the path meets first.
    candidates = [mount for mount in among if mount.parent not in numbers]
    while candidates:
        met = [mount for mount in candidates if contains(mount.mountpoint, path)]
        if not met:
            break
        found = min(reversed(met), key=lambda mount: len(mount.mountpoint))
        candidates = [mount for mount in children.get(found.id, ()) if mount.id != found.id]
    return found


def mount_of_descriptor(descriptor: int) -> Mount | None:
    """Return the mount in which an open file lies; None for one that this process cannot see."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
        numbers = [int(line.split()[1]) for line in file if line.startswith(b"mnt_id:")]
    return next((mount for mount in mounts() if mount.id in numbers), None)


def _unescape(field: bytes) -> bytes:
    """Decode what the kernel escapes: space, tab, newline, backslash and '#'."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field)
