# SPDX-License-Identifier: GPL-2.0-or-later
"""Options of both ``fusenotify publish`` and ``subscribe``, and the check for the extra."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fusenotify.mounting.failure import Failure

if TYPE_CHECKING:
    from fusenotify.nats.connection import Address

# After how many seconds a program that was to end, and goes on, is told again.
_AGAIN_SECONDS = 0.5


def add_server(parser: argparse.ArgumentParser, option: str) -> None:
    """Declare the options for the server and the stream; option names the server's address."""
    parser.add_argument(
        option,
        dest="server",
        metavar="URL",
        type=_url,
        required=True,
        help="the NATS server with JetStream: nats://HOST:4222 or nats://USER:PASSWORD@HOST",
    )
    parser.add_argument(
        "--credentials", metavar="FILE", help="a file with credentials, as nsc makes it (.creds)"
    )
    parser.add_argument(
        "--stream",
        metavar="NAME",
        type=_stream,
        default="FUSENOTIFY",
        help="the stream's name (%(default)s)",
    )


def address_of(arguments: argparse.Namespace) -> Address:
    """Return the server that the arguments name."""
    from fusenotify.nats.connection import Address

    return Address(arguments.server, arguments.credentials)


@contextlib.contextmanager
def extra() -> Iterator[None]:
    """Raise Failure, which says what to install, if an import in the block fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Failure(
            f"this needs nats-py, which cannot be imported ({error}): "
            "pip install 'fusenotify[nats]'"
        ) from error


async def until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """Do work until it ends, or until SIGTERM."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None

    def end() -> None:
        this.cancel()
        loop.call_later(_AGAIN_SECONDS, end)  # nats-py can swallow a cancellation

    loop.add_signal_handler(signal.SIGTERM, end)
    with contextlib.suppress(asyncio.CancelledError):
        await work


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("nats", "tls", "ws", "wss") and bool(parts.hostname)
        port = parts.port
    except ValueError:
        good, port = False, None
    if not good or port == 0:
        # The text itself may have a password.
        raise argparse.ArgumentTypeError("this is not an address such as nats://HOST:4222")
    return text


def _stream(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a stream: letters, digits, '_' and '-'"
        )
    return text
