# SPDX-License-Identifier: GPL-2.0-or-later
"""Namespaces of the attacker's own, in which the attacker is root, and mounts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.hostile.context import Context, call

_NEWNS, _NEWUSER, _NEWPID = 0x20000, 0x10000000, 0x20000000
_MS_BIND, _MS_REC, _MS_MOVE, _MS_REMOUNT = 4096, 16384, 8192, 32
_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 7, 0, 0, 0)
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = [value.encode() for value in (source, target, kind)]
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), data.encode()))


def _make(path: str, mode: int) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))


def _become_root(uid: int) -> None:
    """Enter a user namespace of our own, as root there, and a mount namespace."""
    _checked(_libc.unshare(_NEWUSER | _NEWNS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {uid} 1")


def _in_namespace(context: Context, function: Callable[[], None], stay: bool) -> None:
    """Run a function as root of a namespace; stay says that the namespace outlives it."""

    def run() -> None:
        _become_root(context.uid)
        with contextlib.suppress(OSError):
            function()
        if stay:
            time.sleep(600)

    child = context.fork(run)
    if not stay:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


@call
def mount_things_into_the_mount(context: Context) -> None:
    """Bind the mount into SOURCE and SOURCE into the mount, and memory over both."""
    directory = context.new_directory()
    other = context.new_directory()

    def mount() -> None:
        _mount(context.through, directory, "", _MS_BIND | _MS_REC)
        for path in (f"{directory}/attacker", f"{directory}/public", f"{directory}/root/secret"):
            with contextlib.suppress(OSError):
                file = os.open(path, os.O_RDONLY)
                context.look(file)
                os.close(file)
        with contextlib.suppress(OSError):
            _mount("none", other, "tmpfs", 0, "size=1m")
            Path(other, "file").write_text("memory")
        with contextlib.suppress(OSError):
            _mount(context.behind, context.through, "", _MS_BIND | _MS_REC)
            os.listdir(context.through)
        with contextlib.suppress(OSError):
            _mount("none", context.through, "", _MS_REMOUNT | _MS_BIND)
        with contextlib.suppress(OSError):
            _mount(context.through, f"{context.behind}/public", "", _MS_MOVE)
        for path in (directory, other, context.through, context.behind):
            with contextlib.suppress(OSError):
                os.stat(f"{path}/attacker")

    _in_namespace(context, mount, stay=context.chosen.random() < 0.5)


@call
def be_root_of_a_namespace(context: Context) -> None:
    """Use root's calls in a namespace on own and foreign objects of the mount."""
    paths = [context.path(), context.fresh(), context.foreign(), context.foreign()]

    def use() -> None:
        for path in paths:
            context.attempt(_make, path, 0o6777)
            context.attempt(os.chown, path, 0, 0)
            context.attempt(os.chmod, path, 0o6777)
            context.attempt(os.setxattr, path, "security.capability", _CAPABILITY)
            context.attempt(os.setxattr, path, "trusted.a", b"b")
            context.attempt(os.mknod, path + ".d", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            context.attempt(os.truncate, path, 0)
            with contextlib.suppress(OSError):
                context.look(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            context.attempt(os.chroot, os.path.dirname(path))

    _in_namespace(context, use, stay=context.chosen.random() < 0.3)


@call
def overlay_on_the_mount(context: Context) -> None:
    """Lay an overlay over the mount, its upper layer in the mount or in SOURCE."""
    directory = context.new_directory()
    for name in ("upper", "work", "merged"):
        os.mkdir(f"{directory}/{name}")

    def overlay() -> None:
        lower = context.chosen.choice([context.through, context.behind])
        data = f"lowerdir={lower},upperdir={directory}/upper,workdir={directory}/work,userxattr"
        _mount("overlay", f"{directory}/merged", "overlay", 0, data)
        for path in ("root/readable", "secret", "public/new", "root/setuid"):
            with contextlib.suppress(OSError):
                file = os.open(f"{directory}/merged/{path}", os.O_RDWR | os.O_CREAT, 0o644)
                context.look(file)
                os.write(file, b"attacked")

    _in_namespace(context, overlay, stay=context.chosen.random() < 0.3)


@call
def mount_fuse(context: Context) -> None:
    """Mount a FUSE filesystem of the attacker's own in SOURCE, that never answers."""
    directory = context.new_directory(context.behind)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            ["fusermount3", "-o", context.chosen.choice(["rw", "allow_other", "ro"]), directory],
            env={"_FUSE_COMMFD": str(theirs.fileno()), "PATH": "/usr/bin:/bin"},
            pass_fds=[theirs.fileno()], capture_output=True, check=False, timeout=20,
        )  # fmt: skip
        if done.returncode:
            return
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        context.hold(descriptors)
    seen = directory.replace(context.behind, context.through, 1)
    context.fork(os.stat, seen)
    context.fork(os.listdir, seen)
    context.fork(os.stat, f"{seen}/x")
    if context.chosen.random() < 0.5:
        subprocess.run(["fusermount3", "-uz", directory], check=False, timeout=20)


@call
def end_a_process_namespace(context: Context) -> None:
    """Work in a process namespace that is killed as a whole, from pids that nobody knows."""

    def work() -> None:
        _checked(_libc.unshare(_NEWUSER | _NEWPID))
        child = os.fork()
        if child:
            time.sleep(context.chosen.random())
            os.kill(child, 9)
            return
        for _ in range(20):
            if not os.fork():
                while True:
                    with contextlib.suppress(OSError):
                        Path(context.path(context.through)).write_text("x" * 5000)
                        os.listdir(context.place(context.through))
        time.sleep(10)

    child = context.fork(work)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
