# SPDX-License-Identifier: GPL-2.0-or-later
"""Random trees, with modes, owners, ACLs and links, and paths in them and out of them."""

from __future__ import annotations

import contextlib
import os
import random
import struct
from collections.abc import Callable

IDS = (4001, 4002, 4003, 4004)
# How many trees of a kind a test draws.
TREES = int(os.environ.get("FUSENOTIFY_TREES", "40"))

_MODES = [0o755, 0o755, 0o700, 0o750, 0o710, 0o711, 0o644, 0o444, 0o070, 0o007, 0, 0o1777, 0o2775]
_NAMES = [b"a", b"b", b"c", b"d"]
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_ACL_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NO_ID = 0xFFFFFFFF

# Gives a link's target: of (choice, directory of SOURCE, the tree's name, what is in the tree).
Targets = Callable[[random.Random, bytes, bytes, list[bytes]], bytes]


def relative_links(chosen: random.Random, source: bytes, name: bytes, made: list[bytes]) -> bytes:
    """Return a target that begins where the link is."""
    steps = [*_NAMES, b"..", b"..", b"."]
    target = b"/".join(chosen.choices(steps, k=chosen.randint(1, 4)))
    return target + chosen.choice([b"", b"", b"", b"/", b"/."])


def absolute_links(chosen: random.Random, source: bytes, name: bytes, made: list[bytes]) -> bytes:
    """Return a target from the root directory on, in the tree."""
    target = b"/".join(
        [source, chosen.choice(made), *chosen.choices(_NAMES, k=chosen.randint(0, 1))]
    )
    return target + chosen.choice([b"", b"", b"", b"/", b"/."])


class Tree:
    """One tree below source.  made are the paths of its objects, from source."""

    def __init__(self, chosen: random.Random, source: bytes, name: bytes, targets: Targets) -> None:
        os.mkdir(source + b"/" + name)
        self.made = [name]
        directories = [name]
        links = []
        for _ in range(14):
            path = chosen.choice(directories) + b"/" + chosen.choice(_NAMES)
            with contextlib.suppress(FileExistsError):
                match chosen.randrange(5):
                    case 0 | 1:
                        os.mkdir(source + b"/" + path)
                        directories.append(path)
                    case 2:
                        os.close(os.open(source + b"/" + path, os.O_CREAT | os.O_EXCL))
                    case _:
                        target = targets(chosen, source, name, self.made)
                        os.symlink(target, source + b"/" + path)
                        links.append(path)
                self.made.append(path)
        for path in self.made:
            give_owner_and_mode(
                chosen, source + b"/" + path, is_link=path in links, is_top=path == name
            )

    def path(self, chosen: random.Random, *, may_leave: bool) -> bytes:
        """Return a path, mostly of something that is there, from source."""
        steps = chosen.choice(self.made).split(b"/")
        extra = [b".", b"", *_NAMES, b"x", b"n" * 255, b"n" * 256]
        if may_leave:
            extra += [b".."] * 5
        for _ in range(chosen.choice([0, 0, 1, 1, 2, 4])):
            steps.insert(chosen.randint(1, len(steps)), chosen.choice(extra))
        if may_leave and chosen.random() < 0.1:
            steps = [b".."] * chosen.randint(1, 3) + steps
        ends = [b"", b"", b"", b"/", b"/.", b"//"]
        return chosen.choice([b"", b"/"]) + b"/".join(steps) + chosen.choice(ends)


def long_chain(source: bytes) -> list[bytes]:
    """Make chains of links; return paths that follow 39, 40, 41 and endlessly many."""
    os.mkdir(source + b"/chain")
    os.mkdir(source + b"/chain/0")
    for number in range(42):
        os.symlink(b"%d" % number, source + b"/chain/%d" % (number + 1))
    os.symlink(b"loop", source + b"/chain/loop")
    ends = [b"", b"/", b"/.", b"/x"]
    links = [b"39", b"40", b"41", b"loop"]
    return [b"chain/" + link + end for link in links for end in ends] + [
        b"/",
        b"/.",
        b".",
        b"..",
        b"/../",
        b"chain/..",
        b"chain/../..",
        b"x" * 5000,
        b"chain/" + b"./" * 2500,
    ]


def give_owner_and_mode(
    chosen: random.Random, path: bytes, *, is_link: bool = False, is_top: bool = False
) -> None:
    """Give an object an owner, a mode, sometimes an ACL."""
    os.chown(path, chosen.choice((0, *IDS)), chosen.choice((0, *IDS)), follow_symlinks=False)
    if is_link:
        return
    mode = chosen.choice(_MODES) if chosen.random() < 0.8 else chosen.randrange(0o1000)
    os.chmod(path, 0o755 if is_top and chosen.random() < 0.8 else mode)
    if chosen.random() < 0.4:
        os.setxattr(path, "system.posix_acl_access", _acl(chosen))
        if chosen.random() < 0.3:
            os.chmod(path, chosen.choice(_MODES))  # sets the mask


def _acl(chosen: random.Random) -> bytes:
    entries = [(_USER_OBJ, _NO_ID)]
    entries += [(_USER, uid) for uid in sorted(chosen.sample(IDS, chosen.randint(0, 2)))]
    entries += [(_GROUP_OBJ, _NO_ID)]
    entries += [(_GROUP, gid) for gid in sorted(chosen.sample(IDS, chosen.randint(0, 2)))]
    entries += [(_MASK, _NO_ID), (_OTHER, _NO_ID)]
    granted = [0, 1, 4, 5, 5, 7]
    return _HEADER.pack(_ACL_VERSION) + b"".join(
        _ENTRY.pack(tag, chosen.choice(granted), name) for tag, name in entries
    )
