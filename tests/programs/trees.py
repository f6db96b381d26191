# SPDX-License-Identifier: GPL-2.0-or-later
"""What a directory tree is, so that two can be compared: all but inode numbers and room taken.

tests.programs.comparison compares what this module describes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import asdict, dataclass

_BLOCK = 512  # of st_blocks


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of a tree.

    content is a file's digest, a symbolic link's target, or empty; same_as the
    first of the names that its inode has in the tree; has_holes says that it
    takes less than half the room that its size asks for.
    """

    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    links: int
    mtime_ns: int
    content: str
    same_as: str
    xattrs: tuple[tuple[str, bytes], ...]
    has_holes: bool


def described(top: str) -> dict[str, Thing]:
    """Return the objects of a tree by their path below top, which is "." itself."""
    first: dict[tuple[int, int], str] = {}
    names = ["."]
    for directory, below, files in os.walk(top, onerror=_fail):
        names += [os.path.relpath(os.path.join(directory, name), top) for name in below + files]
    return {name: _thing(os.path.join(top, name), name, first) for name in sorted(names)}


def differences(
    expected: dict[str, Thing],
    seen: dict[str, Thing],
    *,
    times: bool = False,
    own_content: tuple[str, ...] = (),
) -> list[str]:
    """Return a line for each difference.

    times: when files were modified is no accident of the run.  own_content
    are the ends of the names of files that say when or where they were made.
    """
    lines = [f"{name}: only natively" for name in sorted(expected.keys() - seen.keys())]
    lines += [f"{name}: only through the mount" for name in sorted(seen.keys() - expected.keys())]
    for name in sorted(expected.keys() & seen.keys()):
        natively, through = asdict(expected[name]), asdict(seen[name])
        # When top came to hold what it does is an accident, too.
        ignored = set() if times and name != "." else {"mtime_ns"}
        if name.endswith(own_content):
            ignored.add("content")
        if stat.S_ISDIR(natively["mode"]):
            ignored.add("size")  # how a disk keeps names depends on what was there before
        lines += [
            f"{name}: {what} is {through[what]!r}, natively {natively[what]!r}"
            for what in natively
            if what not in ignored and natively[what] != through[what]
        ]
    return lines


def _thing(path: str, name: str, first: dict[tuple[int, int], str]) -> Thing:
    found = os.lstat(path)
    content = ""
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    xattrs = sorted(os.listxattr(path, follow_symlinks=False))
    is_file = stat.S_ISREG(found.st_mode)
    return Thing(
        mode=found.st_mode,
        uid=found.st_uid,
        gid=found.st_gid,
        rdev=found.st_rdev,
        size=found.st_size,
        links=found.st_nlink,
        mtime_ns=found.st_mtime_ns,
        content=content,
        same_as=first.setdefault((found.st_dev, found.st_ino), name),
        xattrs=tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in xattrs),
        has_holes=is_file and found.st_blocks * _BLOCK * 2 < found.st_size,
    )


def _fail(error: OSError) -> None:
    raise error
