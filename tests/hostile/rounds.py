# SPDX-License-Identifier: GPL-2.0-or-later
"""A round: the attackers do their programs, and everything is looked at twice.

While they still hold all they got, another user is answered.  When they are
killed and what they made is removed, the daemon is as it was before, and so
is everything of root's and the other user's.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.hostile import attacker, probe, users
from tests.hostile.program import Program
from tests.hostile.world import World

# Beside what the machine is slow, so long do the attackers have for their calls.
SECONDS = 8.0
_PATIENCE = 30.0
# What the daemon may hold when a round's objects are gone.
MOST_KIB = 192 * 1024
_SPARE_DESCRIPTORS = 16


class Held(NamedTuple):
    """What the daemon holds: numbers, and its resident memory in KiB."""

    connections: int
    devices: int
    watches: int
    descriptors: int
    memory: int

    @classmethod
    def by(cls, world: World) -> Held:
        with world.client() as client:
            status = client.status()
        devices = [device for each in status.clients for device in each.devices]
        pages = int(Path(f"/proc/{world.pid}/statm").read_text().split()[1])
        return cls(
            connections=len(status.clients) - 1,
            devices=len(devices),
            watches=sum(device.watches for device in devices),
            descriptors=len(os.listdir(f"/proc/{world.pid}/fd")),
            memory=pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        )


@dataclass
class Report:
    """What a round found.

    broken are mistakes of the calls themselves, refused those that ended by
    an error, as most of what is tried should.
    """

    problems: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    calls: int = 0
    held: Held | None = None


def run(world: World, programs: list[Program], before: Held, seconds: float = SECONDS) -> Report:
    """Run a round."""
    report = Report()
    _attack(world, programs, seconds, report)
    if world.is_alive():
        report.problems += [f"with the attackers there, {what}" for what in _probed(world)]
    _end(world, report)
    if not world.is_alive():
        report.problems.append(f"the daemon ended: {world.messages()[-2000:]}")
        return report
    report.problems += world.damage()
    if not report.problems:
        _clear(world, report)
    if not report.problems:
        report.problems += _probed(world)
    if not report.problems:
        _compare(world, before, report)
    if "Traceback" in world.messages():
        report.problems.append(f"the daemon said: {world.messages()[-2000:]}")
    return report


def _attack(world: World, programs: list[Program], seconds: float, report: Report) -> None:
    """Start the attackers and read what they say until all are done, or the time is over."""
    pipes = {}
    for program in programs:
        _, reading = users.fork_as(
            world.attacker,
            lambda writing, program=program: attacker.attack(world, program, seconds, writing),  # type: ignore[misc]
        )
        pipes[reading] = b""
    working = set(pipes)
    deadline = time.monotonic() + 1.5 * seconds
    while working:
        ready, _, _ = select.select(working, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            # A call that waits for what never comes is the attacker's own affair.
            break
        for pipe in ready:
            data = os.read(pipe, 1 << 16)
            pipes[pipe] += data
            if not data:
                report.broken.append("an attacker ended before it was done")
            if not data or f"\n{attacker.DONE} ".encode() in b"\n" + pipes[pipe]:
                working.discard(pipe)
    for pipe, data in pipes.items():
        os.close(pipe)
        for line in data.decode(errors="backslashreplace").splitlines():
            word, _, text = line.partition(" ")
            if word == attacker.SAYS:
                report.problems.append(f"the attacker {text}")
            elif word == attacker.BROKEN:
                report.broken.append(text)
            elif word == attacker.REFUSED:
                report.refused.append(text)
            report.calls += word == attacker.BEGINS


def _probed(world: World) -> list[str]:
    """Ask another user; what was only slow is asked for again, as the machine may be."""
    found = probe.problems(world)
    if found and all(" took " in each for each in found):
        time.sleep(1.0)
        again = probe.problems(world)
        return found + again if again else []
    return found


def _end(world: World, report: Report) -> None:
    """Kill the attackers; all end, and none of them has become another user."""
    left = users.end_all(world.attacker, _PATIENCE)
    if left:
        report.problems.append(f"processes that SIGKILL does not end: {left}")
    deadline = time.monotonic() + _PATIENCE
    known = {world.pid, *world.strangers}
    others: dict[int, str] = {}
    while time.monotonic() < deadline:
        others = {pid: what for pid, what in users.children().items() if pid not in known}
        others = {pid: what for pid, what in others.items() if not users.reap(pid, 0.0)}
        if not others:
            return
        time.sleep(0.1)
    for pid, what in others.items():
        report.problems.append(f"a process is there that should have ended: {what}")
        os.kill(pid, 9)


def _clear(world: World, report: Report) -> None:
    """Remove what the attackers made, and let the kernel forget it."""
    world.take_foreign_mounts_away()
    try:
        world.clear(world.mountpoint)
        world.clear(world.behind)
    except subprocess.TimeoutExpired as error:
        report.problems.append(f"removing hangs: {error}")
    os.sync()


def _compare(world: World, before: Held, report: Report) -> None:
    """Wait until the daemon holds no more than before, and say what it still holds."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        Path("/proc/sys/vm/drop_caches").write_text("2")
        held = report.held = Held.by(world)
        too_much = [
            f"{name} are {now}, were {then}"
            for name, now, then in zip(held._fields[:3], held, before, strict=False)
            if now > then
        ]
        if held.descriptors > before.descriptors + _SPARE_DESCRIPTORS:
            too_much.append(f"descriptors are {held.descriptors}, were {before.descriptors}")
        if held.memory > MOST_KIB:
            too_much.append(f"memory is {held.memory} KiB, more than {MOST_KIB}")
        if not too_much or time.monotonic() > deadline:
            report.problems += [f"of the daemon, {what}" for what in too_much]
            return
        time.sleep(0.3)
