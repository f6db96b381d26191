# SPDX-License-Identifier: GPL-2.0-or-later
"""By which of several names a file is used, as soon as it has them, and by several programs."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from fusenotify.bits import IN_CLOSE, IN_OPEN
from tests.differential.operations import file
from tests.differential.scenario import AnyDevice, events, operation, scenario

_TIMES = 300


@operation(file(), "f")
def use_a_file_by_both_names_as_soon_as_it_has_two(d: Path) -> None:
    os.link(d / "f", d / "g")
    for number, name in enumerate("gfgffg"):
        (d / name).write_bytes(b"x")
        if number % 2:
            (d / name).chmod(0o600 + number)
            os.truncate(d / name, number)
            os.setxattr(d / name, "user.x", b"1")
        (d / name).read_bytes()
    (d / "g").rename(d / "h")
    (d / "f").read_bytes()
    (d / "h").read_bytes()
    (d / "f").read_bytes()


@scenario
def a_file_is_opened_by_the_name_that_was_looked_up_before_the_other(
    root: Path, device: AnyDevice
) -> Any:
    (root / "f").touch()
    os.link(root / "f", root / "g")
    device.add_watch(root, IN_OPEN)
    if os.geteuid() == 0:  # then nobody knows the file by any name
        Path("/proc/sys/vm/drop_caches").write_text("2")
        device.fence()
    held = os.open(root / "f", os.O_PATH)
    other = os.fork()
    if not other:
        os.close(os.open(root / "g", os.O_RDONLY))
        os._exit(0)
    os.waitpid(other, 0)
    os.close(os.open(f"/proc/self/fd/{held}", os.O_RDONLY))
    os.close(held)
    return [event.name for event in events(device)]


@scenario
def two_programs_use_a_file_each_by_its_own_name(root: Path, device: AnyDevice) -> Any:
    """Each looks its name up and opens it while the other does."""
    (root / "f").touch()
    os.link(root / "f", root / "g")
    device.add_watch(root, IN_OPEN | IN_CLOSE)
    programs = []
    for name in ("f", "g"):
        program = os.fork()
        if not program:
            for _ in range(_TIMES):
                os.close(os.open(root / name, os.O_RDONLY))
            os._exit(0)
        programs.append(program)
    for program in programs:
        os.waitpid(program, 0)
    return sorted(Counter((event.name, event.mask) for event in events(device)).items())
