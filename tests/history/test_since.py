# SPDX-License-Identifier: GPL-2.0-or-later
"""A real mount's journal: what clients and ``fusenotify since`` are told of what happened."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from fusenotify import Mounted
from fusenotify import mounted as fusenotify_mounted
from fusenotify.bits import names
from fusenotify.client import Client, PastEvent
from fusenotify.client.aio import Client as AsyncClient
from fusenotify.mounting.settings import state_directory
from tests.cli.command import FUSENOTIFY, ended, environment, fusenotify
from tests.conftest import Mounting, User

pytestmark = pytest.mark.mount


@pytest.fixture
def kept(mounting: Mounting, tmp_path: Path) -> Iterator[Mounted]:
    with mounting(journal=tmp_path / "journal") as mount:
        yield mount


@contextmanager
def client_of(mount: Mounted) -> Iterator[tuple[Client, Path]]:
    with mount.client() as client:
        yield client, Path(mount.mountpoint)


def told(events: Iterator[PastEvent]) -> list[str]:
    return [words(event) for event in events]


def words(event: PastEvent) -> str:
    if event.reason:
        return f"gap: {event.reason}"
    text = f"{'|'.join(names(event.mask))} {event.path.decode()}"
    return text if event.old_path is None else f"{text} from {event.old_path.decode()}"


def test_earlier_changes_are_answered_without_another_fence(kept: Mounted) -> None:
    with client_of(kept) as (client, mnt):
        (mnt / "before").touch()
        cursor = client.cursor()
        (mnt / "d").mkdir()
        (mnt / "d" / "f").write_bytes(b"x")
        os.rename(mnt / "d" / "f", mnt / "g")
        assert told(client.since(cursor)) == [
            "CREATE|ISDIR d",
            "CREATE d/f",
            "MODIFY d/f",
            "CLOSE_WRITE d/f",
            "MOVED_TO g from d/f",
        ]
        assert told(client.since(cursor, "g")) == ["MOVED_TO g"]


def test_each_event_has_the_cursor_from_which_to_go_on(kept: Mounted) -> None:
    with client_of(kept) as (client, mnt):
        cursor = client.cursor()
        for name in "abc":
            os.mkdir(mnt / name)
        first, second, third = client.since(cursor)
        assert told(client.since(first.cursor)) == [words(second), words(third)]
        assert third.cursor == client.cursor()


def test_the_process_that_made_a_change_is_in_the_event(kept: Mounted) -> None:
    with client_of(kept) as (client, mnt):
        cursor = client.cursor()
        os.mkdir(mnt / "d")
        (event,) = client.since(cursor)
        name = Path("/proc/self/comm").read_bytes().rstrip(b"\n")
        assert (event.pid, event.uid, event.command) == (os.getpid(), os.geteuid(), name)


@pytest.mark.parametrize(
    ("flags", "event"),
    [(os.O_WRONLY, "CLOSE_WRITE"), (os.O_RDONLY, "CLOSE_NOWRITE")],
    ids=["to write", "to read"],
)
def test_a_close_is_attributed_even_if_the_thread_that_opened_has_ended(
    mounting: Mounting, tmp_path: Path, flags: int, event: str
) -> None:
    with (
        mounting(journal=tmp_path / "journal", options=[f"journal_events={event.lower()}"]) as kept,
        client_of(kept) as (client, mnt),
    ):
        (mnt / "f").touch()
        cursor = client.cursor()
        files: list[int] = []
        thread = threading.Thread(target=lambda: files.append(os.open(mnt / "f", flags)))
        thread.start()
        thread.join()
        os.close(files[0])
        (closed,) = client.since(cursor)
        assert (words(closed), closed.pid) == (f"{event} f", os.getpid())


def test_an_exchange_is_told_as_such(kept: Mounted) -> None:
    with client_of(kept) as (client, mnt):
        (mnt / "a").mkdir()
        (mnt / "b").touch()
        cursor = client.cursor()
        exchange(mnt / "a", mnt / "b")
        (mnt / "c").touch()
        os.rename(mnt / "c", mnt / "a")
        events = [event for event in client.since(cursor) if event.old_path is not None]
        assert [(words(event), event.exchanged, event.replaced) for event in events] == [
            ("MOVED_TO|ISDIR b from a", True, False),
            ("MOVED_TO a from b", True, False),
            ("MOVED_TO a from c", False, True),
        ]


def test_following_has_no_gap_and_no_repeat(kept: Mounted) -> None:
    with client_of(kept) as (client, mnt):
        cursor = client.cursor()

        def make() -> None:
            for number in range(300):
                os.mkdir(mnt / str(number))

        making = threading.Thread(target=make)
        making.start()
        events = client.since(cursor, follow=True)
        assert [next(events).path for _ in range(300)] == [b"%d" % n for n in range(300)]
        making.join()
        events.close()


def test_the_async_client_has_the_same(kept: Mounted) -> None:
    async def ask() -> list[str]:
        async with AsyncClient(kept.socket) as client:
            cursor = await client.cursor()
            os.mkdir(f"{kept.mountpoint}/d")
            return [words(event) async for event in client.since(cursor)]

    assert anyio.run(ask) == ["CREATE|ISDIR d"]


def test_a_user_sees_names_in_directories_that_they_may_read(
    public_path: Path, nobody: User
) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    for directory in (source, mnt):
        directory.mkdir(mode=0o755)
    journal = public_path / "journal"
    with fusenotify_mounted(source, mnt, journal=journal, options=["allow_other"]):
        cursor = fusenotify("cursor", mnt).stdout.strip()
        (mnt / "private").mkdir(mode=0o700)
        (mnt / "private" / "secret").touch()
        (mnt / "open").mkdir()
        (mnt / "open" / "f").touch()
        os.rename(mnt / "private" / "secret", mnt / "open" / "known")
        done = nobody.run(nobody.python, *FUSENOTIFY[1:], "since", cursor, mnt, "--json")
        assert done.returncode == 0, done.stderr
        seen = [json.loads(line) for line in done.stdout.splitlines()]
        paths = [(event["events"][0], os.path.relpath(event["path"], mnt)) for event in seen]
        assert ("MOVED_TO", "open/known") in paths
        assert ("CREATE", "open/f") in paths
        assert "secret" not in done.stdout
        assert not any("pid" in event or "uid" in event for event in seen)
        refused = nobody.run(nobody.python, *FUSENOTIFY[1:], "since", cursor, mnt / "private")
        assert refused.returncode == 1, refused.stdout
        assert "no read permission" in refused.stderr


def test_a_cursor_outlives_a_daemon_that_is_killed(mounting: Mounting, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with mounting(journal=journal) as mount, client_of(mount) as (client, mnt):
        os.mkdir(mnt / "before")
        cursor = client.cursor()
        os.mkdir(mnt / "kept")
        newest = client.cursor()
        os.kill(mount.pid, signal.SIGKILL)
        assert ended(mount.pid)
    with mounting(journal=journal) as mount, client_of(mount) as (client, mnt):
        os.mkdir(mnt / "after")
        assert told(client.since(cursor)) == [
            "CREATE|ISDIR kept",
            "gap: crashed",
            "CREATE|ISDIR after",
        ]
        gap, _ = client.since(newest)
        assert gap.since is not None
        assert 0 < gap.since <= gap.time


def test_a_mount_without_a_journal_says_how_to_have_one(mounted: Mounted) -> None:
    with client_of(mounted) as (client, _), pytest.raises(OSError, match="--journal") as caught:
        client.cursor()
    assert caught.value.errno == errno.EOPNOTSUPP


def test_an_invalid_cursor_is_refused(kept: Mounted) -> None:
    with client_of(kept) as (client, _):
        with pytest.raises(OSError, match="is not a cursor") as caught:
            next(client.since("yesterday"))
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError, match="is not a cursor"):
            next(client.since("\udcff"))
        with pytest.raises(TypeError):
            next(client.since(7))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "role"), [("source/deep/journal", "SOURCE"), ("mnt/journal", "MNT")]
)
def test_a_journal_inside_the_mount_is_refused(tmp_path: Path, place: str, role: str) -> None:
    (tmp_path / "source" / "deep").mkdir(parents=True)
    (tmp_path / "mnt").mkdir()
    done = fusenotify("mount", tmp_path / "source", tmp_path / "mnt", "--journal", tmp_path / place)
    assert (done.returncode, f"inside {role}" in done.stderr) == (1, True), done.stderr
    assert not any((tmp_path / "source" / "deep").iterdir())


def test_a_link_to_a_journal_inside_the_mount_is_refused(tmp_path: Path) -> None:
    for name in ("source", "mnt"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "source" / "journal")
    done = fusenotify("mount", tmp_path / "source", tmp_path / "mnt", "--journal", link)
    assert (done.returncode, "inside SOURCE" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"XDG_STATE_HOME": "state", "HOME": "/home/n"}, "/home/n/.local/state/fusenotify"),
        ({"XDG_STATE_HOME": "", "HOME": "/home/n"}, "/home/n/.local/state/fusenotify"),
    ],
    ids=["relative", "empty"],
)
def test_a_state_directory_that_is_no_path_counts_as_unset(
    env: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert state_directory() == expected


def test_a_journal_that_another_daemon_keeps_is_refused(kept: Mounted, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    done = fusenotify(
        "mount", kept.source, tmp_path / "elsewhere", "--journal", tmp_path / "journal"
    )
    assert (done.returncode, "another daemon keeps this journal" in done.stderr) == (1, True)


def test_a_full_disk_is_a_gap_at_most_and_the_mount_goes_on(
    mounting: Mounting, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], check=True)
    try:
        with mounting(journal=disk / "journal") as mount, client_of(mount) as (client, mnt):
            cursor = client.cursor()
            filling = disk / "filling"
            subprocess.run(["dd", "if=/dev/zero", f"of={filling}"], stderr=subprocess.DEVNULL)
            for number in range(500):
                os.mkdir(mnt / f"{number:0200}")
            with pytest.raises(OSError, match="the journal cannot be written") as caught:
                client.cursor()
            assert caught.value.errno == errno.ENOSPC
            filling.unlink()
            events = told(client.since(cursor))
            assert [event for event in events if not event.startswith("gap")] == [
                f"CREATE|ISDIR {number:0200}" for number in range(500)
            ]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_it_is_kept_in_the_users_state_directory(tmp_path: Path, nobody: User) -> None:
    script = (
        "import os; from fusenotify.mounting.settings import JournalSettings, Settings\n"
        "print(Settings('/srv/x', '/mnt/x', journal=JournalSettings()).journal_path)"
    )
    done = nobody.run(nobody.python, "-c", script, env={"XDG_STATE_HOME": "/home/n/state"})
    assert done.stdout.startswith("/home/n/state/fusenotify/x-"), done.stderr
    assert done.stdout.endswith(".journal\n")


def test_a_cursor_file_goes_on_where_the_last_command_ended(kept: Mounted, tmp_path: Path) -> None:
    mnt, file = Path(kept.mountpoint), tmp_path / "cursor"
    os.mkdir(mnt / "before")
    assert since("--cursor-file", file, mnt) == (0, "", "")
    os.mkdir(mnt / "d")
    assert since("--cursor-file", file, mnt) == (0, f"{mnt}/ CREATE,ISDIR d\n", "")
    assert since("--cursor-file", file, mnt) == (0, "", "")
    os.rename(mnt / "d", mnt / "e")
    assert since("--cursor-file", file, mnt / "e") == (0, f"{mnt}/ MOVED_TO,ISDIR e\n", "")


def test_a_cursor_file_goes_on_where_nothing_happened(kept: Mounted, tmp_path: Path) -> None:
    mnt, file = Path(kept.mountpoint), tmp_path / "cursor"
    file.touch()  # as mktemp makes it
    os.mkdir(mnt / "quiet")
    assert since("--cursor-file", file, mnt / "quiet") == (0, "", "")
    first = file.read_text()
    os.mkdir(mnt / "busy")
    assert since("--cursor-file", file, mnt / "quiet") == (0, "", "")
    assert file.read_text() == fusenotify("cursor", mnt).stdout != first
    assert [*tmp_path.glob("cursor?*")] == []


@pytest.mark.parametrize(
    ("command", "expected"),
    [("since 1970-01-01 {}", 3), ("since begin {} --changes", 0), ("status {}", 0)]
    + [("top --once {}", 0), ("cursor {}", 0), ("limits {}", 0)],
)
def test_nothing_fails_where_stdout_is_closed(kept: Mounted, command: str, expected: int) -> None:
    os.mkdir(f"{kept.mountpoint}/d")
    words = shlex.split(command.format(shlex.quote(kept.mountpoint)))
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *FUSENOTIFY, *words]
    done = subprocess.run(shell, env=environment(), stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (expected, False), done.stderr


def test_a_gap_is_not_among_the_events_where_stderr_is_closed(kept: Mounted) -> None:
    os.mkdir(f"{kept.mountpoint}/d")
    words = ["since", "1970-01-01", kept.mountpoint]
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", *FUSENOTIFY, *words]
    done = subprocess.run(shell, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, f"{kept.mountpoint}/ CREATE,ISDIR d\n")


def test_a_link_is_followed_into_the_mount_and_not_within_it(kept: Mounted, tmp_path: Path) -> None:
    mnt, link = Path(kept.mountpoint), tmp_path / "link"
    link.symlink_to(mnt)
    (mnt / "d").mkdir()
    (mnt / "within").symlink_to("d")
    assert since("begin", link, "--changes") == (
        0,
        f"created    {link}/d/\ncreated    {link}/within\n",
        "",
    )
    assert since("begin", mnt / "within") == (0, f"{mnt}/ CREATE within\n", "")
    (tmp_path / "circle").symlink_to("circle")
    status, out, err = since("begin", tmp_path / "circle")
    assert (status, out, "not on a fusenotify mount" in err) == (1, "", True)


def test_a_cursor_file_that_is_something_else_stays(kept: Mounted, tmp_path: Path) -> None:
    fifo, text = tmp_path / "fifo", tmp_path / "text"
    os.mkfifo(fifo)
    text.write_bytes(b"\xff a text \0" * 1000)
    for file, said in ((fifo, "is not a regular file"), (text, "has no cursor")):
        status, out, err = since("--cursor-file", file, kept.mountpoint)
        assert (status, out, said in err) == (1, "", True), err
    assert fifo.is_fifo()
    assert text.read_bytes() == b"\xff a text \0" * 1000


def test_a_cursor_file_may_be_a_link(kept: Mounted, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    assert since("--cursor-file", tmp_path / "link", kept.mountpoint) == (0, "", "")
    assert (tmp_path / "there").read_text() == fusenotify("cursor", kept.mountpoint).stdout
    assert (tmp_path / "link").is_symlink()


def test_changes_that_were_not_printed_come_again(kept: Mounted, tmp_path: Path) -> None:
    mnt, file = Path(kept.mountpoint), tmp_path / "cursor"
    since("--cursor-file", file, mnt)
    before = file.read_text()
    os.mkdir(mnt / "d")
    with open("/dev/full", "w") as full:
        command = [*FUSENOTIFY, "since", "--cursor-file", str(file), str(mnt), "--changes"]
        done = subprocess.run(
            command, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, b"No space left" in done.stderr) == (1, True), done.stderr
    assert file.read_text() == before
    assert since("--cursor-file", file, mnt, "--changes") == (0, f"created    {mnt}/d/\n", "")


def test_changes_name_each_path_once(kept: Mounted) -> None:
    mnt = Path(kept.mountpoint)
    (mnt / "old").touch()
    (mnt / "gone").touch()
    cursor = fusenotify("cursor", mnt).stdout.strip()
    (mnt / "d").mkdir()
    for _ in range(3):
        (mnt / "d" / "f").write_bytes(b"x")
    os.rename(mnt / "old", mnt / "new")
    (mnt / "gone").unlink()
    status, out, err = since(cursor, mnt, "--changes")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"created    {mnt}/d/",
        f"created    {mnt}/d/f",
        f"deleted    {mnt}/gone",
        f"moved      {mnt}/new from {mnt}/old",
    ]


def test_a_scan_finds_what_changed_while_no_daemon_ran(mounting: Mounting, tmp_path: Path) -> None:
    source, journal = tmp_path / "source", tmp_path / "journal"
    with mounting(journal=journal) as mount:
        mnt = Path(mount.mountpoint)
        for name in ("gone", "kept", "changed"):
            (mnt / name).mkdir()
        cursor = fusenotify("cursor", mnt).stdout.strip()
        (mnt / "told").mkdir()
    (source / "gone").rmdir()
    (source / "changed").chmod(0o700)
    (source / "new").mkdir()
    with mounting(journal=journal):
        status, out, err = since(cursor, mnt, "--changes", "--scan")
        assert (status, "no daemon ran" in err) == (3, True)
        assert out.splitlines() == [
            f"modified   {mnt}/",
            f"modified   {mnt}/changed/",
            f"deleted    {mnt}/gone/",
            f"modified   {mnt}/new/",
            f"created    {mnt}/told/",
        ]


def test_missing_changes_are_said_and_are_status_3(kept: Mounted) -> None:
    status, out, err = since(f"c:{'0' * 16}:{'0' * 16}:0", kept.mountpoint)
    assert (status, out) == (3, "")
    assert "may be missing: the cursor is of another journal" in err


def test_a_removed_path_can_be_asked_about(kept: Mounted) -> None:
    mnt = Path(kept.mountpoint)
    cursor = fusenotify("cursor", mnt).stdout.strip()
    os.mkdir(mnt / "d")
    os.mkdir(mnt / "d" / "e")
    os.rmdir(mnt / "d" / "e")
    os.rmdir(mnt / "d")
    assert since(cursor, mnt / "d" / "e")[1].splitlines() == [
        f"{mnt}/ CREATE,ISDIR d",
        f"{mnt}/d/ CREATE,ISDIR e",
        f"{mnt}/d/ DELETE,ISDIR e",
        f"{mnt}/ DELETE,ISDIR d",
    ]


def test_status_shows_the_journal(kept: Mounted, tmp_path: Path) -> None:
    os.mkdir(f"{kept.mountpoint}/d")
    cursor = fusenotify("cursor", kept.mountpoint).stdout.strip()
    (report,) = json.loads(fusenotify("status", "--json", kept.mountpoint).stdout)
    journal = report["journal"]
    assert journal["id"] in cursor
    shown = {key: journal[key] for key in ("path", "oldest", "last", "lost", "failure")}
    assert shown == {
        "path": str(tmp_path / "journal"),
        "oldest": 1,
        "last": 1,
        "lost": 0,
        "failure": None,
    }
    line = f"journal {tmp_path / 'journal'}: 1 entries in 0 KiB"
    assert line in fusenotify("status", kept.mountpoint).stdout


def test_a_name_that_is_no_text_comes_through(kept: Mounted) -> None:
    mnt = os.fsencode(kept.mountpoint)
    cursor = fusenotify("cursor", kept.mountpoint).stdout.strip()
    os.mkdir(mnt + b"/\xff\n")
    done = subprocess.run(
        [*FUSENOTIFY, "since", cursor, mnt], env=environment(), capture_output=True, check=True
    )
    assert done.stdout == mnt + b"/ CREATE,ISDIR \xff\n\n"
    _, out, _ = since(cursor, kept.mountpoint, "--json")
    assert "path_base64" in json.loads(out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c:1"], "takes a cursor or a time"),
        (["c:1", "/", "--changes", "--follow"], "--follow"),
        (["c:1", "/", "--scan"], "goes with --changes"),
        (["c:1", "/"], "not on a fusenotify mount"),
    ],
)
def test_invalid_arguments_are_refused(arguments: list[str], message: str) -> None:
    status, out, err = since(*arguments)
    assert (status, out, message in err) == (1, "", True), err


def since(*arguments: str | Path) -> tuple[int, str, str]:
    done = fusenotify("since", *arguments)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def shared(public_path: Path) -> Iterator[tuple[Path, Path]]:
    """A mount in which everybody may make and rename directories, and its journal."""
    source, mnt = public_path / "source", public_path / "mnt"
    for directory in (source, mnt):
        directory.mkdir(mode=0o755)
    source.chmod(0o777)
    journal = public_path / "journal"
    with fusenotify_mounted(source, mnt, journal=journal, options=["allow_other"]):
        yield mnt, journal


def what_they_see(user: User, cursor: str, mnt: Path) -> list[str]:
    done = user.run(user.python, *FUSENOTIFY[1:], "since", cursor, mnt, "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [os.path.relpath(event["path"], mnt) for event in events]


@pytest.mark.parametrize("how", ["removed", "renamed"])
@pytest.mark.parametrize("theirs", ["made", "moved there", "below one that was moved there"])
def test_a_directory_of_the_same_name_shows_nothing_of_the_one_before(
    shared: tuple[Path, Path], nobody: User, how: str, theirs: str
) -> None:
    mnt, _ = shared
    nobody.run("mkdir", "-p", mnt / "old" / "deep", mnt / "top" / "deep")
    cursor = fusenotify("cursor", mnt).stdout.strip()
    private = mnt / "private" / "deep"
    private.parent.mkdir(mode=0o700)
    private.mkdir()
    (private / "secret").touch()
    (private / "secret").unlink()
    assert not [path for path in what_they_see(nobody, cursor, mnt) if "secret" in path]
    if how == "removed":
        private.rmdir()
        private.parent.rmdir()
    else:
        private.parent.rename(mnt / "elsewhere")
    script = {
        "made": "mkdir -p private/deep",
        "moved there": "mkdir private; mv old/deep private/deep",
        "below one that was moved there": "mv top private",
    }[theirs]
    done = nobody.run("sh", "-ec", f"cd {mnt}; {script}; mkdir private/deep/mine")
    assert done.returncode == 0, done.stderr
    seen = what_they_see(nobody, cursor, mnt)
    assert not [path for path in seen if "secret" in path], seen
    assert seen[-1] == "private/deep/mine"


@pytest.mark.parametrize("target", ["mine", "absolute"])
def test_a_link_in_place_of_a_directory_shows_nothing_of_it(
    shared: tuple[Path, Path], nobody: User, target: str
) -> None:
    mnt, _ = shared
    nobody.run("mkdir", "-p", mnt / "mine" / "deep")
    cursor = fusenotify("cursor", mnt).stdout.strip()
    private = mnt / "private" / "deep"
    private.parent.mkdir(mode=0o700)
    private.mkdir()
    (private / "secret").touch()
    private.parent.rename(mnt / "elsewhere")
    leads_to = mnt / "mine" if target == "absolute" else target
    assert nobody.run("ln", "-s", leads_to, mnt / "private").returncode == 0
    assert nobody.run("ls", mnt / "private" / "deep").returncode == 0
    seen = what_they_see(nobody, cursor, mnt)
    assert not [path for path in seen if "secret" in path], seen
    assert "elsewhere" in seen


def test_a_user_still_sees_what_happened_before_the_mount_was_made_again(
    public_path: Path, nobody: User
) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    for directory in (source, mnt):
        directory.mkdir(mode=0o755)
    source.chmod(0o777)
    mount = partial(
        fusenotify_mounted, source, mnt, journal=public_path / "j", options=["allow_other"]
    )
    with mount():
        cursor = fusenotify("cursor", mnt).stdout.strip()
        nobody.run("mkdir", "-p", mnt / "d" / "e")
    with mount():
        done = nobody.run(nobody.python, *FUSENOTIFY[1:], "since", cursor, mnt)
        assert (done.returncode, done.stdout) == (
            3,
            f"{mnt}/ CREATE,ISDIR d\n{mnt}/d/ CREATE,ISDIR e\n",
        )


def test_a_journal_that_cannot_tell_who_may_see_what_is_roots(
    public_path: Path, nobody: User
) -> None:
    source, mnt = public_path / "source", public_path / "mnt"
    for directory in (source, mnt):
        directory.mkdir(mode=0o755)
    options = ["--journal-events=delete", "-o", "allow_other", f"--journal={public_path}/journal"]
    assert fusenotify("mount", *options, source, mnt).returncode == 0
    try:
        done = nobody.run(nobody.python, *FUSENOTIFY[1:], "since", "begin", mnt)
        assert (done.returncode, "does not keep 'create'" in done.stderr) == (1, True), done.stderr
        assert fusenotify("since", "begin", mnt).returncode == 0
    finally:
        fusenotify("unmount", mnt)


def exchange(one: Path, other: Path) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, bytes(one), -100, bytes(other), 2):
        raise OSError(ctypes.get_errno(), "no exchange")
