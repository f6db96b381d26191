# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames: four bytes of length, big-endian, and one message in msgpack.

messages has their contents; server.session and connection pass on the bytes
that they received.  Nothing here uses a socket.

Invariants
    A length over the limit is refused before the frame is read, so a decoder
        never holds more than one frame and the bytes received with its end.
    For any bytes, the decoder returns messages or raises RemoteProtocolError.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from struct import Struct
from typing import Any, Generic, TypeVar

import msgspec

from fusenotify.protocol.errors import LocalProtocolError, RemoteProtocolError
from fusenotify.protocol.messages import (
    MAX_ANSWER_FRAME,
    MAX_REQUEST_FRAME,
    Answer,
    AnyAnswer,
    AnyRequest,
    Request,
)

LENGTH = Struct(">I")

M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(AnyRequest)


class Decoder(Generic[M]):
    """Assembles the messages from a socket's bytes, which arrive in pieces.

    schema is the type of the messages, max_frame the largest number of bytes in a
    frame, without the length.
    """

    def __init__(self, schema: Any, max_frame: int) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(schema)
        self._max_frame = max_frame
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> Iterator[M]:
        """Return the messages that data completes; keep the beginning of an incomplete frame.

        The iterator raises RemoteProtocolError for a wrong frame, after the
        messages before it: EMSGSIZE for a frame that is too long, EPROTO for one
        that is not a message.
        """
        self._buffer += data
        return self._messages()

    def rest(self) -> bytes:
        """Return the bytes of the incomplete frame."""
        return bytes(self._buffer)

    def resumed(self, rest: bytes) -> Decoder[M]:
        """Return a new decoder of the same messages, which has the bytes of an incomplete frame."""
        other: Decoder[M] = Decoder.__new__(Decoder)
        other._decoder = self._decoder
        other._max_frame = self._max_frame
        other._buffer = bytearray(rest)
        return other

    def _messages(self) -> Iterator[M]:
        buffer = self._buffer
        while len(buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(buffer)
            if length > self._max_frame:
                raise RemoteProtocolError(
                    errno.EMSGSIZE,
                    f"a frame of {length} bytes is announced: the limit is {self._max_frame}",
                )
            end = LENGTH.size + length
            if len(buffer) < end:
                return
            message = self._decode(buffer, end)
            del buffer[:end]
            yield message

    def _decode(self, buffer: bytearray, end: int) -> M:
        with memoryview(buffer) as whole, whole[LENGTH.size : end] as frame:
            try:
                return self._decoder.decode(frame)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as broken:
                reason = str(broken)
        raise RemoteProtocolError(errno.EPROTO, f"a frame is not a message: {reason}")


def request_decoder() -> Decoder[AnyRequest]:
    """Return the decoder of a server."""
    return Decoder(AnyRequest, MAX_REQUEST_FRAME)


def answer_decoder() -> Decoder[AnyAnswer]:
    """Return the decoder of a client."""
    return Decoder(AnyAnswer, MAX_ANSWER_FRAME)


def check_request(frame: bytes | bytearray) -> None:
    """Check a frame that we made in the way the server will.

    Raises TypeError if a field has the wrong type.
    """
    try:
        _requests.decode(memoryview(frame)[LENGTH.size :])
    except msgspec.ValidationError as wrong:
        expected, _, field = str(wrong).replace("null", "None").partition(" - at `$.")
        raise TypeError(f"{field.rstrip('`')}: {expected}") from None


def encode(message: Request | Answer) -> bytearray:
    """Return the frame of a message.

    Raises LocalProtocolError (EMSGSIZE) if it would be too long.
    """
    frame = bytearray(LENGTH.size)
    _encoder.encode_into(message, frame, LENGTH.size)
    length = len(frame) - LENGTH.size
    limit = MAX_REQUEST_FRAME if isinstance(message, Request) else MAX_ANSWER_FRAME
    if length > limit:
        raise LocalProtocolError(
            errno.EMSGSIZE, f"a frame would have {length} bytes: the limit is {limit}"
        )
    LENGTH.pack_into(frame, 0, length)
    return frame
