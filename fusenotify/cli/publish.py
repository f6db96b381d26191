# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify publish MNT --to URL``: copy a mount's journal to a NATS JetStream stream."""

from __future__ import annotations

import argparse
import asyncio
import re

from fusenotify.cli.nats_options import add_server, address_of, extra, until_terminated
from fusenotify.client.locate import locate
from fusenotify.mounting.failure import Failure


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("mountpoint", metavar="MNT", help="the mount, made with --journal")
    add_server(parser, "--to")
    parser.add_argument(
        "--subject",
        metavar="PREFIX",
        type=_prefix,
        default="fusenotify",
        help="the beginning of subjects, before the machine and the mount (%(default)s)",
    )
    parser.add_argument(
        "--machine",
        metavar="NAME",
        type=_machine,
        help="the machine's name in subjects (its host name)",
    )
    parser.add_argument(
        "--window",
        metavar="N",
        type=_window,
        default=1000,
        help="how many messages may wait for an acknowledgement; with 1, each event is in the "
        "stream once and in order whatever happens, and waits for a round trip (%(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Publish until the mount is gone, or the command is interrupted."""
    with extra():
        from fusenotify.nats import Refused, publish
    publishing = publish(
        locate(arguments.mountpoint).socket,
        address_of(arguments),
        stream=arguments.stream,
        prefix=arguments.subject,
        machine=arguments.machine,
        window=arguments.window,
    )
    try:
        asyncio.run(until_terminated(publishing))
    except Refused as refused:
        raise Failure(str(refused)) from None
    return 0


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", text) or len(text) > 255:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no beginning of subjects: words of letters, digits, '_' and '-', with a "
            "dot between them"
        )
    return text


def _machine(text: str) -> str:
    if not 0 < len(text) <= 255 or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a machine")
    return text


def _window(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number between 1 and 100000")
    return int(text)
