# SPDX-License-Identifier: GPL-2.0-or-later
"""An Inotify with a cursor: what happened after it comes first, then what happens, each once."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from fusenotify import Mounted
from fusenotify import mounted as fusenotify_mounted
from fusenotify.bits import IN_ISDIR, IN_MOVED_TO, IN_Q_OVERFLOW, names
from fusenotify.client import DetailedInotifyEvent, Inotify, InotifyEvent
from fusenotify.client.aio import Inotify as AsyncInotify
from fusenotify.history.bounds import CHANGES
from tests.cli.command import ended, environment, fusenotify
from tests.conftest import Mounting, User

pytestmark = pytest.mark.mount


@pytest.fixture
def kept(mounting: Mounting, tmp_path: Path) -> Iterator[Mounted]:
    with mounting(journal=tmp_path / "journal") as mount:
        yield mount


@pytest.fixture
def mnt(kept: Mounted) -> Path:
    return Path(kept.mountpoint)


class Replaced:
    """A mount with a journal, whose daemon is killed and replaced by another one."""

    def __init__(self, top: Path) -> None:
        source, self.mnt = top / "source", top / "mnt"
        for directory in (source, self.mnt):
            directory.mkdir()
        options = f"--socket={top}/x.sock", f"--journal={top}/journal"
        self._mount = "mount", *options, source, self.mnt

    def mount(self) -> None:
        assert fusenotify(*self._mount).returncode == 0

    def unmount(self) -> None:
        fusenotify("unmount", self.mnt)

    def kill(self, inotify: Inotify) -> None:
        """Kill the daemon to which inotify is connected, and start the next one."""
        assert inotify._client is not None
        os.kill(inotify._client.pid, signal.SIGKILL)
        assert ended(inotify._client.pid)
        self.unmount()
        self.mount()


@pytest.fixture
def replaced(tmp_path: Path) -> Iterator[Replaced]:
    mount = Replaced(tmp_path)
    mount.mount()
    try:
        yield mount
    finally:
        mount.unmount()


def cursor_of(path: Path) -> str:
    return fusenotify("cursor", path).stdout.strip()


def words(event: InotifyEvent | DetailedInotifyEvent) -> str:
    return f"{'|'.join(names(event.mask))} {event.name}"


def all_of(inotify: Inotify) -> list[InotifyEvent]:
    """Return everything up to now."""
    inotify.sync()
    found: list[InotifyEvent] = []
    while events := inotify.read(timeout=0):
        found += events
    return found


def test_the_past_comes_before_what_happens(mnt: Path) -> None:
    (mnt / "before").touch()
    (mnt / "d").mkdir()
    cursor = cursor_of(mnt)
    (mnt / "d" / "past").mkdir()
    with Inotify(since=cursor) as inotify:
        wd = inotify.add_watch(str(mnt), CHANGES, tree=True)
        (mnt / "d" / "live").mkdir()
        past, live = all_of(inotify)
        assert (past.wd, words(past)) == (wd, "CREATE|ISDIR d/past")
        assert (past.path, live.path) == (f"{mnt}/d/past", f"{mnt}/d/live")
        assert all_of(inotify) == []


def test_what_happens_meanwhile_comes_once_and_in_order(mnt: Path) -> None:
    cursor = cursor_of(mnt)
    number = 3000
    making = subprocess.Popen(
        [sys.executable, "-c", f"import os\nfor n in range({number}): os.mkdir(str(n))"], cwd=mnt
    )
    try:
        found: list[str | None] = []
        handovers = 0
        while len(found) < number:
            # The next Inotify goes on after the last event that this one returned.
            with Inotify(since=cursor, detailed=True) as inotify:
                inotify.add_watch(str(mnt), "CREATE")
                for event in inotify.events(timeout=60):
                    found.append(event.name)
                    if event.past is not None and handovers < 100:
                        cursor = event.past.cursor
                        handovers += 1
                        break
                    if len(found) == number:
                        break
        assert found == [str(n) for n in range(number)]
    finally:
        making.kill()
        making.wait()


def test_a_replay_is_what_a_watch_would_have_reported(mnt: Path) -> None:
    (mnt / "a" / "sub").mkdir(parents=True)
    (mnt / "b").mkdir()
    cursor = cursor_of(mnt)
    with Inotify() as live, Inotify(since=cursor) as replayed:
        for path, tree in (("a", False), ("b", False), ("", True)):
            live.add_watch(str(mnt / path), CHANGES, tree=tree)
        (mnt / "a" / "f").write_bytes(b"1")
        os.rename(mnt / "a" / "f", mnt / "b" / "g")
        os.rename(mnt / "b" / "g", mnt / "b" / "h")
        os.rename(mnt / "a" / "sub", mnt / "sub")
        (mnt / "sub" / "x").mkdir()
        (mnt / "b" / "h").chmod(0o600)
        (mnt / "b" / "h").unlink()
        told = all_of(live)
        for path, tree in (("a", False), ("b", False), ("", True)):
            replayed.add_watch(str(mnt / path), CHANGES, tree=tree)
        again = all_of(replayed)
    for wd in (1, 2, 3):
        expected = [(event.mask, event.name) for event in told if event.wd == wd]
        # The journal has an event of a directory once, not also from the directory itself.
        expected = [each for each in expected if not (each[1] or "").endswith("/")]
        assert [(event.mask, event.name) for event in again if event.wd == wd] == expected
    cookies = [event.cookie for event in again if event.cookie]
    assert len({*cookies}) == 3


def test_all_watches_come_in_the_order_of_the_journal(mnt: Path) -> None:
    for name in "ab":
        (mnt / name).mkdir()
    cursor = cursor_of(mnt)
    for number in range(20):
        (mnt / "ab"[number % 2] / str(number)).mkdir()
    with Inotify(since=cursor) as inotify:
        for name in "ab":
            inotify.add_watch(str(mnt / name), "CREATE")
        assert [event.name for event in all_of(inotify)] == [str(n) for n in range(20)]


def test_an_old_watch_is_not_replayed_again(mnt: Path) -> None:
    cursor = cursor_of(mnt)
    (mnt / "d").mkdir()
    with Inotify(since=cursor) as inotify:
        inotify.add_watch(str(mnt), "CREATE")
        inotify.add_watch(str(mnt), "CREATE|DELETE")
        assert [event.name for event in all_of(inotify)] == ["d"]
        inotify.add_watch(str(mnt), "CREATE")
        assert all_of(inotify) == []


def test_patterns_and_ones_own_changes_are_left_out(mnt: Path) -> None:
    cursor = cursor_of(mnt)
    (mnt / "mine").mkdir()
    for name in ("build", "build/x", "src", "src/a.o", "src/a.c"):
        subprocess.run(["mkdir", mnt / name], check=True)
    os.rename(mnt / "src" / "a.c", mnt / "b.c")
    subprocess.run(["mv", mnt / "src" / "a.o", mnt / "a.h"], check=True)
    with Inotify(since=cursor) as inotify:
        inotify.add_watch(str(mnt), CHANGES, tree=True, exclude=["*.o", "/build"], ignore_self=True)
        assert [words(event) for event in all_of(inotify)] == [
            "CREATE|ISDIR src",
            "CREATE|ISDIR src/a.c",
            "MOVED_TO|ISDIR a.h",
        ]


def test_a_detailed_event_has_its_entry_in_the_journal(mnt: Path) -> None:
    cursor = cursor_of(mnt)
    (mnt / "a").mkdir()
    os.rename(mnt / "a", mnt / "b")
    with Inotify(since=cursor, detailed=True) as inotify:
        inotify.add_watch(str(mnt), CHANGES)
        made, moved = inotify.read()
        assert (made.pid, made.uid, made.is_dir) == (os.getpid(), os.geteuid(), True)
        assert (moved.mask, moved.old_path, moved.path) == (
            IN_MOVED_TO | IN_ISDIR,
            f"{mnt}/a",
            f"{mnt}/b",
        )
        assert made.past is not None
        assert made.past.sequence == 1
        after = made.past.cursor
    with Inotify(since=after) as inotify:
        inotify.add_watch(str(mnt), "MOVED_TO")
        assert [event.name for event in all_of(inotify)] == ["b"]


def test_changes_that_may_be_missing_are_an_overflow_once(mnt: Path) -> None:
    (mnt / "d").mkdir()
    other = f"c:{'0' * 16}:{'0' * 16}:7"
    with Inotify(since=other, detailed=True) as inotify:
        inotify.add_watch(str(mnt), CHANGES)
        inotify.add_watch(str(mnt / "d"), CHANGES)
        gap, made = inotify.events(timeout=0)
        assert (gap.wd, gap.mask, gap.path) == (-1, IN_Q_OVERFLOW, "")
        assert gap.past is not None
        assert (gap.past.reason, made.name) == ("other journal", "d")


def test_a_path_that_belongs_to_something_else_now_is_an_overflow(mnt: Path) -> None:
    (mnt / "d").mkdir()
    (mnt / "d" / "old").mkdir()
    cursor = cursor_of(mnt)
    os.rename(mnt / "d", mnt / "e")
    (mnt / "d").mkdir()
    (mnt / "d" / "new").mkdir()
    with Inotify(since=cursor) as inotify:
        inotify.add_watch(str(mnt / "d"), CHANGES)
        assert [words(event) for event in all_of(inotify)] == [
            "Q_OVERFLOW None",
            "CREATE|ISDIR new",
        ]


def test_a_file_that_was_made_again_was_removed(mnt: Path) -> None:
    (mnt / "f").touch()
    cursor = cursor_of(mnt)
    (mnt / "f").unlink()
    (mnt / "f").touch()
    with Inotify(since=cursor) as inotify:
        inotify.add_watch(str(mnt / "f"), "DELETE_SELF|CLOSE_WRITE")
        assert [words(event) for event in all_of(inotify)] == [
            "DELETE_SELF None",
            "CLOSE_WRITE None",
        ]


def test_its_descriptor_is_readable_while_there_is_a_past(mnt: Path) -> None:
    cursor = cursor_of(mnt)
    (mnt / "d").mkdir()
    with Inotify(since=cursor) as inotify:
        descriptor = inotify.fileno()
        inotify.add_watch(str(mnt), "CREATE")
        assert select.select([descriptor], [], [], 10)[0]
        assert [event.name for event in inotify.read(timeout=0)] == ["d"]
        assert inotify.read(timeout=0) == []
        assert not select.select([descriptor], [], [], 0)[0]


def test_more_than_one_answer_is_fetched_as_it_is_read(mnt: Path) -> None:
    cursor = cursor_of(mnt)
    number = 4000
    for each in range(number):
        os.mkdir(mnt / str(each))
    with Inotify(since=cursor) as inotify:
        inotify.add_watch(str(mnt), "CREATE")
        first = inotify.read()
        assert len(first) < number
        assert [event.name for event in first + all_of(inotify)] == [str(n) for n in range(number)]


def test_the_async_inotify_has_the_same(mnt: Path) -> None:
    cursor = cursor_of(mnt)
    (mnt / "past").mkdir()

    async def ask() -> list[str | None]:
        async with AsyncInotify(since=cursor) as inotify:
            await inotify.add_watch(str(mnt), "CREATE")
            (mnt / "live").mkdir()
            await inotify.sync()
            found = [*await inotify.read(), *await inotify.read()]
            kept = await inotify.cursor()
            assert kept == cursor_of(mnt)
            return [event.name for event in found]

    assert anyio.run(ask) == ["past", "live"]


def test_a_kept_cursor_is_where_the_next_one_goes_on(mnt: Path) -> None:
    with Inotify() as inotify:
        inotify.add_watch(str(mnt), "CREATE")
        (mnt / "a").mkdir()
        kept = inotify.cursor()
        assert [event.name for event in all_of(inotify)] == ["a"]
    (mnt / "b").mkdir()
    with Inotify(since=kept) as inotify:
        inotify.add_watch(str(mnt), "CREATE")
        assert [event.name for event in all_of(inotify)] == ["b"]


def test_a_replay_goes_on_with_the_next_daemon(replaced: Replaced) -> None:
    cursor = cursor_of(replaced.mnt)
    (replaced.mnt / "a").mkdir()
    with Inotify(since=cursor, reconnect=True) as inotify:
        inotify.add_watch(str(replaced.mnt), "CREATE")
        (replaced.mnt / "b").mkdir()
        cursor_of(replaced.mnt)  # a fence: it is written
        replaced.kill(inotify)
        (replaced.mnt / "c").mkdir()
        told = [words(event) for event in all_of(inotify)]
    assert told == [
        "Q_OVERFLOW None",  # as after each reconnection
        "CREATE|ISDIR a",
        "CREATE|ISDIR b",
        "Q_OVERFLOW None",
        "CREATE|ISDIR c",
    ]


def test_a_replay_goes_on_though_its_watch_was_added_again(replaced: Replaced) -> None:
    cursor = cursor_of(replaced.mnt)
    for number in range(4000):
        (replaced.mnt / str(number)).mkdir()
    with Inotify(since=cursor, reconnect=True) as inotify:
        inotify.add_watch(str(replaced.mnt), "CREATE")
        found = inotify.read()
        assert 0 < len(found) < 4000
        inotify.add_watch(str(replaced.mnt), "CREATE|DELETE")
        replaced.kill(inotify)
        found += all_of(inotify)
    names = [event.name for event in found if event.name is not None]
    assert names == [str(number) for number in range(4000)]


def test_threads_share_it(mnt: Path) -> None:
    cursor = cursor_of(mnt)
    number = 3000
    for each in range(number):
        os.mkdir(mnt / str(each))
    found: list[InotifyEvent] = []
    with Inotify(since=cursor) as inotify:
        inotify.add_watch(str(mnt), "CREATE")

        def take() -> None:
            while events := inotify.read(timeout=0):
                found.extend(events)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found += all_of(inotify)
    assert sorted(int(event.name or "") for event in found) == [*range(number)]


@pytest.mark.parametrize(
    ("since", "mask", "code", "message"),
    [
        ("yesterday", "CREATE", errno.EINVAL, "is not a cursor"),
        ("begin", "CREATE|ONESHOT", errno.EINVAL, "ONESHOT"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    mnt: Path, since: str, mask: str, code: int, message: str
) -> None:
    with Inotify(since=since) as inotify:
        with pytest.raises(OSError, match=message) as caught:
            inotify.add_watch(str(mnt), mask)
        assert caught.value.errno == code


def test_a_cursor_is_a_text() -> None:
    with pytest.raises(TypeError, match="a cursor is a str"):
        Inotify(since=7)  # type: ignore[call-overload]


def test_a_mount_without_a_journal_refuses_a_cursor(mounted: Mounted) -> None:
    with Inotify(since="begin") as inotify:
        with pytest.raises(OSError, match="keeps no journal") as caught:
            inotify.add_watch(mounted.mountpoint, "CREATE")
        assert caught.value.errno == errno.EOPNOTSUPP


def test_a_user_sees_no_more_of_the_past_than_with_a_watch(public_path: Path, nobody: User) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    for directory in (source, mnt):
        directory.mkdir(mode=0o755)
    journal = public_path / "journal"
    with fusenotify_mounted(source, mnt, journal=journal, options=["allow_other"]):
        cursor = cursor_of(mnt)
        (mnt / "private").mkdir(mode=0o700)
        (mnt / "private" / "secret").mkdir()
        os.rename(mnt / "private" / "secret", mnt / "known")
        (mnt / "gone").mkdir(mode=0o755)
        (mnt / "gone" / "hidden").mkdir()
        os.rmdir(mnt / "gone" / "hidden")
        os.rmdir(mnt / "gone")
        script = (
            "import sys; from fusenotify.client import Inotify\n"
            "with Inotify(since=sys.argv[1]) as inotify:\n"
            "    inotify.add_watch(sys.argv[2], 'CREATE|MOVE|DELETE', tree=True)\n"
            "    for event in inotify.read(timeout=0): print(event.mask, event.name)\n"
            "    try: inotify.add_watch(sys.argv[2] + '/private', 'CREATE')\n"
            "    except PermissionError: print('refused')\n"
        )
        done = nobody.run(nobody.python, "-c", script, cursor, mnt, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "CREATE|ISDIR private",
        "MOVED_TO|ISDIR known",
        "CREATE|ISDIR gone",
        "DELETE|ISDIR gone",
        "refused",
    ]
