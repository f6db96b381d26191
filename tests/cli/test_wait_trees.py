# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait -r``: complete, or it says so, and no path that is not the object's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify import Mounted
from fusenotify.fs.syscalls import renameat2
from tests.cli.command import fusenotify, until
from tests.cli.storm import Directory, Storm
from tests.cli.waiter import wait_for_watches, waiting
from tests.conftest import Mounting, User

_EXCHANGE = 2  # Linux: RENAME_EXCHANGE

_WITH_A_SMALL_STACK = [
    sys.executable,
    "-c",
    "import sys, fusenotify.cli, fusenotify.cli.wait\n"
    "sys.setrecursionlimit(150)\n"
    "sys.exit(fusenotify.cli.main())",
]


def exchange(one: str, other: str) -> None:
    """Let two names change places."""
    renameat2(-1, os.fsencode(one), -1, os.fsencode(other), _EXCHANGE)


def dig(top: Path, name: str, depth: int) -> int:
    """Make top/name/name/... and return a descriptor of the deepest."""
    deepest = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=deepest)
        below = os.open(name, os.O_RDONLY, dir_fd=deepest)
        os.close(deepest)
        deepest = below
    return deepest


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


def told_in(storm: Storm, directory: Directory, told: list[str]) -> bool:
    """Make a file in a directory, and return whether it is told soon."""
    path = storm.file_in(directory)
    for _ in range(50):
        if path in told[-100:]:
            return True
        time.sleep(0.002)
    return False


@pytest.mark.mount
@pytest.mark.parametrize("queue", [16384, 40], ids=["no overflow", "overflows"])
@pytest.mark.parametrize("seed", range(3))
def test_in_a_storm_no_path_is_wrong_and_afterwards_the_tree_is_complete(
    mounting: Mounting, seed: int, queue: int
) -> None:
    with mounting(max_queued_events=queue) as mount:
        tree, outside = (Path(mount.mountpoint, name) for name in ("tree", "outside"))
        tree.mkdir()
        outside.mkdir()
        storm = Storm(tree, outside, seed)
        for _ in range(100):
            storm.step()
        with waiting("-m", "-r", "-e", "create", "--format", "%w%f", tree) as waiter:
            told: list[str] = []
            reader = threading.Thread(target=lambda: told.extend(waiter.lines()))
            reader.start()
            for _ in range(5):
                for _ in range(300):
                    storm.step()
                for directory in storm.directories():
                    until(partial(told_in, storm, directory, told), f"{directory} is watched")
            waiter.process.kill()
            reader.join()
            assert waiter.process.stderr is not None
            said = waiter.process.stderr.read()
        files = [path for path in told if "file-" in path]
        assert [path for path in files if path != storm.made[path.rpartition("/")[2]]] == []
        assert ("Events were lost" in said) == (queue == 40)


@pytest.mark.mount
def test_a_directory_that_left_the_tree_is_not_told_under_its_old_path(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/in/a/b")
    os.mkdir(f"{root}/out")
    with waiting("-m", "-r", f"{root}/in") as waiter:
        os.rename(f"{root}/in/a", f"{root}/out/a")
        wait_for_watches(mounted, 1)
        Path(root, "out/a/first").touch()
        Path(root, "out/a/b/second").touch()
        os.rename(f"{root}/out/a", f"{root}/in/z")
        wait_for_watches(mounted, 3)
        os.mkdir(f"{root}/in/z/b/last")
        lines = waiter.lines_until("/in/z/b/ CREATE,ISDIR last")
        assert lines[0] == f"{root}/in/ MOVED_FROM,ISDIR a"
        assert lines[1] == f"{root}/in/ MOVED_TO,ISDIR z"
        assert not [line for line in lines if "/a/" in line or "first" in line or "second" in line]


@pytest.mark.mount
@pytest.mark.parametrize("first", ["short", "long"])
def test_an_exchange_of_two_directories_exchanges_all_below(mounted: Mounted, first: str) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/short/s")
    os.makedirs(f"{root}/long/er/l")
    other = {"short": "long/er", "long": "short"}[first]
    first = {"short": "short", "long": "long/er"}[first]
    with waiting("-m", "-r", "-e", "create", root) as waiter:
        exchange(f"{root}/{first}", f"{root}/{other}")
        Path(root, "short/l/x").touch()
        Path(root, "long/er/s/y").touch()
        assert waiter.lines_until(f"{root}/long/er/s/ CREATE y") == [f"{root}/short/l/ CREATE x"]


@pytest.mark.mount
def test_a_recursive_wait_for_one_event_hears_of_directories_that_came_since(
    mounted: Mounted,
) -> None:
    root = mounted.mountpoint
    with waiting("-r", "-e", "delete", root) as waiter:
        os.makedirs(f"{root}/a/b")
        wait_for_watches(mounted, 3)
        os.rmdir(f"{root}/a/b")
        assert waiter.end() == (f"{root}/a/ DELETE,ISDIR b\n", "", 0)


@pytest.mark.mount
def test_a_tree_deeper_than_the_stack_is_watched(mounted: Mounted) -> None:
    os.close(dig(Path(mounted.source), "d", 300))
    arguments = ["-m", "-r", "-e", "create", "--format", "%f", mounted.mountpoint]
    with waiting(*arguments, command=_WITH_A_SMALL_STACK) as waiter:
        Path(mounted.mountpoint, *["d"] * 300, "x").touch()
        assert waiter.lines_until("x") == []
    subprocess.run(["rm", "-r", f"{mounted.mountpoint}/d"], check=True)


@pytest.mark.mount
def test_a_directory_that_no_path_reaches_is_status_1_as_with_inotifywait(
    mounted: Mounted,
) -> None:
    os.close(dig(Path(mounted.source), "d" * 250, 20))
    done = fusenotify("wait", "-r", "-qq", "-m", mounted.mountpoint)
    assert done.returncode == 1
    assert done.stderr.endswith("d/: cannot be watched: File name too long\n")


@pytest.mark.mount
def test_too_few_watches_are_status_1_at_the_beginning_as_with_inotifywait(
    mounting: Mounting,
) -> None:
    with mounting(max_user_watches=3) as mount:
        for name in "abc":
            os.mkdir(f"{mount.mountpoint}/{name}")
        done = fusenotify("wait", "-r", "-qq", "-m", mount.mountpoint)
        assert done.returncode == 1
        assert "cannot be watched: " in done.stderr
        assert "max_user_watches" in done.stderr


@pytest.mark.mount
def test_too_few_watches_are_said_when_directories_come_however_quiet(mounting: Mounting) -> None:
    with mounting(max_user_watches=2) as mount:
        root = mount.mountpoint
        with waiting("-m", "-r", "-e", "create", root, quiet=True) as waiter:
            wait_for_watches(mount, 1)
            os.makedirs(f"{root}/a/b")
            assert waiter.process.stderr is not None
            assert waiter.process.stderr.readline().startswith(f"Couldn't watch {root}/a/b/: ")


@pytest.mark.mount
def test_what_may_not_be_read_is_said_and_the_rest_is_watched(
    mounting: Mounting, nobody: User, public_path: Path
) -> None:
    (public_path / "source/secret").mkdir(parents=True)
    (public_path / "source/open/below").mkdir(parents=True)
    (public_path / "source/secret").chmod(0o700)
    (public_path / "mnt").mkdir()
    with package.mounted(
        public_path / "source", public_path / "mnt", options=["allow_other"]
    ) as mount:
        command = [nobody.python, "-m", "fusenotify", "wait", "-r", "-q", "-t", "0.5"]
        done = nobody.run(*command, mount.mountpoint)
    assert done.stderr == f"Couldn't watch {mount.mountpoint}/secret/: " + (
        "no read permission on it: '/secret'\n"
    )
    assert done.returncode == 2


@pytest.mark.mount
def test_a_watched_tree_that_moves_itself_is_said(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.mkdir(f"{root}/tree")
    with waiting("-m", "-r", "-e", "create", f"{root}/tree", quiet=True) as waiter:
        wait_for_watches(mounted, 1)
        os.rename(f"{root}/tree", f"{root}/moved")
        assert waiter.process.stderr is not None
        assert waiter.process.stderr.readline() == (
            f"{root}/tree/ was moved: directories that come into it are not watched.\n"
        )
