# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket is taken when it is free or left behind, and never from the living."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusenotify import socket_file
from fusenotify.server.listener import bind_socket
from fusenotify.socket_file import SocketFile


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


def test_a_file_that_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="not a socket"):
        bind_socket(str(path), 0o600)
    assert path.read_text() == "mine"


def test_the_permissions_are_changed_by_no_path(
    tmp_path: Path, umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write in the directory could have put a link there."""
    monkeypatch.delattr(os, "chmod")
    with bind_socket(str(tmp_path / "x.sock"), 0o666).socket:
        assert stat.S_IMODE((tmp_path / "x.sock").stat().st_mode) == 0o666


def test_of_many_daemons_that_find_one_dead_socket_one_gets_the_name(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")

    def bind(_: int) -> socket.socket | None:
        try:
            with SocketFile(path) as file:
                return file.listen(0o600)
        except OSError as error:
            return None if error.errno == errno.EADDRINUSE else pytest.fail(str(error))

    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            winners = [each for each in threads.map(bind, range(8)) if each is not None]
            assert len(winners) == 1
            winners[0].close()  # and is dead
    assert os.listdir(tmp_path) == ["x.sock"]


def test_a_bound_socket_that_does_not_listen_yet_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is between both holds the lock, which is a file beside the socket."""
    monkeypatch.setattr(socket_file, "_LOCK_SECONDS", 0.05)
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as other, (tmp_path / ".x.sock.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other.bind(str(path))
        with pytest.raises(OSError, match="about to listen") as refusal:
            bind_socket(str(path), 0o600)
        assert refusal.value.errno == errno.EADDRINUSE
        with SocketFile(str(path)) as file, pytest.raises(OSError, match="about to listen"):
            file.remove_dead()
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["another user's file", "a fifo", "a link"])
def test_a_lock_that_others_put_there_is_refused(tmp_path: Path, kind: str) -> None:
    lock = tmp_path / ".x.sock.lock"
    if kind == "a fifo":
        os.mkfifo(lock)
    elif kind == "a link":
        lock.symlink_to(tmp_path / "victim")
    else:
        lock.touch()
        if os.geteuid():
            pytest.skip("only root can give a file away")
        os.chown(lock, 65534, 65534)
    with pytest.raises(OSError, match=r"x\.sock"):
        bind_socket(str(tmp_path / "x.sock"), 0o600)
    assert not (tmp_path / "x.sock").exists()
    assert not (tmp_path / "victim").exists()


def test_a_file_that_replaced_the_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with SocketFile(str(path)) as file, file.listen(0o600):
        path.unlink()
        path.write_text("mine")
        file.remove()
    assert path.read_text() == "mine"


def test_a_directory_that_was_opened_is_the_one_that_is_used(tmp_path: Path) -> None:
    (tmp_path / "sockets").mkdir()
    (tmp_path / "elsewhere").mkdir()
    with SocketFile(str(tmp_path / "sockets" / "x.sock")) as file:
        (tmp_path / "sockets").rename(tmp_path / "renamed")
        (tmp_path / "sockets").symlink_to("elsewhere")
        with file.listen(0o600):
            assert (tmp_path / "renamed" / "x.sock").is_socket()
            file.remove()
    assert os.listdir(tmp_path / "renamed") == os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("kind", ["a link", "for others to write"])
def test_a_private_directory_is_this_users_alone(tmp_path: Path, kind: str) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    directory = tmp_path / "sockets"
    if kind == "a link":
        directory.symlink_to("mine")
    else:
        directory.mkdir()
        directory.chmod(0o777)
    with pytest.raises(PermissionError, match="not a directory of yours alone"):
        SocketFile(str(directory / "x.sock"), private=True)


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="at most 107 bytes") as refusal:
        bind_socket(str(tmp_path / ("x" * 107)), 0o600)
    assert refusal.value.errno == errno.ENAMETOOLONG


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"/proc/x\.sock"):
        bind_socket("/proc/x.sock", 0o600)
