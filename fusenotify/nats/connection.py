# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to a NATS server with JetStream, and the errors that it can have.

Connections do not reconnect by themselves, because it is not known then which messages have
arrived.  Publisher and subscriber make a new connection, and go on after what is in the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from fusenotify.nats import credentials

STREAM = "FUSENOTIFY"
PREFIX = "fusenotify"
_CONNECT_SECONDS = 5
# More than any publisher's window.
MOST_PENDING = 100_000

# The errors of a server that is away, or of a cluster without a leader.
TRANSIENT = (
    OSError,
    asyncio.TimeoutError,
    nats.errors.Error,
    nats.js.errors.ServiceUnavailableError,
    nats.js.errors.NoStreamResponseError,
)


def reason_of(error: BaseException) -> str:
    """Return what an error says; for many, nats-py and asyncio have no text, or a technical one."""
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, nats.js.errors.APIError) and error.description:
        return error.description
    return str(error) or type(error).__name__


class Refused(Exception):
    """The server cannot do what was asked, and waiting does not help.  str() says why."""


class NotThere(Refused):
    """JetStream, or the stream, does not exist; a server that just started may have it soon."""


class NoStream(NotThere):
    """The stream does not exist; the first publisher makes it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server and the credentials for it.

    url is like nats://user:password@host:4222.  credentials is the path of a file as nsc
    makes it, or None.
    """

    url: str
    credentials: str | None = None

    @property
    def shown(self) -> str:
        """The URL without user and password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname or ''}:{parts.port or 4222}"


@contextlib.asynccontextmanager
async def connected(
    address: Address, on_error: Callable[[Exception], object] | None = None
) -> AsyncIterator[JetStreamContext]:
    """Yield JetStream on a new connection, which is closed at the end.

    on_error is called with errors that reach no caller.  If a message is refused, nats-py raises
    the APIError where it reads the answer, and the message counts as not acknowledged.

    Raises Refused if waiting does not help, and one of TRANSIENT if the server is away.
    """
    if address.credentials is not None:
        try:
            credentials.check(address.credentials)
        except OSError as error:
            raise Refused(f"{address.credentials}: {error.strerror}") from None
        except ValueError as error:
            raise Refused(str(error)) from None
    client = Client()
    said: list[Exception] = []

    async def hear(error: Exception) -> None:
        said.append(error)
        if on_error is not None:
            on_error(error)

    try:
        await client.connect(
            address.url,
            error_cb=hear,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=_CONNECT_SECONDS,
            user_credentials=address.credentials,
        )
    except ValueError as error:
        raise Refused(f"{address.shown}: {error}") from None
    except (OSError, nats.errors.Error) as error:
        text = " ".join(map(str, [error, *said])).lower()
        if "authorization" in text or "authentication" in text:
            raise Refused(f"{address.shown}: the server refuses these credentials") from None
        raise ConnectionError(f"{address.shown}: no server answers ({reason_of(error)})") from None
    try:
        yield client.jetstream(publish_async_max_pending=MOST_PENDING)
    finally:
        with contextlib.suppress(*TRANSIENT):
            await client.close()


def check_cancelled() -> None:
    """Raise CancelledError if this task was cancelled, since nats-py can swallow a cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def check_stream(
    jetstream: JetStreamContext, address: Address, stream: str, subjects: str
) -> StreamInfo:
    """Check that a stream takes subjects, and return it; it is created if it does not exist.

    Raises Refused if it does not take them, or cannot be created; NotThere if the server has
    no JetStream.
    """
    try:
        info = await jetstream.stream_info(stream)
    except nats.js.errors.NotFoundError:
        try:
            info = await jetstream.add_stream(name=stream, subjects=[subjects])
        except nats.js.errors.APIError as error:
            try:  # another publisher may just have made it
                info = await jetstream.stream_info(stream)
            except nats.js.errors.NotFoundError:
                raise Refused(
                    f"the stream {stream} cannot be created: {error.description}"
                ) from None
    except (nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError):
        raise no_jetstream(address) from None
    except nats.js.errors.APIError as error:
        raise Refused(f"{address.shown}: {error.description}") from None
    if not any(covers(each, subjects) for each in info.config.subjects or ()):
        kept = ", ".join(info.config.subjects or ["nothing"])
        raise Refused(f"the stream {stream} keeps {kept}, and not {subjects}: name another one")
    return info


def created_at(info: StreamInfo) -> str:
    """Return when a stream was created, as a text: a stream of the same name is another one."""
    return "" if info.created is None else info.created.isoformat()


def no_jetstream(address: Address) -> NotThere:
    """Return the exception for a server without JetStream."""
    return NotThere(f"{address.shown}: the server has no JetStream; start it with -js")


def covers(pattern: str, subject: str) -> bool:
    """Return whether a pattern matches all subjects that another pattern, or subject, matches."""
    wide, narrow = pattern.split("."), subject.split(".")
    for number, part in enumerate(wide):
        if part == ">":
            return len(narrow) > number
        if number >= len(narrow) or narrow[number] == ">":
            return False
        if part not in ("*", narrow[number]):
            return False
    return len(wide) == len(narrow)
