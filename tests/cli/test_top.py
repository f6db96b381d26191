# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify top`` shows what happens, on a terminal and where there is none."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fusenotify import Mounted
from fusenotify import mounted as fusenotify_mounted
from fusenotify.client import Client
from fusenotify.masks import IN_CREATE
from tests.cli.command import FUSENOTIFY, environment, fusenotify, until
from tests.cli.terminal import FIRST_SCREEN, OTHER_SCREEN, OnTerminal
from tests.conftest import Mounting, User

pytestmark = pytest.mark.mount


def top(mounted: Mounted, *options: str, **how: Any) -> OnTerminal:
    return OnTerminal([*FUSENOTIFY, "top", "-d", "0.2", *options, mounted.mountpoint], **how)


def watches(client: Client) -> bool:
    """Return whether somebody has a tree watch, as top does."""
    return any(device.trees for each in client.status().clients for device in each.devices)


@contextlib.contextmanager
def printing(mounted: Mounted, *options: str, **popen: Any) -> Iterator[subprocess.Popen[str]]:
    """Yield the command while it prints into a pipe, once it watches."""
    process = subprocess.Popen(
        [*FUSENOTIFY, "top", "-d", "0.2", *options, mounted.mountpoint],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )
    with process, mounted.client() as client:
        try:
            until(lambda: watches(client), "it watches")
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_it_shows_events_directories_commands_and_clients(mounted: Mounted) -> None:
    mnt = Path(mounted.mountpoint)
    (mnt / "inbox").mkdir()
    with mounted.client() as client, top(mounted) as terminal:
        client.init(max_queued_events=2).add_watch("/inbox", IN_CREATE)
        terminal.shows("q quits")
        for number in range(7):
            subprocess.run(["mkdir", str(mnt / "inbox" / str(number))], check=True)
        text = terminal.shows(" 7  mkdir ")
        assert " 7  CREATE" in text
        (row,) = [line.split() for line in text.splitlines() if line.endswith("/inbox")]
        assert row[1] == "7"
        # Its queue, the room there, overflows and lost events.
        terminal.until(
            lambda text: any(
                line.split()[:4] == ["3", "2", "1", "5"] and f" {os.getpid()}, " in line
                for line in text.splitlines()
            ),
            "the queue of a client that does not read",
        )
        terminal.type(b"q")
        assert terminal.status() == 0


@pytest.mark.parametrize(
    ("how", "status"),
    [
        (b"q", 0),
        (b"\x03", 0),
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGHUP, -signal.SIGHUP),
        (b"\x13", -signal.SIGTERM),
    ],
    ids=["q", "Ctrl-C", "SIGTERM", "SIGHUP", "SIGTERM behind Ctrl-S"],
)
def test_it_leaves_the_terminal_as_it_was(
    mounted: Mounted, how: bytes | signal.Signals, status: int
) -> None:
    with top(mounted) as terminal:
        terminal.shows("q quits")
        assert terminal.modes() != terminal.before
        if isinstance(how, bytes):
            terminal.type(how)
        if how == b"\x13":
            how = signal.SIGTERM
        if isinstance(how, signal.Signals):
            terminal.process.send_signal(how)
        assert terminal.status() == status
        assert terminal.modes() == terminal.before
        terminal.until(lambda _: FIRST_SCREEN in terminal.raw, "the first screen is back")
        assert terminal.raw.startswith(OTHER_SCREEN)


def test_a_terminal_that_goes_away_ends_it(mounted: Mounted) -> None:
    with top(mounted) as terminal:
        terminal.shows("q quits")
        terminal.hang_up()
        assert terminal.process.wait(20) == -signal.SIGHUP


def test_while_it_is_suspended_the_terminal_is_the_shells(mounted: Mounted) -> None:
    with top(mounted) as terminal:
        terminal.shows("q quits")
        terminal.type(b"\x1a")
        until(lambda: _state(terminal.process.pid) == "T", "it is stopped")
        assert terminal.modes() == terminal.before
        terminal.process.send_signal(signal.SIGCONT)
        terminal.until(lambda _: terminal.raw.count(OTHER_SCREEN) == 2, "it is back")
        terminal.shows("q quits")
        terminal.type(b"q")
        assert terminal.status() == 0


def test_it_is_as_large_as_the_terminal_becomes(mounted: Mounted) -> None:
    with top(mounted, height=16) as terminal:
        terminal.shows("q quits")
        terminal.resize(20, 5)
        terminal.shows("70 and 16")
        assert "q quits." in terminal.text
        terminal.resize(100, 40)
        terminal.until(lambda text: text.splitlines()[-1].startswith("q quits"), "all lines")
        terminal.type(b"q")
        assert terminal.status() == 0


def test_space_stops_the_picture_and_not_the_counting(mounted: Mounted) -> None:
    with top(mounted) as terminal:
        terminal.shows("q quits")
        terminal.type(b" ")
        terminal.shows("paused")
        os.mkdir(f"{mounted.mountpoint}/a")
        with mounted.client() as client:
            until(lambda: client.status().statistics is not None, "it was told")
        assert "CREATE" not in terminal.text
        terminal.type(b" ")
        terminal.shows("1  CREATE")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {}], ids=str)
def test_colours_are_for_those_who_want_them(mounted: Mounted, variables: dict[str, str]) -> None:
    with mounted.client() as client:
        device = client.init(max_queued_events=1)
        device.add_watch("/", IN_CREATE)
        for name in "ab":
            os.mkdir(f"{mounted.mountpoint}/{name}")
        with top(mounted, **variables) as terminal:
            terminal.until(lambda text: text.count(", device ") == 2, "it has the clients")
            assert (b"31m" in terminal.raw) != bool(variables)


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        pytest.param({"LC_ALL": "C"}, r"/[red]\x1b[2J\n\xff\u202eé", id="C"),
        pytest.param(
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            r"/[red]\x1b[2J\n\xff\xe2\x80\xae\xc3\xa9",
            id="ASCII",
        ),
        pytest.param({"PYTHONIOENCODING": "latin-1"}, r"/[red]\x1b[2J\n\xff\u202e", id="Latin 1"),
    ],
)
def test_no_name_steers_the_terminal(
    mounted: Mounted, variables: dict[str, str], shown: str
) -> None:
    directory = os.fsencode(mounted.mountpoint) + b"/[red]\x1b[2J\n\xff\xe2\x80\xae\xc3\xa9"
    os.mkdir(directory)
    with top(mounted, **variables) as terminal:
        terminal.shows("q quits")
        os.mkdir(directory + b"/a")
        terminal.shows(shown)
        assert b"[2J\n" not in terminal.raw
        terminal.type(b"q")
        assert terminal.status() == 0


def test_a_daemon_that_stops_is_named_and_the_keys_go_on(mounted: Mounted) -> None:
    with top(mounted) as terminal:
        terminal.shows("q quits")
        os.kill(mounted.pid, signal.SIGSTOP)
        try:
            terminal.shows("is it stopped?")
            terminal.type(b"q")
            assert terminal.status() == 0
        finally:
            os.kill(mounted.pid, signal.SIGCONT)


def test_a_daemon_that_dies_ends_it_with_a_message(mounting: Mounting) -> None:
    with mounting() as mounted, top(mounted) as terminal:
        terminal.shows("q quits")
        os.kill(mounted.pid, signal.SIGKILL)
        assert terminal.status() == 1
        assert terminal.modes() == terminal.before
        said = terminal.raw.split(FIRST_SCREEN)[1]
        assert said == f"fusenotify: {mounted.mountpoint}: the daemon is gone\r\n".encode()


def test_a_mount_that_is_taken_away_ends_it_in_order(mounting: Mounting) -> None:
    with mounting() as mounted, printing(mounted) as process:
        os.kill(mounted.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert said == f"fusenotify: {mounted.mountpoint}: unmounted\n"
        assert process.returncode == 0


def test_without_a_terminal_it_prints_frames(mounted: Mounted) -> None:
    with printing(mounted, "-n", "2") as process:
        os.mkdir(f"{mounted.mountpoint}/a")
        out, said = process.communicate(timeout=20)
    assert (said, process.returncode) == ("", 0)
    # A long path is cut at its beginning.
    assert len(re.findall(r"/mnt .*\d\d:\d\d:\d\d$", out, re.MULTILINE)) == 2
    assert " 1  CREATE" in out
    assert "\x1b" not in out


def test_json_has_what_it_shows_a_frame_a_line(mounted: Mounted) -> None:
    path = os.fsencode(mounted.mountpoint) + b"/\xff"
    os.mkdir(path)
    with printing(mounted, "--json", "-n", "1", "-d", "1") as process:
        subprocess.run(["mkdir", path + b"/a"], check=True)
        os.rename(path + b"/a", path + b"/b")
        (line,) = process.communicate(timeout=20)[0].splitlines()
    found = json.loads(line)
    assert {row["event"]: row["total"] for row in found["events"]}["CREATE"] == 1
    assert {row["event"]: row["lately"] for row in found["events"]}["MOVED_FROM"] == 1
    (row,) = [row for row in found["directories"] if row["path"] == "/�"]
    assert (row["path_base64"], row["total"]) == ("L/8=", 3)
    assert [row["total"] for row in found["commands"] if row["command"] == "mkdir"] == [1]
    assert found["lost"] == {"lately": 0, "total": 0}
    assert any(device["trees"] for each in found["clients"] for device in each["devices"])


def test_a_picture_is_a_frame_and_needs_no_font_from_elsewhere(
    mounted: Mounted, tmp_path: Path
) -> None:
    file = tmp_path / "top.svg"
    with printing(mounted, "--screenshot", str(file)) as process:
        os.mkdir(f"{mounted.mountpoint}/a<b>&")
        os.mkdir(f"{mounted.mountpoint}/a<b>&/c")
        assert process.wait(20) == 0
    root = ElementTree.parse(file).getroot()
    text = "\n".join(element.text or "" for element in root.iter() if element.text)
    assert "CREATE" in text.replace("\xa0", " ")
    assert "/a<b>&" in text
    assert "http" not in file.read_text().replace("http://www.w3.org", "").replace(
        "https://www.textualize.io", ""
    )


def test_an_ordinary_user_sees_their_own_clients(public_path: Path, nobody: User) -> None:
    for name in ("source", "mnt"):
        (public_path / name).mkdir()
    for name, mode in (("secret", 0o700), ("shared", 0o777)):
        (public_path / "source" / name).mkdir()
        (public_path / "source" / name).chmod(mode)
    mnt = public_path / "mnt"
    with (
        fusenotify_mounted(public_path / "source", mnt, options=["allow_other"]) as mount,
        mount.client() as client,
        subprocess.Popen(
            nobody.as_user(
                [nobody.python, "-m", "fusenotify", "top", "--json", "-n1", "-d1", str(mnt)]
            ),
            env=environment(),
            stdout=subprocess.PIPE,
        ) as process,
    ):
        client.init().add_watch("/", IN_CREATE)
        until(lambda: watches(client), "it watches")
        (mnt / "secret" / "a").mkdir()
        (mnt / "shared" / "b").mkdir()
        nobody.run("mkdir", mnt / "shared" / "c")
        (found,) = map(json.loads, process.communicate(timeout=20)[0].splitlines())
    paths = {row["path"]: row["total"] for row in found["directories"]}
    assert paths == {"/shared": 2}
    commands = {row["command"]: row["total"] for row in found["commands"]}
    assert commands == {"mkdir": 1, None: 1}
    assert [each["uid"] for each in found["clients"]] == [nobody.uid]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "0"], "'0' is not a number of seconds between 0.1 and 86400"),
        (["-d", "nan"], "'nan' is not a number of seconds"),
        (["-n", "0"], "'0' is not a number of 1 or more"),
        (["-n", "many"], "'many' is not a whole number"),
        (["--once", "--json"], "not allowed with argument"),
        (["/mnt", "--socket", "/s"], "not allowed with argument"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], message: str) -> None:
    done = fusenotify("top", *arguments)
    assert message in done.stderr
    assert done.returncode == 2


def test_a_path_on_no_mount_is_told_what_serves_there(tmp_path: Path) -> None:
    done = fusenotify("top", tmp_path)
    assert "use inotifywait or watchdog there" in done.stderr
    assert done.returncode == 1


def test_a_terminal_that_cannot_be_drawn_on_is_refused(mounted: Mounted) -> None:
    with top(mounted, TERM="dumb") as terminal:
        assert terminal.status() == 1
        assert "cannot be drawn on; use -b to print" in terminal.text.replace("\n", "")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
