# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify status`` says what the daemons say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fusenotify import Mounted
from fusenotify import mounted as fusenotify_mounted
from fusenotify.masks import IN_CREATE, IN_DELETE
from tests.cli.command import FUSENOTIFY, ended, environment, fusenotify
from tests.conftest import Mounting, User


def test_a_directory_without_a_mount_is_refused(tmp_path: Path) -> None:
    done = fusenotify("status", tmp_path)
    assert done.stderr == (
        f"fusenotify: {tmp_path}: no fusenotify mount is there; "
        "'fusenotify status' lists the mounts\n"
    )
    assert done.returncode == 1


def test_a_socket_without_a_daemon_is_refused_by_name(tmp_path: Path) -> None:
    done = fusenotify("status", "--socket", tmp_path / "no.sock")
    assert str(tmp_path / "no.sock") in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


def test_mount_point_and_socket_exclude_each_other() -> None:
    done = fusenotify("status", "/mnt", "--socket", "/s")
    assert "not allowed with argument" in done.stderr
    assert done.returncode == 2


def reports(*arguments: str) -> list[dict[str, Any]]:
    done = fusenotify("status", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    loaded: list[dict[str, Any]] = json.loads(done.stdout)
    return loaded


@pytest.mark.mount
def test_json_has_clients_devices_users_and_limits(mounting: Mounting) -> None:
    with mounting(max_user_watches=5, max_user_trees=3) as mount, mount.client() as client:
        device = client.init(max_queued_events=2)
        device.add_watch("/", IN_CREATE)
        device.add_watch("/", IN_DELETE, tree=True)
        for name in ("a", "b", "c", "d"):
            os.mkdir(f"{mount.mountpoint}/{name}")
        client.sync()
        for arguments in ([mount.mountpoint], ["--socket", mount.socket]):
            (report,) = reports(*arguments)
            assert report["mountpoint"] == mount.mountpoint
            assert report["source"] == mount.source
            assert report["socket"] == mount.socket
            assert report["pid"] == mount.pid
            assert report["semantics"] == "linux-6"
            assert report["limits"]["max_user_watches"] == 5
            assert report["limits"]["max_user_trees"] == 3
            assert report["users"] == [
                {"uid": os.getuid(), "watches": 2, "trees": 1, "devices": 1, "connections": 2}
            ]
            (watcher,) = [c for c in report["clients"] if c["pid"] == os.getpid()]
            assert watcher["command"] == Path("/proc/self/comm").read_text().rstrip("\n")
            (shown,) = watcher["devices"]
            assert (shown["watches"], shown["trees"]) == (2, 1)
            assert (shown["queued"], shown["max_queued_events"]) == (3, 2)
            assert (shown["overflows"], shown["lost"], shown["merged"]) == (1, 2, 0)


@pytest.mark.mount
def test_a_user_without_access_learns_which_option_is_missing(
    public_path: Path, nobody: User
) -> None:
    mnt = public_path / "mnt"
    for directory in (public_path / "source", mnt):
        directory.mkdir()
    why = "user 0 mounted it without -o allow_other, so no other user may use it"
    with fusenotify_mounted(public_path / "source", mnt):
        status = nobody.run(nobody.python, "-m", "fusenotify", "status", str(mnt))
        limits = nobody.run(nobody.python, "-m", "fusenotify", "limits", str(mnt))
    assert status.stdout == f"{mnt} shows {public_path / 'source'}\n  {why}\n"
    assert limits.stderr == f"fusenotify: {mnt}: {why}\n"
    assert [done.returncode for done in (status, limits)] == [1, 1]


@pytest.mark.mount
def test_statistics_say_what_happened_where_and_by_whom(public_path: Path, nobody: User) -> None:
    for name in ("source", "mnt"):
        (public_path / name).mkdir()
    (public_path / "source" / "shared").mkdir(mode=0o777)
    (public_path / "source" / "shared").chmod(0o777)
    mnt = public_path / "mnt"
    with (
        fusenotify_mounted(public_path / "source", mnt, options=["allow_other"]) as mount,
        mount.client() as client,
    ):
        device = client.init(max_queued_events=2)
        for path in ("/", "/shared"):
            device.add_watch(path, IN_CREATE)
        (mnt / "by-root").mkdir()
        code = f"""
import os
from pathlib import Path
os.chdir({str(mnt / "shared")!r})
Path("a").write_bytes(b"content")     # CREATE OPEN MODIFY CLOSE_WRITE
Path("a").read_bytes()                # OPEN ACCESS CLOSE_NOWRITE
os.link("a", "b")                     # CREATE
os.rename("b", "c")                   # MOVED_FROM MOVED_TO
os.chmod("c", 0o600)                  # ATTRIB
os.setxattr("c", "user.x", b"")       # ATTRIB
os.removexattr("c", "user.x")         # ATTRIB
os.unlink("c")                        # DELETE
os.mkdir("d")                         # CREATE
os.rmdir("d")                         # DELETE
os.symlink("a", "e")                  # CREATE
"""
        done = nobody.run(nobody.python, "-c", code)
        assert (done.stderr, done.returncode) == ("", 0)
        client.sync()
        (report,) = reports(mount.mountpoint)
        assert report["statistics"] == {
            "events": {
                "ACCESS": 1,
                "MODIFY": 1,
                "ATTRIB": 3,
                "CLOSE_WRITE": 1,
                "CLOSE_NOWRITE": 1,
                "OPEN": 2,
                "MOVED_FROM": 1,
                "MOVED_TO": 1,
                "CREATE": 5,
                "DELETE": 2,
            },
            "directories": [{"path": "/shared", "events": 17}, {"path": "/", "events": 1}],
            "users": [{"uid": nobody.uid, "events": 17}, {"uid": 0, "events": 1}],
            "overflows": 1,
            "merged": 0,
            "lost": 3,
        }
        shown = fusenotify("status", mount.mountpoint).stdout
        assert "  events: 5 CREATE, 3 ATTRIB, " in shown
        assert "  all queues: 0 merged, 3 lost, 1 overflows\n" in shown
        assert [line.split() for line in shown.splitlines()[-7:]] == [
            ["events", "directory"],
            ["17", "/shared"],
            ["1", "/"],
            ["events", "caused", "by"],
            ["events", "uid"],
            ["17", str(nobody.uid)],
            ["1", "0"],
        ]


@pytest.mark.mount
def test_a_directorys_name_does_not_steer_the_terminal(mounted: Mounted) -> None:
    name = b"[red]\x1b[2J\n\xff"
    os.mkdir(os.fsencode(mounted.mountpoint) + b"/" + name)
    with mounted.client() as client:
        client.init().add_watch(b"/" + name, IN_CREATE)
        os.mkdir(os.fsencode(mounted.mountpoint) + b"/" + name + b"/a")
        done = fusenotify("status", mounted.mountpoint)
    assert "/[red]\\x1b[2J\\n\\xff" in done.stdout


@pytest.mark.mount
def test_without_a_path_it_shows_every_mount(mounted: Mounted) -> None:
    assert mounted.mountpoint in [report["mountpoint"] for report in reports(mounted.mountpoint)]
    done = fusenotify("status")
    assert f"{mounted.mountpoint} shows {mounted.source}" in done.stdout
    assert f"pid {mounted.pid}, linux-6" in done.stdout
    assert f"  socket {mounted.socket}\n" in done.stdout


@pytest.mark.mount
def test_tables_show_each_device(mounted: Mounted) -> None:
    with mounted.client() as client:
        client.init().add_watch("/", IN_CREATE)
        done = fusenotify("status", mounted.mountpoint)
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if str(os.getpid()) in line)
    assert "0/16384" in row
    assert "linux-6" in row


@pytest.mark.mount
def test_a_client_in_another_user_namespace_is_named_so(mounted: Mounted) -> None:
    stay = (
        "import sys; from fusenotify.client import Client; client = Client(sys.argv[1]); "
        "client.init(); print('ready', flush=True); sys.stdin.read()"
    )
    inside = ["unshare", "--user", sys.executable, "-c", stay, mounted.socket]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(inside, stdin=pipe, stdout=pipe, env=environment()) as guest,
        mounted.client() as client,
    ):
        assert guest.stdout is not None
        if guest.stdout.readline() != b"ready\n":
            pytest.skip("this machine lets nobody make a user namespace")
        client.init()
        (report,) = reports(mounted.mountpoint)
        foreign = {each["pid"]: each["foreign"] for each in report["clients"]}
        assert (foreign[guest.pid], foreign[os.getpid()]) == (True, False)
        table = fusenotify("status", mounted.mountpoint).stdout
        assert table.count(f" {os.geteuid()} (another user namespace) ") == 1


@pytest.mark.mount
def test_a_dead_daemon_is_shown_with_the_way_out(mounting: Mounting) -> None:
    with mounting() as mount:
        os.kill(mount.pid, signal.SIGKILL)
        assert ended(mount.pid)
        done = fusenotify("status", mount.mountpoint)
        assert f"its daemon is dead; 'fusenotify unmount {mount.mountpoint}'" in done.stdout
        assert done.returncode == 1


@pytest.mark.mount
def test_a_stopped_daemon_delays_no_report_of_others(mounting: Mounting, tmp_path: Path) -> None:
    others = tmp_path / "other source", tmp_path / "other mnt"
    for directory in others:
        directory.mkdir()
    with mounting() as stopped, fusenotify_mounted(*others) as mounted:
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor() as threads:
                one = threads.submit(fusenotify, "status", "--json", stopped.mountpoint)
                done = fusenotify("status")
                (report,) = json.loads(one.result().stdout)
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
    said, late = done.stdout.split(f"{stopped.mountpoint} shows {stopped.source}\n")
    assert f"{mounted.mountpoint} shows {mounted.source}\n" in said
    assert late.startswith("  its daemon does not answer; is it stopped?\n")
    assert done.returncode == 1
    assert report == {
        "mountpoint": stopped.mountpoint,
        "source": stopped.source,
        "socket": None,
        "error": "its daemon does not answer; is it stopped?",
    }


@pytest.mark.parametrize("words", [["status"], ["status", "--json"]], ids=" ".join)
def test_output_that_cannot_be_written_is_an_error_in_one_line(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*FUSENOTIFY, *words],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "fusenotify: No space left on device\n")
