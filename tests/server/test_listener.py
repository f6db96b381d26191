# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket is taken when it is free or left behind, and never from the living."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify.server.listener import bind_socket


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_the_mode_is_as_asked_whatever_the_umask(tmp_path: Path, umask: None, mode: int) -> None:
    path = tmp_path / "x.sock"
    with bind_socket(str(path), mode).socket:
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "run" / "fusenotify" / "x.sock"
    with bind_socket(str(path), 0o600).socket:
        assert path.is_socket()


def test_a_socket_that_a_dead_daemon_left_is_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with bind_socket(path, 0o600).socket:
        pass  # the file stays
    with bind_socket(path, 0o600).socket, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_socket_of_a_live_daemon_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with bind_socket(path, 0o600).socket, socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(OSError, match="another daemon listens there") as refusal:
            bind_socket(path, 0o600)
        client.connect(path)
    assert refusal.value.errno == errno.EADDRINUSE


def test_a_socket_whose_daemon_is_too_busy_to_accept_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(path)
        busy.listen(0)
        client.connect(path)
        with pytest.raises(OSError, match="another daemon") as refusal:
            bind_socket(path, 0o600)
    assert refusal.value.errno == errno.EADDRINUSE


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="no socket"):
        bind_socket(str(path), 0o600)
    assert path.read_text() == "mine"


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="at most 107 bytes") as refusal:
        bind_socket(str(tmp_path / ("x" * 107)), 0o600)
    assert refusal.value.errno == errno.ENAMETOOLONG


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"/proc/x\.sock"):
        bind_socket("/proc/x.sock", 0o600)
