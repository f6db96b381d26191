# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes: killed while a request is under way, many at once, stopped, in the mount."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time

from tests.hostile.context import Context, call


def _work(context: Context, seed: int, over: float) -> None:
    """Make requests of every kind until the time is over."""
    chosen = random.Random(seed)
    context.chosen = chosen
    while time.monotonic() < over:
        with contextlib.suppress(OSError):
            path = context.path(context.through)
            match chosen.randrange(10):
                case 0:
                    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK, 0o644)
                    os.pwrite(file, b"w" * chosen.choice([10, 1 << 18]), 0)
                    os.fsync(file)
                    os.close(file)
                case 1:
                    os.rename(path, context.path(context.through))
                case 2:
                    os.listdir(os.path.dirname(path))
                case 3:
                    os.unlink(path)
                case 4:
                    os.mkdir(path)
                case 5:
                    os.symlink(context.foreign(), path)
                case 6:
                    os.setxattr(path, "user.a", b"value")
                case 7:
                    os.link(path, context.path(context.through))
                case 8:
                    os.truncate(path, chosen.choice([0, 1 << 20]))
                case 9:
                    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                    context.look(file)
                    os.pread(file, 1 << 20, 0)
                    os.close(file)


@call
def kill_in_mid_request(context: Context) -> None:
    """Kill and stop children at random moments while they make requests."""
    over = min(time.monotonic() + context.chosen.choice([1.0, 3.0]), context.deadline)
    while time.monotonic() < over:
        children = [
            context.fork(_work, context, context.chosen.getrandbits(32), over)
            for _ in range(context.chosen.choice([1, 4, 12]))
        ]
        for child in children:
            time.sleep(context.chosen.random() * 0.02)
            numbers = [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGSTOP]
            os.kill(child, context.chosen.choice(numbers))
        for child in children:
            if context.chosen.random() < 0.9:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


@call
def many_processes(context: Context) -> None:
    """Let dozens of children work at the same time."""
    over = min(time.monotonic() + 2.0, context.deadline)
    children = [
        context.fork(_work, context, context.chosen.getrandbits(32), over)
        for _ in range(context.chosen.choice([4, 16, 40]))
    ]
    for child in children:
        os.waitpid(child, 0)


@call
def live_in_the_mount(context: Context) -> None:
    """Leave children whose working directory, or program, is in the mount and goes."""
    directory = context.new_directory(context.through)

    def stay() -> None:
        os.chdir(directory)
        os.rmdir(directory)
        time.sleep(600)

    context.fork(stay)
    program = context.fresh()
    with contextlib.suppress(OSError):
        subprocess.run(["cp", "/bin/sleep", program], check=False, timeout=20)
        seen = program.replace(context.behind, context.through, 1)
        context.hold(subprocess.Popen([seen, "600"]))
        os.truncate(program, 0)
        os.unlink(program)


@call
def write_a_running_program(context: Context) -> None:
    """Write to programs that run, on the other side."""
    program = context.fresh()
    subprocess.run(["cp", "/bin/sleep", program], check=False, timeout=20)
    seen = program.replace(context.behind, context.through, 1)
    with subprocess.Popen([seen, "0.2"]) as running:
        for path in (program, seen):
            with contextlib.suppress(OSError):
                file = os.open(path, os.O_WRONLY)
                os.pwrite(file, b"\xcc" * 4096, 4096)
                os.close(file)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(5)
        running.kill()
