# SPDX-License-Identifier: GPL-2.0-or-later
"""A path leads to an object or is refused, also where the object has no name any more."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.client import Inotify, aio
from fusenotify.fs import syscalls
from fusenotify.masks import IN_ATTRIB, IN_CREATE, IN_DONT_FOLLOW, IN_MODIFY, IN_ONLYDIR

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    top = tmp_path_factory.mktemp("nameless")
    (top / "source").mkdir()
    (top / "mnt").mkdir()
    with fusenotify.mounted(top / "source", top / "mnt", options=["allow_other"]) as mounted:
        yield mounted


@pytest.fixture
def place(mounted: Mounted, request: pytest.FixtureRequest) -> Path:
    path = Path(mounted.mountpoint, str(abs(hash(request.node.nodeid))))
    path.mkdir()
    return path


@pytest.fixture
def unlinked(place: Path) -> Iterator[int]:
    """A descriptor of a file that has no name, beside one with the name that the kernel shows."""
    descriptor = os.open(place / "a", os.O_RDWR | os.O_CREAT)
    (place / "a").unlink()
    (place / "a (deleted)").touch()
    yield descriptor
    os.close(descriptor)


def verdict(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "watched"


@pytest.mark.parametrize("path", ["/proc/self/fd/{}", "/dev/fd/{}", "/proc/{pid}/fd/{}"])
def test_an_unlinked_file_is_watched_by_its_descriptor(
    place: Path, unlinked: int, path: str
) -> None:
    with Inotify() as inotify:
        named = inotify.add_watch(place / "a (deleted)", IN_MODIFY)
        path = path.format(unlinked, pid=os.getpid())
        wd = inotify.add_watch(path, IN_MODIFY)
        assert wd != named
        os.write(unlinked, b"x")
        inotify.sync()
        assert [(event.wd, event.path) for event in inotify.read(5)] == [(wd, path)]
        (place / "a (deleted)").write_text("x")
        inotify.sync()
        assert {event.wd for event in inotify.read(5)} == {named}


def test_a_file_with_another_name_is_the_same_object(place: Path) -> None:
    (place / "a").touch()
    (place / "b").hardlink_to(place / "a")
    descriptor = os.open(place / "a", os.O_PATH)
    (place / "a").unlink()
    with Inotify() as inotify:
        wd = inotify.add_watch(f"/proc/self/fd/{descriptor}", IN_MODIFY)
        assert inotify.add_watch(place / "b", IN_MODIFY) == wd
    os.close(descriptor)


def test_a_name_may_look_like_a_deleted_one(place: Path) -> None:
    (place / "x (deleted)").touch()
    with Inotify() as inotify:
        wd = inotify.add_watch(place / "x (deleted)", IN_ATTRIB)
        os.chmod(place / "x (deleted)", 0o600)
        assert [event.wd for event in inotify.read(5)] == [wd]


def test_a_removed_working_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "d").mkdir()
    monkeypatch.chdir(place / "d")
    (place / "d").rmdir()
    with Inotify() as inotify:
        wd = inotify.add_watch(".", IN_ATTRIB | IN_ONLYDIR)
        assert inotify.add_watch("/proc/self/cwd", IN_ATTRIB) == wd
        os.chmod("/proc/self/cwd", 0o700)
        assert [event.wd for event in inotify.read(5)] == [wd]
    monkeypatch.chdir("/")


def test_refusals_are_the_kernels(place: Path, unlinked: int) -> None:
    path = f"/proc/self/fd/{unlinked}"
    native = syscalls.inotify()
    with Inotify() as inotify:
        inotify.add_watch(place, IN_CREATE)
        assert verdict(lambda: syscalls.watch(native, path)) == "watched"
        assert verdict(lambda: inotify.add_watch(path, IN_MODIFY)) == "watched"
        assert verdict(lambda: inotify.add_watch(path, IN_MODIFY | IN_ONLYDIR)) == "ENOTDIR"
        # The link itself is proc's.
        assert verdict(lambda: inotify.add_watch(path, IN_MODIFY | IN_DONT_FOLLOW)) == "EXDEV"
        assert verdict(lambda: inotify.add_watch("/proc/self/fd/99999", IN_MODIFY)) == "ENOENT"
    os.close(native)


def test_an_unlinked_file_of_another_filesystem_is_outside(
    mounted: Mounted, place: Path, tmp_path: Path
) -> None:
    with (
        (tmp_path / "a").open("w") as file,
        Inotify() as found,
        Inotify(socket=mounted.socket) as told,
    ):
        (tmp_path / "a").unlink()
        path = f"/proc/self/fd/{file.fileno()}"
        found.add_watch(place, IN_CREATE)
        told.add_watch(place, IN_CREATE)
        assert verdict(lambda: found.add_watch(path, IN_MODIFY)) == "EXDEV"
        assert verdict(lambda: told.add_watch(path, IN_MODIFY)) == "ENOENT"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_user_needs_read_permission_as_on_linux(place: Path, unlinked: int) -> None:
    code = (
        "import errno, os, sys\n"
        "from fusenotify.client import Inotify\n"
        "from fusenotify.fs import syscalls\n"
        "os.setgid(4001); os.setuid(4001)\n"
        "path = f'/proc/self/fd/{sys.argv[1]}'\n"
        "def verdict(call):\n"
        "    try: call()\n"
        "    except OSError as error: return errno.errorcode[error.errno]\n"
        "    return 'watched'\n"
        "native = syscalls.inotify()\n"
        "print(verdict(lambda: syscalls.watch(native, path)),"
        " verdict(lambda: Inotify().add_watch(path, 2)))\n"
    )
    verdicts = []
    held = os.open(f"/proc/self/fd/{unlinked}", os.O_PATH)
    for mode in (0o600, 0o604):
        os.fchmod(unlinked, mode)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(held)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            pass_fds=[held],
        )
        verdicts.append(done.stdout.split())
    os.close(held)
    assert verdicts == [["EACCES", "EACCES"], ["watched", "watched"]]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_client_shows_descriptors_too(unlinked: int, backend: str) -> None:
    async def test() -> None:
        async with aio.Inotify() as inotify:
            wd = await inotify.add_watch(f"/proc/self/fd/{unlinked}", IN_MODIFY)
            os.write(unlinked, b"x")
            assert [event.wd for event in await inotify.read(5)] == [wd]

    anyio.run(test, backend=backend)
