# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that is older than ``run``: it refuses fields that it does not know."""

from __future__ import annotations

import asyncio
from pathlib import Path

import fusenotify
from fusenotify.run.link import Link
from fusenotify.run.mounts import check_that_reads_are_fences
from tests.cli.older_daemon import older_daemon


def checked(socket: str) -> str:
    """Return why a daemon cannot serve run, or an empty text."""

    async def check() -> str:
        link = await Link.connected(socket)
        try:
            await check_that_reads_are_fences(link)
        except OSError as error:
            return str(error.strerror)
        finally:
            link.close()
        return ""

    return asyncio.run(check())


def test_a_daemon_that_knows_no_reads_with_a_fence_is_found_out(tmp_path: Path) -> None:
    with older_daemon(tmp_path, "a frame is not a message: unknown field `fence`") as socket:
        assert "unknown field `fence`; is the daemon of another release?" in checked(socket)


def test_our_daemon_knows_them(tmp_path: Path, public_path: Path) -> None:
    with fusenotify.mounted(tmp_path, public_path) as mount:
        assert checked(mount.socket) == ""
