# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's tree: its calls give what real calls give, and fail as they do."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusenotify.masks import IN_ALL_EVENTS
from fusenotify.testing import EngineTree, TemporaryMount, Watcher, assert_events

OBJECTS = ("d/a", "d/b", "d/s/c", "d/t/")


def prepare(top: Path) -> None:
    """Make on disk what EngineTree.prepare() makes of OBJECTS."""
    for path in OBJECTS:
        directory = path if path.endswith("/") else os.path.dirname(path)
        (top / directory).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            (top / path).touch()


def really_write(top: Path) -> None:
    with open(top / "d/a", "r+b", buffering=0) as file:
        file.write(b"x")


def write_renamed(tree: EngineTree) -> None:
    with tree.open("d/a", writable=True) as file:
        tree.rename("d/a", "d/x")
        file.write()


def really_write_renamed(top: Path) -> None:
    with open(top / "d/a", "r+b", buffering=0) as file:
        os.rename(top / "d/a", top / "d/x")
        file.write(b"x")


def unlink_open(tree: EngineTree) -> None:
    with tree.open("d/a"):
        tree.unlink("d/a")


def really_unlink_open(top: Path) -> None:
    with open(top / "d/a"):
        os.unlink(top / "d/a")


CALLS: list[tuple[str, Callable[[EngineTree], object], Callable[[Path], object]]] = [
    ("create", lambda tree: tree.create("d/n"), lambda top: os.mknod(top / "d/n")),
    ("mkdir", lambda tree: tree.mkdir("d/n"), lambda top: os.mkdir(top / "d/n")),
    ("link", lambda tree: tree.link("d/a", "d/n"), lambda top: os.link(top / "d/a", top / "d/n")),
    ("unlink", lambda tree: tree.unlink("d/a"), lambda top: os.unlink(top / "d/a")),
    ("unlink while open", unlink_open, really_unlink_open),
    ("rmdir", lambda tree: tree.rmdir("d/t"), lambda top: os.rmdir(top / "d/t")),
    (
        "rename",
        lambda tree: tree.rename("d/a", "d/s/n"),
        lambda top: os.rename(top / "d/a", top / "d/s/n"),
    ),
    (
        "rename over another",
        lambda tree: tree.rename("d/a", "d/b"),
        lambda top: os.rename(top / "d/a", top / "d/b"),
    ),
    (
        "rename a directory over an empty one",
        lambda tree: tree.rename("d/s", "d/t"),
        lambda top: os.rename(top / "d/s", top / "d/t"),
    ),
    ("write", lambda tree: tree.write("d/a"), really_write),
    ("write after a rename", write_renamed, really_write_renamed),
    (
        "truncate",
        lambda tree: tree.truncate("d/a"),
        lambda top: os.truncate(top / "d/a", 1),
    ),
    ("chmod", lambda tree: tree.chmod("d/a"), lambda top: os.chmod(top / "d/a", 0o600)),
    ("utime", lambda tree: tree.utime("d/s"), lambda top: os.utime(top / "d/s")),
    (
        "setxattr",
        lambda tree: tree.setxattr("d/a"),
        lambda top: os.setxattr(top / "d/a", "user.x", b"x"),
    ),
]


def watch_all(device: Watcher, directory: str) -> None:
    for path in ("d", "d/a", "d/b", "d/s", "d/t"):
        device.watch(os.path.join(directory, path))


def watch_tree(device: Watcher, directory: str) -> None:
    device.watch(os.path.join(directory, "d"), tree=True)


def told(device: Watcher, directory: str) -> list[str]:
    """Return the records as lines, the directory left out of the watches' names."""
    return [str(record).removeprefix(f"{directory}/") for record in device.take()]


@pytest.mark.mount
@pytest.mark.parametrize("watch", [watch_all, watch_tree], ids=["watches", "a tree watch"])
@pytest.mark.parametrize(
    ("call", "real_call"), [pytest.param(call, real, id=name) for name, call, real in CALLS]
)
def test_a_tree_tells_the_same_as_a_mount(
    watch: Callable[[Watcher, str], None],
    call: Callable[[EngineTree], object],
    real_call: Callable[[Path], object],
    fusenotify_engine: EngineTree,
    fusenotify_session_mount: TemporaryMount,
    fusenotify_session_device: Watcher,
) -> None:
    top = fusenotify_session_mount.fresh_directory()
    prepare(top)
    watch(fusenotify_session_device, top.name)
    real_call(top)

    fusenotify_engine.prepare(*OBJECTS)
    device = fusenotify_engine.device()
    watch(device, "")
    call(fusenotify_engine)

    assert told(device, "") == told(fusenotify_session_device, top.name)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        pytest.param(lambda tree: tree.create("d/a"), errno.EEXIST, id="create what is there"),
        pytest.param(lambda tree: tree.create("d/n/n"), errno.ENOENT, id="create below nothing"),
        pytest.param(lambda tree: tree.create("d/a/n"), errno.ENOTDIR, id="create below a file"),
        pytest.param(lambda tree: tree.mkdir("d"), errno.EEXIST, id="mkdir what is there"),
        pytest.param(lambda tree: tree.link("d", "n"), errno.EPERM, id="link a directory"),
        pytest.param(lambda tree: tree.link("d/a", "d/b"), errno.EEXIST, id="link over another"),
        pytest.param(lambda tree: tree.unlink("d/n"), errno.ENOENT, id="unlink nothing"),
        pytest.param(lambda tree: tree.unlink("d/s"), errno.EISDIR, id="unlink a directory"),
        pytest.param(lambda tree: tree.rmdir("d/a"), errno.ENOTDIR, id="rmdir a file"),
        pytest.param(lambda tree: tree.rmdir("d"), errno.ENOTEMPTY, id="rmdir with names in it"),
        pytest.param(lambda tree: tree.rename("d/n", "d/x"), errno.ENOENT, id="rename nothing"),
        pytest.param(lambda tree: tree.rename("d", "d/s/d"), errno.EINVAL, id="rename into itself"),
        pytest.param(
            lambda tree: tree.rename("d/t", "d/s"), errno.ENOTEMPTY, id="rename over names"
        ),
        pytest.param(
            lambda tree: tree.rename("d/a", "d/t"), errno.EISDIR, id="rename over a directory"
        ),
        pytest.param(
            lambda tree: tree.rename("d/t", "d/a"), errno.ENOTDIR, id="a directory over a file"
        ),
        pytest.param(
            lambda tree: tree.exchange("d", "d/a"), errno.EINVAL, id="exchange with one inside"
        ),
        pytest.param(
            lambda tree: tree.open("d", writable=True), errno.EISDIR, id="write a directory"
        ),
        pytest.param(lambda tree: tree.truncate("d"), errno.EISDIR, id="truncate a directory"),
        pytest.param(lambda tree: tree.chmod("d/n"), errno.ENOENT, id="chmod nothing"),
        pytest.param(lambda tree: tree.rename("/", "d/x"), errno.EBUSY, id="rename the root"),
        pytest.param(lambda tree: tree.prepare("d/a/x"), errno.ENOTDIR, id="prepare below a file"),
    ],
)
def test_a_call_that_fails_tells_nothing(
    call: Callable[[EngineTree], object], code: int, fusenotify_engine: EngineTree
) -> None:
    fusenotify_engine.prepare(*OBJECTS)
    device = fusenotify_engine.device()
    watch_all(device, "")
    with pytest.raises(OSError, match=r".") as failed:
        call(fusenotify_engine)
    assert failed.value.errno == code
    assert_events(device, [])


def test_two_names_of_one_file_are_no_rename(fusenotify_engine: EngineTree) -> None:
    fusenotify_engine.prepare("a")
    fusenotify_engine.link("a", "b")
    device = fusenotify_engine.device()
    device.watch()
    fusenotify_engine.rename("a", "b")
    assert_events(device, [])
    fusenotify_engine.unlink("a")
    fusenotify_engine.unlink("b")
    assert_events(device, ["DELETE a", "DELETE b"])


def test_the_last_name_ends_the_watches(fusenotify_engine: EngineTree) -> None:
    fusenotify_engine.prepare("a")
    fusenotify_engine.link("a", "b")
    device = fusenotify_engine.device()
    device.watch("a")
    fusenotify_engine.unlink("a")
    fusenotify_engine.unlink("b")
    assert_events(device, ["ATTRIB", "DELETE_SELF", "IGNORED"])


def test_exchange(fusenotify_engine: EngineTree) -> None:
    fusenotify_engine.prepare("a", "s/b")
    device = fusenotify_engine.device()
    for path in (".", "s", "a"):
        device.watch(path, "MOVE|MOVE_SELF")
    fusenotify_engine.exchange("a", "s/b")
    assert_events(
        device,
        [
            *(".: MOVED_FROM a #1", "s: MOVED_TO b #1", "a: MOVE_SELF"),
            *("s: MOVED_FROM b #2", ".: MOVED_TO a #2"),
        ],
    )
    assert fusenotify_engine.inode("s/b").watches


def test_an_open_file_reads_writes_and_closes_once(fusenotify_engine: EngineTree) -> None:
    fusenotify_engine.prepare("a")
    device = fusenotify_engine.device()
    device.watch("a")
    with fusenotify_engine.open("a", writable=True, truncate=True) as file:
        file.read()
        file.write()
        file.close()
    assert_events(device, ["OPEN", "MODIFY", "ACCESS", "MODIFY", "CLOSE_WRITE"])
    for use in (file.read, file.write):
        with pytest.raises(OSError, match="the file was closed"):
            use()
    with (
        fusenotify_engine.open("a") as file,
        pytest.raises(OSError, match="not open for writing"),
    ):
        file.write()


def test_unmount_ends_all_watches(fusenotify_engine: EngineTree) -> None:
    fusenotify_engine.prepare("d/a")
    device = fusenotify_engine.device()
    device.watch()
    device.watch("d/a")
    fusenotify_engine.unmount()
    assert_events(device, [".: UNMOUNT|ISDIR", ".: IGNORED", "d/a: UNMOUNT", "d/a: IGNORED"])


def test_the_hooks_are_there_for_events_without_a_call(fusenotify_engine: EngineTree) -> None:
    fusenotify_engine.prepare("a")
    device = fusenotify_engine.device()
    device.watch()
    fusenotify_engine.hooks.attributes_changed(
        inode := fusenotify_engine.inode("a"), inode.dentry, size=True, owner_or_mode=True
    )
    assert_events(device, ["MODIFY|ATTRIB a"])


def test_a_device_refuses_what_the_syscall_refuses(fusenotify_engine: EngineTree) -> None:
    fusenotify_engine.prepare("a")
    device = fusenotify_engine.device()
    with pytest.raises(NotADirectoryError):
        device.watch("a", "ALL_EVENTS|ONLYDIR")
    with pytest.raises(FileNotFoundError):
        device.watch("b")
    with pytest.raises(OSError, match="unknown bits") as refused:
        device.watch("b", 1 << 16 | IN_ALL_EVENTS)
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(NotADirectoryError):
        device.watch("a", "CREATE", tree=True)
    with pytest.raises(OSError, match="the pattern '!'") as refused:
        device.watch(".", "CREATE", exclude=["*.o", "!"])
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(TypeError, match="several patterns"):
        device.watch(".", "CREATE", exclude="*.o")
    with pytest.raises(OSError, match="have no process") as refused:
        device.watch(".", "CREATE", ignore_self=True)
    assert refused.value.errno == errno.EOPNOTSUPP
    with pytest.raises(ValueError, match="unknown semantics 'linux-5'"):
        fusenotify_engine.device(semantics="linux-5")


def test_devices_count_against_their_users(fusenotify_engine: EngineTree) -> None:
    with contextlib.ExitStack() as devices:
        for _ in range(128):
            devices.enter_context(fusenotify_engine.device(uid=1))
        with pytest.raises(OSError, match="max_user_instances"):
            fusenotify_engine.device(uid=1)
        fusenotify_engine.device(uid=2)
    fusenotify_engine.device(uid=1)
