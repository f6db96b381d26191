# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting a daemon in a process of its own, and waiting until it serves or fails.

cli.mount starts a daemon that goes on alone, mounting.mounted one that ends with its caller.
When the mount answers, the daemon writes its mount's id and its socket's path into a pipe,
and closes the pipe.  If it fails, it closes the pipe without writing, and its message is on
its stderr.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass

from fusenotify.mountinfo import MountId


@dataclass(slots=True)
class Started:
    """A daemon's process.

    socket is the path that it listens on, mount the id of its mount; both are None if the daemon
    failed to start.  lifeline is the descriptor whose closing ends the daemon, or None.
    """

    process: subprocess.Popen[bytes]
    socket: str | None
    mount: MountId | None
    lifeline: int | None


def start_daemon(
    arguments: Sequence[str], *, stderr: int | None = None, with_lifeline: bool = False
) -> Started:
    """Run ``fusenotify mount -f`` with arguments and wait until it answers or ends.

    stderr is a descriptor for the daemon's messages, by default our own stderr.  with_lifeline
    says that the daemon shall end when Started.lifeline is closed.
    """
    ready, daemon_ready = os.pipe()
    watched, lifeline = os.pipe() if with_lifeline else (None, None)
    options = [f"--ready-fd={daemon_ready}"]
    passed = [daemon_ready]
    if watched is not None:
        options.append(f"--until-eof={watched}")
        passed.append(watched)
    try:
        with open(ready, "rb") as answer:
            try:
                process = subprocess.Popen(
                    # -P: nothing is imported from the caller's directory.
                    [sys.executable, "-P", "-m", "fusenotify", "mount", "-f", *options, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    env=environment(),
                    pass_fds=passed,
                    start_new_session=True,
                )
            finally:
                for descriptor in passed:
                    os.close(descriptor)
            try:
                said = answer.read()
            except BaseException:
                process.terminate()
                process.wait()
                raise
    except BaseException:
        if lifeline is not None:
            os.close(lifeline)
        raise
    if not said:
        return Started(process, None, None, lifeline)
    number, unique, socket = said.split(b" ", 2)
    mount = MountId(int(number), int(unique) or None)
    return Started(process, os.fsdecode(socket), mount, lifeline)


def announcement(mount: MountId, socket: str) -> bytes:
    """Return the bytes that the daemon writes into the pipe, for start_daemon()."""
    return b"%d %d %b" % (mount.number, mount.unique or 0, os.fsencode(socket))


def environment() -> dict[str, str]:
    """Return the environment for a daemon: ours, changed so that it can import this package.

    This process may have found the package next to the running program, where the daemon
    does not look.
    """
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = dict(os.environ)
    if package not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        further = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{package}:{further}" if further else package
    return environment
