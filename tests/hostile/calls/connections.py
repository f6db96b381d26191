# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket: garbage, silence, many connections, paths that lead deep or out; and pins."""

from __future__ import annotations

import contextlib
import os
import socket

from fusenotify.client import Client, Device
from fusenotify.masks import IN_ALL_EVENTS, IN_CREATE
from fusenotify.protocol.errors import RemoteProtocolError
from tests.differential.linux import LinuxDevice
from tests.hostile.context import Context, call
from tests.server import fuzz


def _connection(context: Context) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(2.0)
    connection.connect(context.socket)
    return connection


def _device(context: Context) -> Device:
    client = Client(context.socket)
    context.hold(client)
    return client.init(nonblock=True, max_queued_events=context.chosen.choice([None, 1, 256]))


@call
def send_garbage(context: Context) -> None:
    """Frames of every shape, and bytes of none."""
    for _ in range(context.chosen.choice([3, 30])):
        with contextlib.suppress(OSError), _connection(context) as connection:
            if context.chosen.random() < 0.8:
                connection.sendall(fuzz.frame_of(type="hello", id=1, version=1))
            for _ in range(context.chosen.randrange(200)):
                connection.sendall(fuzz.frame(context.chosen))
            connection.sendall(context.chosen.randbytes(context.chosen.choice([0, 3, 5000])))


@call
def never_read(context: Context) -> None:
    """Streams and waiting requests whose answers nobody takes, while much happens."""
    for _ in range(context.chosen.choice([1, 20])):
        connection = _connection(context)
        context.hold(connection)
        data = fuzz.frame_of(type="hello", id=1, version=1) + fuzz.frame_of(type="init", id=2)
        for number, path in enumerate(("attacker", "public", "share"), start=3):
            data += fuzz.frame_of(
                type="add_watch", id=number, device=1, path=path.encode(), mask=IN_ALL_EVENTS
            )
        data += fuzz.frame_of(type="stream", id=6, device=1, size=65536)
        for number in range(7, 300):
            data += fuzz.frame_of(type="status", id=number)
        with contextlib.suppress(OSError):
            connection.sendall(data)
    for _ in range(500):
        with contextlib.suppress(OSError):
            path = context.path(context.through)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK, 0o644))
            os.rename(path, context.path(context.through))


@call
def many_connections(context: Context) -> None:
    """As many connections and devices as there are to be had."""
    with contextlib.suppress(OSError):
        for _ in range(context.chosen.choice([10, 400])):
            connection = _connection(context)
            context.hold(connection)
            connection.sendall(fuzz.frame_of(type="hello", id=1, version=1))
            for number in range(context.chosen.randrange(5)):
                connection.sendall(fuzz.frame_of(type="init", id=2 + number))
            if not context.has_time():
                return


@call
def watch_far_away(context: Context) -> None:
    """Paths that are deep, long, lead out of the mount or to what may not be read."""
    device = _device(context)
    paths = ["/", "/../outside", "/root/hidden", "/victim", "/root/hidden/../..", "/public/" * 400]
    paths += ["/attacker/" + "d/" * 2040, "/" + "x" * 5000, "/attacker/" + "../attacker/" * 300]
    with contextlib.suppress(OSError):
        link = f"{context.place(context.through)}/out{context.chosen.getrandbits(30):x}"
        os.symlink(context.foreign(), link)
        paths.append(link.removeprefix(context.through))
    for path in paths * context.chosen.choice([1, 5]):
        with contextlib.suppress(OSError):
            device.add_watch(path, IN_ALL_EVENTS)
            if path in ("/../outside", "/root/hidden", "/victim"):
                context.say(f"may watch {path}")


@call
def watch_everything(context: Context) -> None:
    """Watch thousands of objects, then take half of the watches away; keep the others."""
    directory = context.new_directory(context.through)
    device = _device(context)
    watches = []
    with contextlib.suppress(OSError):
        for number in range(context.chosen.choice([50, 3000])):
            path = f"{directory}/{number}"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            watches.append(device.add_watch(path.removeprefix(context.through), IN_ALL_EVENTS))
            if not context.has_time():
                break
    for wd in watches[::2]:
        with contextlib.suppress(OSError):
            device.rm_watch(wd)


@call
def pin_with_the_kernels_inotify(context: Context) -> None:
    """Let the kernel's own inotify hold what it would forget, also what has no name any more."""
    device = LinuxDevice()
    context.hold(device)
    directory = context.new_directory(context.through)
    for number in range(context.chosen.choice([50, 5000])):
        path = f"{directory}/{number}"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        device.add_watch(path.encode(), IN_CREATE)
        if context.chosen.random() < 0.5:
            os.unlink(path)
        if not context.has_time():
            return


@call
def fork_with_connections(context: Context) -> None:
    """Children that hold, use and close a connection that the parent uses as well."""
    device = _device(context)
    device.add_watch("/public", IN_ALL_EVENTS)

    def use() -> None:
        for _ in range(50):
            with contextlib.suppress(OSError):
                device.read()
            with contextlib.suppress(OSError):
                device.add_watch("/share", IN_ALL_EVENTS)
        device.close()

    children = [context.fork(use) for _ in range(context.chosen.choice([1, 5]))]
    for _ in range(50):
        # Answers go to whoever reads first, which is what is done to the server, too.
        with contextlib.suppress(OSError, RemoteProtocolError):
            os.close(os.open(context.path(context.through), os.O_CREAT | os.O_WRONLY, 0o644))
            device.read()
    for child in children:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG)
