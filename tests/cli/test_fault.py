# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify fault`` causes faults on real mounts, and says why it does not."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify.client import Client, ConnectionLost
from fusenotify.events import Event, unpack
from fusenotify.masks import IN_CREATE, IN_DELETE, IN_ISDIR, IN_Q_OVERFLOW
from tests.cli.command import fusenotify
from tests.conftest import Mounting, User

pytestmark = pytest.mark.mount


def caused(*arguments: str | Path) -> None:
    done = fusenotify("fault", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_fault_by_its_name(mounting: Mounting) -> None:
    with mounting(faults=True) as mount, mount.client() as client, mount.client() as other:
        device, untouched = client.init(nonblock=True), other.init(nonblock=True)
        mnt, number = mount.mountpoint, f"--device={device.number}"
        caused(mnt, "refuse", "1", "ENOMEM", number)
        with pytest.raises(OSError, match="--faults") as refused:
            device.add_watch("/", IN_CREATE)
        assert refused.value.errno == errno.ENOMEM
        for each in (device, untouched):
            each.add_watch("/", IN_CREATE | IN_DELETE)

        caused(mnt, "inject", "7", "delete,ISDIR", "gone", "--cookie=5", number)
        caused(mnt, "lose", "1", "--mask=CREATE|DELETE", number)
        for name in ("a", "b"):
            os.mkdir(f"{mnt}/{name}")
        caused(mnt, "overflow", number)
        os.mkdir(f"{mnt}/c")
        client.sync()
        assert [*unpack(device.read())] == [
            Event(7, IN_DELETE | IN_ISDIR, 5, b"gone"),
            Event(1, IN_CREATE | IN_ISDIR, 0, b"b"),
            Event(-1, IN_Q_OVERFLOW),
        ]
        assert len([*unpack(untouched.read())]) == 3

        caused(mnt, "delay", "3600")
        os.mkdir(f"{mnt}/d")
        client.sync()
        assert not device.poll(0)
        caused(mnt, "clear")
        assert device.poll(0)

        caused(f"{mnt}/d", "disconnect", number)
        with pytest.raises(ConnectionLost):
            device.poll()
        assert untouched.poll(0)


def test_status_shows_lasting_faults(mounting: Mounting) -> None:
    with mounting(faults=True) as mount, mount.client() as client:
        mnt, device = mount.mountpoint, client.init()
        assert "faults (--faults): none set\n" in fusenotify("status", mnt).stdout
        caused(mnt, "lose", "3", "--mask", "CREATE,DELETE", f"--device={device.number}")
        caused(mnt, "lose", "4")
        caused(mnt, "delay", "0.5")
        caused(mnt, "refuse", "2")
        assert (
            "faults (--faults): lose 4; refuse 2 ENOSPC; delay 0.5; "
            f"lose 3 --mask CREATE,DELETE --device {device.number}\n"
        ) in fusenotify("status", mnt).stdout
        (report,) = json.loads(fusenotify("status", "--json", mnt).stdout)
        assert report["faults"] == [
            {"device": None, "fault": {"kind": "lose", "count": 4, "mask": 0xFFFFFFFF}},
            {"device": None, "fault": {"kind": "refuse", "count": 2, "error": "ENOSPC"}},
            {"device": None, "fault": {"kind": "delay", "seconds": 0.5}},
            {
                "device": device.number,
                "fault": {"kind": "lose", "count": 3, "mask": IN_CREATE | IN_DELETE},
            },
        ]


def test_a_mount_without_the_option_refuses_and_shows_nothing(mounting: Mounting) -> None:
    with mounting() as mount:
        done = fusenotify("fault", mount.mountpoint, "overflow")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "--faults" in done.stderr
        (report,) = json.loads(fusenotify("status", "--json", mount.mountpoint).stdout)
        assert "faults" not in report
        assert "faults" not in fusenotify("status", mount.mountpoint).stdout


def test_another_user_may_not(public_path: Path, nobody: User) -> None:
    for name in ("source", "mnt"):
        (public_path / name).mkdir()
    with package.mounted(
        public_path / "source", public_path / "mnt", faults=True, options=["allow_other"]
    ) as mount:
        done = nobody.run(nobody.python, "-m", "fusenotify", "fault", mount.mountpoint, "clear")
        assert done.returncode == 1
        assert done.stderr == "fusenotify: only root and the daemon's user may cause faults\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["lose", "1", "--device=9"], 1, "no open device 9"),
        (["lose", "-1"], 1, "count"),
        (["delay", "nan"], 1, "seconds"),
        (["refuse", "1", "EIO"], 1, "ENOSPC or ENOMEM"),
        (["refuse", "x"], 2, "'x' is not a whole number"),
        (["inject", "1", "CREATED"], 2, "CREATED is not an event; did you mean CREATE?"),
        (["mend"], 2, "invalid choice"),
        ([], 2, "FAULT"),
        (["lose", str(2**63)], 1, "count"),
        (["lose", str(2**64)], 2, "64 bits"),
        (["lose", "1", f"--mask={2**64}"], 2, "64 bits"),
    ],
)
def test_a_meaningless_fault_is_refused_in_a_line(
    mounting: Mounting, arguments: list[str], status: int, message: str
) -> None:
    with mounting(faults=True) as mount:
        done = fusenotify("fault", mount.mountpoint, *arguments)
        assert done.returncode == status
        assert message in done.stderr.splitlines()[-1]


def test_a_directory_without_a_mount_is_refused(tmp_path: Path) -> None:
    done = fusenotify("fault", tmp_path, "clear")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(tmp_path) in done.stderr


def test_a_mount_ends_in_time_whatever_is_held_back(mounting: Mounting) -> None:
    with mounting(faults=True) as mount:
        client = Client(mount.socket)
        device = client.init()
        device.add_watch("/", IN_CREATE)
        caused(mount.mountpoint, "delay", "3600")
        os.mkdir(f"{mount.mountpoint}/a")
    assert mount.pid
    with pytest.raises(ConnectionLost):
        device.read()
    client.close()
