# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing lost, nothing twice, in order: a journal through NATS while everything is killed.

    python -m tests.nats.killed --rounds 60 --seed 1

In each round files are made in a mount while its publisher, the NATS server or the subscriber
is killed (SIGKILL) and started again.  At the end the subscribers must have printed each entry of
the journal, in order; a durable subscriber that is killed prints its last events again, under
the same numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import tempfile
from pathlib import Path

import fusenotify
from fusenotify.client import Client
from tests.cli.command import FUSENOTIFY, environment, until
from tests.nats.servers import NatsServer

_FILES = 40


class Rounds:
    """A mount with a journal, a publisher, a server and a subscriber."""

    def __init__(self, top: Path, chosen: random.Random, stack: contextlib.ExitStack) -> None:
        self._chosen = chosen
        self._printed = top / "printed"
        self._printed.touch()
        self._said = top / "said"
        self._made = 0
        for name in ("source", "mnt", "nats"):
            (top / name).mkdir()
        self._mount = stack.enter_context(
            fusenotify.mounted(top / "source", top / "mnt", journal=top / "journal")
        )
        self._server = NatsServer(top / "nats")
        stack.callback(self._server.stop, signal.SIGKILL)
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(self._kill_all)
        self._start("publisher")
        until(self._server.has_stream, "the stream is made")
        self._start("subscriber")

    def round(self) -> str:
        """Make files while something is killed; return what."""
        victim = self._chosen.choice(["publisher", "subscriber", "server"])
        when = self._chosen.randrange(_FILES)
        for number in range(_FILES):
            if number == when:
                self._kill(victim)
            os.mkdir(f"{self._mount.mountpoint}/{self._made}")
            self._made += 1
        self._start(victim)
        return victim

    def check(self) -> int:
        """Wait until everything was printed; return how many events there were.

        Raises AssertionError where one is missing, is there twice, or is out of order.
        """
        with Client(self._mount.socket) as client:
            last = [*client.since("begin")][-1].sequence
        try:
            until(lambda: self._sequences()[-1:] == [last], f"event {last} is printed", 60.0)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self._said.read_text()}") from None
        sequences = self._sequences()
        assert sequences == list(range(1, last + 1)), sequences
        return last

    def _sequences(self) -> list[int]:
        """Return the numbers in the journal of what was printed, without what was repeated."""
        found: list[int] = []
        newest = 0
        for line in self._printed.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"}\n"):
                continue  # its subscriber was killed while it wrote
            event = json.loads(line[line.rindex(b'{"number"') :])
            if event["number"] > newest:
                newest = event["number"]
                found.append(event["sequence"])
        return found

    def _start(self, what: str) -> None:
        if what == "server":
            self._server.start()
            return
        place = ["--from", self._server.url, "--since", "1", "--durable", "test", "--json"]
        arguments = {
            "publisher": ["publish", self._mount.mountpoint, "--to", self._server.url],
            "subscriber": ["subscribe", *place],
        }
        with open(self._printed, "ab") as printed, open(self._said, "ab") as said:
            self._programs[what] = subprocess.Popen(
                [*FUSENOTIFY, *arguments[what]], env=environment(), stdout=printed, stderr=said
            )

    def _kill(self, what: str) -> None:
        if what == "server":
            self._server.stop(signal.SIGKILL)
            return
        self._programs[what].kill()
        self._programs[what].wait()

    def _kill_all(self) -> None:
        for program in self._programs.values():
            program.kill()
            program.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="kill what is between a mount and a subscriber")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="killed-") as top, contextlib.ExitStack() as stack:
        rounds = Rounds(Path(top), random.Random(arguments.seed), stack)
        victims = [rounds.round() for _ in range(arguments.rounds)]
        events = rounds.check()
    killed = ", ".join(f"{what} {victims.count(what)} times" for what in sorted({*victims}))
    print(f"seed {arguments.seed}: {events} events, each once and in order; killed: {killed}")


if __name__ == "__main__":
    main()
