# SPDX-License-Identifier: GPL-2.0-or-later
"""The subscriber: yields the events in the stream from some place on, in order.

The server keeps a durable subscriber's place in the key-value bucket BUCKET: the number of
the last message that was handled.

Invariant
    The numbers of the messages that are yielded grow.  If the server leaves out a message,
        reading begins again after the last one that was yielded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from fusenotify.nats.connection import (
    PREFIX,
    STREAM,
    TRANSIENT,
    Address,
    NoStream,
    NotThere,
    Refused,
    connected,
    covers,
    created_at,
    no_jetstream,
    reason_of,
)
from fusenotify.nats.messages import Received, decoded, key_of
from fusenotify.nats.places import BUCKET, Place, number_in

log = logging.getLogger(__name__)

_BATCH = 500
_FETCH_SECONDS = 1.0
_RETRY_SECONDS = (0.2, 5.0)


async def subscribe(
    address: Address,
    subjects: Sequence[str] = (),
    *,
    stream: str = STREAM,
    since: int | datetime | None = None,
    durable: str | None = None,
) -> AsyncGenerator[Received, None]:
    """Yield the events in the stream under some subjects, and new ones, until cancelled.

    subjects are patterns such as "fusenotify.web1.>"; by default, "fusenotify.>".  since is the
    number of the first message, or a time with a zone; by default, only new events are yielded.

    durable is the name of a subscriber whose place the server keeps.  It goes on after the last
    event that it handled, on whatever machine it ran; an event is handled when the next one is
    asked for.  since is used only if no place is kept yet.  A durable subscriber that was killed
    may get its last events again, with the same numbers.

    If there is no stream yet, subscribe() waits until a publisher makes it.
    If the server goes away after the first connection, subscribe() waits until it is back.

    Raises Refused; ValueError if the time has no zone.
    """
    if isinstance(since, datetime) and since.tzinfo is None:
        raise ValueError("the time has no zone")
    reader = _Reader(address, tuple(subjects) or (f"{PREFIX}.>",), stream, since, durable)
    pause, longest = _RETRY_SECONDS
    while True:
        try:
            async with contextlib.aclosing(reader.read()) as events:
                async for event in events:
                    pause = _RETRY_SECONDS[0]
                    yield event
        except NoStream as error:
            if not reader.was_connected:
                log.warning("%s: waiting for it", error)
            reader.begin_with_stream()
        except (NotThere, *TRANSIENT) as error:
            if not reader.was_connected:
                raise Refused(reason_of(error)) from None
            log.warning("%s: %s; trying again", address.shown, reason_of(error))
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)


class _Reader:
    """A place in a stream."""

    def __init__(
        self,
        address: Address,
        subjects: tuple[str, ...],
        stream: str,
        since: int | datetime | None,
        durable: str | None,
    ) -> None:
        self.was_connected = False
        self._address = address
        self._subjects = subjects
        self._stream = stream
        self._since = since
        self._durable = durable
        self._last: int | None = None  # the number of the last message that was handled
        self._created = ""  # when the stream was created that has this number, if known

    def begin_with_stream(self) -> None:
        """Note that there is no stream yet: when it is made, all its events are new."""
        self.was_connected = True
        if self._since is None:
            self._since = 1

    async def read(self) -> AsyncGenerator[Received, None]:
        """Yield the events after the last one, until the server leaves out a message.

        Raises one of TRANSIENT, Refused.
        """
        async with connected(self._address) as jetstream:
            place = (
                None if self._durable is None else await Place.of(jetstream, key_of(self._durable))
            )
            await self._begin(jetstream, place)
            # Servers before 2.10 allow only one pattern for a consumer.
            pattern = self._subjects[0] if len(self._subjects) == 1 else ">"
            subscription = await jetstream.pull_subscribe(
                pattern, stream=self._stream, config=self._config()
            )
            self.was_connected = True
            expected = 1
            while True:
                try:
                    messages = await subscription.fetch(_BATCH, timeout=_FETCH_SECONDS)
                except TimeoutError:  # nats-py raises its own, and asyncio's
                    await subscription.consumer_info()  # raises if the consumer is gone
                    continue
                for message in messages:
                    sequence = message.metadata.sequence
                    if sequence.consumer != expected:
                        log.warning("the server left out a message; reading it again")
                        return
                    expected += 1
                    received = self._received(message, sequence.stream)
                    if received is not None:
                        yield received
                    self._last = sequence.stream
                    if place is not None:
                        await place.keep(f"{self._last} {self._created}")
                if place is not None:
                    await place.save()

    async def _begin(self, jetstream: JetStreamContext, place: Place | None) -> None:
        """Find out after which message to begin.  Raises NotThere, Refused."""
        try:
            info = await jetstream.stream_info(self._stream)
        except nats.js.errors.NotFoundError:
            raise NoStream(
                f"there is no stream {self._stream} at {self._address.shown}; a publisher makes one"
            ) from None
        except (nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError):
            raise no_jetstream(self._address) from None
        newest = info.state.last_seq
        if self._last is None and place is not None:
            kept = await place.load()
            if kept is not None:
                number, _, self._created = kept.partition(" ")
                self._last = number_in(number)
                if self._last is None:
                    raise Refused(
                        f"the key {place.key} of the bucket {BUCKET} has no place of a subscriber: "
                        "choose another name, or remove the key"
                    )
        if self._last is None and self._since is None:
            self._last = newest
        created = created_at(info)
        other = self._created not in ("", created)
        if self._last is not None and (self._last > newest or other):
            log.warning("the stream %s was created again: all of it is read", self._stream)
            self._last = 0
        self._created = created

    def _config(self) -> ConsumerConfig:
        """Return the configuration of a consumer that begins after the last message."""
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=60.0)
        if self._last is None and isinstance(self._since, datetime):
            config.deliver_policy = DeliverPolicy.BY_START_TIME
            config.opt_start_time = self._since
            return config
        first = self._since if self._last is None else self._last + 1
        assert isinstance(first, int), "_begin() found a place"
        config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
        config.opt_start_seq = max(first, 1)
        return config

    def _received(self, message: Msg, number: int) -> Received | None:
        """Return the event in a message; None if its subject was not asked for or it has none."""
        if not any(covers(subject, message.subject) for subject in self._subjects):
            return None
        try:
            return decoded(number, message.data)
        except ValueError as error:
            log.warning("message %d of the stream %s: %s", number, self._stream, error)
            return None
