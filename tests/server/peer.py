# SPDX-License-Identifier: GPL-2.0-or-later
"""A client that sends what a test says and shows what comes back."""

from __future__ import annotations

from typing import Any

import trio

from fusenotify.protocol.codec import answer_decoder, encode
from fusenotify.protocol.messages import (
    VERSION,
    AnyAnswer,
    AnyRequest,
    DeviceMade,
    Hello,
    Init,
    Welcome,
)

# How long a test waits for what must come.
SECONDS = 5


class Peer:
    """The other end of a server's connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._decoder = answer_decoder()
        self._answers: list[AnyAnswer] = []
        self._last_id = 0

    async def send(self, request: AnyRequest) -> int:
        """Send a request, numbered, and return its number."""
        self._last_id += 1
        request.id = self._last_id
        await self.stream.send_all(encode(request))
        return request.id

    async def answer(self) -> AnyAnswer | None:
        """Return the next answer, None at the end."""
        with trio.fail_after(SECONDS):
            while not self._answers:
                try:
                    data = await self.stream.receive_some()
                except trio.BrokenResourceError:
                    return None
                if not data:
                    return None
                self._answers += self._decoder.feed(data)
        return self._answers.pop(0)

    async def ask(self, request: AnyRequest) -> Any:
        """Return the answer to a request; nothing else may be under way."""
        number = await self.send(request)
        answer = await self.answer()
        assert answer is not None
        assert answer.id == number
        return answer

    async def hello(self) -> Welcome:
        welcome = await self.ask(Hello(version=VERSION))
        assert isinstance(welcome, Welcome)
        return welcome

    async def device(self, **options: Any) -> int:
        """Say hello where that was not done, and return a new device."""
        if not self._last_id:
            await self.hello()
        made = await self.ask(Init(**options))
        assert isinstance(made, DeviceMade)
        return made.device
