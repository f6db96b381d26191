# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls by mount(8): the arguments of its helper, and its exit statuses.

``mount -t fusenotify SOURCE MNT`` runs /sbin/mount.fusenotify, which mount-scripts/install puts
there and which runs ``fusenotify mount.fusenotify``, as EXTERNAL HELPERS in mount(8) describes:

    mount.fusenotify SOURCE MNT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE.SUBTYPE]

If it is not installed, ``mount -t fuse.fusenotify`` runs mount.fuse3, which runs
``fusenotify SOURCE MNT -o OPTIONS``.  cli recognizes both forms and calls run(), which lets
cli.mount do the rest.
"""

from __future__ import annotations

import argparse
import getopt
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from fusenotify.cli import mount
from fusenotify.cli.printable import printable
from fusenotify.mounting.failure import Failure

COMMAND = "mount.fusenotify"
# mount(8)'s exit statuses.
WRONG_CALL = 1
FAILED = 32

_USAGE = f"usage: {COMMAND} SOURCE MNT [-sfnv] [-o OPTION[,OPTION...]] [-t fuse.fusenotify]"
_TYPES = ("fusenotify", "fuse.fusenotify")


class _Refusing(argparse.ArgumentParser):
    """Reports errors in one line: our usage does not help somebody who wrote a line of fstab."""

    def error(self, message: str) -> NoReturn:
        raise Failure(message.removeprefix("argument -o: "))


def run(argv: Sequence[str]) -> int:
    """Mount as mount(8) asks, and return the exit status; argv has all arguments.

    Raises Failure, for which the exit status is FAILED.
    """
    source, mountpoint, others = _places(argv)
    try:
        given, further = getopt.gnu_getopt(others, "sfnvN:o:t:")
    except getopt.GetoptError as error:
        return _wrong(f"{error.msg}; {_USAGE}")
    asked = dict(given)
    if not mountpoint or further:
        return _wrong(_USAGE)
    if "-N" in asked:
        return _wrong(
            "-N: the daemon runs in one mount namespace; enter it first: nsenter --mount=NAMESPACE"
        )
    if asked.get("-t", _TYPES[0]) not in _TYPES:
        return _wrong(f"-t {asked['-t']}: the type is {_TYPES[-1]}")

    flags = ["--by-mount8", *(["--sloppy"] if "-s" in asked else [])]
    words = [f"-o{value}" for name, value in given if name == "-o" and value]
    if os.geteuid() == 0:
        words.insert(0, "-osuid,dev")  # the defaults of mount(8) and mount.fuse3
    parser = _Refusing(prog=COMMAND, allow_abbrev=False)
    mount.configure(parser)
    argv = [*flags, *words, "--", source, mountpoint]
    try:
        arguments = parser.parse_args(argv, argparse.Namespace(argv=argv))
    except SystemExit:  # -o help has listed the words, and nothing is mounted
        return WRONG_CALL
    if "-f" in asked:  # fake
        return 0
    if "nofail" in arguments.options and not os.path.lexists(source):
        return 0  # as mount(8) has it for a disk that is not there
    return FAILED if mount.run(arguments) else 0


def _places(argv: Sequence[str]) -> tuple[str, str, list[str]]:
    """Return SOURCE and MNT, which may begin with a dash, and the arguments after them."""
    places = list(argv[1:] if argv[0] == COMMAND else argv)
    return (places[0], places[1], places[2:]) if len(places) > 1 else ("", "", [])


def _wrong(message: str) -> int:
    print(f"fusenotify: {printable(message)}", file=sys.stderr)
    return WRONG_CALL
