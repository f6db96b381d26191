# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify fault MNT ...``: cause a fault on a mount that was made with --faults.

server.faults causes it; docs/reference/protocol.md describes each fault.
"""

from __future__ import annotations

import argparse
import os
from typing import NoReturn

from fusenotify.client import Client
from fusenotify.client.locate import locate
from fusenotify.masks import plain
from fusenotify.protocol.faults import (
    ANY_EVENT,
    AnyFault,
    Clear,
    Delay,
    Disconnect,
    Inject,
    Lose,
    Overflow,
    Refuse,
)

_SUMMARIES = {
    "overflow": "queue IN_Q_OVERFLOW, and lose events until it is read",
    "inject": "queue an event that did not happen",
    "lose": "silently lose the next events",
    "delay": "hold events back for some seconds; 0 ends it",
    "refuse": "make the next add_watch calls fail",
    "disconnect": "close the connection of the device",
    "clear": "end all lasting faults",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("mountpoint", metavar="MNT", help="the mount, or a path in it")
    _declare(parser)


def fault_of(words: str) -> AnyFault:
    """Return the fault that words mean, those behind MNT, as in "lose 3 --mask CREATE".

    It is for devices that are new when it is caused.

    Raises ArgumentTypeError.
    """
    parser = argparse.ArgumentParser(prog="", add_help=False, exit_on_error=False)
    parser.error = _refuse  # type: ignore[method-assign]
    for kind in _declare(parser).values():
        kind.error = _refuse  # type: ignore[method-assign]
    arguments = parser.parse_args(words.split())
    if arguments.device is not None:
        _refuse("--device: the fault is caused on each inotify descriptor")
    fault = _fault(arguments)
    if isinstance(fault, Inject) and fault.wd >= 0:
        _refuse("inject: a descriptor has no watch yet when the fault is caused")
    return fault


def _refuse(message: str) -> NoReturn:
    raise argparse.ArgumentTypeError(message)


def _declare(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Declare the faults and what each takes; return the parser of each."""
    kinds = parser.add_subparsers(dest="kind", metavar="FAULT", required=True)
    kind = {}
    for name, summary in _SUMMARIES.items():
        kind[name] = kinds.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        kind[name].add_argument(
            "--device",
            metavar="N",
            type=_number,
            help="only this device, by the number that 'fusenotify status' shows (all)",
        )
    kind["inject"].add_argument("wd", metavar="WD", type=_number, help="the watch descriptor")
    kind["inject"].add_argument("mask", metavar="MASK", type=_mask, help="such as CREATE,ISDIR")
    kind["inject"].add_argument("name", metavar="NAME", nargs="?", help="(no name)")
    kind["inject"].add_argument(
        "--cookie", metavar="N", type=_number, default=0, help="(%(default)s)"
    )
    for name in ("lose", "refuse"):
        kind[name].add_argument("count", metavar="COUNT", type=_number, help="how many; 0 ends it")
    kind["lose"].add_argument(
        "--mask",
        type=_mask,
        default=ANY_EVENT,
        help="only these events, such as CREATE,DELETE (all)",
    )
    kind["refuse"].add_argument(
        "error",
        metavar="ERROR",
        nargs="?",
        default=Refuse(0).error,
        help="ENOSPC or ENOMEM (%(default)s)",
    )
    kind["delay"].add_argument("seconds", metavar="SECONDS", type=float, help="at most 3600")
    return kind


def run(arguments: argparse.Namespace) -> int:
    """Cause the fault; the daemon checks it."""
    with Client(locate(arguments.mountpoint).socket) as client:
        client.fault(_fault(arguments), arguments.device)
    return 0


def _fault(arguments: argparse.Namespace) -> AnyFault:
    match arguments.kind:
        case "overflow":
            return Overflow()
        case "inject":
            name = None if arguments.name is None else os.fsencode(arguments.name)
            return Inject(arguments.wd, arguments.mask, arguments.cookie, name)
        case "lose":
            return Lose(arguments.count, arguments.mask)
        case "delay":
            return Delay(arguments.seconds)
        case "refuse":
            return Refuse(arguments.count, arguments.error)
        case "disconnect":
            return Disconnect()
        case _:
            return Clear()


def _number(text: str) -> int:
    """Return a number of at most 64 bits; the daemon checks whether it is in its range."""
    try:
        number = int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
    if not -(2**63) <= number < 2**64:
        raise argparse.ArgumentTypeError(f"'{text}' does not fit 64 bits")
    return number


def _mask(text: str) -> int:
    """Return the mask of names such as ``CREATE,ISDIR``, or of a number such as 0x100."""
    if text[:1].isdecimal():
        return _number(text)
    try:
        return plain(text)
    except ValueError as unknown:
        raise argparse.ArgumentTypeError(str(unknown)) from None
