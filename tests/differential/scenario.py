# SPDX-License-Identifier: GPL-2.0-or-later
"""What a scenario is, and how one is recorded.

A scenario is a function over an empty directory and a device; it prepares,
watches, acts, and may return what else is to be compared.  It is written
against Linux and runs there and through the mount.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fusenotify.bits import IN_ALL_EVENTS, names
from fusenotify.events import Event, unpack


class AnyDevice(Protocol):
    """An inotify device, the kernel's or ours.  Paths are absolute."""

    def add_watch(self, path: Path | bytes, mask: int) -> int: ...

    def rm_watch(self, wd: int) -> None: ...

    def read(self, size: int) -> bytes: ...

    def fionread(self) -> int: ...

    def poll(self) -> bool: ...

    def fence(self) -> None: ...

    def close(self) -> None: ...


Scenario = Callable[[Path, AnyDevice], Any]

SCENARIOS: dict[str, Scenario] = {}
# Those that operation() registered, by their names.
OPERATIONS: dict[str, Operation] = {}


def scenario(function: Scenario) -> Scenario:
    """Register a function as a scenario of its own."""
    return register(function.__name__.strip("_"), function)


@dataclass(frozen=True)
class Operation:
    """Something done in a directory where objects were prepared.

    objects are the names of what it is about, to be watched.
    """

    prepare: Callable[[Path], object]
    objects: tuple[str, ...]
    act: Callable[[Path], object]

    def watching(self, directory: bool, objects: bool) -> Scenario:
        """Return the scenario in which the directory, the objects or both are watched."""

        def run(root: Path, device: AnyDevice) -> Any:
            self.prepare(root)
            if objects:
                for name in self.objects:
                    device.add_watch(root / name, IN_ALL_EVENTS)
            if directory:
                device.add_watch(root, IN_ALL_EVENTS)
            return outcome(lambda: self.act(root))

        return run


def operation(
    prepare: Callable[[Path], object], *objects: str
) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Register a function as three scenarios: watched directory, watched objects, both."""

    def registered_thrice(act: Callable[[Path], object]) -> Callable[[Path], object]:
        done = Operation(prepare, objects, act)
        name = act.__name__.strip("_")
        OPERATIONS[name.replace("_", " ")] = done
        register(f"{name}, directory watched", done.watching(True, False))
        if objects:
            register(f"{name}, object watched", done.watching(False, True))
            register(f"{name}, both watched", done.watching(True, True))
        return act

    return registered_thrice


def register(name: str, run: Scenario) -> Scenario:
    """Register a scenario by a name that says what happens."""
    name = name.replace("_", " ")
    assert name not in SCENARIOS, name
    SCENARIOS[name] = run
    return run


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returned, or the name of the errno it failed with."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or errno.EIO]


def events(device: AnyDevice) -> list[Event]:
    """Return all events queued, fenced."""
    device.fence()
    records = b""
    while True:
        try:
            records += device.read(1 << 16)
        except BlockingIOError:
            return list(unpack(records))


def record(run: Scenario, directory: Path, device: AnyDevice) -> list[str]:
    """Run a scenario and return what was seen, one line each, events last."""
    seen = run(directory, device)
    lines = [f"returned {seen!r}"] if seen is not None else []
    return lines + readable(events(device))


def readable(recorded: Iterable[Event], cookies: dict[int, int] | None = None) -> list[str]:
    """Return events as lines, cookies numbered by first appearance.

    cookies are the numbers given so far, for who reads events piece by piece.
    """
    if cookies is None:
        cookies = {}
    cookies.setdefault(0, 0)
    lines = []
    for event in recorded:
        cookie = cookies.setdefault(event.cookie, len(cookies))
        words = [f"wd {event.wd}", "|".join(names(event.mask))]
        if cookie:
            words.append(f"cookie {cookie}")
        if event.name is not None:
            words.append(repr(event.name))
        lines.append(" ".join(words))
    return lines


def as_user(uid: int, act: Callable[[], object], groups: Iterable[int] = ()) -> Any:
    """Do something in a process of another user (gid = uid); return 'ok' or an errno's name."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups(list(groups))
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            answer = outcome(act)
            os.write(write_end, (answer if isinstance(answer, str) else "ok").encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer
