# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait`` says who did it, and all that is known: letters of --format, and --json."""

from __future__ import annotations

import base64
import json
import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import fusenotify as package
from fusenotify import Mounted
from fusenotify.protocol.faults import Overflow
from tests.cli.command import fusenotify
from tests.cli.older_daemon import older_daemon
from tests.cli.waiter import Waiter, wait_for_watches, waiting
from tests.conftest import Mounting, User


def objects(waiter: Waiter, last: str) -> list[dict[str, Any]]:
    """Return what is printed up to the event of a path that ends in last, that one included."""
    found = []
    for line in waiter.lines():
        found.append(json.loads(line))
        if found[-1]["path"].endswith(last):
            return found
    pytest.fail(f"it ended without {last!r} behind {found}")


@pytest.mark.mount
def test_a_line_has_the_process_and_the_old_path(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/a/b")
    user = pwd.getpwuid(os.getuid()).pw_name
    arguments = ["-e", "move,create", "--format", "%e %w%f %O %P %U %C"]
    with waiting("-m", "-r", *arguments, root) as waiter:
        made = subprocess.Popen(["mkdir", f"{root}/a/b/new"])
        made.wait()
        moved = subprocess.Popen(["mv", f"{root}/a/b", f"{root}/z"])
        moved.wait()
        Path(root, "last").touch()
        assert waiter.lines_until(f"{root}/last  {os.getpid()} {user} {command()}") == [
            f"CREATE,ISDIR {root}/a/b/new  {made.pid} {user} mkdir",
            f"MOVED_TO,ISDIR {root}/z {root}/a/b {moved.pid} {user} mv",
        ]


def command() -> str:
    """Return the name of our own command."""
    return Path("/proc/self/comm").read_text().strip()


@pytest.mark.mount
def test_json_is_an_object_a_line_and_numbers_grow(mounted: Mounted) -> None:
    root = mounted.mountpoint
    os.makedirs(f"{root}/a")
    with waiting("-m", "-r", "-e", "create,move,delete_self", "--json", root) as waiter:
        Path(root, "a/x").touch()
        os.rename(f"{root}/a/x", f"{root}/y")
        os.rmdir(f"{root}/a")
        Path(root, "last").touch()
        found = objects(waiter, "/last")
    assert [(one["events"], one["path"], one["name"]) for one in found] == [
        (["CREATE"], f"{root}/a/x", "a/x"),
        (["MOVED_TO"], f"{root}/y", "y"),
        (["DELETE_SELF"], f"{root}/a", "a/"),
        (["CREATE"], f"{root}/last", "last"),
    ]
    assert [one.get("old_path") for one in found] == [None, f"{root}/a/x", None, None]
    assert [one["is_dir"] for one in found] == [False, False, True, False]
    assert {(one["watched"], one["pid"], one["uid"]) for one in found} == {
        (f"{root}/", os.getpid(), os.getuid())
    }
    for key in ("sequence", "time"):
        assert sorted(one[key] for one in found) == [one[key] for one in found]


@pytest.mark.mount
def test_json_keeps_names_that_are_no_text(mounted: Mounted) -> None:
    root = mounted.mountpoint
    name = b"\xff\n\xfe"
    with waiting("-e", "create", "--json", root) as waiter:
        os.mkdir(os.fsencode(root) + b"/" + name)
        out, _, status = waiter.end()
    (line,) = out.splitlines()
    found = json.loads(line)
    assert status == 0
    assert found["name"] == "\ufffd\n\ufffd"
    assert base64.b64decode(found["name_base64"]) == name
    assert base64.b64decode(found["path_base64"]) == os.fsencode(root) + b"/" + name


@pytest.mark.mount
def test_an_overflow_without_loss_is_none(mounting: Mounting) -> None:
    with mounting(faults=True) as mount, waiting("-m", "--json", mount.mountpoint) as waiter:
        with mount.client() as client:
            client.fault(Overflow())
        assert json.loads(next(waiter.lines()))["lost"] == 0
        assert waiter.process.stderr is not None
        assert waiter.process.stderr.readline().startswith("0 events were lost: ")


@pytest.mark.mount
def test_json_says_how_many_events_were_lost_and_where(mounting: Mounting) -> None:
    with mounting(max_queued_events=4) as mount:
        root = mount.mountpoint
        with waiting("-m", "-e", "create", "--json", root) as waiter:
            waiter.process.send_signal(signal.SIGSTOP)
            for number in range(20):
                Path(root, f"{number}").touch()
            with mount.client() as client:
                client.sync()
            waiter.process.send_signal(signal.SIGCONT)
            found: list[dict[str, Any]] = []
            for line in waiter.lines():
                found.append(json.loads(line))
                if sum(one.get("lost", 1) for one in found) == 20:
                    break
            lost = [one for one in found if one["events"] == ["Q_OVERFLOW"]]
            assert lost
            assert waiter.process.stderr is not None
            assert waiter.process.stderr.readline().startswith(
                f"{lost[0]['lost']} events were lost"
            )


@pytest.mark.mount
def test_json_says_the_end_of_watches(mounting: Mounting) -> None:
    with mounting() as mount:
        Path(mount.mountpoint, "file").touch()
        with waiting("-m", "-e", "create", "--json", mount.mountpoint) as waiter:
            assert fusenotify("unmount", mount.mountpoint).returncode == 0
            out, said, status = waiter.end()
    assert [json.loads(line)["events"] for line in out.splitlines()] == [
        ["UNMOUNT", "ISDIR"],
        ["IGNORED"],
    ]
    assert (said, status) == ("Nothing is left to watch.\n", 0)


@pytest.mark.mount
def test_json_without_monitoring_ends_with_the_first_event_that_was_asked_for(
    mounted: Mounted,
) -> None:
    Path(mounted.mountpoint, "file").touch()
    with waiting("-e", "delete_self", "--json", f"{mounted.mountpoint}/file") as waiter:
        os.unlink(f"{mounted.mountpoint}/file")
        out, said, status = waiter.end()
    assert [json.loads(line)["events"] for line in out.splitlines()] == [["DELETE_SELF"]]
    assert (said, status) == ("", 0)


@pytest.mark.mount
def test_other_users_do_not_see_the_process(public_path: Path, nobody: User) -> None:
    (public_path / "source").mkdir()
    (public_path / "source").chmod(0o777)
    (public_path / "mnt").mkdir()
    with package.mounted(
        public_path / "source", public_path / "mnt", options=["allow_other"]
    ) as mount:
        program = nobody.as_user([nobody.python, "-m", "fusenotify"])
        arguments = ["-m", "-e", "create", "--json", mount.mountpoint]
        with waiting(*arguments, command=program) as waiter:
            wait_for_watches(mount, 1)
            Path(mount.mountpoint, "roots").touch()
            nobody.run("touch", f"{mount.mountpoint}/own")
            roots, own = objects(waiter, "/own")
    assert not {"pid", "uid", "gid", "command"} & {*roots}
    assert (own["uid"], own["command"]) == (nobody.uid, "touch")


@pytest.mark.parametrize(
    "arguments",
    [["--csv"], ["--format", "%w"], ["--timefmt", "%s"], ["--no-newline"]],
    ids=lambda each: each[0],
)
def test_json_forms_lines_and_excludes_other_formats(arguments: list[str]) -> None:
    done = fusenotify("wait", "--json", *arguments, "/")
    assert done.stderr == f"--json and {arguments[0]} cannot both be specified.\n"
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", [["--json"], ["--format", "%P"]])
def test_a_daemon_without_details_is_status_1(tmp_path: Path, arguments: list[str]) -> None:
    said = "Object contains unknown field `detailed`"
    with older_daemon(tmp_path, said, detailed=False) as path:
        done = fusenotify("wait", *arguments, tmp_path, env={"FUSENOTIFY_SOCKET": path})
    assert said in done.stderr.splitlines()[-1]
    assert done.returncode == 1
