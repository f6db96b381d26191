# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the attacker is, and what the calls in tests.hostile.calls share.

A call is a function of a Context, registered by ``@call``; it draws what it
does from context.chosen and may end by OSError, as most of what is tried is
refused.  What it leaves in context.held stays open until the round ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.hostile.world import OPEN_TO_ALL, SECRET

Call = Callable[["Context"], None]
CALLS: dict[str, Call] = {}


def call(function: Call) -> Call:
    """Let programs have this call, by its name."""
    CALLS[function.__name__] = function
    return function


@dataclass
class Context:
    """One attacker's process.

    through and behind are the two ways to the tree, outside is in no mount;
    say reports to the round what must never be.
    """

    through: str
    behind: str
    outside: str
    socket: str
    uid: int
    say: Callable[[str], None]
    deadline: float
    chosen: random.Random = field(default_factory=random.Random)
    held: list[object] = field(default_factory=list)

    def has_time(self) -> bool:
        """Return whether a call may go on."""
        return time.monotonic() < self.deadline

    def side(self) -> str:
        """Return the tree, seen through the mount or behind it."""
        return self.through if self.chosen.random() < 0.65 else self.behind

    def place(self, side: str | None = None) -> str:
        """Return a directory in which the attacker may make names."""
        return f"{side or self.side()}/{self.chosen.choice(OPEN_TO_ALL)}"

    def name(self) -> str:
        """Return one of the few names that calls come across each other by."""
        return f"n{self.chosen.randrange(8)}"

    def path(self, side: str | None = None) -> str:
        """Return such a name in a place."""
        return f"{self.place(side)}/{self.name()}"

    def foreign(self, side: str | None = None) -> str:
        """Return the path of something that is not the attacker's."""
        names = ["secret", "root", "root/secret", "root/group", "root/readable", "root/setuid"]
        names += ["root/setgid", "root/capable", "root/hidden", "root/hidden/secret", "victim"]
        names += ["root/link", "victim/data0", "victim/data1", "victim/probe", "."]
        top = self.outside if self.chosen.random() < 0.2 else side or self.side()
        return f"{top}/{self.chosen.choice(names)}"

    def new_directory(self, side: str | None = None) -> str:
        """Make a directory of a name of its own, and return its path."""
        path = f"{self.place(side)}/d{self.chosen.getrandbits(40):x}"
        os.mkdir(path)
        return path

    def fresh(self, side: str | None = None) -> str:
        """Return a path that nothing has."""
        return f"{self.place(side)}/f{self.chosen.getrandbits(40):x}"

    def look(self, fd: int) -> None:
        """Read what may be read, and tell where it is another's secret."""
        with contextlib.suppress(OSError):
            if SECRET in os.pread(fd, 4096, 0):
                self.say(f"read a secret: {os.readlink(f'/proc/self/fd/{fd}')}")

    def hold(self, thing: object) -> None:
        """Keep something open until the round ends."""
        self.held.append(thing)

    def attempt(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function, which may be refused."""
        with contextlib.suppress(OSError, OverflowError):
            function(*arguments)

    def beside(self, function: Callable[..., object], *arguments: object) -> None:
        """Do so in a thread that nobody waits for."""
        threading.Thread(target=self.attempt, args=(function, *arguments), daemon=True).start()

    def fork(self, function: Callable[..., object], *arguments: object) -> int:
        """Call a function in a child, which ends with it; return its pid."""
        pid = os.fork()
        if pid:
            return pid
        try:
            with contextlib.suppress(Exception):
                function(*arguments)
        finally:
            os._exit(0)
