# SPDX-License-Identifier: GPL-2.0-or-later
"""A real NATS server, that can be killed and come back."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import nats
import nats.js.errors

from fusenotify.nats.connection import STREAM
from tests.cli.command import until

NATS_SERVER = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")


class NatsServer:
    """A server on a port of this machine; settings are lines of its configuration."""

    def __init__(self, directory: Path, settings: str = "", *, jetstream: bool = True) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        store = f'jetstream {{ store_dir: "{directory}/jetstream" }}' if jetstream else ""
        (directory / "nats.conf").write_text(f"{store}\n{settings}\n")
        self.start()

    def start(self) -> None:
        assert NATS_SERVER is not None
        self._process = subprocess.Popen(
            [NATS_SERVER, "-a", "127.0.0.1", "-p", str(self.port), "-c", "nats.conf"],
            cwd=self._directory,
            stderr=subprocess.DEVNULL,
        )
        until(self._answers, "the NATS server answers")

    def stop(self, how: int = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def has_stream(self) -> bool:
        """Return whether a publisher has made its stream."""

        async def look() -> bool:
            client = await nats.connect(self.url)
            try:
                await client.jetstream().stream_info(STREAM)
            except nats.js.errors.NotFoundError:
                return False
            finally:
                await client.close()
            return True

        return asyncio.run(look())
