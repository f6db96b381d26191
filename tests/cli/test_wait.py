# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify wait`` on real mounts."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify import Mounted
from tests.cli.command import FUSENOTIFY, environment, fusenotify
from tests.cli.waiter import wait_for_watches, waiting
from tests.conftest import Mounting


@pytest.mark.mount
def test_it_ends_with_the_first_event(mounted: Mounted) -> None:
    with waiting("-e", "create", mounted.mountpoint) as waiter:
        os.mkdir(f"{mounted.mountpoint}/docs")
        os.mkdir(f"{mounted.mountpoint}/more")
        assert waiter.end() == (f"{mounted.mountpoint}/ CREATE,ISDIR docs\n", "", 0)


@pytest.mark.mount
def test_a_file_is_shown_without_slash_and_name(mounted: Mounted) -> None:
    path = Path(mounted.mountpoint, "file")
    path.touch()
    with waiting("-e", "MODIFY,IN_ATTRIB", path) as waiter:
        path.read_bytes()
        path.write_text("changed")
        assert waiter.end() == (f"{path} MODIFY \n", "", 0)


@pytest.mark.mount
def test_monitoring_goes_on_until_the_mount_ends(mounting: Mounting) -> None:
    with mounting() as mount, waiting("-m", mount.mountpoint) as waiter:
        with open(f"{mount.mountpoint}/a", "w") as file:
            file.write("text")
        os.rename(f"{mount.mountpoint}/a", f"{mount.mountpoint}/b")
        os.unlink(f"{mount.mountpoint}/b")
        assert fusenotify("unmount", mount.mountpoint).returncode == 0
        root = mount.mountpoint
        expected = ["CREATE a", "OPEN a", "MODIFY a", "CLOSE_WRITE,CLOSE a"]
        expected += ["MOVED_FROM a", "MOVED_TO b", "DELETE b"]
        lines = "".join(f"{root}/ {line}\n" for line in expected)
        assert waiter.end() == (lines, "Nothing is left to watch.\n", 0)


@pytest.mark.mount
@pytest.mark.parametrize("options", [[], ["-r"]], ids=["alone", "recursive"])
def test_paths_may_lie_in_several_mounts(
    mounted: Mounted, tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "second").mkdir()
    with package.mounted(tmp_path / "second") as other:
        roots = [mounted.mountpoint, other.mountpoint]
        with waiting("-m", *options, "-e", "create", *roots) as waiter:
            for name in ("a", "b"):
                for root in roots:
                    os.mkdir(f"{root}/{name}")
                    assert waiter.lines_until(f"{root}/ CREATE,ISDIR {name}") == []
            assert fusenotify("unmount", mounted.mountpoint).returncode == 0
            os.mkdir(f"{other.mountpoint}/c")
            assert waiter.lines_until(f"{other.mountpoint}/ CREATE,ISDIR c") == []
            assert fusenotify("unmount", other.mountpoint).returncode == 0
            assert waiter.end() == ("", "Nothing is left to watch.\n", 0)


@pytest.mark.mount
def test_the_first_event_in_one_of_several_mounts_ends_it(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with package.mounted(tmp_path / "second") as other:
        roots = [mounted.mountpoint, other.mountpoint]
        with waiting("-e", "create", *roots) as waiter:
            os.mkdir(f"{other.mountpoint}/a")
            assert waiter.end() == (f"{other.mountpoint}/ CREATE,ISDIR a\n", "", 0)
        with waiting("-t", "0.2", *roots) as waiter:
            assert waiter.end() == ("", "", 2)


@pytest.mark.mount
def test_of_several_mounts_a_daemon_that_dies_is_status_1(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with (
        package.mounted(tmp_path / "second") as other,
        waiting("-m", mounted.mountpoint, other.mountpoint) as waiter,
    ):
        os.kill(mounted.pid, signal.SIGKILL)
        out, said, status = waiter.end()
        assert (out, status, said.count("\n")) == ("", 1, 1)


@pytest.mark.mount
def test_nothing_in_time_is_status_2(mounted: Mounted) -> None:
    with waiting("-t", "0.2", mounted.mountpoint) as waiter:
        assert waiter.end() == ("", "", 2)


@pytest.mark.mount
def test_monitoring_ends_when_nothing_more_comes_in_time(mounted: Mounted) -> None:
    with waiting("-t", "1", "-e", "delete", "-m", mounted.mountpoint) as waiter:
        os.mkdir(f"{mounted.mountpoint}/a")
        os.rmdir(f"{mounted.mountpoint}/a")
        assert waiter.end() == (f"{mounted.mountpoint}/ DELETE,ISDIR a\n", "", 2)


@pytest.mark.mount
def test_a_deleted_file_that_was_waited_for_is_status_1(mounted: Mounted) -> None:
    path = Path(mounted.mountpoint, "file")
    path.touch()
    with waiting("-e", "modify", path) as waiter:
        path.unlink()
        assert waiter.end() == (
            "",
            "fusenotify: what was watched is gone, and no such event came\n",
            1,
        )


@pytest.mark.mount
def test_a_daemon_that_dies_is_status_1_at_once(mounted: Mounted) -> None:
    with waiting("-m", mounted.mountpoint) as waiter:
        os.kill(mounted.pid, signal.SIGKILL)
        out, said, status = waiter.end()
        assert (out, status) == ("", 1)
        assert said.startswith("fusenotify: ")
        assert said.count("\n") == 1


@pytest.mark.mount
def test_a_reader_that_goes_away_ends_it_quietly(mounted: Mounted) -> None:
    with waiting("-m", "-e", "create", mounted.mountpoint) as waiter:
        assert waiter.process.stdout is not None
        waiter.process.stdout.close()
        os.mkdir(f"{mounted.mountpoint}/a")
        assert waiter.process.wait(30) == 1
        assert waiter.process.stderr is not None
        assert waiter.process.stderr.read() == ""


@pytest.mark.mount
def test_quiet_twice_prints_no_events_either(mounted: Mounted) -> None:
    with subprocess.Popen(
        [*FUSENOTIFY, "wait", "-qq", "-e", "create", mounted.mountpoint],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        wait_for_watches(mounted, 1)
        os.mkdir(f"{mounted.mountpoint}/a")
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == 0


@pytest.mark.mount
def test_format_and_no_newline(mounted: Mounted) -> None:
    arguments = ["-e", "create", "--format", "%w%f|%|e", "--no-newline", mounted.mountpoint]
    with waiting(*arguments) as waiter:
        os.mkdir(f"{mounted.mountpoint}/a b")
        assert waiter.end() == (f"{mounted.mountpoint}/a b|CREATE|ISDIR", "", 0)


@pytest.mark.mount
def test_a_missing_path_is_refused_by_name(mounted: Mounted) -> None:
    done = fusenotify("wait", f"{mounted.mountpoint}/gone")
    message = f"fusenotify: {mounted.mountpoint}/gone: cannot be watched: "
    assert done.stderr.splitlines()[-1].startswith(message)
    assert "No such file or directory" in done.stderr
    assert done.returncode == 1


def test_a_path_outside_any_mount_is_refused_by_name(tmp_path: Path) -> None:
    done = fusenotify("wait", tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"fusenotify: {tmp_path}/: cannot be watched: ")
    assert "fusenotify mount" in last
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "the following arguments are required: PATH", id="no path"),
        pytest.param(["-e", "frob", "/"], "'frob' is not an event; the events are", id="event"),
        pytest.param(["-e", "open,,", "/"], "'' is not an event", id="an empty event"),
        pytest.param(["-t", "soon", "/"], "'soon' is not a number of seconds", id="no time"),
        pytest.param(["-t", "-1", "/"], "'-1' is not a number of seconds", id="negative time"),
        pytest.param(["-t", "nan", "/"], "'nan' is not a number of seconds", id="not a number"),
        pytest.param(["-t", "inf", "/"], "'inf' is not a number of seconds", id="endless time"),
        pytest.param(["--format", "%y", "/"], "argument --format: '%y' is no", id="format"),
        pytest.param(["--frob", "/"], "unrecognized arguments: --frob", id="option"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], message: str) -> None:
    done = fusenotify("wait", *arguments)
    assert message in done.stderr
    assert done.stderr.startswith("usage: fusenotify wait")
    assert done.returncode == 2
