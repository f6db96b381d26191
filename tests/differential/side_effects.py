# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that change more than they say: what is so afterwards counts at once.

A mount's kernel remembers attributes for a second; stat(1) asks for those
alone that it is to print, and so for what is remembered.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from tests.differential.answers import answer
from tests.differential.operations import OTHER_USER
from tests.differential.scenario import as_user, outcome

_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_CAPABILITY = "security.capability"
_CAPABILITIES = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
_STRANGER = OTHER_USER + 1
_NOBODY = 0xFFFFFFFF


def _acl(mode: int, *named: tuple[int, int, int]) -> bytes:
    """Return an ACL; named are entries of its own, with a mask that grants all."""
    entries = [(1, mode >> 6, _NOBODY), (4, mode >> 3 & 7, _NOBODY), (32, mode & 7, _NOBODY)]
    if named:
        entries += [*named, (16, 7, _NOBODY)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in sorted(entries))


def _remembered(what: str, *paths: Path) -> list[str]:
    return subprocess.check_output(["stat", "-c", what, *paths], text=True).split()


def _opens(path: Path) -> Any:
    return as_user(_STRANGER, lambda: os.close(os.open(path, os.O_RDONLY)))


@answer
def an_access_acl_sets_the_mode(d: Path) -> list[Any]:
    seen: list[Any] = []
    for kind in ("file", "directory"):
        path = d / kind
        path.mkdir() if kind == "directory" else path.touch()
        for mode in (0o755, 0o700, 0o750, 0o704):
            seen.append(outcome(partial(os.setxattr, path, _ACCESS, _acl(mode))))
            seen += [_remembered("%a", path), _opens(path)]
        os.chmod(path, 0o750)
        os.setxattr(path, _ACCESS, _acl(0o750, (2, 7, _STRANGER)))
        seen += _remembered("%a", path)
        os.removexattr(path, _ACCESS)
        seen += [_remembered("%a", path), _opens(path)]
    os.setxattr(d / "directory", _DEFAULT, _acl(0o700))
    return [*seen, _remembered("%a", d / "directory")]


@answer
def an_access_acl_by_who_is_not_of_the_group_takes_the_set_gid_bit(d: Path) -> list[Any]:
    seen: list[Any] = []
    d.chmod(0o777)
    for number, (user, groups) in enumerate(
        [(0, ()), (OTHER_USER, ()), (OTHER_USER, (_STRANGER,)), (_STRANGER, ())]
    ):
        for kind in ("file", "directory"):
            path = d / f"{kind}{number}"
            path.mkdir() if kind == "directory" else path.touch()
            os.chown(path, OTHER_USER, _STRANGER)
            for mode in (0o6755, 0o6745):
                path.chmod(mode)
                act = partial(os.setxattr, path, _ACCESS, _acl(mode & 0o777))
                seen.append([as_user(user, act, groups), _remembered("%a", path)])
    return seen


def _truncate(path: Path) -> None:
    os.truncate(path, 1)


def _open_and_truncate(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))


def _write(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.write(b"y")


def _give(path: Path) -> None:
    os.chown(path, -1, OTHER_USER)


@answer
def writing_takes_set_id_bits_and_capabilities(d: Path) -> list[Any]:
    seen: list[Any] = []
    for user in (0, OTHER_USER):
        for number, act in enumerate((_truncate, _open_and_truncate, _write, _give)):
            f = d / f"{user}-{number}"
            f.write_bytes(b"content")
            os.chown(f, OTHER_USER, OTHER_USER)
            f.chmod(0o0777)
            os.setxattr(f, _CAPABILITY, _CAPABILITIES)
            seen.append(as_user(user, partial(act, f)))
            seen.append(outcome(partial(os.getxattr, f, _CAPABILITY)))
            f.chmod(0o6777)
            seen.append(as_user(user, partial(act, f)))
            seen += _remembered("%a", f)
    return seen


@answer
def other_names_know_how_many_there_are(d: Path) -> list[Any]:
    a, b, c = (d / name for name in "abc")
    a.touch()
    seen: list[Any] = [_remembered("%h %s", a)]
    os.link(a, b)
    seen.append(_remembered("%h", a))
    os.link(b, c)
    seen.append(_remembered("%h", a, b))
    (d / "new").write_bytes(b"content")
    os.rename(d / "new", c)
    seen.append(_remembered("%h %s", a, b, c))
    b.unlink()
    return [*seen, _remembered("%h", a)]


@answer
def names_of_roots_own_attributes_are_for_root(d: Path) -> list[Any]:
    f = d / "f"
    f.touch()
    os.chown(f, OTHER_USER, -1)
    for name in ("user.a", "trusted.a"):
        os.setxattr(f, name, b"x")
    seen: list[Any] = [sorted(os.listxattr(f))]

    def expect_one() -> None:
        if os.listxattr(f) != ["user.a"]:
            raise OSError(errno.EBADMSG, "it has more")

    return [*seen, as_user(OTHER_USER, expect_one)]
