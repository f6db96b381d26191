# SPDX-License-Identifier: GPL-2.0-or-later
"""The server knows who connected, with all groups."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fusenotify.credentials import Credentials
from fusenotify.server.peer import credentials

CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    sys.stdin.read()
"""


def test_a_peer_is_known_by_its_process() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert credentials(one.fileno()) == Credentials(
            os.getpid(), os.geteuid(), os.getegid(), frozenset(os.getgroups())
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("groups", [[], [7], list(range(2000, 2300))], ids=len)
def test_a_peer_is_known_by_all_its_groups(tmp_path: Path, groups: list[int]) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        client = subprocess.Popen(
            [sys.executable, "-S", "-c", CONNECT, str(path)],
            stdin=subprocess.PIPE,
            group=1001,
            extra_groups=groups,
        )
        with client, listener.accept()[0] as connection:
            assert credentials(connection.fileno()) == Credentials(
                client.pid, 0, 1001, frozenset(groups)
            )


def test_what_is_no_socket_has_no_peer(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as file, pytest.raises(OSError, match="Socket operation"):
        credentials(file.fileno())
