# SPDX-License-Identifier: GPL-2.0-or-later
"""Another user's operations: are they answered, rightly, within a second each?

The same operations in a directory of no mount, at the same moment, say how
slow the machine is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fusenotify.client import Client
from fusenotify.events import unpack
from fusenotify.masks import IN_CREATE
from tests.hostile import users
from tests.hostile.world import World

# How long an operation may take, beside what the machine is slow.
LIMIT = 1.0
# So many times as slow as natively it may be on a busy machine.
_SHARE = 20
# So long an operation is waited for.
_PATIENCE = 60.0


class Timed:
    """Operations and how long they took, in seconds; the one under way last."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except OSError as error:
            raise AssertionError(f"{name}: {error!r}") from None
        self.seconds[name] = time.monotonic() - began


def _operate(directory: Path, timed: Timed) -> None:
    """Use a directory as programs do."""
    file, other = directory / f"file-{os.getpid()}", directory / f"other-{os.getpid()}"
    data = os.urandom(10_000)
    with timed("stat"):
        directory.stat()
    with timed("create and write"):
        file.write_bytes(data)
    with timed("read"):
        assert file.read_bytes() == data, "what was read is not what was written"
    with timed("list"):
        assert file.name in os.listdir(directory), "the new file is not in its directory"
    with timed("rename"):
        file.rename(other)
    with timed("append"), other.open("ab") as appended:
        appended.write(data)
    with timed("truncate"):
        os.truncate(other, 5)
    with timed("chmod"):
        other.chmod(0o600)
    with timed("unlink"):
        other.unlink()
    with timed("mkdir and rmdir"):
        file.mkdir()
        file.rmdir()


def _watch(world: World, directory: str, timed: Timed) -> None:
    """Get an event of a file through the socket."""
    file = world.mountpoint / directory / f"watched-{os.getpid()}"
    with timed("connect and init"):
        client = Client(world.socket)
        device = client.init()
    with timed("add_watch"):
        device.add_watch(directory, IN_CREATE)
    file.touch()
    with timed("an event"):
        (event,) = unpack(device.read(timeout=_PATIENCE))
        assert event.name == os.fsencode(file.name), "an event of another file"
    with timed("sync and close"):
        client.sync()
        client.close()
    file.unlink()


def _answer(function: Callable[[Timed], None]) -> dict[str, float | str]:
    timed = Timed()
    try:
        function(timed)
    except (OSError, AssertionError, ValueError) as error:
        return {**timed.seconds, "failed": str(error) or repr(error)}
    return {**timed.seconds}


def problems(world: World) -> list[str]:
    """Return what another user found wrong."""
    natively = _asked(world, lambda timed: _operate(world.outside / "victim/probe", timed))
    directory = world.probed()
    mounted = _asked(world, lambda timed: _operate(world.mountpoint / directory, timed))
    mounted |= _asked(world, lambda timed: _watch(world, directory, timed))
    slowest = max((value for value in natively.values() if isinstance(value, float)), default=0.0)
    allowed = LIMIT + _SHARE * slowest
    return [
        f"another user's {name}: {took}" if isinstance(took, str) else
        f"another user's {name} took {took:.1f} s (natively {slowest:.3f} s at most)"
        for name, took in mounted.items()
        if isinstance(took, str) or took > allowed
    ]  # fmt: skip


def _asked(world: World, function: Callable[[Timed], None]) -> dict[str, float | str]:
    try:
        answer: dict[str, float | str] = users.ask_as(
            world.bystander, lambda: _answer(function), _PATIENCE
        )
    except (TimeoutError, ChildProcessError) as error:
        return {"operations": f"{error}"}
    return answer
