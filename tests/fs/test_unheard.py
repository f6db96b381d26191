# SPDX-License-Identifier: GPL-2.0-or-later
"""Why changes behind a mount are not heard: one line says it, and the mount works as without.

Each reason is caused for real, where it is nobody else's: in a user namespace with limits of its
own, or under a filter of system calls.
"""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import modules

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root hears of a whole filesystem"),
]

# Mounts $1/source on $1/mnt with --behind $2, uses it, and prints what is heard.
_MOUNT = """
cd "$1"
"$PYTHON" -m fusenotify mount --behind "$2" source mnt
echo content >source/f
cat mnt/f
"$PYTHON" -m fusenotify status mnt | sed -n 's/^ *behind the mount: //p'
"$PYTHON" -m fusenotify unmount mnt
"""

# Watches two directories and then a tree, creates files in SOURCE, and prints what is heard.
_WATCH = """
import subprocess, sys
import fusenotify
from fusenotify.client import Inotify
source, mnt = (f"{sys.argv[1]}/{name}" for name in ("source", "mnt"))
with fusenotify.mounted(source, mnt, behind="watched") as mount, Inotify() as inotify:
    for name in "one", "two":
        inotify.add_watch(f"{mnt}/{name}", "CREATE")
    subprocess.run(["touch", f"{source}/one/f", f"{source}/two/f"], check=True)
    inotify.sync()
    for event in inotify.read(timeout=0):
        print(event.mask, event.path.removeprefix(mnt))
    inotify.add_watch(mnt, "CREATE", tree=True)
    with mount.client() as client:
        print(client.status().behind.why_not)
"""

# Installs a filter, by which a system call fails, and runs a program.
_FILTERED = """
import ctypes, os, struct, sys
number, code = map(int, sys.argv[1:3])
load, equal, end = 0x20, 0x15, 0x06
program = b"".join(struct.pack("=HBBI", *instruction) for instruction in [
    (load, 0, 0, 0), (equal, 0, 1, number), (end, 0, 0, 0x50000 | code), (end, 0, 0, 0x7FFF0000)])
buffer = ctypes.create_string_buffer(program)
struct_of_it = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
assert not ctypes.CDLL(None).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, struct_of_it)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_NUMBERS = {"fanotify_init": 300, "fanotify_mark": 301, "open_by_handle_at": 304}


def filtered(call: str, code: int) -> list[str]:
    """Return the beginning of a command, in which a system call fails."""
    return [sys.executable, "-c", _FILTERED, str(_NUMBERS[call]), str(code)]


def in_a_user_namespace(**limits: int) -> list[str]:
    """Return the beginning of a command that runs as the root of a new user namespace."""
    lowered = [
        f"echo {limit} >/proc/sys/user/max_fanotify_{name}" for name, limit in limits.items()
    ]
    prepared = "; ".join([*lowered, 'exec "$@"'])
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", prepared, "sh"]


def ran(top: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    if _FILTERED in command and platform.machine() != "x86_64":
        pytest.skip("the numbers of the system calls are those of x86-64")
    for name in ("source/one", "source/two", "mnt"):
        (top / name).mkdir(parents=True)
    return subprocess.run(
        command,
        env=modules() | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


_NO_FANOTIFY = "this kernel has no fanotify, or a filter of system calls hides it"
_NO_HANDLES = "root may not open file handles here, as in a user namespace"


@pytest.mark.parametrize(
    ("where", "behind", "reason"),
    [
        (filtered("fanotify_init", errno.ENOSYS), "all", _NO_FANOTIFY),
        (filtered("fanotify_init", errno.ENOSYS), "watched", _NO_FANOTIFY),
        (
            filtered("fanotify_init", errno.EINVAL),
            "all",
            "this kernel's fanotify has no names and handles (Linux 5.17 has)",
        ),
        (
            filtered("fanotify_init", errno.EPERM),
            "watched",
            "fanotify or file handles are forbidden here",
        ),
        (
            filtered("fanotify_mark", errno.EPERM),
            "all",
            "fanotify or file handles are forbidden here",
        ),
        (
            filtered("fanotify_mark", errno.ENOSPC),
            "all",
            "the user has as many marks as fs.fanotify.max_user_marks allows",
        ),
        (filtered("open_by_handle_at", errno.EPERM), "all", _NO_HANDLES),
        (in_a_user_namespace(), "all", _NO_HANDLES),
        (
            in_a_user_namespace(groups=0),
            "watched",
            "the user has as many fanotify groups as the kernel allows",
        ),
    ],
)
def test_the_reason_is_said_and_the_mount_works_as_without(
    tmp_path: Path, where: Sequence[str], behind: str, reason: str
) -> None:
    done = ran(tmp_path, *where, "sh", "-ec", _MOUNT, "sh", tmp_path, behind)
    assert done.stderr == f"fusenotify: changes behind the mount are not heard: {reason}\n"
    assert done.stdout == f"content\nnothing is heard: {reason}\n"


@pytest.mark.parametrize(
    ("where", "told", "reason"),
    [
        (in_a_user_namespace(), ["CREATE /one/f", "CREATE /two/f"], ""),
        (
            in_a_user_namespace(marks=2),
            ["CREATE /one/f"],
            "refused marks: 1; the user has as many marks as fs.fanotify.max_user_marks allows",
        ),
        (
            filtered("fanotify_mark", errno.EPERM),
            [],
            "refused marks: 4; fanotify or file handles are forbidden here",
        ),
        (filtered("open_by_handle_at", errno.EPERM), ["CREATE /one/f", "CREATE /two/f"], ""),
    ],
)
def test_a_watch_is_added_although_its_object_cannot_have_a_mark(
    tmp_path: Path, where: Sequence[str], told: list[str], reason: str
) -> None:
    done = ran(tmp_path, *where, sys.executable, "-c", _WATCH, tmp_path)
    assert done.stdout.splitlines() == [*told, reason]
    assert done.stderr == ""
