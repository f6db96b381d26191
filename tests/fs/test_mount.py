# SPDX-License-Identifier: GPL-2.0-or-later
"""A real mount under real programs: nothing differs from SOURCE, nothing is kept for ever."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.events import unpack
from fusenotify.masks import (
    IN_ALL_EVENTS,
    IN_CLOSE,
    IN_CLOSE_WRITE,
    IN_IGNORED,
    IN_ISDIR,
    IN_UNMOUNT,
)
from tests.cli.command import until

pytestmark = pytest.mark.mount

# Python's own mappings hold a duplicate of the descriptor, whose close waits for a FLUSH.
LIBC = ctypes.CDLL(None)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
REPOSITORY = Path(__file__).parent.parent.parent


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program that must succeed; return what it printed."""
    environment = os.environ | {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "HOME": "/nonexistent",
    }
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def descriptors(mount: Mounted) -> int:
    return len(os.listdir(f"/proc/{mount.pid}/fd"))


def make_repository(top: Path) -> None:
    """Make a repository of some files and commits."""
    run("git", "init", "-q", top)
    for commit in range(3):
        for number in range(40):
            below = top / f"d{number % 5}"
            below.mkdir(exist_ok=True)
            (below / f"f{number}").write_text(f"{commit} {number}\n" * 50)
        run("git", "add", "-A", cwd=top)
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        run("git", *author, "commit", "-qm", f"commit {commit}", cwd=top)


def test_git_clones_checks_and_finds_nothing_changed(mounted: Mounted, tmp_path: Path) -> None:
    make_repository(tmp_path / "origin")
    clone = Path(mounted.mountpoint) / "clone"
    run("git", "clone", "-q", "--no-hardlinks", tmp_path / "origin", clone)
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    run("git", "fsck", "--full", "--strict", cwd=clone)
    run("git", "gc", "-q", cwd=clone)
    run("git", "fsck", "--full", "--strict", cwd=clone)
    assert run("diff", "-r", mounted.mountpoint, mounted.source) == ""


def test_a_package_installed_into_a_venv_inside_is_imported(mounted: Mounted) -> None:
    venv = Path(mounted.mountpoint) / "venv"
    package = Path(mounted.mountpoint) / "package"
    (package / "greeting").mkdir(parents=True)
    (package / "greeting" / "__init__.py").write_text("word = 'hello'\n")
    (package / "pyproject.toml").write_text('[project]\nname = "greeting"\nversion = "1"\n')
    run(sys.executable, "-m", "venv", "--without-pip", "--symlinks", venv)
    libraries = next((venv / "lib").glob("python*")) / "site-packages"
    run("cp", "-a", package / "greeting", libraries)
    run(sys.executable, "-m", "compileall", "-q", libraries)
    printed = run(venv / "bin" / "python", "-c", "import greeting; print(greeting.word)")
    assert printed == "hello\n"
    assert run("diff", "-r", mounted.mountpoint, mounted.source) == ""


def test_descriptors_go_when_the_kernel_forgets(mounted: Mounted) -> None:
    if os.geteuid():
        pytest.skip("only root can make the kernel drop its caches")
    idle = descriptors(mounted)
    top = Path(mounted.source) / "many"
    for number in range(30):
        (top / str(number)).mkdir(parents=True)
        for file in range(30):
            (top / str(number) / str(file)).touch()
    walked = sum(1 for _ in os.walk(Path(mounted.mountpoint) / "many"))
    assert walked == 31
    assert descriptors(mounted) > idle + 900

    def dropped() -> bool:
        Path("/proc/sys/vm/drop_caches").write_text("2")
        return descriptors(mounted) <= idle + 1

    until(dropped, "the kernel forgets it")


def test_removing_a_tree_leaves_no_descriptor(mounted: Mounted) -> None:
    idle = descriptors(mounted)
    top = Path(mounted.mountpoint) / "tree"
    for number in range(20):
        (top / str(number)).mkdir(parents=True)
        (top / str(number) / "f").write_text("x")
    run("rm", "-rf", top)
    until(lambda: descriptors(mounted) <= idle, "all descriptors are closed")


@pytest.mark.parametrize("writers", [0, 4])
def test_a_sync_comes_after_two_hundred_outstanding_releases(
    mounted: Mounted, writers: int
) -> None:
    """The end of a mapping waits for nothing, so a stopped daemon lets RELEASEs pile up."""
    synced = threading.Event()

    def write() -> None:
        with open(os.path.join(mounted.mountpoint, "busy"), "ab", buffering=0) as file:
            ready.wait()
            while not synced.is_set():
                file.write(b"x")

    ready = threading.Barrier(writers + 1)
    busy = [threading.Thread(target=write) for _ in range(writers)]
    for writer in busy:
        writer.start()
    names = [f"f{number}".encode() for number in range(200)]
    with mounted.client() as client:
        device = client.init(nonblock=True)
        mappings = []
        for name in names:
            path = os.path.join(os.fsencode(mounted.mountpoint), name)
            fd = os.open(path, os.O_RDWR | os.O_CREAT)
            mappings.append(LIBC.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0))
            os.close(fd)
        device.add_watch("/", IN_CLOSE)
        ready.wait()
        os.kill(mounted.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, mounted.pid, os.WSTOPPED)
            for mapping in mappings:
                LIBC.munmap(mapping, 4096)
            sync = threading.Thread(target=client.sync)
            sync.start()
        finally:
            os.kill(mounted.pid, signal.SIGCONT)
        sync.join()
        records = device.read(1 << 20)
        synced.set()
        for writer in busy:
            writer.join()
        assert {event.name for event in unpack(records)} == set(names)


def test_a_sync_comes_after_the_closes_of_four_writers(mounted: Mounted) -> None:
    with mounted.client() as client:
        device = client.init(nonblock=True)
        device.add_watch("/", IN_CLOSE_WRITE)
        script = (
            "import sys\n"
            "for number in range(100):\n"
            "    open(f'{sys.argv[1]}/{sys.argv[2]}-{number}', 'w').close()\n"
        )
        writers = [
            subprocess.Popen([sys.executable, "-c", script, mounted.mountpoint, str(writer)])
            for writer in range(4)
        ]
        assert [writer.wait() for writer in writers] == [0] * 4
        client.sync()
        assert len(list(unpack(device.read(1 << 20)))) == 400


def test_unmounting_sends_unmount_and_ignored_to_every_watch(mounted: Mounted) -> None:
    top = Path(mounted.mountpoint)
    (top / "s").mkdir()
    (top / "f").touch()
    with mounted.client() as client:
        device = client.init()
        wds = [device.add_watch(path, IN_ALL_EVENTS) for path in ("/", "/s", "/f")]
        run("fusermount3", "-u", mounted.mountpoint)
        told: list[tuple[int, int]] = []
        while len(told) < 6:
            told += [(event.wd, event.mask) for event in unpack(device.read(4096))]
    directory, file = IN_UNMOUNT | IN_ISDIR, IN_UNMOUNT
    expected = {
        wd: [mask, IN_IGNORED] for wd, mask in zip(wds, (directory, directory, file), strict=True)
    }
    assert {wd: [mask for of, mask in told if of == wd] for wd in wds} == expected


def test_behind_the_unmount_nothing_can_be_watched_any_more(mounted: Mounted) -> None:
    """A client that is late gets events with old names, like the other clients."""
    Path(mounted.mountpoint, "directory").mkdir()
    with mounted.client() as client:
        device = client.init()
        device.add_watch("/", IN_ALL_EVENTS)
        run("fusermount3", "-u", mounted.mountpoint)
        # until the daemon has heard of it
        until(lambda: not any(user.watches for user in client.status().users), "no watch is left")
        for path in ("/", "directory"):
            with pytest.raises(FileNotFoundError, match="nothing is mounted here any more"):
                device.add_watch(path, IN_ALL_EVENTS)
        masks = [event.mask for event in unpack(device.read(4096))]
        assert masks == [IN_UNMOUNT | IN_ISDIR, IN_IGNORED]


@pytest.mark.parametrize("name", ["user.fusenotify.other", "security.nonsense", "x"])
def test_a_failing_request_does_not_end_the_daemon(mounted: Mounted, name: str) -> None:
    top = Path(mounted.mountpoint)
    with pytest.raises(OSError, match=r"No data|not supported"):
        os.getxattr(top, name)
    assert os.listdir(top) == []


def test_the_reserved_attribute_names_the_socket_and_cannot_be_set(mounted: Mounted) -> None:
    top = Path(mounted.mountpoint)
    assert os.getxattr(top, "user.fusenotify.socket") == os.fsencode(mounted.socket)
    assert "user.fusenotify.socket" not in os.listxattr(top)
    with pytest.raises(PermissionError):
        os.setxattr(top, "user.fusenotify.socket", b"x")


def test_the_mount_table_shows_type_and_source(mounted: Mounted) -> None:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    (line,) = [line for line in lines if line.split()[1] == mounted.mountpoint]
    assert line.split()[::2][:2] == [mounted.source, "fuse.fusenotify"]
