# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon ends under writers, killed or asked: what was acknowledged stays, nobody hangs."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.client import ConnectionLost
from fusenotify.masks import IN_IGNORED, IN_ISDIR, IN_UNMOUNT
from tests.cli.command import until
from tests.conftest import Mounting
from tests.fs.conftest import FailingDisk, unmount
from tests.fs.crash.kinds import KINDS, LONGEST, Verdict
from tests.fs.crash.rounds import END_SECONDS, Listener, Rounds
from tests.fs.crash.writer import Writer


@pytest.mark.mount
def test_a_killed_daemon_loses_nothing_acknowledged_and_its_mount_is_recovered(
    tmp_path: Path,
) -> None:
    rounds = Rounds(tmp_path, seed=1)
    try:
        done = [rounds.run() for _ in range(4)]  # each recovery once
    finally:
        rounds.close()
    assert [problem for each in done for problem in each.problems] == []
    assert len({each.recovery for each in done}) == 4
    for kind in KINDS:
        assert sum(each.acknowledged[kind] for each in done), kind


def exit_of(mount: Mounted) -> tuple[int, int]:
    """Wait for the daemon's end; return how it ended, and its status."""
    end = os.waitid(os.P_PID, mount.pid, os.WEXITED | os.WNOWAIT)
    assert end is not None
    return end.si_code, end.si_status


@pytest.mark.mount
def test_sigterm_under_load_keeps_what_was_acknowledged_and_tells_every_client(
    mounting: Mounting,
) -> None:
    with mounting(max_queued_events=1 << 20) as mount:
        places = [Path(mount.mountpoint) / name for name in ("one", "two")]
        for place in places:
            place.mkdir()
        listeners = [Listener(*places) for _ in range(3)]
        writers = [(place, Writer(kind, place)) for place in places for kind in KINDS]
        for _, writer in writers:
            assert writer.begun.wait(END_SECONDS)
        os.kill(mount.pid, signal.SIGTERM)
        ends = [writer.end(END_SECONDS) for _, writer in writers]
        for end in ends:
            assert end is not None, "a writer hangs"
            assert "status" not in end
        assert [listener.end(END_SECONDS) for listener in listeners] == [
            ConnectionLost.__name__
        ] * len(listeners)
        assert exit_of(mount) == (os.CLD_EXITED, 0)
    for listener in listeners:
        assert listener.last == {wd: [IN_UNMOUNT | IN_ISDIR, IN_IGNORED] for wd in (1, 2)}
    for place, writer in writers:
        assert writer.acknowledged
        there = Path(mount.source) / place.name
        verdict = KINDS[writer.kind].look(there, writer.acknowledged)
        assert (verdict.lost, verdict.torn) == (0, 0), writer.kind


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts other filesystems")
def test_sigterm_waits_for_an_fsync_that_is_under_way(tmp_path: Path, mounting: Mounting) -> None:
    source = tmp_path / "source"  # which the fixture made
    disk = FailingDisk(source)
    done: list[str] = []
    try:
        with mounting() as mount:
            descriptor = os.open(f"{mount.mountpoint}/f", os.O_WRONLY)

            def sync() -> None:
                os.fsync(descriptor)
                done.append("fsync")
                os.close(descriptor)

            thread = threading.Thread(target=sync)
            thread.start()
            disk.expect("fsync")
            os.kill(mount.pid, signal.SIGTERM)
            until(lambda: not os.path.ismount(mount.mountpoint), "the mount is out of the tree")
            assert not done
            disk.let_go()
            thread.join()
            assert done == ["fsync"]
            assert exit_of(mount) == (os.CLD_EXITED, 0)
    finally:
        unmount(source)
        disk.process.kill()
        with disk.process:
            pass  # closes its pipes, and waits


# What the tool calls lost and torn, without a mount: five records, then damage.


def shorten(name: str, size: int) -> Callable[[], None]:
    return lambda: os.truncate(name, size)


def overwrite(name: str, offset: int, data: bytes) -> Callable[[], None]:
    def damage() -> None:
        with open(name, "r+b") as file:
            file.seek(offset)
            file.write(data)

    return damage


def execute(statement: str) -> Callable[[], None]:
    def damage() -> None:
        with sqlite3.connect("database") as database:
            database.execute(statement)
        database.close()

    return damage


def damage_pages() -> None:
    """Damage the pages after the first one, where the table is."""
    execute("PRAGMA wal_checkpoint(TRUNCATE)")()
    overwrite("database", 4096, b"\xff" * 4096)()


@pytest.mark.parametrize(
    ("kind", "acknowledged", "damage", "verdict"),
    [
        ("append", 5, shorten("log", 0), Verdict(lost=5)),
        ("append", 4, lambda: None, Verdict(further=1)),
        ("append", 5, overwrite("log", 12, b"\0"), Verdict(lost=4, torn=1)),
        ("append", 0, shorten("log", 10), Verdict()),
        ("rename", 5, lambda: None, Verdict()),
        ("rename", 4, lambda: None, Verdict(further=1)),
        ("rename", 6, lambda: None, Verdict(lost=1)),
        ("rename", 0, shorten("state", 10), Verdict(torn=1)),
        ("rename", 5, lambda: os.unlink("state"), Verdict(lost=1)),
        ("mmap", 5, lambda: None, Verdict()),
        ("mmap", 5, overwrite("mapped", 5 * LONGEST, bytes(LONGEST)), Verdict(lost=1)),
        ("mmap", 5, overwrite("mapped", 3 * LONGEST, b"\0"), Verdict(torn=1)),
        ("mmap", 5, lambda: os.unlink("mapped"), Verdict(lost=5)),
        ("sqlite", 4, lambda: None, Verdict(further=1)),
        ("sqlite", 5, execute("DELETE FROM records WHERE sequence = 2"), Verdict(lost=1)),
        ("sqlite", 5, execute("UPDATE records SET record = x'00'"), Verdict(torn=5)),
        ("sqlite", 0, execute("DROP TABLE records"), Verdict()),
        ("sqlite", 5, damage_pages, Verdict(lost=5, torn=1)),
    ],
)
def test_lost_and_torn_records_are_seen(
    kind: str,
    acknowledged: int,
    damage: Callable[[], None],
    verdict: Verdict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    written: Iterator[int] = KINDS[kind].write()
    assert list(itertools.islice(written, 5)) == [1, 2, 3, 4, 5]
    del written  # closes its files
    damage()
    assert KINDS[kind].look(tmp_path, acknowledged) == verdict
