# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify status`` says what the daemons say."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fusenotify import Mounted
from fusenotify.masks import IN_CREATE
from tests.cli.command import ended, fusenotify
from tests.conftest import Mounting


def test_a_directory_without_a_mount_is_refused(tmp_path: Path) -> None:
    done = fusenotify("status", tmp_path)
    assert done.stderr == f"fusenotify: {tmp_path}: no fusenotify mount is there\n"
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
    with mounting(max_user_watches=5) as mount, mount.client() as client:
        device = client.init(max_queued_events=2)
        device.add_watch("/", IN_CREATE)
        for name in ("a", "b", "c", "d"):
            os.mkdir(f"{mount.mountpoint}/{name}")
        client.sync()
        for arguments in ([mount.mountpoint], ["--socket", mount.socket]):
            (report,) = reports(*arguments)
            assert report["mountpoint"] == mount.mountpoint
            assert report["source"] == mount.source
            assert report["pid"] == mount.pid
            assert report["semantics"] == "linux-6"
            assert report["limits"]["max_user_watches"] == 5
            assert report["users"] == [{"uid": os.getuid(), "watches": 1, "devices": 1}]
            (watcher,) = [c for c in report["clients"] if c["pid"] == os.getpid()]
            (shown,) = watcher["devices"]
            assert shown["watches"] == 1
            assert (shown["queued"], shown["max_queued_events"]) == (3, 2)
            assert (shown["overflows"], shown["lost"], shown["merged"]) == (1, 2, 0)


@pytest.mark.mount
def test_without_a_path_it_shows_every_mount(mounted: Mounted) -> None:
    assert mounted.mountpoint in [report["mountpoint"] for report in reports(mounted.mountpoint)]
    done = fusenotify("status")
    assert f"{mounted.mountpoint} shows {mounted.source}" in done.stdout
    assert f"pid {mounted.pid}, linux-6" in done.stdout


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
def test_a_dead_daemon_is_shown_with_the_way_out(mounting: Mounting) -> None:
    with mounting() as mount:
        os.kill(mount.pid, signal.SIGKILL)
        assert ended(mount.pid)
        done = fusenotify("status", mount.mountpoint)
        assert f"its daemon is dead; 'fusenotify unmount {mount.mountpoint}'" in done.stdout
        assert done.returncode == 1
