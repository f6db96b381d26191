# SPDX-License-Identifier: GPL-2.0-or-later
"""Of all publishers of a mount one publishes, and each event is in the stream once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.client import Client
from tests.cli.command import FUSENOTIFY, environment, fusenotify, until
from tests.nats.servers import NATS_SERVER, NatsServer
from tests.nats.test_many_machines import kept, manage, objects, program, server

__all__ = ["kept", "server"]
pytestmark = [
    pytest.mark.skipif(NATS_SERVER is None, reason="nats-server is not installed"),
    pytest.mark.mount,
]

# A publisher that believes to be on a machine of its own, so that it cannot see whether another
# one lives; a claim lasts a second and a half.
_ELSEWHERE = (
    "import sys; from fusenotify.cli import main; from fusenotify.nats import claim\n"
    "claim._system = lambda: sys.argv[1]; claim.LEASE_SECONDS = 1.5\n"
    "sys.exit(main(sys.argv[2:]))"
)


@contextlib.contextmanager
def elsewhere(
    machine: str, mount: Mounted, server: NatsServer, said: Path
) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["publish", mount.mountpoint, "--to", server.url, "--window", "1"]
    with open(said, "ab") as out:
        process = subprocess.Popen(
            [FUSENOTIFY[0], "-c", _ELSEWHERE, machine, *arguments], env=environment(), stderr=out
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def published(server: NatsServer, most: int, printed: Path) -> list[object]:
    """Return the numbers in the journal of all messages in the stream, when there are so many."""
    until(server.has_stream, "the stream is made")
    printed.unlink(missing_ok=True)
    with program("subscribe", "--from", server.url, "--since", "1", "--json", output=printed):
        until(lambda: len(objects(printed)) >= most, f"{most} messages", 60)
    return [each["sequence"] for each in objects(printed)]


def test_a_second_publisher_is_refused_at_once(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    publish = ["publish", kept.mountpoint, "--to", server.url, "--machine", "web1"]
    with program(*publish, output=tmp_path / "first") as first:
        os.mkdir(f"{kept.mountpoint}/a")
        published(server, 1, tmp_path / "printed")
        done = fusenotify(*publish)
        assert done.returncode == 1
        assert f"is published already, by process {first.pid} on" in done.stderr
        first.kill()
        first.wait()
        os.mkdir(f"{kept.mountpoint}/b")
        with program(*publish, output=tmp_path / "second"):
            assert published(server, 2, tmp_path / "printed") == [1, 2]


def test_a_publisher_waits_for_a_bucket_that_takes_nothing_yet(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    # As between the two steps in which the server makes it for another publisher.
    bucket = "name='KV_fusenotify', max_msgs_per_subject=1, subjects=[{!r}]"
    manage(server, f"add_stream({bucket.format('elsewhere.>')})")
    os.mkdir(f"{kept.mountpoint}/a")
    said = tmp_path / "said"
    with program("publish", kept.mountpoint, "--to", server.url, output=said):
        until(lambda: "no response from stream; trying again" in said.read_text(), "it waits")
        manage(server, f"update_stream({bucket.format('$KV.fusenotify.>')})")
        assert published(server, 1, tmp_path / "printed") == [1]


def test_a_publisher_that_was_away_for_long_publishes_nothing_again(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    # The server forgets at once which messages it had, as after two minutes by default.
    manage(server, "add_stream(name='FUSENOTIFY', subjects=['fusenotify.>'], duplicate_window=0.1)")
    said = tmp_path / "said"
    made = 0

    def make(number: int) -> None:
        nonlocal made
        for _ in range(number):
            os.mkdir(f"{kept.mountpoint}/{made}")
            made += 1

    with contextlib.ExitStack() as stack:
        now = stack.enter_context(elsewhere("one", kept, server, said))
        for number in range(4):
            make(300)
            published(server, made - 280, tmp_path / "printed")  # it is in the midst of them
            now.send_signal(signal.SIGSTOP)
            make(20)
            then = stack.enter_context(elsewhere(f"other{number}", kept, server, said))
            published(server, made, tmp_path / "printed")
            now.send_signal(signal.SIGCONT)
            assert now.wait(30) == 1
            now = then
        make(20)
        numbers = published(server, made, tmp_path / "printed")
    with Client(kept.socket) as client:
        last = [*client.since("begin")][-1].sequence
    assert numbers == list(range(1, last + 1))
    assert said.read_text().count("is published already") == 4


def test_many_machines_share_a_stream() -> None:
    sizes = ["--machines", "30", "--mounts", "3", "--events", "20"]
    done = subprocess.run(
        [FUSENOTIFY[0], "-m", "tests.nats.thousand", *sizes],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "30 machines, 600 events, each once and in order" in done.stdout, done.stderr


def test_a_journal_that_was_copied_is_published_by_each_machine(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    os.mkdir(f"{kept.mountpoint}/a")
    publish = ["publish", kept.mountpoint, "--to", server.url, "--machine"]
    with (
        program(*publish, "one", output=tmp_path / "one"),
        program(*publish, "other", output=tmp_path / "other"),
    ):
        assert published(server, 2, tmp_path / "printed") == [1, 1]


def test_a_publisher_that_is_told_to_end_leaves_the_mount_to_the_next_one(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    os.mkdir(f"{kept.mountpoint}/a")
    with elsewhere("one", kept, server, tmp_path / "said") as first:
        published(server, 1, tmp_path / "printed")
        first.terminate()
        assert first.wait(20) == 0
    os.mkdir(f"{kept.mountpoint}/b")
    with elsewhere("other", kept, server, tmp_path / "said"):
        assert published(server, 2, tmp_path / "printed") == [1, 2]
    assert "waiting" not in (tmp_path / "said").read_text()


def test_a_subscriber_waits_for_the_stream_and_gets_all_of_it(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    printed = tmp_path / "printed"
    os.mkdir(f"{kept.mountpoint}/a")
    with program("subscribe", "--from", server.url, "--json", output=printed):
        until(lambda: "waiting for it" in printed.read_text(), "it waits")
        with program("publish", kept.mountpoint, "--to", server.url, output=tmp_path / "said"):
            until(lambda: len(objects(printed)) == 1, "the event is printed")


def test_a_slow_reader_of_a_subscriber_gets_everything(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    number = 2000
    for each in range(number):
        os.mkdir(f"{kept.mountpoint}/{each}")
    with program("publish", kept.mountpoint, "--to", server.url, output=tmp_path / "said"):
        until(server.has_stream, "the stream is made")
        subscriber = subprocess.Popen(
            [*FUSENOTIFY, "subscribe", "--from", server.url, "--since", "1", "--json"],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        with subscriber:
            assert subscriber.stdout is not None
            first = subscriber.stdout.readline()
            # The pipe is full: the subscriber waits, and the server drops nobody.
            until(lambda: _sleeps_in_write(subscriber.pid), "it waits for its reader")
            server.stop(signal.SIGTERM)  # goes away and comes back meanwhile
            server.start()
            lines = [first, *(subscriber.stdout.readline() for _ in range(number - 1))]
            subscriber.kill()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, number + 1))


# A subscriber whose first fetch ends as nats-py's do if the server says just then, after a second,
# that there is nothing.
_NOTHING_JUST_THEN = (
    "import asyncio, sys\n"
    "from fusenotify.cli import main\n"
    "from nats.js import JetStreamContext\n"
    "Subscription = JetStreamContext.PullSubscription\n"
    "fetch = Subscription.fetch\n"
    "async def nothing(self, *args, **kwargs):\n"
    "    Subscription.fetch = fetch\n"
    "    raise asyncio.TimeoutError\n"
    "Subscription.fetch = nothing\n"
    "sys.exit(main(sys.argv[1:]))"
)


def test_a_subscriber_does_not_connect_again_where_there_is_nothing(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    os.mkdir(f"{kept.mountpoint}/a")
    with program("publish", kept.mountpoint, "--to", server.url, output=tmp_path / "said"):
        until(server.has_stream, "the stream is made")
        command = [FUSENOTIFY[0], "-c", _NOTHING_JUST_THEN, "subscribe", "--from", server.url]
        with subprocess.Popen(
            [*command, "--since", "1", "--json"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as subscriber:
            assert subscriber.stdout is not None
            assert json.loads(subscriber.stdout.readline())["path"] == "a"
            subscriber.terminate()
            assert subscriber.communicate()[1] == ""


def _sleeps_in_write(pid: int) -> bool:
    return Path(f"/proc/{pid}/wchan").read_text() in ("pipe_write", "anon_pipe_write")
