# SPDX-License-Identifier: GPL-2.0-or-later
"""Who does what, as a daemon sees it that does not see everybody.

That is one of an ordinary user, one in a pid namespace of its own, with its /proc or
under its parent's, and one whose /proc hides other users' processes.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fusenotify import Mounted
from tests.conftest import User, modules

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes pid namespaces"),
]

# A pid namespace of its own, under the parent's /proc or with its own.
UNDER_ANOTHERS_PROC = ["unshare", "--pid", "--fork"]
WITH_ITS_OWN_PROC = [*UNDER_ANOTHERS_PROC, "--mount-proc"]

# What every program here begins with.  told() prints an event a line.
_BEGINNING = """
import json, os, subprocess, sys, threading
from pathlib import Path
import fusenotify
from fusenotify.client import Inotify
from fusenotify.masks import IN_CLOSE_WRITE, IN_CREATE, IN_MODIFY

def told(inotify):
    inotify.sync()
    for event in inotify.read(timeout=0):
        print(json.dumps([event.name, event.pid, event.uid, event.command]), flush=True)

def act(top):
    (top / "own").touch()
    thread = threading.Thread(target=(top / "thread").touch)
    thread.start()
    thread.join()
    subprocess.run(["touch", top / "child"], check=True)
"""
# A client in a pid namespace of its own: who it is by the /proc there, then what it hears.
CLIENT = (
    _BEGINNING
    + """
top = Path(sys.argv[1])
print(os.readlink("/proc/self"), flush=True)
with Inotify(detailed=True) as all, Inotify(detailed=True) as others:
    all.add_watch(top, IN_CREATE)
    others.add_watch(top, IN_CREATE, ignore_self=True)
    act(top)
    told(all)
    told(others)
"""
)
# A daemon, and a client beside it: who it is there, then what it hears: of its own doings, then of
# others' who wait for an empty line and then give it one; at last, whether it may ignore itself.
DAEMON = (
    _BEGINNING
    + """
source, mountpoint, options = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
with fusenotify.mounted(source, mountpoint, options=options), Inotify(detailed=True) as inotify:
    inotify.add_watch(mountpoint, IN_CREATE)
    print(os.getpid(), flush=True)
    act(mountpoint)
    told(inotify)
    print(flush=True)
    sys.stdin.readline()
    told(inotify)
    try:
        inotify.add_watch(mountpoint, IN_CREATE, ignore_self=True)
        print(0)
    except OSError as error:
        print(error.errno)
"""
)

COMMAND = os.path.basename(sys.executable)[:15]


class Program:
    """A running program, which prints its events."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def events(self, number: int) -> list[list[Any]]:
        return [json.loads(self.line()) for _ in range(number)]

    def go_on(self) -> None:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)


@contextmanager
def running(command: Sequence[str | Path]) -> Iterator[Program]:
    with subprocess.Popen(
        list(map(str, command)),
        env=modules(),
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Program(process)
    assert process.returncode == 0


@pytest.fixture
def places(public_path: Path) -> tuple[Path, Path]:
    for name in ("source", "mnt"):
        (public_path / name).mkdir()
    return public_path / "source", public_path / "mnt"


def test_a_client_in_a_pid_namespace_below_is_seen_by_the_daemons_numbers(
    mounted: Mounted,
) -> None:
    client = [sys.executable, "-c", CLIENT, mounted.mountpoint]
    with running([*UNDER_ANOTHERS_PROC, *client]) as program:
        process = int(program.line())
        own, thread, child = program.events(3)
        assert own == ["own", process, 0, COMMAND]
        assert thread == ["thread", process, 0, COMMAND]
        assert (child[0], child[2:]) == ("child", [0, "touch"])
        assert child[1] not in (None, process)
        assert program.events(1) == [child]  # ignore_self


@pytest.mark.parametrize(
    "namespace",
    [
        pytest.param(UNDER_ANOTHERS_PROC, id="under the parent's"),
        pytest.param(WITH_ITS_OWN_PROC, id="with its own"),
    ],
)
def test_a_daemon_in_a_pid_namespace_names_whom_its_proc_shows_and_nobody_else(
    namespace: list[str], places: tuple[Path, Path]
) -> None:
    """Under the parent's /proc that is nobody: a number there is some other process's."""
    with running([*namespace, sys.executable, "-c", DAEMON, *places]) as program:
        process = int(program.line())
        own, thread, child = program.events(3)
        if namespace is WITH_ITS_OWN_PROC:
            assert own == ["own", process, 0, COMMAND]
            assert thread == ["thread", process, 0, COMMAND]
            assert (child[0], child[2:]) == ("child", [0, "touch"])
            assert child[1] not in (None, process)
        else:
            assert [own, thread, child] == [
                [name, None, 0, None] for name in ("own", "thread", "child")
            ]
        assert program.line() == ""
        there = f"/proc/{program.pid}/root{places[1]}"
        subprocess.run(["touch", f"{there}/outside"], check=True)
        program.go_on()
        assert program.events(1) == [["outside", None, 0, None]]
        refused = 0 if namespace is WITH_ITS_OWN_PROC else errno.EOPNOTSUPP
        assert program.line() == str(refused)


@pytest.mark.parametrize(
    ("prepare", "seen"),
    [
        pytest.param(":", True, id="a plain /proc"),
        pytest.param("mount -t proc -o hidepid=2 proc /proc", False, id="one that hides others"),
    ],
)
def test_an_ordinary_users_daemon_names_other_users_as_far_as_its_proc_shows_them(
    prepare: str, seen: bool, public_path: Path, places: tuple[Path, Path], nobody: User
) -> None:
    for place in places:
        os.chown(place, nobody.uid, nobody.uid)
    places[0].chmod(0o777)
    prepare += "; echo user_allow_other > fuse.conf; mount --bind fuse.conf /etc/fuse.conf"
    daemon = (nobody.python, "-c", DAEMON, *places, "allow_other")
    with nobody.with_fuse(*daemon, prepare=prepare) as start, running(start) as program:
        process = int(program.line())
        own, thread, child = program.events(3)
        assert own[:3] == ["own", process, nobody.uid]
        assert thread == ["thread", *own[1:]]
        assert (child[0], child[2:]) == ("child", [nobody.uid, "touch"])
        assert program.line() == ""
        there = f"/proc/{program.pid}/root{places[1]}"
        outside = subprocess.Popen(["touch", f"{there}/outside"])
        assert not outside.wait()
        program.go_on()
        known = [outside.pid, 0, "touch"] if seen else [None, 0, None]
        assert program.events(1) == [["outside", *known]]
        assert program.line() == "0"
    os.rmdir(f"/tmp/fusenotify-{nobody.uid}")
