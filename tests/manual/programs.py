# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the programs of a page in Python, whose /mnt/x is a real mount.

    <!-- meanwhile: COMMANDS -->  a shell runs them once the program watches
    <!-- prints: LINES -->        what it must have printed then; ``...`` is any text

A program that goes on for ever is ended when it has printed that.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from fusenotify import Mounted
from tests.cli.command import environment, until
from tests.manual.pages import Block
from tests.manual.sessions import PATIENCE, as_pattern

PLACE = "/mnt/x"


def placed(text: str, mount: Mounted) -> str:
    """Return a text with the mount in the place of /mnt/x."""
    return re.sub(rf"{PLACE}\b", lambda _: mount.mountpoint, text)


@contextlib.contextmanager
def running(program: str, mount: Mounted) -> Iterator[subprocess.Popen[str]]:
    """Run a program for a block."""
    command = [sys.executable, "-u", "-W", "ignore", "-c", placed(program, mount)]
    with subprocess.Popen(
        command,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        patience = threading.Timer(PATIENCE, process.kill)
        patience.start()
        try:
            yield process
        finally:
            patience.cancel()
            process.kill()


def wait_for(process: subprocess.Popen[str], is_so: Callable[[], bool]) -> None:
    """Wait until a program does what is_so looks for."""
    until(lambda: is_so() or process.poll() is not None, "it watches")


def watches_natively(process: subprocess.Popen[str]) -> bool:
    """Return whether a process has a watch of the kernel's inotify."""
    found = ""
    for each in Path(f"/proc/{process.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += each.read_text()
    return "inotify wd:" in found


def watches_here(mount: Mounted) -> bool:
    """Return whether anybody has a watch in the mount."""
    with mount.client() as client:
        return any(device.watches for each in client.status().clients for device in each.devices)


def run(block: Block, mount: Mounted) -> None:
    """Run a program of a page.  Raises AssertionError where it prints something else."""
    expected = placed(block.notes.get("prints", ""), mount).splitlines()
    with running(block.text, mount) as process:
        assert process.stdout is not None
        if meanwhile := block.notes.get("meanwhile"):
            wait_for(process, lambda: watches_here(mount))
            subprocess.run(["sh", "-c", placed(meanwhile, mount)], check=True)
        for line in expected:
            printed = process.stdout.readline().rstrip()
            assert as_pattern(line, False).fullmatch(printed), (
                f"{block.place} prints {printed!r}, not {line!r}"
            )
        if not expected or process.poll() is not None:
            rest, _ = process.communicate(timeout=20)
            assert (rest, process.returncode) == ("", 0), f"{block.place}: {rest}"
