# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify subscribe --from URL [SUBJECT ...]``: print events that many mounts publish."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from fusenotify.bits import IN_ISDIR, IN_MOVED_FROM, IN_Q_OVERFLOW, names
from fusenotify.cli import times
from fusenotify.cli.lines import json_object
from fusenotify.cli.nats_options import add_server, address_of, extra, until_terminated
from fusenotify.cli.printable import printable
from fusenotify.cli.since import missing, past_line
from fusenotify.mounting.failure import Failure

if TYPE_CHECKING:
    from fusenotify.nats import Received

# A stream's numbers have 64 bits.
_NUMBER = re.compile("[0-9]{1,19}")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "subjects",
        metavar="SUBJECT",
        nargs="*",
        type=_subject,
        help="a pattern of subjects to print, such as 'fusenotify.web1.>' (all)",
    )
    add_server(parser, "--from")
    parser.add_argument(
        "--since",
        metavar="TIME|NUMBER",
        type=_since,
        help="begin with the events published since " + times.EXAMPLES + ", or with a message "
        "of the stream, 1 being the first (only new events)",
    )
    parser.add_argument(
        "--durable",
        metavar="NAME",
        type=_durable,
        help="go on where the last subscriber with this name stopped, on any machine",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object per line, for programs"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print events until the command is interrupted."""
    with extra():
        from fusenotify.nats import Refused
    try:
        asyncio.run(until_terminated(_print_all(arguments)))
    except Refused as refused:
        raise Failure(str(refused)) from None
    return 0


async def _print_all(arguments: argparse.Namespace) -> None:
    from fusenotify.nats import subscribe

    received = subscribe(
        address_of(arguments),
        arguments.subjects,
        stream=arguments.stream,
        since=arguments.since,
        durable=arguments.durable,
    )
    form = _object if arguments.json else _lines
    async with contextlib.aclosing(received):
        async for each in received:
            sys.stdout.buffer.write(form(each))
            sys.stdout.buffer.flush()


def _lines(received: Received) -> bytes:
    """Return the lines of an event: those of ``fusenotify since``, after the machine's name."""
    event, mount = received.event, received.mount.rstrip(b"/")
    machine = printable(received.machine).encode() + b" "
    if event.mask & IN_Q_OVERFLOW:
        return machine + mount + b": " + missing(event).encode() + b"\n"
    path = mount + b"/" + event.path
    if event.old_path is None:
        return machine + past_line(event.mask, path)
    moved_from = IN_MOVED_FROM | event.mask & IN_ISDIR
    old = past_line(moved_from, mount + b"/" + event.old_path)
    return machine + old + machine + past_line(event.mask, path)


def _object(received: Received) -> bytes:
    event = received.event
    values = {
        "number": received.number,
        "machine": received.machine,
        "mount": received.mount,
        "events": names(event.mask),
        **msgspec.structs.asdict(event),
        "replaced": event.replaced or None,
        "exchanged": event.exchanged or None,
    }
    return json_object(values)


def _durable(text: str) -> str:
    if not 0 < len(text) <= 100 or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not a name")
    return text


def _subject(text: str) -> str:
    *above, last = text.split(".")
    if ">" in above or not all((*above, last)) or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a subject such as fusenotify.web1.>")
    return text


def _since(text: str) -> int | datetime:
    try:
        if _NUMBER.fullmatch(text):
            return int(text)
        return times.moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number nor {times.EXAMPLES}"
        ) from None
