# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify mount SOURCE [MNT]``: start a daemon, in the background or the foreground.

A daemon in the background is this command again with -f, in a session of its own;
mounting.spawn waits until its mount answers.  Only the process that serves checks
the settings (mounting.checks) and imports the daemon, and with it pyfuse3.
"""

from __future__ import annotations

import argparse
import os
import sys

from fusenotify.cli.mount_settings import declare, settings_of
from fusenotify.cli.words import TakeWords
from fusenotify.mountinfo import MountId
from fusenotify.mounting import messages
from fusenotify.mounting.checks import check
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.service_manager import ServiceManager
from fusenotify.mounting.settings import Settings
from fusenotify.mounting.signals import EndSignals
from fusenotify.mounting.spawn import announcement, start_daemon


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", metavar="SOURCE", help="the directory to show")
    parser.add_argument(
        "mountpoint",
        metavar="MNT",
        nargs="?",
        help="where to show it; without MNT, or if it is SOURCE itself, the mount covers SOURCE",
    )
    parser.add_argument("-f", "--foreground", action="store_true", help="stay in the foreground")
    parser.add_argument(
        "-o",
        dest="options",
        metavar="OPTION[,OPTION...]",
        action=TakeWords,
        default=[],
        help="words as in /etc/fstab; '-o help' lists them",
    )
    parser.set_defaults(said=[])  # words of -o that are settings
    declare(parser)
    # For calls by mount(8): its options are complete; its option -s.
    parser.add_argument("--by-mount8", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sloppy", action="store_true", help=argparse.SUPPRESS)
    # For the report of a failed test: how many operations the mount remembers.
    parser.add_argument("--activity", type=int, default=0, help=argparse.SUPPRESS)
    # For the communication of mounting.spawn with the daemon that it started.
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--until-eof", type=int, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Mount, in the background unless -f is given."""
    _fill_standard_descriptors()
    if "remount" in arguments.options:
        from fusenotify.cli import remounting  # it imports the client

        remounting.change(arguments)
        return 0
    if arguments.foreground:
        return _serve(settings_of(arguments), arguments.ready_fd, arguments.until_eof)
    # The daemon parses the same arguments again, which are known to be right.
    started = start_daemon(arguments.argv)
    if started.socket is not None:
        return 0
    status = started.process.wait()
    if not status:
        raise Failure("unmounted before it answered")
    return status if status > 0 else 1


def _fill_standard_descriptors() -> None:
    """Open what the caller has closed of 0, 1 and 2, so that no file of ours is taken for one."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - to the end


def _serve(settings: Settings, ready_fd: int | None, until_eof: int | None) -> int:
    """Run the daemon."""
    for descriptor in (ready_fd, until_eof):
        if descriptor is not None:
            # With auto_unmount, fusermount3 keeps running, and would keep it open.
            os.set_inheritable(descriptor, False)
    signals = EndSignals()
    signals.listen(in_front=ready_fd is None)
    manager = ServiceManager() if ready_fd is None else None
    places = check(settings)
    # Now pyfuse3 is known to be importable.
    from fusenotify.mounting import daemon

    told = messages.begin(settings.log_level, settings.log_file)
    in_background = ready_fd is not None and until_eof is None

    def announce(mount: MountId, socket: str) -> None:
        if manager is not None:
            manager.ready(settings.source, settings.mountpoint, socket)
        if ready_fd is None:
            return
        os.write(ready_fd, announcement(mount, socket))
        if in_background:
            told.leave_the_terminal()
        os.close(ready_fd)

    def ending() -> None:
        if manager is not None:
            manager.stopping()

    try:
        daemon.run(settings, places, signals, announce, ending, until_eof)
    finally:
        told.flush()
    signals.ignore()
    return 0
