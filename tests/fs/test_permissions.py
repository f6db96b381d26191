# SPDX-License-Identifier: GPL-2.0-or-later
"""Our verdict on who may read or search is the kernel's, for random objects and users.

Here is SOURCE's own, so with ACLs; tests/server/test_verdicts.py has those of mounts.
"""

from __future__ import annotations

import json
import os
import random
import struct
from pathlib import Path

import pytest

from fusenotify.credentials import Credentials
from fusenotify.fs.permissions import READ, SEARCH, WRITE, allowed
from fusenotify.view import View

USERS = [
    (0, 0, ()),
    (1001, 1001, ()),
    (1001, 1002, (1003,)),
    (1002, 1003, (1001, 1002)),
    (1004, 9, ()),
]
IDS = (0, 1001, 1002, 1003)
WITH_ACLS = View(acl=True)
WANTED = (READ, WRITE, SEARCH, READ | SEARCH)


def set_random_acl(path: Path, choice: random.Random) -> None:
    """Give an object an access ACL with named users and groups."""
    entries = [(1, choice.randrange(8), 0xFFFFFFFF)]
    entries += [(2, choice.randrange(8), uid) for uid in choice.sample(IDS, choice.randrange(3))]
    entries += [(4, choice.randrange(8), 0xFFFFFFFF)]
    entries += [(8, choice.randrange(8), gid) for gid in choice.sample(IDS, choice.randrange(3))]
    entries += [(16, choice.randrange(8), 0xFFFFFFFF), (32, choice.randrange(8), 0xFFFFFFFF)]
    entries.sort()
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", value)


def kernels_verdicts(paths: list[Path], uid: int, gid: int, groups: tuple[int, ...]) -> list[bool]:
    """Ask the kernel, as that user."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            asked = [os.access(path, wanted) for path in paths for wanted in WANTED]
            os.write(write_end, json.dumps(asked).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        verdicts: list[bool] = json.loads(pipe.read())
    os.waitpid(child, 0)
    return verdicts


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_verdicts_are_the_kernels(public_path: Path) -> None:
    choice = random.Random(20060102)
    paths = []
    for number in range(120):
        path = public_path / str(number)
        path.mkdir() if choice.random() < 0.5 else path.touch()
        os.chown(path, choice.choice(IDS), choice.choice(IDS))
        path.chmod(choice.randrange(0o1000))
        if choice.random() < 0.6:
            set_random_acl(path, choice)
        paths.append(path)
    differing = []
    for uid, gid, groups in USERS:
        theirs = kernels_verdicts(paths, uid, gid, groups)
        who = Credentials(0, uid, gid, frozenset(groups))
        ours = []
        for path in paths:
            fd = os.open(path, os.O_PATH)
            ours += [allowed(fd, os.fstat(fd), who, wanted, WITH_ACLS) for wanted in WANTED]
            os.close(fd)
        differing += [
            (str(paths[index // len(WANTED)]), uid, WANTED[index % len(WANTED)])
            for index, (mine, right) in enumerate(zip(ours, theirs, strict=True))
            if mine != right
        ]
    assert differing == []
