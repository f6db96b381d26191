# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's files are their user's alone, and are missed when they are taken away."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusenotify import Mounted
from fusenotify.history.bounds import Bounds
from fusenotify.history.store import Store
from tests.cli.command import fusenotify
from tests.conftest import Mounting, User

from .test_since import client_of, told, words

pytestmark = pytest.mark.mount


@pytest.fixture
def kept(mounting: Mounting, tmp_path: Path) -> Iterator[Mounted]:
    with mounting(journal=tmp_path / "journal") as mount:
        yield mount


def refusal(path: Path) -> OSError:
    with pytest.raises(OSError, match=r".") as caught:
        Store(bytes(path), b"/source", Bounds())
    assert caught.value.filename == str(path)
    return caught.value


def fifo(path: Path) -> None:
    os.mkfifo(path)


def foreign(path: Path) -> None:
    path.touch()
    os.chown(path, 1000, 1000)


def linked(path: Path) -> None:
    path.touch()
    os.link(path, path.with_name("other"))


def a_foreign_lock(path: Path) -> None:
    foreign(path.with_name("journal.lock"))


def a_link_as_lock(path: Path) -> None:
    path.with_name("journal.lock").symlink_to(path.with_name("elsewhere"))


def a_foreign_log(path: Path) -> None:
    foreign(path.with_name("journal-wal"))


def in_an_open_directory(path: Path) -> None:
    path.parent.chmod(0o777)


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (fifo, errno.EINVAL, "journal is not a regular file"),
        (foreign, errno.EPERM, "belongs to user 1000, not to user 0"),
        (linked, errno.EINVAL, "has several names"),
        (a_foreign_lock, errno.EPERM, "journal.lock belongs to user 1000"),
        (a_link_as_lock, errno.ELOOP, "symbolic links"),
        (a_foreign_log, errno.EPERM, "journal-wal belongs to user 1000"),
        (in_an_open_directory, errno.EPERM, "all users can replace files"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_files_that_are_not_the_users_alone_are_refused(
    tmp_path: Path, prepare: Callable[[Path], None], code: int, message: str
) -> None:
    path = tmp_path / "d" / "journal"
    path.parent.mkdir()
    prepare(path)
    refused = refusal(path)
    assert (refused.errno, message in str(refused)) == (code, True), refused
    assert not path.with_name("elsewhere").exists()


def test_a_link_to_a_journal_is_that_journal(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real/journal")
    store = Store(bytes(link), b"/source", Bounds())
    assert refusal(tmp_path / "real" / "journal").errno == errno.EBUSY
    store.close(None)


def test_mount_says_what_is_wrong_and_mounts_nothing(tmp_path: Path) -> None:
    for name in ("source", "mnt", "disk"):
        (tmp_path / name).mkdir()
    disk = tmp_path / "disk"
    with on_tmpfs(disk, "size=64k"):
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={disk}/filling"], stderr=subprocess.DEVNULL, check=False
        )
        refused_mount(tmp_path, disk / "journal", "full")
        (disk / "filling").unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        refused_mount(tmp_path, disk / "journal", "Read-only file system")
    foreign(tmp_path / "journal")
    refused_mount(tmp_path, tmp_path / "journal", "belongs to user 1000")
    refused_mount(tmp_path, tmp_path / "source", "a journal is a file, not a directory")
    (tmp_path / "text").write_text("this is a text" * 100)
    refused_mount(tmp_path, tmp_path / "text", "not a database")


def refused_mount(top: Path, journal: Path, message: str) -> None:
    done = fusenotify("mount", top / "source", top / "mnt", "--journal", journal)
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert str(journal) in done.stderr
    assert not os.path.ismount(top / "mnt")


@contextlib.contextmanager
def on_tmpfs(directory: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def removed(path: Path) -> None:
    for file in path.parent.glob("journal*"):
        file.unlink()


def moved_away(path: Path) -> None:
    path.rename(path.with_name("rotated"))


def without_its_lock(path: Path) -> None:
    path.with_name("journal.lock").unlink()


def without_its_log(path: Path) -> None:
    path.with_name("journal-wal").unlink()


@pytest.mark.parametrize("take_away", [removed, moved_away, without_its_lock, without_its_log])
def test_files_that_are_taken_away_are_missed_and_nothing_that_follows_is_lost(
    mounting: Mounting, tmp_path: Path, take_away: Callable[[Path], None]
) -> None:
    journal = tmp_path / "journal"
    with mounting(journal=journal) as mount, client_of(mount) as (client, mnt):
        cursor = client.cursor()
        os.mkdir(mnt / "before")
        following = client.since(cursor, follow=True)
        assert words(next(following)) == "CREATE|ISDIR before"
        take_away(journal)
        os.mkdir(mnt / "after")
        # Whoever follows misses nothing.
        assert words(next(following)) == "CREATE|ISDIR after"
        events = told(client.since(cursor))
        whole = ["CREATE|ISDIR before", "CREATE|ISDIR after"]
        lost = ["gap: other journal", "CREATE|ISDIR after"]
        assert events == (lost if take_away in (removed, moved_away) else whole)
        assert told(client.since(client.cursor())) == []
        assert journal.exists()
        # The lock is the daemon's again.
        assert refusal_of(journal, mount.source) == errno.EBUSY
        following.close()


def refusal_of(journal: Path, source: str) -> int | None:
    with pytest.raises(OSError, match=r".") as caught:
        Store(bytes(journal), os.fsencode(source), Bounds())
    return caught.value.errno


def test_a_file_that_is_taken_away_is_said(tmp_path: Path) -> None:
    for name in ("source", "mnt"):
        (tmp_path / name).mkdir()
    mnt, journal, log = tmp_path / "mnt", tmp_path / "journal", tmp_path / "log"
    options = [f"--journal={journal}", f"--log-file={log}"]
    done = fusenotify("mount", *options, tmp_path / "source", mnt)
    assert done.returncode == 0, done.stderr
    try:
        removed(journal)
        os.mkdir(mnt / "d")
        assert fusenotify("cursor", mnt).returncode == 0
        (line,) = log.read_text().splitlines()
        assert f"{journal}: the journal was removed or replaced" in line
    finally:
        fusenotify("unmount", mnt)


def test_an_older_copy_that_takes_the_place_is_a_gap(mounting: Mounting, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with mounting(journal=journal) as mount, client_of(mount) as (client, mnt):
        os.mkdir(mnt / "a")
        early = client.cursor()
    shutil.copy(journal, tmp_path / "copy")
    with mounting(journal=journal) as mount, client_of(mount) as (client, mnt):
        os.mkdir(mnt / "b")
        late = client.cursor()
        os.replace(tmp_path / "copy", journal)
        os.mkdir(mnt / "c")
        assert told(client.since(late)) == ["CREATE|ISDIR c"]
        assert told(client.since(early))[-1] == "CREATE|ISDIR c"
        assert any("gap" in event for event in told(client.since(early)))
        assert told(client.since(late)) == ["gap: future"]  # it is not known in the copy


def test_files_that_were_away_for_a_while_are_used_again(
    mounting: Mounting, tmp_path: Path
) -> None:
    directory, away = tmp_path / "state", tmp_path / "away"
    directory.mkdir()
    with mounting(journal=directory / "journal") as mount, client_of(mount) as (client, mnt):
        cursor = client.cursor()
        directory.rename(away)
        os.mkdir(mnt / "a")
        with pytest.raises(OSError, match="the journal cannot be written"):
            client.cursor()
        away.rename(directory)
        os.mkdir(mnt / "b")
        assert told(client.since(cursor)) == ["CREATE|ISDIR a", "CREATE|ISDIR b"]


def test_what_is_no_journal_in_its_place_keeps_changes_waiting(
    mounting: Mounting, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    with mounting(journal=journal) as mount, client_of(mount) as (client, mnt):
        cursor = client.cursor()
        os.mkdir(mnt / "a")
        client.cursor()
        removed(journal)
        journal.write_text("this is a text" * 100)
        os.mkdir(mnt / "b")
        with pytest.raises(OSError, match="the journal cannot be written") as caught:
            client.cursor()
        assert "not a database" in str(caught.value)
        assert "cannot be written" in fusenotify("status", mount.mountpoint).stdout
        journal.unlink()
        gap, made = told(client.since(cursor))
        assert (gap[:5], made) == ("gap: ", "CREATE|ISDIR b")
        assert told(client.since(cursor)) == ["gap: other journal", "CREATE|ISDIR b"]


def test_a_damaged_page_is_said_and_the_mount_goes_on(mounting: Mounting, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with mounting(journal=journal) as mount, client_of(mount) as (client, mnt):
        cursor = client.cursor()
        for number in range(300):
            os.mkdir(mnt / f"{number}-{secrets.token_hex(100)}")
        client.cursor()
    with sqlite3.connect(journal) as file:
        largest = "SELECT entries FROM batches ORDER BY length(entries) DESC LIMIT 1"
        (entries,) = file.execute(largest).fetchone()
    file.close()
    # In one page of the file: the middle of what some changes became.
    data = journal.read_bytes()
    assert data.count(entries[len(entries) // 2 :][:8]) == 1
    journal.write_bytes(data.replace(entries[len(entries) // 2 :][:8], b"\xff" * 8))
    with mounting(journal=journal) as mount, client_of(mount) as (client, mnt):
        os.mkdir(mnt / "more")
        done = fusenotify("since", cursor, mount.mountpoint)
        assert (done.returncode, "the journal is damaged" in done.stderr) == (3, True), done
        assert done.stdout.endswith("CREATE,ISDIR more\n")


def test_a_user_without_rights_keeps_a_journal_of_their_own(
    public_path: Path, nobody: User
) -> None:
    foreign = public_path / "foreign"
    foreign.touch(mode=0o666)
    foreign.chmod(0o666)
    script = (
        "import sys; from fusenotify.history.store import Store\n"
        "from fusenotify.history.bounds import Bounds\n"
        "Store(sys.argv[1].encode(), b'/source', Bounds())"
    )
    done = nobody.run(nobody.python, "-c", script, foreign)
    assert "belongs to user 0" in done.stderr
