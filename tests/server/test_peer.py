# SPDX-License-Identifier: GPL-2.0-or-later
"""The server knows who connected, with all groups."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
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
            who = credentials(connection.fileno())
            assert who == Credentials(client.pid, 0, 1001, frozenset(groups))
            name = Path(f"/proc/{client.pid}/comm").read_bytes()
            assert who.command == name.rstrip(b"\n") != b""


@contextlib.contextmanager
def connected_from(path: Path, *prefix: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A client run by a command, and the descriptor of the connection to it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        client = subprocess.Popen(
            [*prefix, sys.executable, "-S", "-c", CONNECT, str(path)], stdin=subprocess.PIPE
        )
        with client, listener.accept()[0] as connection:
            yield client, connection.fileno()


@pytest.fixture
def unshare() -> list[str]:
    """The command that runs another one in a user namespace of its own."""
    command = ["unshare", "--user"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a user namespace")
    return command


def test_a_peer_in_another_user_namespace_is_named_so_and_keeps_its_number(
    tmp_path: Path, unshare: list[str]
) -> None:
    with connected_from(tmp_path / "x.sock", *unshare) as (_, descriptor):
        who = credentials(descriptor)
    assert (who.foreign, who.uid) == (True, os.geteuid())


def test_a_peer_that_ended_is_not_taken_for_one_in_another_user_namespace(
    tmp_path: Path, unshare: list[str]
) -> None:
    with connected_from(tmp_path / "x.sock", *unshare) as (client, descriptor):
        client.kill()
        client.wait()
        who = credentials(descriptor)
    assert (who.foreign, who.pid, who.command) == (False, client.pid, None)


def test_whether_a_peer_lives_is_known_of_descriptors_beyond_a_thousand(
    tmp_path: Path, unshare: list[str]
) -> None:
    with (
        contextlib.ExitStack() as opened,
        connected_from(tmp_path / "x.sock", *unshare) as (_, descriptor),
    ):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            opened.enter_context(open(os.devnull))
        assert credentials(descriptor).foreign


def test_a_descriptor_that_is_not_a_socket_has_no_peer(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as file, pytest.raises(OSError, match="Socket operation"):
        credentials(file.fileno())
