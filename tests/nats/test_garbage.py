# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody else put into the stream or the bucket is refused with its place, or not used."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext

from fusenotify import Mounted
from fusenotify.nats.messages import base_of, key_of
from fusenotify.nats.places import BUCKET, number_in
from tests.cli.command import fusenotify, until
from tests.nats.servers import NATS_SERVER, NatsServer
from tests.nats.test_many_machines import kept, objects, program, server

__all__ = ["kept", "server"]
needs_server = pytest.mark.skipif(NATS_SERVER is None, reason="nats-server is not installed")

_DIGITS = "9" * 5000  # more than int() takes


def publishing(mount: Mounted, server: NatsServer) -> list[str]:
    return ["publish", mount.mountpoint, "--to", server.url, "--machine", "web1"]


def subscribing(server: NatsServer) -> list[str]:
    return ["subscribe", "--from", server.url, "--since", "1", "--json"]


def publish_one(mount: Mounted, server: NatsServer, tmp_path: Path) -> None:
    """Let a publisher make the stream, the bucket and its keys."""
    os.mkdir(f"{mount.mountpoint}/one")
    printed = tmp_path / "printed"
    with program(*publishing(mount, server), output=tmp_path / "said"):
        until(server.has_stream, "the stream is made")
        with program(*subscribing(server), output=printed):
            until(lambda: bool(objects(printed)), "it is published")


def change(server: NatsServer, work: Callable[[JetStreamContext], Awaitable[object]]) -> None:
    """Do what somebody does who may use the server, too."""

    async def connected() -> None:
        client = await nats.connect(server.url)
        try:
            await work(client.jetstream())
        finally:
            await client.close()

    asyncio.run(connected())


def put(server: NatsServer, beginning: str, value: str | None) -> None:
    """Put a value at the only key with a beginning, or at a new one; None removes the key."""

    async def put(jetstream: JetStreamContext) -> None:
        bucket = await jetstream.key_value(BUCKET)
        found = [key for key in await bucket.keys() if key.startswith(beginning)]
        (key,) = found or [beginning]
        if value is None:
            await bucket.delete(key)
        else:
            await bucket.put(key, value.encode())

    change(server, put)


@needs_server
@pytest.mark.mount
@pytest.mark.parametrize("value", ["", "x", "-5", "1_0", "\u0661", _DIGITS], ids=range(6))
def test_what_is_no_place_of_a_subscriber_is_refused(
    kept: Mounted, server: NatsServer, tmp_path: Path, value: str
) -> None:
    publish_one(kept, server, tmp_path)
    put(server, key_of("my desk"), value)
    done = fusenotify("subscribe", "--from", server.url, "--durable", "my desk")
    assert done.returncode == 1
    assert done.stderr.startswith("fusenotify: the key my=20desk of the bucket fusenotify has no ")


@needs_server
@pytest.mark.mount
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("publisher.", ""),
        ("publisher.", f"a {_DIGITS} b"),
        ("claim.", f"host system {_DIGITS} 5 token"),
        ("claim.", f"host system 5 {_DIGITS} token"),
        ("claim.", None),
    ],
)
def test_what_is_no_place_and_no_claim_of_a_publisher_is_not_used(
    kept: Mounted, server: NatsServer, tmp_path: Path, key: str, value: str | None
) -> None:
    publish_one(kept, server, tmp_path)
    put(server, key, value)
    os.mkdir(f"{kept.mountpoint}/more")
    printed = tmp_path / "more"
    with (
        program(*publishing(kept, server), output=tmp_path / "said"),
        program(*subscribing(server), output=printed),
    ):
        if value is not None and value.startswith("host"):
            waits = "waiting up to 30 s for a sign of it"
            until(lambda: waits in (tmp_path / "said").read_text(), "it waits")
        else:
            until(lambda: len(objects(printed)) == 2, "it goes on")


@needs_server
@pytest.mark.mount
def test_a_message_of_somebody_else_with_an_id_is_named_if_it_is_needed(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    publish_one(kept, server, tmp_path)
    base = base_of("fusenotify", "web1", os.fsencode(kept.mountpoint))
    change(server, lambda js: js.publish(base, b"x", headers={"Nats-Msg-Id": "my id"}))
    put(server, "publisher.", "")
    done = fusenotify(*publishing(kept, server))
    assert done.returncode == 1
    assert f"a message with the subject {base} or below, is not of a publisher" in done.stderr
    assert "'id' is not a cursor" in done.stderr


@pytest.mark.parametrize("since", ["9" * 20, _DIGITS, "\u0661", "2300-01-01"], ids=range(4))
def test_what_no_stream_begins_with_is_refused(since: str) -> None:
    done = fusenotify("subscribe", "--from", "nats://127.0.0.1:1", "--since", since)
    assert done.returncode == 2
    assert "is neither a number nor a time" in done.stderr


@needs_server
@pytest.mark.mount
def test_a_subject_that_the_stream_does_not_have_is_refused_in_words(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    publish_one(kept, server, tmp_path)
    done = fusenotify("subscribe", "--from", server.url, "other.>")
    assert done.returncode == 1
    assert done.stderr.startswith("fusenotify: consumer filter subject is not")


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("1764203000000000000", 1764203000000000000), ("1" * 20, None), ("\u0661", None)],
)
def test_numbers_have_only_so_many_ascii_digits(text: str, number: int | None) -> None:
    assert number_in(text) == number
