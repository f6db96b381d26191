# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes made directly to SOURCE are heard, in their order, and the kernel forgets what was."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_MOVE,
    IN_MOVE_SELF,
    IN_OPEN,
    names,
)
from fusenotify.client import Client, Device, Inotify
from fusenotify.events import unpack
from tests.cli.command import until
from tests.conftest import User

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root hears of a whole filesystem"),
]

NAMES = IN_CREATE | IN_DELETE | IN_MOVE


class Here(NamedTuple):
    """A fresh directory of a mount: what it is in SOURCE, in the mount, and for a client."""

    source: Path
    top: Path
    path: str
    client: Client

    def device(self, mask: int, name: str = "", *, tree: bool = False) -> Device:
        """Return a new device with a watch."""
        device = self.client.init(nonblock=True)
        device.add_watch(f"{self.path}/{name}", mask, tree=tree)
        return device


@pytest.fixture(scope="module", params=["watched", "all"])
def mount(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mounted]:
    top = tmp_path_factory.mktemp(request.param)
    for name in ("source", "mnt"):
        (top / name).mkdir()
    with fusenotify.mounted(top / "source", top / "mnt", behind=request.param) as mount:
        yield mount


@pytest.fixture
def here(mount: Mounted, request: pytest.FixtureRequest) -> Iterator[Here]:
    name = f"d{id(request)}"
    source = Path(mount.source) / name
    source.mkdir()
    with mount.client() as client:
        yield Here(source, Path(mount.mountpoint) / name, f"/{name}", client)


ALL_HEARD = pytest.mark.parametrize("mount", ["all"], indirect=True)


def heard(client: Client, device: Device) -> list[str]:
    """Return the records of everything done before."""
    client.sync()
    told: list[str] = []
    with contextlib.suppress(BlockingIOError):
        for event in unpack(device.read(1 << 20)):
            name = "" if event.name is None else f" {os.fsdecode(event.name)}"
            told.append("|".join(names(event.mask)) + name)
    return told


def done(source: Path, script: str) -> None:
    """Have another process change SOURCE."""
    subprocess.run(["sh", "-e", "-c", script], cwd=source, check=True)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo x > new", ["CREATE new", "OPEN new", "MODIFY new", "CLOSE_WRITE new"]),
        ("echo x >> f", ["OPEN f", "MODIFY f", "CLOSE_WRITE f"]),
        ("cat f", ["OPEN f", "ACCESS f", "CLOSE_NOWRITE f"]),
        ("chmod 600 f", ["ATTRIB f"]),
        ("chmod 700 d", ["ATTRIB|ISDIR d"]),
        ("mkdir s; rmdir s", ["CREATE|ISDIR s", "DELETE|ISDIR s"]),
        ("ln -s f l", ["CREATE l"]),
        ("mv f g", ["MOVED_FROM f", "MOVED_TO g"]),
        ("mv d/below .", ["MOVED_TO below"]),
        ("mv f d", ["MOVED_FROM f"]),
        ("mv -T d/e d2", ["MOVED_TO|ISDIR d2"]),
        ("rm f", ["DELETE f"]),
        ("ln f g", ["CREATE g"]),
        ("touch -m f", ["MODIFY f"]),
    ],
)
def test_a_directorys_watch_gets_changes_of_source(
    here: Here, script: str, told: list[str]
) -> None:
    source = here.source
    (source / "f").write_text("x")
    (source / "d" / "e").mkdir(parents=True)
    (source / "d" / "below").touch()
    (source / "d2").mkdir()
    device = here.device(IN_ALL_EVENTS)
    done(source, script)
    if "touch" in script:  # which opens it, too
        assert told[0] in heard(here.client, device)
    else:
        assert heard(here.client, device) == told


def test_the_watch_of_an_object_gets_its_changes_by_any_name(here: Here) -> None:
    source = here.source
    (source / "d").mkdir()
    (source / "f").write_text("x")
    (source / "d" / "g").hardlink_to(source / "f")
    device = here.device(IN_ALL_EVENTS & ~IN_OPEN & ~IN_CLOSE_WRITE, "f")
    done(source, "echo y >> d/g")
    assert heard(here.client, device) == ["MODIFY"]
    done(source, "mv f h")
    assert heard(here.client, device) == ["MOVE_SELF"]
    done(source, "rm h")
    assert heard(here.client, device) == ["ATTRIB"]
    done(source, "rm d/g")
    assert heard(here.client, device) == ["ATTRIB", "DELETE_SELF", "IGNORED"]


def test_a_directory_that_is_removed_says_so_to_its_own_watch(here: Here) -> None:
    source = here.source
    (source / "d").mkdir()
    device = here.device(IN_ALL_EVENTS, "d")
    done(source, "mv d e; rmdir e")
    assert heard(here.client, device) == ["MOVE_SELF", "DELETE_SELF", "IGNORED"]


def test_a_watched_directory_is_heard_where_nobody_has_looked(here: Here) -> None:
    source = here.source
    (source / "d").mkdir()
    (source / "unseen").mkdir()
    device = here.device(NAMES | IN_ATTRIB | IN_MOVE_SELF, "d")
    done(source, "mv d unseen/e; : > unseen/e/f; chmod 700 unseen/e")
    assert heard(here.client, device) == ["MOVE_SELF", "CREATE f", "ATTRIB|ISDIR"]
    done(source, "mv unseen/e/f unseen/e/g")
    assert heard(here.client, device) == ["MOVED_FROM f", "MOVED_TO g"]
    done(source, "mv unseen/e/g unseen/g; mv unseen/e .")
    assert heard(here.client, device) == ["MOVED_FROM g", "MOVE_SELF"]


def test_a_tree_watch_gets_changes_of_directories_that_nobody_has_looked_at(here: Here) -> None:
    source = here.source
    (source / "a" / "b" / "c").mkdir(parents=True)
    device = here.device(NAMES, tree=True)
    done(source, "touch a/b/c/f; mv a/b/c a/d; mkdir -p x/y/z; touch x/y/z/f; rm -r a")
    told = heard(here.client, device)
    assert told[:7] == [
        "CREATE a/b/c/f",
        "MOVED_FROM|ISDIR a/b/c",
        "MOVED_TO|ISDIR a/d",
        "CREATE|ISDIR x",
        "CREATE|ISDIR x/y",
        "CREATE|ISDIR x/y/z",
        "CREATE x/y/z/f",
    ]
    removed = ["DELETE a/d/f", "DELETE|ISDIR a", "DELETE|ISDIR a/b", "DELETE|ISDIR a/d"]
    assert sorted(told[7:]) == removed


def test_changes_through_the_mount_are_told_once(here: Here) -> None:
    top = here.top
    device = here.device(IN_ALL_EVENTS & ~IN_OPEN)
    (top / "f").write_text("x")
    (top / "f").rename(top / "g")
    (top / "g").unlink()
    assert heard(here.client, device) == [
        "CREATE f",
        "MODIFY f",
        "CLOSE_WRITE f",
        "MOVED_FROM f",
        "MOVED_TO g",
        "DELETE g",
    ]


def test_names_are_told_in_the_order_in_which_they_were_changed_on_either_side(here: Here) -> None:
    source, top = here.source, here.top
    device = here.device(IN_CREATE | IN_DELETE)
    with subprocess.Popen(
        ["sh", "-c", "while read name; do : > $name; rm $name; echo; done"],
        cwd=source,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for number in range(50):
            other.stdin.write("f\n")
            other.stdout.readline()
            (top / "f").touch()
            (top / "f").unlink()
            if number % 7 == 0:
                assert not (top / "f").exists()
        other.stdin.close()
    assert heard(here.client, device) == ["CREATE f", "DELETE f"] * 100


@ALL_HEARD
def test_a_path_that_is_too_long_for_the_kernel_costs_nobody_else_an_event(here: Here) -> None:
    here.device(IN_CREATE, tree=True)
    device = here.device(IN_CREATE)
    name = "x" * 250
    deep = f"for n in {{1..20}}; do mkdir {name}; cd {name}; done; mkdir new"
    subprocess.run(["bash", "-ec", deep], cwd=here.source, check=True)
    done(here.source, ": > f")
    told = heard(here.client, device)
    done(here.source, f"rm -r {name}")  # by pieces of its path, as Python cannot
    assert told == [f"CREATE|ISDIR {name}", "CREATE f"]


@ALL_HEARD
def test_the_kernel_forgets_what_is_changed_behind_the_mount(here: Here) -> None:
    source, top = here.source, here.top
    (source / "f").write_text("before")
    (source / "d").mkdir()
    (source / "d" / "g").touch()
    assert (top / "f").read_text() == "before"
    assert not (top / "absent").exists()
    assert (top / "d" / "g").exists()
    mode = (top / "f").stat().st_mode
    client = here.client
    with open(top / "f") as file:
        done(source, "printf after_ > f; chmod 601 f; : > absent; mv d e")
        client.sync()
        assert (top / "f").read_text() == "after_"
        assert file.read() == "after_"
        assert (top / "f").stat().st_mode != mode
        assert (top / "absent").exists()
        assert not (top / "d").exists()
        assert (top / "e" / "g").exists()
        assert sorted(os.listdir(top)) == ["absent", "e", "f"]
        done(source, "printf other > new; mv new f; rm absent")
        client.sync()
        assert (top / "f").read_text() == "other"
        assert not (top / "absent").exists()
        assert file.read() == ""  # that file is still the one that was opened


def test_without_changes_behind_the_mount_the_kernel_remembers_for_long(tmp_path: Path) -> None:
    source, mnt = tmp_path / "source", tmp_path / "mnt"
    source.mkdir()
    mnt.mkdir()
    kept = mnt / "kept"
    # A mount in whose SOURCE nothing was changed before: a name is forgotten twice, the second
    # time after the fence, and with it what the kernel remembers of the name's directory.
    with fusenotify.mounted(source, mnt, behind="all") as mount:
        kept.touch()
        kept.stat()
        time.sleep(1.1)  # longer than it remembers without --behind all
        os.kill(mount.pid, signal.SIGSTOP)
        # In a process that can be killed: if somebody has to be asked, it would wait for ever.
        looking = subprocess.Popen(["stat", "--format=%s", kept], stdout=subprocess.PIPE)
        try:
            assert looking.communicate(timeout=10)[0] == b"0\n"  # nobody has to be asked
        finally:
            os.kill(mount.pid, signal.SIGCONT)
            looking.kill()


@ALL_HEARD
def test_a_loss_is_told_to_every_device_and_leaves_nothing_stale(
    here: Here, mount: Mounted
) -> None:
    source, top, client = here.source, here.top, here.client
    most = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
    (source / "f").write_text("before")
    (source / "d").mkdir()
    (source / "busy").mkdir()
    one, other = here.device(IN_CREATE, "d"), here.device(IN_MODIFY, "f")
    assert (top / "f").read_text() == "before"
    assert not (top / "absent").exists()
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        for number in range(most + 100):
            os.mknod(source / "busy" / str(number))
        (source / "f").write_text("after")
        (source / "absent").touch()
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    assert heard(client, one) == ["Q_OVERFLOW"]
    assert heard(client, other) == ["Q_OVERFLOW"]
    assert (top / "f").read_text() == "after"
    assert (top / "absent").exists()
    behind = client.status().behind
    assert behind is not None
    assert behind.overflows >= 1
    done(source, "touch d/new")
    assert heard(client, one) == ["CREATE new"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing")
def test_a_program_that_writes_whenever_the_daemon_reads_holds_nobody_up(tmp_path: Path) -> None:
    source, mnt = tmp_path / "source", tmp_path / "mnt"
    for directory in (source, mnt):
        directory.mkdir()
    # strace writes a line for each system call of the daemon, to the same filesystem.
    strace: list[str | Path] = ["strace", "-f", "-qq", "-o", tmp_path / "trace"]
    mount = [sys.executable, "-m", "fusenotify", "mount", "-f", "--behind", "all"]
    with subprocess.Popen([*strace, *mount, source, mnt]) as daemon:
        try:
            until(lambda: os.path.ismount(mnt), "it is mounted")
            with Inotify() as inotify:
                inotify.add_watch(mnt, "CREATE", tree=True)
                subprocess.run(["sh", "-ec", _A_LITTLE], cwd=mnt, check=True, timeout=20)
        finally:
            daemon.kill()
            subprocess.run(["fusermount3", "-uz", mnt], check=True)


_A_LITTLE = "for number in 1 2 3 4 5; do mkdir $number; mv $number d$number; rmdir d$number; done"


def test_if_it_is_impossible_the_daemon_says_so_and_mounts_as_before(
    tmp_path: Path,
) -> None:
    layers = [tmp_path / name for name in ("lower", "upper", "work", "source", "mnt")]
    for directory in layers:
        directory.mkdir()
    lower, upper, work, source, mnt = layers
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, source], check=True)
    try:
        command = [sys.executable, "-m", "fusenotify"]
        run = [*command, "mount", "--behind", "all", str(source), str(mnt)]
        started = subprocess.run(run, capture_output=True, text=True, check=True)
        try:
            assert started.stderr.splitlines() == [
                "fusenotify: changes behind the mount are not heard: "
                "the handles of SOURCE's kind of filesystem are not known"
            ]
            (source / "f").write_text("x")
            assert (mnt / "f").read_text() == "x"
            status = subprocess.run([*command, "status", mnt], capture_output=True, text=True)
            assert "behind the mount: nothing is heard: the handles" in status.stdout
        finally:
            subprocess.run([*command, "unmount", mnt], check=True)
    finally:
        subprocess.run(["umount", source], check=True)


# As an ordinary user: what is watched, what of a tree is known, and no more.
_AS_USER = """
import os, subprocess, sys, fusenotify
from fusenotify.bits import IN_CREATE, IN_DELETE, IN_MODIFY, IN_MOVE, names
from fusenotify.events import unpack
top, kind = sys.argv[1:]
source, mnt = top + "/source", top + "/mnt"
with fusenotify.mounted(source, mnt, behind=kind) as mount, mount.client() as client:
    device = client.init(nonblock=True)
    device.add_watch("/", IN_CREATE | IN_DELETE | IN_MODIFY | IN_MOVE, tree=True)
    for script in "mkdir -p a/b", "echo x > a/b/f", "mv a c", "rm -r c":
        subprocess.run(["sh", "-c", script], cwd=source)
        client.sync()  # what comes up in a directory before it has a mark is listed once
    behind = client.status().behind
    try:
        for event in unpack(device.read(1 << 20)):
            print("|".join(names(event.mask)), event.name.decode())
    except BlockingIOError:
        print("nothing:", behind.why_not)
"""


def test_an_ordinary_user_gets_changes_of_watched_objects(public_path: Path, nobody: User) -> None:
    for name in ("source", "mnt"):
        (public_path / name).mkdir()
        os.chown(public_path / name, nobody.uid, nobody.uid)
    ran = nobody.run_with_fuse(nobody.python, "-c", _AS_USER, public_path, "watched")
    assert ran.stderr == ""
    told = ran.stdout.splitlines()
    for line in ("CREATE|ISDIR a", "CREATE|ISDIR a/b", "CREATE a/b/f", "MOVED_TO|ISDIR c"):
        assert line in told
    assert told[-1] == "DELETE|ISDIR c"
    ran = nobody.run_with_fuse(nobody.python, "-c", _AS_USER, public_path, "all")
    assert ran.stdout == "nothing: only root hears of a whole filesystem\n"
