# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/reference/protocol.md is enough to write a client: its example works, nothing is missing."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgpack
import pytest

from fusenotify.protocol import messages
from fusenotify.protocol.status import ClientStatus, DeviceStatus, LimitsStatus, UserStatus
from tests.client.running import Running

MANUAL = Path(__file__).parents[2].joinpath("docs", "reference", "protocol.md").read_text()


class Foreigner:
    """A client with nothing but socket and msgpack."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.incoming = self.socket.makefile("rb")
        self.last_id = 0

    def close(self) -> None:
        self.incoming.close()
        self.socket.close()

    def send(self, **request: Any) -> None:
        body = msgpack.packb(request)
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def receive(self) -> Any:
        head = self.incoming.read(4)
        return msgpack.unpackb(self.incoming.read(*struct.unpack(">I", head))) if head else None

    def ask(self, **request: Any) -> Any:
        self.last_id += 1
        self.send(id=self.last_id, **request)
        return self.receive()


@pytest.fixture
def foreigner(running: Running) -> Any:
    foreigner = Foreigner(running.socket)
    yield foreigner
    foreigner.close()


def test_every_request_by_hand(running: Running, foreigner: Foreigner) -> None:
    ask = foreigner.ask
    assert ask(type="hello", version=1)["type"] == "welcome"
    assert ask(type="init") == {"type": "device", "id": 2, "device": 1}
    assert ask(type="init", max_queued_events=4, semantics=None)["device"] == 2
    assert ask(type="add_watch", device=1, path=b"/", mask=0x100)["wd"] == 1
    assert ask(type="poll", device=1, timeout=0)["ready"] is False
    running.make("a")
    assert ask(type="sync")["type"] == "done"
    assert ask(type="fionread", device=1)["bytes"] == 32
    record = struct.pack("=iIII16s", 1, 0x100, 0, 16, b"a")
    assert ask(type="read", device=1, size=4096, timeout=1) == {
        "type": "records",
        "id": 8,
        "data": record,
    }
    assert ask(type="read", device=1, size=4096, timeout=0)["errno"] == 11
    assert ask(type="cancel", request=3)["type"] == "done"
    assert ask(type="rm_watch", device=1, wd=1)["type"] == "done"
    assert ask(type="stream", device=1, size=4096)["data"] == struct.pack("=iIII", 1, 0x8000, 0, 0)
    assert ask(type="close", device=2)["type"] == "done"
    status = ask(type="status")
    assert status["clients"][0]["devices"][0]["watches"] == 0
    assert status["users"][0]["devices"] == 1


def test_a_violation_by_hand(foreigner: Foreigner) -> None:
    refusal = foreigner.ask(type="init")
    assert (refusal["type"], refusal["id"]) == ("error", 0)
    assert "hello" in refusal["message"]
    assert foreigner.receive() is None


def test_the_example_of_the_manual_runs(running: Running, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL)
    program = tmp_path / "example.py"
    program.write_text(example)
    with subprocess.Popen(
        [sys.executable, "-I", program, running.socket, "/"], stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline().startswith("connected to fusenotify")
        assert watcher.stdout.readline() == "watching as 1\n"
        running.make("a", "b")
        assert watcher.stdout.readline() == "1 0x100 0 a\n"
        assert watcher.stdout.readline() == "1 0x100 0 b\n"
        running.do(running.tree.unmount)
        assert watcher.stdout.read() == "1 0x40002000 0 \n1 0x8000 0 \n"
    assert watcher.returncode == 0


def rows(heading: str) -> dict[str, set[str]]:
    """Return the names in code of each row in the first table below a heading, by the first."""
    section = MANUAL.split(f"\n## {heading}\n")[1]
    table = section.split("\n|---")[1].split("\n\n")[0].splitlines()[1:]
    named = [(re.findall(r"`(\w+)`", row.split("|")[1])[0], row.split("|")[2]) for row in table]
    return {kind: set(re.findall(r"`(\w+)`", fields)) for kind, fields in named}


@pytest.mark.parametrize(
    ("heading", "union"), [("Requests", messages.AnyRequest), ("Answers", messages.AnyAnswer)]
)
def test_the_manual_names_every_message_and_field(heading: str, union: Any) -> None:
    described = {
        str(kind.__struct_config__.tag): set(kind.__struct_fields__) - {"id"}
        for kind in get_args(union)
    }
    assert rows(heading) == described


def test_the_manual_has_the_numbers_of_the_code() -> None:
    for number in (messages.MAX_REQUEST_FRAME, messages.MAX_ANSWER_FRAME, messages.MAX_READ):
        assert str(number) in MANUAL
    assert f"This is version {messages.VERSION}." in MANUAL
    for described in (LimitsStatus, ClientStatus, UserStatus, DeviceStatus):
        assert all(f"`{field}`" in MANUAL for field in described.__struct_fields__)
