# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals through a real NATS server: published once, in order, and read from any place on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify import mounted as fusenotify_mounted
from fusenotify.bits import IN_CREATE
from fusenotify.cli import main
from fusenotify.nats.connection import covers, reason_of
from fusenotify.nats.messages import base_of, decoded, encoded, key_of, subject_of
from fusenotify.protocol.past import PastEvent
from tests.cli.command import FUSENOTIFY, environment, fusenotify, until
from tests.conftest import Mounting
from tests.nats.killed import Rounds
from tests.nats.servers import NATS_SERVER, NatsServer

needs_server = pytest.mark.skipif(NATS_SERVER is None, reason="nats-server is not installed")


@pytest.fixture
def kept(mounting: Mounting, tmp_path: Path) -> Iterator[Mounted]:
    with mounting(journal=tmp_path / "journal") as mount:
        yield mount


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with running(tmp_path / "nats") as server:
        yield server


@contextlib.contextmanager
def running(directory: Path, settings: str = "", **options: bool) -> Iterator[NatsServer]:
    directory.mkdir()
    server = NatsServer(directory, settings, **options)
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


@contextlib.contextmanager
def program(*arguments: str | Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(output, "ab") as out:
        process = subprocess.Popen(
            [*FUSENOTIFY, *map(str, arguments)], env=environment(), stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def objects(file: Path) -> list[dict[str, object]]:
    lines = file.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


@needs_server
@pytest.mark.mount
def test_published_events_are_printed_by_every_subscriber(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    mnt, printed = Path(kept.mountpoint), tmp_path / "printed"
    os.mkdir(mnt / "d")
    publish = ["publish", str(mnt), "--to", server.url, "--machine", "web1"]
    with program(*publish, output=tmp_path / "publisher"):
        until(server.has_stream, "the stream is made")
        place = ["--from", server.url, "--since", "1"]
        with program("subscribe", *place, output=printed):
            (mnt / "d" / "a.b").touch()
            os.rename(mnt / "d" / "a.b", mnt / "c")
            until(lambda: "MOVED_TO" in printed.read_text(), "the rename is printed")
        assert printed.read_text().splitlines() == [
            f"web1 {mnt}/ CREATE,ISDIR d",
            f"web1 {mnt}/d/ CREATE a.b",
            f"web1 {mnt}/d/ CLOSE_WRITE,CLOSE a.b",
            f"web1 {mnt}/d/ MOVED_FROM a.b",
            f"web1 {mnt}/ MOVED_TO c",
        ]
        below = tmp_path / "below"
        subject = base_of("fusenotify", "web1", os.fsencode(mnt)) + ".d.>"
        with program("subscribe", subject[:-2], *place, "--json", output=below):
            until(lambda: len(objects(below)) == 2, "what was in the directory is printed")


@needs_server
@pytest.mark.mount
def test_nothing_is_lost_or_twice_or_out_of_order_whatever_is_killed(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        rounds = Rounds(tmp_path, random.Random(0), stack)
        victims = [rounds.round() for _ in range(4)]
        assert rounds.check() == 160
    assert {*victims} == {"publisher", "subscriber", "server"}


@needs_server
@pytest.mark.mount
def test_what_the_stream_no_longer_keeps_is_not_published_again(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    printed = tmp_path / "printed"
    publish = ["publish", kept.mountpoint, "--to", server.url]
    # The server forgets at once which messages it had, as after two minutes by default.
    manage(server, "add_stream(name='FUSENOTIFY', subjects=['fusenotify.>'], duplicate_window=0.1)")
    place = ["--from", server.url, "--since", "1", "--json"]
    with program("subscribe", *place, output=printed):
        with program(*publish, output=tmp_path / "publisher"):
            os.mkdir(f"{kept.mountpoint}/a")
            until(lambda: len(objects(printed)) == 1, "the event is printed")
            until(lambda: "publisher." in manage(server, KEYS), "the place is kept")
        manage(server, "purge_stream('FUSENOTIFY')")
        with program(*publish, output=tmp_path / "publisher"):
            os.mkdir(f"{kept.mountpoint}/b")
            until(lambda: "b" in [each["path"] for each in objects(printed)], "the next one")
    assert [each["path"] for each in objects(printed)] == ["a", "b"]


@needs_server
@pytest.mark.mount
def test_a_stream_that_was_created_again_is_read_from_its_beginning(
    kept: Mounted, server: NatsServer, tmp_path: Path
) -> None:
    printed = tmp_path / "printed"
    publish = ["publish", kept.mountpoint, "--to", server.url]
    place = ["--from", server.url, "--since", "1", "--durable", "a name.*", "--json"]
    paths = ["a", "b", "a", "b", "c"]
    for names in ("ab", "c"):
        for name in names:
            os.mkdir(f"{kept.mountpoint}/{name}")
        with program(*publish, output=tmp_path / "publisher"):
            until(server.has_stream, "the stream is made")
            with program("subscribe", *place, output=printed):
                until(partial(_ends_with, printed, names[-1]), "all are printed")
        manage(server, "delete_stream('FUSENOTIFY')")
    assert [each["path"] for each in objects(printed)] == paths
    assert "was created again" in printed.read_text()


def _ends_with(printed: Path, name: str) -> bool:
    return [each["path"] for each in objects(printed)][-1:] == [name]


KEYS = "stream_info('KV_fusenotify', subjects_filter='>')"


def manage(server: NatsServer, call: str) -> str:
    """Call a method of JetStream; return what it returns, as text."""
    script = (
        "import asyncio, nats, sys\n"
        "async def manage():\n"
        "    client = await nats.connect(sys.argv[1])\n"
        f"    print(await client.jetstream().{call})\n"
        "    await client.close()\n"
        "asyncio.run(manage())"
    )
    done = subprocess.run(
        [FUSENOTIFY[0], "-c", script, server.url], capture_output=True, text=True, check=False
    )
    return done.stdout


@needs_server
@pytest.mark.mount
@pytest.mark.parametrize("limit", ["the server's", "the stream's"])
def test_a_message_that_is_too_large_is_a_gap(kept: Mounted, tmp_path: Path, limit: str) -> None:
    printed = tmp_path / "printed"
    settings = "max_payload: 1300" if limit == "the server's" else ""
    with running(tmp_path / "nats", settings) as server:
        if limit == "the stream's":
            stream = "name='FUSENOTIFY', subjects=['fusenotify.>'], max_msg_size=1300"
            manage(server, f"add_stream({stream})")
        os.makedirs(f"{kept.mountpoint}/{'d' * 250}/{'e' * 250}/{'f' * 250}/{'g' * 250}")
        os.mkdir(f"{kept.mountpoint}/small")
        with program("publish", kept.mountpoint, "--to", server.url, output=tmp_path / "publisher"):
            until(server.has_stream, "the stream is made")
            place = ["--from", server.url, "--since", "1", "--json"]
            with program("subscribe", *place, output=printed):
                until(lambda: len(objects(printed)) == 5, "five messages are printed")
    *_, gap, small = objects(printed)
    assert gap["reason"] == "too large"
    assert str(small["path"]) == "small"


@needs_server
@pytest.mark.mount
@pytest.mark.parametrize(
    ("settings", "jetstream", "message"),
    [
        ("", False, "has no JetStream; start it with -js"),
        ("authorization { user: a, password: b }", True, "refuses these credentials"),
    ],
    ids=["no JetStream", "credentials"],
)
def test_a_server_that_cannot_serve_is_refused(
    kept: Mounted, tmp_path: Path, settings: str, jetstream: bool, message: str
) -> None:
    with running(tmp_path / "nats", settings, jetstream=jetstream) as server:
        done = fusenotify("publish", kept.mountpoint, "--to", server.url)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
        done = fusenotify("subscribe", "--from", server.url)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr


@needs_server
@pytest.mark.mount
def test_a_stream_of_another_shape_is_refused(kept: Mounted, server: NatsServer) -> None:
    make = (
        "import asyncio, nats, sys\n"
        "async def make():\n"
        "    client = await nats.connect(sys.argv[1])\n"
        "    await client.jetstream().add_stream(name='FUSENOTIFY', subjects=['other.>'])\n"
        "    await client.close()\n"
        "asyncio.run(make())"
    )
    subprocess.run([FUSENOTIFY[0], "-c", make, server.url], check=True)
    done = fusenotify("publish", kept.mountpoint, "--to", server.url)
    assert (done.returncode, "keeps other.>" in done.stderr) == (1, True), done.stderr


@needs_server
@pytest.mark.mount
def test_a_path_that_is_too_long_for_subjects_is_refused(
    server: NatsServer, tmp_path: Path
) -> None:
    long = tmp_path.joinpath(*["\u20ac" * 80] * 4)
    (long / "mnt").mkdir(parents=True)
    (long / "source").mkdir()
    with fusenotify_mounted(long / "source", long / "mnt", journal=tmp_path / "journal"):
        done = fusenotify("publish", long / "mnt", "--to", server.url)
    assert (done.returncode, "the mount's path" in done.stderr) == (1, True), done.stderr


@pytest.mark.mount
def test_no_server_and_no_journal_are_said(mounted: Mounted) -> None:
    done = fusenotify("publish", mounted.mountpoint, "--to", "nats://127.0.0.1:1")
    assert (done.returncode, "no server answers" in done.stderr) == (1, True), done.stderr
    done = fusenotify("subscribe", "--from", "http://127.0.0.1")
    assert (done.returncode, "is not an address" in done.stderr) == (2, True), done.stderr


def test_subjects_have_a_token_for_each_directory() -> None:
    base = base_of("fusenotify", "web.1", b"/srv/my-tree")
    assert base == "fusenotify.web%2E1.srv-my%2Dtree.tree"
    assert subject_of(base, b"a/b c/\xff.txt") == f"{base}.a.b%20c"
    assert subject_of(base, b"top") == base
    assert subject_of(base, b"/".join([b"d"] * 2000)).count(".") == base.count(".") + 16
    assert len(subject_of(base, b"/".join([b"\xff" * 255] * 9))) < len(base) + 1001


def test_a_message_has_all_fields_of_the_event() -> None:
    event = PastEvent(
        cursor="c:1",
        sequence=7,
        time=1,
        mask=IN_CREATE,
        path=b"\xff/b",
        old_path=b"a",
        pid=1,
        command=b"\xfe",
        replaced=True,
    )
    received = decoded(9, encoded("web1", b"/m\xfd", event))
    assert received == (9, "web1", b"/m\xfd", event)


@pytest.mark.parametrize(
    "change",
    [
        {"machine": None},
        {"machine": "\ud800"},
        {"mount_base64": 1},
        {"path": "\ud800"},
        {"path_base64": "?"},
        {"reason": "\ud800"},
        {"time": 2**70},
        {"mask": "x"},
    ],
    ids=str,
)
def test_a_message_that_is_not_ours_is_none(change: dict[str, object]) -> None:
    event = PastEvent(cursor="c", sequence=7, time=1, mask=IN_CREATE, path=b"a")
    good = json.loads(encoded("web1", b"/m", event))
    assert decoded(1, json.dumps(good).encode()).event == event
    with pytest.raises(ValueError, match=r"."):
        decoded(1, json.dumps(good | change).encode())


@pytest.mark.parametrize("data", [b"{}", b"1", b"\xff", b"", b"[" * 100_000], ids=len)
def test_what_is_no_object_of_ours_is_no_message(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoded(1, data)


def test_names_make_keys_that_a_bucket_takes() -> None:
    assert re.fullmatch(r"[-/_=.a-zA-Z0-9]+", key_of("a b.c/\u00fc*>%"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["subscribe", "--from", "natsx://u:secret@h"], "is not an address"),
        (["subscribe", "--from", "nats://u:secret@h:99999"], "is not an address"),
        (["subscribe", "--from", "nats://u:secret@h:x"], "is not an address"),
        (["subscribe", "--from", "nats://h", "a..b"], "is not a subject"),
        (["subscribe", "--from", "nats://h", "--durable", ""], "is not a name"),
        (["publish", "/", "--to", "nats://u:secret@[::1"], "is not an address"),
        (["publish", "/", "--to", "nats://h", "--machine", ""], "is not the name of a machine"),
        (["publish", "/", "--to", "nats://h", "--subject", "a.>"], "is no beginning of subjects"),
        (["publish", "/", "--to", "nats://h", "--stream", "a.b"], "is not the name of a stream"),
    ],
)
def test_what_no_server_takes_is_refused_without_its_secrets(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    said = capsys.readouterr().err
    assert (refused.value.code, message in said, "secret" in said) == (2, True, False), said


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.>", "a.b.>", True),
        ("a.>", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a.>", False),
        ("a.b", "a.*", False),
        (">", "a", True),
    ],
)
def test_patterns_cover_subjects(pattern: str, subject: str, expected: bool) -> None:
    assert covers(pattern, subject) is expected


@needs_server
@pytest.mark.mount
@pytest.mark.parametrize("stopped", [False, True], ids=["it waits", "it is stopped meanwhile"])
def test_what_a_full_stream_refuses_is_published_when_there_is_room_though_later_events_are_there(
    kept: Mounted, server: NatsServer, tmp_path: Path, stopped: bool
) -> None:
    printed, mnt = tmp_path / "printed", Path(kept.mountpoint)
    full = "discard=nats.js.api.DiscardPolicy.NEW, duplicate_window=0.1"
    stream = "name='FUSENOTIFY', subjects=['fusenotify.>']"
    # Room for the first, the large one and the small one, far from the limit, however long the
    # path of the mount is: close to it, the server takes a message and drops the oldest.
    manage(server, f"add_stream({stream}, {full}, max_bytes=2150)")
    (mnt / "first").mkdir()
    (mnt / ("large" * 50)).mkdir()
    (mnt / ("large" * 50) / ("larger" * 40)).mkdir()
    (mnt / "small").mkdir()
    publisher = tmp_path / "publisher"
    publish = ["publish", kept.mountpoint, "--to", server.url]
    place = ["--from", server.url, "--since", "1", "--json"]

    def paths() -> list[object]:
        return [str(each["path"])[:6] for each in objects(printed)]

    with program("subscribe", *place, output=printed):
        with program(*publish, output=publisher):
            until(lambda: "maximum bytes exceeded" in publisher.read_text(), "one is refused")
            until(lambda: "small" in paths(), "a later one is in the stream")
            if not stopped:
                manage(server, f"update_stream({stream}, {full}, max_bytes=100_000)")
                until(lambda: len(paths()) == 4, "the refused one is published")
        if stopped:
            manage(server, f"update_stream({stream}, {full}, max_bytes=100_000)")
        with program(*publish, output=publisher):
            (mnt / "last").mkdir()
            until(lambda: "last" in paths(), "the last one is published")
    assert paths() == ["first", "largel", "small", "largel", "last"]


def test_an_error_that_says_nothing_is_named() -> None:
    assert reason_of(TimeoutError()) == "no answer in time"
    assert reason_of(EOFError()) == "EOFError"
    assert reason_of(OSError("it says this")) == "it says this"


def test_a_server_that_says_nothing_is_named_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        done = fusenotify("subscribe", "--from", url)
    assert (done.returncode, done.stderr) == (
        1,
        f"fusenotify: {url}: no server answers (no answer in time)\n",
    )
