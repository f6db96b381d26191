# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait`` on real mounts."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify import Mounted
from tests.cli.command import FUSENOTIFY, environment, fusenotify, until
from tests.conftest import Mounting


class Waiter:
    """A running ``fusenotify wait``, and the lines it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def lines_until(self, last: str) -> list[str]:
        """Return the lines up to the one that ends in last, that one left out."""
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            if line.rstrip("\n").endswith(last):
                return lines
            lines.append(line.rstrip("\n"))
        pytest.fail(f"it ended without {last!r} behind {lines}")

    def end(self) -> tuple[str, str, int]:
        """Wait until it ends; return the rest of its output, its messages and its status."""
        out, err = self.process.communicate(timeout=30)
        return out, err, self.process.returncode


@contextmanager
def waiting(*arguments: str | Path) -> Iterator[Waiter]:
    """Run ``fusenotify wait`` for a block, which starts when its watches are there."""
    with subprocess.Popen(
        [*FUSENOTIFY, "wait", *map(str, arguments)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline() == "Setting up watches.\n"
            assert process.stderr.readline() == "Watches established.\n"
            yield Waiter(process)
        finally:
            process.kill()


@pytest.mark.mount
def test_it_ends_with_the_first_event(mounted: Mounted) -> None:
    with waiting("-e", "create", mounted.mountpoint) as waiter:
        os.mkdir(f"{mounted.mountpoint}/docs")
        os.mkdir(f"{mounted.mountpoint}/more")
        assert waiter.end() == (f"{mounted.mountpoint}/ CREATE,ISDIR docs\n", "", 0)


@pytest.mark.mount
def test_a_file_is_shown_without_slash_and_name(mounted: Mounted) -> None:
    path = Path(mounted.mountpoint, "file")
    path.touch()
    with waiting("-e", "MODIFY,IN_ATTRIB", path) as waiter:
        path.read_bytes()
        path.write_text("changed")
        assert waiter.end() == (f"{path} MODIFY \n", "", 0)


@pytest.mark.mount
def test_monitoring_goes_on_until_the_mount_ends(mounting: Mounting) -> None:
    with mounting() as mount, waiting("-m", mount.mountpoint) as waiter:
        with open(f"{mount.mountpoint}/a", "w") as file:
            file.write("text")
        os.rename(f"{mount.mountpoint}/a", f"{mount.mountpoint}/b")
        os.unlink(f"{mount.mountpoint}/b")
        assert fusenotify("unmount", mount.mountpoint).returncode == 0
        root = mount.mountpoint
        expected = ["CREATE a", "OPEN a", "MODIFY a", "CLOSE_WRITE,CLOSE a"]
        expected += ["MOVED_FROM a", "MOVED_TO b", "DELETE b"]
        lines = "".join(f"{root}/ {line}\n" for line in expected)
        assert waiter.end() == (lines, "Nothing is left to watch.\n", 0)


def wait_for_watches(mount: Mounted, count: int) -> None:
    """Wait until so many watches are there, as they come behind new directories."""
    with mount.client() as client:
        until(
            lambda: sum(user.watches for user in client.status().users) == count,
            f"{count} watches",
        )


@pytest.mark.mount
def test_recursion_sees_all_below_and_nothing_of_its_own_search(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/old/below")
    with waiting("-m", "-r", root) as waiter:
        Path(root, "old/below/x").touch()
        assert waiter.lines_until(f"{root}/old/below/ CLOSE_WRITE,CLOSE x") == [
            f"{root}/old/below/ CREATE x",
            f"{root}/old/below/ OPEN x",
        ]


@pytest.mark.mount
def test_recursion_follows_new_directories(mounted: Mounted) -> None:
    root = mounted.mountpoint
    with waiting("-m", "-r", "-e", "delete", root) as waiter:
        # Only deletions are printed, though what makes directories is heard.
        os.makedirs(f"{root}/a/b/c")
        wait_for_watches(mounted, 4)
        Path(root, "a/b/c/d").touch()
        os.unlink(f"{root}/a/b/c/d")
        assert waiter.lines_until(f"{root}/a/b/c/ DELETE d") == []


@pytest.mark.mount
def test_recursion_keeps_the_paths_of_renamed_directories(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/a/b")
    with waiting("-m", "-r", "-e", "create", root) as waiter:
        os.rename(f"{root}/a", f"{root}/z")
        Path(root, "z/b/x").touch()
        assert waiter.lines_until(f"{root}/z/b/ CREATE x") == []


@pytest.mark.mount
def test_recursion_finds_a_directory_that_was_renamed_before_it_could_be_watched(
    mounted: Mounted,
) -> None:
    root = mounted.mountpoint
    with waiting("-m", "-r", "-e", "create", root) as waiter:
        waiter.process.send_signal(signal.SIGSTOP)
        os.makedirs(f"{root}/a/b")
        os.rename(f"{root}/a", f"{root}/z")
        waiter.process.send_signal(signal.SIGCONT)
        wait_for_watches(mounted, 3)
        Path(root, "z/b/x").touch()
        assert waiter.lines_until(f"{root}/z/b/ CREATE x") == [f"{root}/ CREATE,ISDIR a"]


@pytest.mark.mount
def test_recursion_forgets_what_moves_out(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/in/a/b")
    os.mkdir(f"{root}/out")
    with waiting("-m", "-r", "-e", "create", f"{root}/in") as waiter:
        os.rename(f"{root}/in/a", f"{root}/out/a")
        Path(root, "in/next").touch()
        assert waiter.lines_until(f"{root}/in/ CREATE next") == []
        wait_for_watches(mounted, 1)
        Path(root, "out/a/b/unseen").touch()
        Path(root, "in/last").touch()
        assert waiter.lines_until(f"{root}/in/ CREATE last") == []


@pytest.mark.mount
def test_after_an_overflow_the_tree_is_complete_again(mounting: Mounting) -> None:
    with mounting(max_queued_events=4) as mount:
        root = mount.mountpoint
        with waiting("-m", "-r", "-e", "create", root) as waiter:
            waiter.process.send_signal(signal.SIGSTOP)
            for number in range(20):
                os.mkdir(f"{root}/{number}")
            waiter.process.send_signal(signal.SIGCONT)
            wait_for_watches(mount, 21)
            Path(root, "19/x").touch()
            assert f"{root}/19/ CREATE x" not in waiter.lines_until(f"{root}/19/ CREATE x")
            waiter.process.send_signal(signal.SIGINT)
            _, said, status = waiter.end()
            assert "Events were lost" in said
            assert status == -signal.SIGINT


@pytest.mark.mount
def test_paths_in_two_mounts_are_refused(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with package.mounted(tmp_path / "second") as other:
        done = fusenotify("wait", mounted.mountpoint, other.mountpoint)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"fusenotify: {other.mountpoint}/: cannot be watched: ")
    assert other.socket in last
    assert done.returncode == 1


@pytest.mark.mount
def test_nothing_in_time_is_status_2(mounted: Mounted) -> None:
    with waiting("-t", "0.2", mounted.mountpoint) as waiter:
        assert waiter.end() == ("", "", 2)


@pytest.mark.mount
def test_monitoring_ends_when_nothing_more_comes_in_time(mounted: Mounted) -> None:
    with waiting("-t", "1", "-e", "delete", "-m", mounted.mountpoint) as waiter:
        os.mkdir(f"{mounted.mountpoint}/a")
        os.rmdir(f"{mounted.mountpoint}/a")
        assert waiter.end() == (f"{mounted.mountpoint}/ DELETE,ISDIR a\n", "", 2)


@pytest.mark.mount
def test_a_deleted_file_that_was_waited_for_is_status_1(mounted: Mounted) -> None:
    path = Path(mounted.mountpoint, "file")
    path.touch()
    with waiting("-e", "modify", path) as waiter:
        path.unlink()
        assert waiter.end() == (
            "",
            "fusenotify: what was watched is gone, and no such event came\n",
            1,
        )


@pytest.mark.mount
def test_a_daemon_that_dies_is_status_1_at_once(mounted: Mounted) -> None:
    with waiting("-m", mounted.mountpoint) as waiter:
        os.kill(mounted.pid, signal.SIGKILL)
        out, said, status = waiter.end()
        assert (out, status) == ("", 1)
        assert said.startswith("fusenotify: ")
        assert said.count("\n") == 1


@pytest.mark.mount
def test_a_reader_that_goes_away_ends_it_quietly(mounted: Mounted) -> None:
    with waiting("-m", "-e", "create", mounted.mountpoint) as waiter:
        assert waiter.process.stdout is not None
        waiter.process.stdout.close()
        os.mkdir(f"{mounted.mountpoint}/a")
        assert waiter.process.wait(30) == 1
        assert waiter.process.stderr is not None
        assert waiter.process.stderr.read() == ""


@pytest.mark.mount
def test_quiet_twice_prints_no_events_either(mounted: Mounted) -> None:
    with subprocess.Popen(
        [*FUSENOTIFY, "wait", "-qq", "-e", "create", mounted.mountpoint],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        wait_for_watches(mounted, 1)
        os.mkdir(f"{mounted.mountpoint}/a")
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == 0


@pytest.mark.mount
def test_format_and_no_newline(mounted: Mounted) -> None:
    arguments = ["-e", "create", "--format", "%w%f|%|e", "--no-newline", mounted.mountpoint]
    with waiting(*arguments) as waiter:
        os.mkdir(f"{mounted.mountpoint}/a b")
        assert waiter.end() == (f"{mounted.mountpoint}/a b|CREATE|ISDIR", "", 0)


@pytest.mark.mount
def test_a_missing_path_is_refused_by_name(mounted: Mounted) -> None:
    done = fusenotify("wait", f"{mounted.mountpoint}/gone")
    message = f"fusenotify: {mounted.mountpoint}/gone: cannot be watched: "
    assert done.stderr.splitlines()[-1].startswith(message)
    assert "No such file or directory" in done.stderr
    assert done.returncode == 1


def test_a_path_outside_any_mount_is_refused_by_name(tmp_path: Path) -> None:
    done = fusenotify("wait", tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"fusenotify: {tmp_path}/: cannot be watched: ")
    assert "fusenotify mount" in last
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "the following arguments are required: PATH", id="no path"),
        pytest.param(["-e", "frob", "/"], "'frob' is not an event; the events are", id="event"),
        pytest.param(["-e", "open,,", "/"], "'' is not an event", id="an empty event"),
        pytest.param(["-t", "soon", "/"], "'soon' is not a number of seconds", id="no time"),
        pytest.param(["-t", "-1", "/"], "'-1' is not a number of seconds", id="negative time"),
        pytest.param(["-t", "nan", "/"], "'nan' is not a number of seconds", id="not a number"),
        pytest.param(["-t", "inf", "/"], "'inf' is not a number of seconds", id="endless time"),
        pytest.param(["--format", "%y", "/"], "argument --format: '%y' is no", id="format"),
        pytest.param(["--frob", "/"], "unrecognized arguments: --frob", id="option"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], message: str) -> None:
    done = fusenotify("wait", *arguments)
    assert message in done.stderr
    assert done.stderr.startswith("usage: fusenotify wait")
    assert done.returncode == 2
