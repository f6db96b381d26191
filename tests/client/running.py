# SPDX-License-Identifier: GPL-2.0-or-later
"""A server of a tree in memory beside the test: in a thread, or in a process to be killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import trio

from fusenotify.engine.policy import LINUX_6, Policy
from fusenotify.server import Server
from fusenotify.server.listener import bind_socket
from tests.server.memory_tree import MemoryTree

T = TypeVar("T")

MOUNTPOINT = b"/mnt/x"


class Running:
    """A server in a thread.  The tree is touched through do() only.

    policy is the tree's, mode says who may connect; with faults, they may be caused.
    """

    def __init__(
        self,
        socket: str,
        mountpoint: bytes,
        *,
        policy: Policy = LINUX_6,
        mode: int = 0o600,
        faults: bool = False,
    ) -> None:
        self.socket = socket
        self.tree = MemoryTree(policy)
        self.server = Server(
            self.tree.table, self.tree, mountpoint=mountpoint, source=b"/srv/x", faults=faults
        )
        self._mode = mode
        self._serving = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()

    def do(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Return what a call gives in the server's thread."""
        assert self._token is not None
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(call(*arguments, **options))
            except Exception as error:
                answer.set_exception(error)

        self._token.run_sync_soon(run)  # unlike trio.from_thread, from another trio too
        return answer.result(10)

    def make(self, *paths: str, **options: Any) -> None:
        """Create objects in the tree."""
        for path in paths:
            self.do(self.tree.make, path, **options)

    def settle(self) -> None:
        """Return when the server has done what it can do now."""
        trio.from_thread.run(trio.testing.wait_all_tasks_blocked, 0.01, trio_token=self._token)

    def start(self) -> None:
        self._thread.start()
        assert self._serving.wait(10)

    def stop(self) -> None:
        """End, as a daemon does that is told to; a second stop is nothing."""
        with contextlib.suppress(trio.RunFinishedError):
            self.do(self._scope.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.server.serve, bind_socket(self.socket, self._mode))
                self._serving.set()


@contextlib.contextmanager
def daemon_process(socket: str) -> Iterator[subprocess.Popen[str]]:
    """Run a server in a process of its own, which the test may kill."""
    daemon = subprocess.Popen(
        [sys.executable, "-m", __name__, socket], stdout=subprocess.PIPE, text=True
    )
    with daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "ready\n"
            yield daemon
        finally:
            daemon.kill()


if __name__ == "__main__":
    running = Running(sys.argv[1], MOUNTPOINT)
    running.start()
    print("ready", flush=True)
