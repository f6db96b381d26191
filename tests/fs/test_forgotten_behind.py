# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel forgets what was changed behind the mount, even if the change hardly shows.

tests.fs.stale looks for such changes at random.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.bits import IN_CLOSE_WRITE, IN_MOVE_SELF
from fusenotify.events import unpack
from tests.cli.command import until

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root hears of a whole filesystem"),
]

# A time that programs set again after they have changed a file.
_THEN = "@1000000000"
_PAGE = resource.getpagesize()


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    top = tmp_path_factory.mktemp("all")
    for name in ("source", "mnt", "outside"):
        (top / name).mkdir()
    with fusenotify.mounted(top / "source", top / "mnt", behind="all") as mount:
        yield mount


@pytest.fixture
def name(mount: Mounted, request: pytest.FixtureRequest) -> str:
    """The name of a fresh directory in SOURCE."""
    name = f"d{id(request)}"
    (Path(mount.source) / name).mkdir()
    return name


def done(mount: Mounted, name: str, script: str) -> None:
    """Have another process change SOURCE, and wait until the kernel has forgotten it."""
    subprocess.run(["sh", "-ec", script], cwd=Path(mount.source) / name, check=True)
    with mount.client() as client:
        client.sync()


@pytest.mark.parametrize(
    "change",
    [
        "printf after! | dd of=f conv=notrunc status=none",
        "printf after! > new; cp new f",
        "truncate -s 0 f; truncate -s 6 f",
        "fallocate --punch-hole --offset 0 --length 6 f",
    ],
)
def test_data_is_forgotten_though_size_and_time_are_the_same(
    mount: Mounted, name: str, change: str
) -> None:
    below, through = Path(mount.source) / name / "f", Path(mount.mountpoint) / name / "f"
    below.write_text("before")
    subprocess.run(["touch", "-d", _THEN, below], check=True)
    with through.open("rb", buffering=0) as file:
        assert file.read() == b"before"
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == b"before"
            done(mount, name, f"{change}; touch -d {_THEN} f")
            after = below.read_bytes()
            assert after != b"before"
            assert mapped[:] == after  # without any other call
        assert os.pread(file.fileno(), 6, 0) == after
    assert through.read_bytes() == after


def test_what_was_stored_through_a_mapping_of_the_mount_is_kept(mount: Mounted, name: str) -> None:
    below, through = Path(mount.source) / name / "f", Path(mount.mountpoint) / name / "f"
    below.write_bytes(bytes(2 * _PAGE))
    with through.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:6] = b"stored"
        done(mount, name, f"printf behind | dd of=f bs=1 seek={_PAGE} conv=notrunc status=none")
        assert mapped[:6] == b"stored"
        assert mapped[_PAGE : _PAGE + 6] == b"behind"
        mapped.flush()
    assert below.read_bytes()[:6] == b"stored"


# Stores to a mapping, and closes the file first.
_STORES = """
import mmap, sys
with open("f", "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)
mapped[:3] = sys.argv[1].encode()
mapped.close()
"""


def test_what_another_program_stored_to_a_mapping_shows_when_that_is_reported(
    mount: Mounted, name: str
) -> None:
    below, through = Path(mount.source) / name / "f", Path(mount.mountpoint) / name / "f"
    below.write_bytes(b"before")
    with through.open("rb", buffering=0) as file, mount.client() as client:
        assert os.pread(file.fileno(), 6, 0) == b"before"
        subprocess.run([sys.executable, "-c", _STORES, "one"], cwd=below.parent, check=True)
        client.notify(f"{name}/f")
        assert os.pread(file.fileno(), 3, 0) == b"one"
        client.init(nonblock=True).add_watch(name, IN_CLOSE_WRITE)
        subprocess.run([sys.executable, "-c", _STORES, "two"], cwd=below.parent, check=True)
        client.sync()
        assert os.pread(file.fileno(), 3, 0) == b"two"


@pytest.mark.parametrize("back", ["d", "other/d"])
def test_names_are_forgotten_though_their_tree_was_outside_source_when_they_changed(
    mount: Mounted, name: str, back: str
) -> None:
    source, top = Path(mount.source) / name, Path(mount.mountpoint) / name
    for directory in ("d/e", "other"):
        (source / directory).mkdir(parents=True)
    for each in ("d/gone", "d/moved", "d/e/gone"):
        (source / each).touch()
    opened = os.open(top / "d", os.O_RDONLY)
    try:
        for each in ("d/new", "d/e/new", "d/e/moved"):
            assert not (top / each).exists()
        for each in ("d/gone", "d/moved", "d/e/gone"):
            assert (top / each).exists()
        outside = "../../outside/d"
        done(
            mount,
            name,
            f"mv d {outside}; touch {outside}/new {outside}/e/new;"
            f"mv {outside}/moved {outside}/e; rm {outside}/gone {outside}/e/gone;"
            f"mv {outside} {back}",
        )
        assert sorted(os.listdir(top / back)) == ["e", "new"]
        for there in (top / back, Path(f"/proc/self/fd/{opened}/.")):
            for each in ("new", "e/new", "e/moved"):
                assert (there / each).exists()
            for each in ("gone", "moved", "e/gone"):
                assert not (there / each).exists()
    finally:
        os.close(opened)


# Looks a name up on a processor that something urgent takes from it for a moment.
_LOOKS = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[2])})
try:
    os.stat(sys.argv[1])
except OSError:
    pass
"""
_TAKES_THE_PROCESSOR = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
print("urgent", flush=True)
until = time.monotonic() + 0.6
while time.monotonic() < until:
    pass
"""


def waiting_lookup(path: Path, processor: str) -> subprocess.Popen[bytes] | None:
    """Return a program that waits for the answer to a lookup; None if nobody has to be asked."""
    looking = subprocess.Popen([sys.executable, "-c", _LOOKS, path, processor])
    wchan = Path(f"/proc/{looking.pid}/wchan")
    until(
        lambda: looking.poll() is not None or "request_wait" in wchan.read_text(),
        "the lookup ends or waits",
    )
    return looking if looking.returncode is None else None


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is only one processor")
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_lookup_that_was_answered_before_the_change_renews_nothing(
    tmp_path: Path, kind: str
) -> None:
    source, mnt = tmp_path / "source", tmp_path / "mnt"
    for directory in (source, mnt):
        directory.mkdir()
    one, other = (source / name for name in ("f", "other"))
    for path in (one, other):
        path.touch() if kind == "file" else path.mkdir()
    processor = str(max(os.sched_getaffinity(0)))
    with (
        fusenotify.mounted(source, mnt, behind="all", entry_timeout=0.3) as mount,
        mount.client() as client,
    ):
        (mnt / "f").stat()
        os.kill(mount.pid, signal.SIGSTOP)
        try:
            while (looking := waiting_lookup(mnt / "f", processor)) is None:
                pass  # the kernel still remembers the name
            urgent = subprocess.Popen(
                [sys.executable, "-c", _TAKES_THE_PROCESSOR, processor], stdout=subprocess.PIPE
            )
            assert urgent.stdout is not None
            urgent.stdout.readline()
        finally:
            os.kill(mount.pid, signal.SIGCONT)
        stat = Path(f"/proc/{looking.pid}/stat")
        until(lambda: ") R " in stat.read_text(), "the lookup is answered")
        script = "mv f old; mv other f"
        subprocess.run(["sh", "-ec", script], cwd=source, check=True)
        client.sync()
        looking.wait()
        assert (mnt / "f").stat().st_ino == one.stat().st_ino
        urgent.communicate()


def test_a_watch_hears_of_moves_that_keep_the_name_outside_source(
    mount: Mounted, name: str
) -> None:
    (Path(mount.source) / name / "one/two").mkdir(parents=True)
    (Path(mount.source) / name / "one/f").touch()
    with mount.client() as client:
        device = client.init(nonblock=True)
        device.add_watch(f"{name}/one/f", IN_MOVE_SELF)
        done(mount, name, "mv one ../../outside")
        done(mount, name, "mv ../../outside/one/f ../../outside/one/two")
        assert [event.mask for event in unpack(device.read(4096))] == [IN_MOVE_SELF]
        done(mount, name, "rm -r ../../outside/one")
