# SPDX-License-Identifier: GPL-2.0-or-later
"""The attacker's process: makes the calls of a program and holds what they left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
import traceback

from tests.hostile.context import CALLS, Context
from tests.hostile.program import Program
from tests.hostile.world import World

# What a process says in its pipe: a word, and what it is about, a line each.
BEGINS, REFUSED, SAYS, BROKEN, DONE = "begins", "refused", "says", "broken", "done"


def attack(world: World, program: Program, seconds: float, writing: int) -> None:
    """Make the calls, in the attacker's name, and wait to be killed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what programs say that were harmed
    lock = threading.Lock()
    mine = os.getpid()

    def tell(word: str, text: str = "") -> None:
        if os.getpid() == mine or word == SAYS:
            with lock:
                os.write(writing, f"{word} {text}\n".encode(errors="backslashreplace"))

    context = Context(
        through=str(world.mountpoint),
        behind=str(world.behind),
        outside=str(world.outside),
        socket=world.socket,
        uid=world.attacker,
        say=lambda text: None if world.may_read_all else tell(SAYS, text),
        deadline=time.monotonic() + seconds,
    )
    signal.signal(signal.SIGUSR1, lambda *_: None)
    for step in program:
        if not context.has_time():
            break
        tell(BEGINS, f"{step.call}({step.seed})")
        context.chosen = random.Random(step.seed)
        try:
            CALLS[step.call](context)
        except (OSError, RecursionError, MemoryError) as error:
            tell(REFUSED, f"{step.call}({step.seed}): {error!r}")
        except BaseException:
            tell(BROKEN, f"{step.call}({step.seed}): {traceback.format_exc()!r}")
    tell(DONE)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()
