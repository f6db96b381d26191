# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait -r``: everything below is told, each by the path that it had."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify import Mounted
from fusenotify.fs.syscalls import renameat2
from tests.cli.command import fusenotify
from tests.cli.older_daemon import older_daemon
from tests.cli.storm import Storm
from tests.cli.waiter import wait_for_watches, wait_until_read, waiting
from tests.conftest import Mounting, User

_EXCHANGE = 2  # Linux: RENAME_EXCHANGE


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
def test_all_below_is_heard_and_nothing_of_the_setting_up(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/old/below")
    with waiting("-m", "-r", root) as waiter:
        wait_for_watches(mounted, 1)  # one, for all directories
        Path(root, "old/below/x").touch()
        assert waiter.lines_until(f"{root}/old/below/ CLOSE_WRITE,CLOSE x") == [
            f"{root}/old/below/ CREATE x",
            f"{root}/old/below/ OPEN x",
        ]


@pytest.mark.mount
def test_a_directory_is_told_of_by_the_one_above_and_by_itself(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/a/b")
    with waiting("-m", "-r", "-e", "open,delete_self,delete", root) as waiter:
        os.close(os.open(f"{root}/a/b", os.O_RDONLY | os.O_DIRECTORY))
        os.rmdir(f"{root}/a/b")
        assert waiter.lines_until(f"{root}/a/ DELETE,ISDIR b") == [
            f"{root}/a/ OPEN,ISDIR b",
            f"{root}/a/b/ OPEN,ISDIR ",
            f"{root}/a/b/ DELETE_SELF ",
        ]


@pytest.mark.mount
def test_of_a_copied_tree_each_file_is_named(mounted: Mounted, tmp_path: Path) -> None:
    original = tmp_path / "original"
    for number in range(400):
        file = original / f"{number % 7}" / f"{number % 31}" / f"{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text")
    root = mounted.mountpoint
    with waiting("-m", "-r", "-e", "create", "--format", "%w%f", root) as waiter:
        subprocess.run(["cp", "-r", original, f"{root}/copy"], check=True)
        Path(root, "last").touch()
        told = waiter.lines_until(f"{root}/last")
    copied = [
        os.path.join(path, name)
        for path, below, names in os.walk(f"{root}/copy")
        for name in below + names
    ]
    assert sorted(told) == sorted([f"{root}/copy", *copied])


@pytest.mark.mount
def test_creations_in_a_new_directory_are_told_however_late_they_are_read(
    mounted: Mounted,
) -> None:
    root = mounted.mountpoint
    with waiting("-m", "-r", "-e", "create", root) as waiter:
        waiter.process.send_signal(signal.SIGSTOP)
        os.makedirs(f"{root}/a/b")
        os.rename(f"{root}/a", f"{root}/z")
        Path(root, "z/b/x").touch()
        shutil.rmtree(f"{root}/z")
        waiter.process.send_signal(signal.SIGCONT)
        assert waiter.lines_until(f"{root}/z/b/ CREATE x") == [
            f"{root}/ CREATE,ISDIR a",
            f"{root}/a/ CREATE,ISDIR b",
        ]


@pytest.mark.mount
def test_only_the_requested_events_are_told(mounted: Mounted) -> None:
    root = mounted.mountpoint
    with waiting("-m", "-r", "-e", "delete", root) as waiter:
        os.makedirs(f"{root}/a/b")
        os.rename(f"{root}/a", f"{root}/z")
        os.rmdir(f"{root}/z/b")
        os.rmdir(f"{root}/z")
        assert waiter.lines_until(f"{root}/ DELETE,ISDIR z") == [f"{root}/z/ DELETE,ISDIR b"]


@pytest.mark.mount
def test_a_directory_moved_out_is_silent_and_has_its_new_path_when_it_comes_back(
    mounted: Mounted,
) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/in/a/b")
    os.mkdir(f"{root}/out")
    with waiting("-m", "-r", f"{root}/in") as waiter:
        os.rename(f"{root}/in/a", f"{root}/out/a")
        Path(root, "out/a/first").touch()
        Path(root, "out/a/b/second").touch()
        os.rename(f"{root}/out/a", f"{root}/in/z")
        os.mkdir(f"{root}/in/z/b/last")
        assert waiter.lines_until("/in/z/b/ CREATE,ISDIR last") == [
            f"{root}/in/ MOVED_FROM,ISDIR a",
            f"{root}/in/ MOVED_TO,ISDIR z",
        ]


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
@pytest.mark.parametrize("seed", range(3))
def test_in_a_storm_each_file_is_told_with_the_path_that_it_had(
    mounted: Mounted, seed: int
) -> None:
    tree, outside = (Path(mounted.mountpoint, name) for name in ("tree", "outside"))
    tree.mkdir()
    outside.mkdir()
    storm = Storm(tree, outside, seed)
    for _ in range(100):
        storm.step()
    before = len(storm.made)
    with waiting("-m", "-r", "-e", "create", "--format", "%w%f", tree) as waiter:
        told: list[str] = []
        reader = threading.Thread(target=lambda: told.extend(waiter.lines_until("/last")))
        reader.start()
        for _ in range(1500):
            storm.step()
        (tree / "last").touch()
        reader.join()
    assert [path for path in told if "file-" in path] == list(storm.made.values())[before:]


@pytest.mark.mount
def test_lost_events_are_reported_and_later_ones_are_told(mounting: Mounting) -> None:
    with mounting(max_queued_events=4) as mount:
        root = mount.mountpoint
        with waiting("-m", "-r", "-e", "create", root) as waiter:
            waiter.process.send_signal(signal.SIGSTOP)
            for number in range(2000):  # more than the socket takes
                os.mkdir(f"{root}/{number}")
            waiter.process.send_signal(signal.SIGCONT)
            assert waiter.process.stderr is not None
            assert waiter.process.stderr.readline() == (
                "Events were lost: they came faster than they were read.\n"
            )
            wait_until_read(mount)
            Path(root, "1999/x").touch()
            assert f"{root}/1999/ CREATE x" not in waiter.lines_until(f"{root}/1999/ CREATE x")


@pytest.mark.mount
def test_lost_events_are_said_however_quiet(mounting: Mounting) -> None:
    with mounting(max_queued_events=4) as mount:
        root = mount.mountpoint
        with waiting("-m", "-r", "-e", "create", root, quiet=True) as waiter:
            wait_for_watches(mount, 1)
            waiter.process.send_signal(signal.SIGSTOP)
            for number in range(20):
                os.mkdir(f"{root}/{number}")
            waiter.process.send_signal(signal.SIGCONT)
            assert waiter.process.stderr is not None
            assert waiter.process.stderr.readline().startswith("Events were lost: ")


@pytest.mark.mount
def test_a_recursive_wait_for_one_event_includes_new_directories(
    mounted: Mounted,
) -> None:
    root = mounted.mountpoint
    with waiting("-r", "-e", "delete", root) as waiter:
        os.makedirs(f"{root}/a/b")
        os.rmdir(f"{root}/a/b")
        assert waiter.end() == (f"{root}/a/ DELETE,ISDIR b\n", "", 0)


@pytest.mark.mount
def test_an_object_that_no_path_reaches_is_told_with_its_whole_path(mounted: Mounted) -> None:
    depth, name = 300, "d" * 250
    root = mounted.mountpoint
    with waiting("-m", "-r", "-e", "create", "--format", "%w%f", root) as waiter:
        deepest = dig(Path(root), name, depth)
        os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=deepest))
        os.close(deepest)
        whole = "/".join([root, *[name] * depth, "x"])
        assert len(waiter.lines_until(whole)) == depth
    subprocess.run(["rm", "-r", f"{root}/{name}"], check=True)


@pytest.mark.mount
def test_too_few_tree_watches_are_status_1(mounting: Mounting) -> None:
    with mounting(max_user_trees=1) as mount:
        for name in "ab":
            os.mkdir(f"{mount.mountpoint}/{name}")
        root = mount.mountpoint
        done = fusenotify("wait", "-r", "-qq", "-m", f"{root}/a", f"{root}/b")
        assert done.returncode == 1
        assert done.stderr.startswith(f"Failed to watch {root}/b; upper limit on inotify watches")
        assert "max_user_trees" in done.stderr


@pytest.mark.mount
def test_unreadable_directories_are_left_out_silently(
    mounting: Mounting, nobody: User, public_path: Path
) -> None:
    (public_path / "source/secret").mkdir(parents=True)
    (public_path / "source/open/below").mkdir(parents=True)
    (public_path / "source/secret").chmod(0o700)
    (public_path / "mnt").mkdir()
    with package.mounted(
        public_path / "source", public_path / "mnt", options=["allow_other"]
    ) as mount:
        root = mount.mountpoint
        command = nobody.as_user([nobody.python, "-m", "fusenotify"])
        with waiting("-m", "-r", "-e", "create", root, command=command) as waiter:
            Path(root, "secret/x").touch()
            Path(root, "open/below/y").touch()
            assert waiter.lines_until(f"{root}/open/below/ CREATE y") == []
            waiter.process.terminate()
            assert waiter.end()[1] == ""
        (public_path / "source").chmod(0o711)
        done = nobody.run(nobody.python, "-m", "fusenotify", "wait", "-r", "-q", root)
        assert done.stderr == f"Couldn't watch {root}: Permission denied\n"
        assert done.returncode == 1


@pytest.mark.mount
def test_a_watched_tree_that_moves_keeps_its_given_path_and_is_heard_on(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.mkdir(f"{root}/tree")
    with waiting("-m", "-r", "-e", "create,move_self", f"{root}/tree") as waiter:
        os.rename(f"{root}/tree", f"{root}/moved")
        os.makedirs(f"{root}/moved/a/b")
        assert waiter.lines_until(f"{root}/tree/a/ CREATE,ISDIR b") == [
            f"{root}/tree/ MOVE_SELF ",
            f"{root}/tree/ CREATE,ISDIR a",
        ]


@pytest.mark.mount
def test_files_may_be_named_next_to_directories(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/tree/a")
    for name in ("file", "tree/a/in"):
        Path(root, name).touch()
    with waiting(
        "-m", "-r", "-e", "attrib", f"{root}/file", f"{root}/tree", f"{root}/tree/a/in"
    ) as waiter:
        os.chmod(f"{root}/tree/a/in", 0o600)
        os.chmod(f"{root}/file", 0o600)
        assert waiter.lines_until(f"{root}/file ATTRIB ") == [
            f"{root}/tree/a/ ATTRIB in",
            f"{root}/tree/a/in ATTRIB ",
        ]


@pytest.mark.mount
@pytest.mark.parametrize(
    "named",
    [
        pytest.param(["tree", "tree/a"], id="the outer one first"),
        pytest.param(["tree/a/b", "tree/a", "tree"], id="the inner ones first"),
        pytest.param(["tree", "link"], id="through a symbolic link"),
        pytest.param(["tree/a/..", "tree//", "tree/a"], id="in several spellings"),
    ],
)
def test_objects_below_two_named_directories_are_told_once(
    mounted: Mounted, named: list[str]
) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/tree/a/b")
    os.symlink("tree/a", f"{root}/link")
    paths = [f"{root}/{name}" for name in named]
    with waiting("-m", "-r", "-e", "create", "--format", "%f", *paths) as waiter:
        wait_for_watches(mounted, 1)
        for name in ("tree/a/x", "tree/y", "tree/a/b/z"):
            Path(root, name).touch()
        assert waiter.lines_until("z") == ["x", "y"]


@pytest.mark.mount
def test_a_symbolic_link_that_is_named_is_followed_and_one_below_is_not(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/tree")
    os.mkdir(f"{root}/elsewhere")
    os.symlink("tree", f"{root}/link")
    with waiting("-m", "-r", "-e", "create", f"{root}/link") as waiter:
        os.symlink("../elsewhere", f"{root}/tree/out")
        Path(root, "tree/out/unseen").touch()
        Path(root, "tree/last").touch()
        assert waiter.lines_until(f"{root}/link/ CREATE last") == [f"{root}/link/ CREATE out"]


@pytest.mark.mount
def test_a_tree_that_goes_ends_it(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/tree/a")
    with waiting("-m", "-r", "-e", "delete_self", f"{root}/tree") as waiter:
        shutil.rmtree(f"{root}/tree")
        lines = f"{root}/tree/a/ DELETE_SELF \n{root}/tree/ DELETE_SELF \n"
        assert waiter.end() == (lines, "Nothing is left to watch.\n", 0)


@pytest.mark.mount
def test_a_mount_that_goes_ends_it(mounting: Mounting) -> None:
    with mounting() as mount:
        os.makedirs(f"{mount.mountpoint}/a/b")
        with waiting("-m", "-r", mount.mountpoint) as waiter:
            assert fusenotify("unmount", mount.mountpoint).returncode == 0
            assert waiter.end() == ("", "Nothing is left to watch.\n", 0)


@pytest.mark.mount
def test_excluded_names_are_not_told_in_any_named_directory(mounted: Mounted) -> None:
    root = mounted.mountpoint
    for name in ("one/build", "two/build", "one/a"):
        os.makedirs(f"{root}/{name}")
    named = [f"{root}/one", f"{root}/two"]
    patterns = ["--ignore", "*.[oa]", "--ignore=!keep.o", "--ignore", "/build/"]
    with waiting("-m", "-r", "-e", "create", *patterns, *named) as waiter:
        for name in ("one/a/x.o", "one/a/keep.o", "one/build/x", "two/build/x", "two/end"):
            Path(root, name).touch()
        assert waiter.lines_until(f"{root}/two/ CREATE end") == [f"{root}/one/a/ CREATE keep.o"]
    with waiting("-m", "-e", "create", "--ignore", "*.o", f"{root}/one") as waiter:
        for name in ("one/x.o", "one/end"):
            Path(root, name).touch()
        assert waiter.lines_until(f"{root}/one/ CREATE end") == []


@pytest.mark.mount
@pytest.mark.parametrize("recursive", [["-r"], []], ids=["a tree", "a directory"])
def test_a_pattern_that_is_none_is_status_1_and_named(
    recursive: list[str], mounted: Mounted
) -> None:
    root = mounted.mountpoint
    done = fusenotify("wait", *recursive, "--ignore", "*.o", "--ignore", "[z-a]", root)
    assert done.stderr.splitlines()[1:] == [
        f"Couldn't watch {root}: the pattern '[z-a]': bad character range z-a at position 10"
    ]
    assert (done.returncode, done.stdout) == (1, "")


def test_a_daemon_without_tree_watches_is_status_1_with_its_message(tmp_path: Path) -> None:
    with older_daemon(tmp_path, "Object contains unknown field `tree`") as path:
        done = fusenotify("wait", "-r", tmp_path, env={"FUSENOTIFY_SOCKET": path})
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Couldn't watch {tmp_path}: ")
    assert last.endswith("unknown field `tree`; is the daemon of another release?")
    assert done.returncode == 1
