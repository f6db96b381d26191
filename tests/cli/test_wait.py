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
from fusenotify.protocol.faults import Overflow
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
    with waiting("-e", "MODIFY,attrib", path) as waiter:
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
def test_however_long_the_time_is_events_come(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with package.mounted(tmp_path / "second") as other:
        roots = [mounted.mountpoint, other.mountpoint]
        with waiting("-t", "-1", *roots) as waiter:
            os.mkdir(f"{other.mountpoint}/a")
            assert waiter.end() == (f"{other.mountpoint}/ CREATE,ISDIR a\n", "", 0)


@pytest.mark.mount
@pytest.mark.parametrize(
    ("arguments", "printed", "said", "status"),
    [
        pytest.param([], "", True, 1, id="not asked for"),
        pytest.param(["-e", "open,q_overflow"], " Q_OVERFLOW \n", False, 0, id="asked for"),
        pytest.param(["-c", "-e", "q_overflow"], "Q_OVERFLOW,\n", False, 0, id="in fields"),
        pytest.param(["--exclude", "^$"], "", True, 1, id="patterns do not leave it out"),
        pytest.param(["--include", "x"], "", True, 1, id="these neither"),
    ],
)
def test_lost_events_are_an_event(
    mounting: Mounting, arguments: list[str], printed: str, said: bool, status: int
) -> None:
    with mounting(faults=True) as mount, waiting(*arguments, mount.mountpoint) as waiter:
        with mount.client() as client:
            client.fault(Overflow())
        lost = "Events were lost: they came faster than they were read.\n" if said else ""
        assert waiter.end() == (printed, lost, status)


@pytest.mark.mount
def test_the_first_event_in_one_of_several_mounts_ends_it(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with package.mounted(tmp_path / "second") as other:
        roots = [mounted.mountpoint, other.mountpoint]
        with waiting("-e", "create", *roots) as waiter:
            os.mkdir(f"{other.mountpoint}/a")
            assert waiter.end() == (f"{other.mountpoint}/ CREATE,ISDIR a\n", "", 0)
        with waiting("-t", "1", *roots) as waiter:
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
def test_a_daemon_that_dies_is_status_1_at_once(mounted: Mounted) -> None:
    with waiting("-m", mounted.mountpoint) as waiter:
        os.kill(mounted.pid, signal.SIGKILL)
        out, said, status = waiter.end()
        assert (out, status) == ("", 1)
        assert said.startswith("fusenotify: ")
        assert said.count("\n") == 1


@pytest.mark.mount
def test_a_reader_that_goes_away_ends_it_by_sigpipe(mounted: Mounted) -> None:
    with waiting("-m", "-e", "create", mounted.mountpoint) as waiter:
        assert waiter.process.stdout is not None
        waiter.process.stdout.close()
        os.mkdir(f"{mounted.mountpoint}/a")
        assert waiter.process.wait(30) == -signal.SIGPIPE
        assert waiter.process.stderr is not None
        assert waiter.process.stderr.read() == ""


@pytest.mark.mount
def test_a_failed_write_is_status_1_and_a_message(mounted: Mounted) -> None:
    command = 'exec "$@" > /dev/full'
    with waiting("-m", mounted.mountpoint, command=["sh", "-c", command, "sh", *FUSENOTIFY]) as it:
        os.mkdir(f"{mounted.mountpoint}/a")
        assert it.end() == ("", "fusenotify: No space left on device\n", 1)


@pytest.mark.mount
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_without_standard_descriptors_nothing_else_is_written_to(
    mounted: Mounted, closed: str
) -> None:
    root = mounted.mountpoint
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *FUSENOTIFY]
    with subprocess.Popen(
        [*command, "wait", "-e", "create", root], env=environment(), stdout=subprocess.DEVNULL
    ) as process:
        wait_for_watches(mounted, 1)
        os.mkdir(f"{root}/a")
        assert process.wait(30) == 0


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


def test_help_is_ours_and_status_0() -> None:
    for arguments in (["-h"], ["-m", "--help", "--bogus"], ["--he"]):
        done = fusenotify("wait", *arguments)
        assert done.stdout.startswith("usage: fusenotify wait")
        assert "--no-dereference" in done.stdout
        assert "moved_from" in done.stdout
        assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_a_path_outside_any_mount_is_refused_with_what_serves_there(
    tmp_path: Path, command: str
) -> None:
    done = fusenotify(command, tmp_path)
    last = done.stderr.splitlines()[-1]
    begin = "Couldn't" if command == "wait" else "Failed to"
    assert last.startswith(f"{begin} watch {tmp_path}: it is on the ")
    for word in ("inotifywait", "watchdog", "fusenotify mount"):
        assert word in last
    assert done.returncode == 1


@pytest.mark.mount
@pytest.mark.parametrize("recursive", [[], ["-r"]], ids=["alone", "recursive"])
def test_too_few_watches_are_reported_with_the_setting(
    mounting: Mounting, recursive: list[str]
) -> None:
    with mounting(max_user_watches=1, max_user_trees=1) as mount:
        root = mount.mountpoint
        for name in "ab":
            os.mkdir(f"{root}/{name}")
        done = fusenotify("wait", *recursive, "-qq", "-m", f"{root}/a", f"{root}/b")
    first, second = done.stderr.splitlines()
    assert first == f"Failed to watch {root}/b; upper limit on inotify watches reached!"
    assert "fusenotify limits" in second
    assert done.returncode == 1


@pytest.mark.mount
def test_too_few_devices_are_reported_with_the_setting(mounting: Mounting) -> None:
    with mounting(max_user_instances=0) as mount:
        done = fusenotify("wait", "-q", mount.mountpoint)
    first, second = done.stderr.splitlines()
    assert first == "Couldn't initialize inotify: Too many open files"
    assert "fusenotify limits" in second
    assert done.returncode == 1
