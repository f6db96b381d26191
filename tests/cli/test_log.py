# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon logs, at which level, where, and that no log stops the mount."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify.fs.operations import Operations
from fusenotify.mounting import daemon
from fusenotify.server.logged import session_class
from fusenotify.server.session import Session
from tests.cli.command import FUSENOTIFY, environment, fusenotify, until

pytestmark = pytest.mark.mount


class Place:
    """Directories for a mount with a log file."""

    def __init__(self, path: Path) -> None:
        self.source, self.mnt, self.log = path / "source", path / "mnt", path / "log"
        self.source.mkdir()
        self.mnt.mkdir()

    def mount(self, *options: str) -> subprocess.CompletedProcess[str]:
        return fusenotify("mount", str(self.source), str(self.mnt), *options)

    @contextlib.contextmanager
    def mounted(self, *options: str) -> Iterator[None]:
        done = self.mount(*options)
        assert (done.returncode, done.stderr) == (0, "")
        try:
            yield
        finally:
            assert fusenotify("unmount", str(self.mnt)).returncode == 0

    @contextlib.contextmanager
    def in_front(self, stderr: int, **variables: str) -> Iterator[subprocess.Popen[str]]:
        command = [*FUSENOTIFY, "mount", "-f", "-v", str(self.source), str(self.mnt)]
        with subprocess.Popen(
            command, env=environment() | variables, stderr=stderr, text=True
        ) as process:
            until(self.mnt.is_mount, "it is mounted")
            yield process
            process.send_signal(signal.SIGTERM)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("name", "why"),
    [("no/log", "No such file or directory"), ("", "Is a directory"), ("fifo", "No such device")],
)
def test_a_log_that_cannot_be_opened_is_refused_before_there_is_a_mount(
    place: Place, tmp_path: Path, name: str, why: str
) -> None:
    os.mkfifo(tmp_path / "fifo")  # that nobody reads
    done = place.mount("--log-file", str(tmp_path / name))
    assert done.returncode == 1
    assert f"{tmp_path / name}".rstrip("/") in done.stderr
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert not place.mnt.is_mount()


def test_without_a_level_there_is_nothing_to_say(place: Place) -> None:
    with place.mounted("--log-file", str(place.log)):
        (place.mnt / "a").mkdir()
    assert place.log.read_text() == ""
    assert place.log.stat().st_mode & 0o777 == 0o600


def test_verbose_names_the_mount_and_its_clients(place: Place) -> None:
    place.log.write_text("before\n")
    with place.mounted("-v", "--log-file", str(place.log)):
        assert fusenotify("limits", str(place.mnt), "--max-user-watches", "7").returncode == 0
    lines = [" ".join(line.split(" ")[2:]) for line in place.log.read_text().splitlines()]
    assert lines[0] == ""
    assert lines[1] == f"INFO {str(place.source)!r} is mounted at {str(place.mnt)!r}"
    assert any(line.endswith(f"user {os.geteuid()}, has connected") for line in lines)
    assert "INFO max_user_watches is 7 from now on" in lines
    assert lines[-1] == f"INFO the daemon of {str(place.mnt)!r} ends"
    assert not any("lookup" in line for line in lines)


def test_debug_has_each_request_without_contents_and_with_names_escaped(place: Place) -> None:
    with place.mounted("--debug", "--log-file", str(place.log)):
        path = os.fsencode(place.mnt) + b"/a\n\x1b[2J\xff"
        with open(path, "wb") as file:
            file.write(b"secret")
        os.setxattr(path, "user.x", b"secret")
        os.rename(path, path + b"b")
        os.chmod(path + b"b", 0o600)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        assert os.listxattr(path + b"b") == ["user.x"]
        assert os.listdir(os.fsencode(place.mnt)) == [b"a\n\x1b[2J\xffb"]
        assert os.readlink(_link(place.mnt)) == "to"
        assert fusenotify("limits", str(place.mnt)).returncode == 0
    text = place.log.read_text()
    assert "\x1b" not in text
    assert "secret" not in text
    shown = r"b'a\n\x1b[2J\xff'"
    for said in (
        f"lookup(parent_inode 1, name {shown}) by thread ",
        f"create(parent_inode 1, name {shown}, mode ",
        "buf of 6 bytes) = 6\n",
        "name b'user.x', value of 6 bytes) by thread ",
        f"rename(parent_inode_old 1, name_old {shown}, parent_inode_new 1, ",
        "fields mode",
        "= b'to'\n",
        "= no such name\n",
        "readdir(",
        f", user {os.geteuid()} = inode ",
    ):
        assert said in text
    assert "asks: Hello(version=1" in text


def _link(directory: Path) -> Path:
    os.symlink("to", directory / "link")
    return directory / "link"


def test_requests_cost_nothing_more_where_they_are_not_logged() -> None:
    assert daemon._operations(0) is Operations
    assert session_class() is Session


def test_a_full_disk_stops_no_mount(place: Place) -> None:
    with place.mounted("--debug", "--log-file", "/dev/full"):
        for number in range(100):
            (place.mnt / str(number)).write_text("content")
        assert len(os.listdir(place.mnt)) == 100


def test_a_log_that_nobody_reads_says_later_what_it_left_out(place: Place, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with place.mounted("--debug", "--log-file", str(fifo)):
            for number in range(300):
                (place.mnt / str(number)).touch()
            said = b""

            def says(words: bytes, name: str) -> bool:
                nonlocal said
                with contextlib.suppress(BlockingIOError):
                    said += os.read(reader, 1 << 20)
                (place.mnt / name).exists()
                return words in said

            left_out = b" messages before this one were not written\n"
            until(lambda: says(left_out, "x"), "what was left out is counted")
            until(lambda: says(b"b'last'", "last"), "what is said later")
            until(lambda: says(b"b'very last'", "very last"), "what is said last")
            assert left_out not in said[said.index(b"b'last'") :]
    finally:
        os.close(reader)


def test_only_the_journal_gets_priorities(place: Place) -> None:
    for is_journal in (True, False):
        end, stderr = os.pipe()
        stream = os.fstat(stderr)
        named = f"{stream.st_dev}:{stream.st_ino + (not is_journal)}"
        with place.in_front(stderr, JOURNAL_STREAM=named):
            os.close(stderr)
        with open(end) as lines:
            first = lines.readline()
        prefix = "<6>" if is_journal else ""
        assert (
            first == f"{prefix}fusenotify: {str(place.source)!r} is mounted at {str(place.mnt)!r}\n"
        )


def test_the_journal_gets_a_failure_as_an_error(place: Place) -> None:
    end, stderr = os.pipe()
    stream = os.fstat(stderr)
    command = [*FUSENOTIFY, "mount", "-f", str(place.source / "no"), str(place.mnt)]
    named = {"JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}"}
    done = subprocess.run(command, env=environment() | named, stderr=stderr, check=False)
    os.close(stderr)
    with open(end) as lines:
        assert lines.read().startswith("<3>fusenotify: ")
    assert done.returncode == 1
