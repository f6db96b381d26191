# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames: four bytes of length, big-endian, and one message in msgpack.

messages says what is in them; server.session and connection hand over what
their sockets gave.  Nothing here knows of a socket.

Invariants
    A length over the limit is refused before the frame is read, so a decoder
        never holds more than a frame and what came with its end.
    Whatever bytes come, the decoder gives messages or RemoteProtocolError.
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
    """Puts together what a socket gives in pieces.

    schema is what a frame may hold, max_frame the most bytes it may have.
    """

    def __init__(self, schema: Any, max_frame: int) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(schema)
        self._max_frame = max_frame
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> Iterator[M]:
        """Return the messages that data completes; keep a frame that is partial.

        The iterator raises RemoteProtocolError (EMSGSIZE for a frame too long,
        EPROTO for one that is no message) behind the messages before it.
        """
        self._buffer += data
        return self._messages()

    def rest(self) -> bytes:
        """Return the part of a frame that came and is not complete."""
        return bytes(self._buffer)

    def resumed(self, rest: bytes) -> Decoder[M]:
        """Return another decoder for the same, which was given the beginning of a frame."""
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
                    f"a frame of {length} bytes is announced; the limit is {self._max_frame}",
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
        raise RemoteProtocolError(errno.EPROTO, f"a frame is no message: {reason}")


def request_decoder() -> Decoder[AnyRequest]:
    """Return the decoder of a server."""
    return Decoder(AnyRequest, MAX_REQUEST_FRAME)


def answer_decoder() -> Decoder[AnyAnswer]:
    """Return the decoder of a client."""
    return Decoder(AnyAnswer, MAX_ANSWER_FRAME)


def check_request(frame: bytes | bytearray) -> None:
    """Check a frame of our own making as the server will.

    Raises TypeError where a field has another type than the protocol says.
    """
    try:
        _requests.decode(memoryview(frame)[LENGTH.size :])
    except msgspec.ValidationError as wrong:
        raise TypeError(str(wrong)) from None


def encode(message: Request | Answer) -> bytearray:
    """Return the frame of a message.

    Raises LocalProtocolError (EMSGSIZE) where it would be too long.
    """
    frame = bytearray(LENGTH.size)
    _encoder.encode_into(message, frame, LENGTH.size)
    length = len(frame) - LENGTH.size
    limit = MAX_REQUEST_FRAME if isinstance(message, Request) else MAX_ANSWER_FRAME
    if length > limit:
        raise LocalProtocolError(
            errno.EMSGSIZE, f"a frame would have {length} bytes; the limit is {limit}"
        )
    LENGTH.pack_into(frame, 0, length)
    return frame
