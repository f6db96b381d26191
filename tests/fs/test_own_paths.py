# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon never waits for its own mount: what it needs of paths it has before."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusenotify.client import Client
from fusenotify.masks import IN_ALL_EVENTS
from tests.cli.command import environment, until
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.mount

AUDITED = Path(__file__).with_name("audited.py")


@contextmanager
def audited(source: Path, mountpoint: Path, socket: Path, *options: str) -> Iterator[list[str]]:
    """Run an audited daemon; the list has what it did, when the block is left."""
    reported: list[str] = []
    ready, ready_end = os.pipe()
    with tempfile.TemporaryFile() as report:
        passed = (report.fileno(), ready_end)
        daemon = subprocess.Popen(
            [
                *(sys.executable, "-P", str(AUDITED), str(report.fileno()), "mount", "-f"),
                *(f"--ready-fd={ready_end}", f"--socket={socket}", *options),
                *(str(source), str(mountpoint)),
            ],
            env=environment(),
            pass_fds=passed,
            stderr=subprocess.DEVNULL,
        )
        os.close(ready_end)
        with open(ready, "rb") as answer:
            assert answer.read()
        daemon.send_signal(signal.SIGUSR1)
        try:
            yield reported
        finally:
            daemon.terminate()
            assert daemon.wait(30) == 0
        report.seek(0)
        reported += report.read().decode().splitlines()


@pytest.mark.parametrize("options", [[], ["--faults", "-oacl"]], ids=["plain", "faults"])
def test_the_serving_thread_reaches_nothing_by_path(tmp_path: Path, options: list[str]) -> None:
    source, top = tmp_path / "source", tmp_path / "mnt"
    source.mkdir()
    top.mkdir()
    with audited(source, top, tmp_path / "s", *options) as reported:
        with Client(str(tmp_path / "s")) as client:
            device = client.init(nonblock=True)
            device.add_watch("/", IN_ALL_EVENTS)
            with pytest.raises(FileNotFoundError):
                device.add_watch("/absent", IN_ALL_EVENTS)
            (top / "d").mkdir()
            (top / "d" / "f").write_text("x")
            os.symlink("d/f", top / "l")
            device.add_watch("/l", IN_ALL_EVENTS)
            assert (top / "l").read_text() == "x"
            os.listdir(top)
            os.setxattr(top / "d", "user.x", b"y")
            (top / "d").rename(top / "e")
            with pytest.raises(OSError, match="Input/output"):
                os.utime(top / "e", (1, 1))  # the bug
            client.sync()
            assert device.read(4096)
            assert client.status().clients
        with Client(str(tmp_path / "s")) as client, pytest.raises(OSError, match="no watch"):
            client.init(nonblock=True).rm_watch(1)
        shutil.rmtree(top / "e")
    # The socket goes when the mount has gone.
    assert [what for what in reported if not what.startswith("os.remove")] == []


def libraries(directory: Path) -> None:
    """Copy what a daemon imports into a directory, fusenotify first."""
    shutil.copytree(REPOSITORY / "fusenotify", directory / "fusenotify")
    for name in ("trio", "pyfuse3", "msgspec", "attr", "attrs", "idna", "outcome"):
        shutil.copytree(Path(sysconfig.get_path("purelib")) / name, directory / name)
    for name in ("sniffio", "sortedcontainers"):
        shutil.copytree(Path(sysconfig.get_path("purelib")) / name, directory / name)


def test_a_project_with_its_own_daemon_in_it_is_mounted_in_place(tmp_path: Path) -> None:
    """Modules, metadata, sources and the first directory of PATH are in the mount."""
    project = tmp_path / "project"
    libraries(project / "lib")
    (project / "bin").mkdir()
    socket = tmp_path / "s"
    daemon = subprocess.Popen(
        [*(sys.executable, "-P", "-m", "fusenotify", "mount", "-f", project), f"--socket={socket}"],
        cwd="/",
        env={"PYTHONPATH": f"{project}/lib", "PATH": f"{project}/bin:{os.environ['PATH']}"},
    )
    try:
        until(lambda: os.path.ismount(project), "mounted")
        client = (
            "import sys; from fusenotify.client import Client\n"
            "with Client(sys.argv[1]) as client: client.init().add_watch('/', 1)"
        )
        subprocess.run(
            [sys.executable, "-c", client, socket], env=environment(), check=True, timeout=20
        )
        assert "fusenotify" in os.listdir(project / "lib")
        daemon.terminate()
        assert daemon.wait(20) == 0
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
            subprocess.run(["umount", "--lazy", project], check=False)
