# SPDX-License-Identifier: GPL-2.0-or-later
"""Being another user for some calls of this process; a daemon must be another process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple


class User(NamedTuple):
    """Whom a connection is by."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@contextlib.contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Be a user as the kernel judges: effective ids, groups, and root's capabilities or none."""
    before = os.getgroups()
    os.setgroups(user.groups)
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)
