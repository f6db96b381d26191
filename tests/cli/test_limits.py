# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify limits`` shows a mount's limits and sets them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

import fusenotify as package
from fusenotify import Mounted
from fusenotify.client import Client
from fusenotify.events import unpack
from fusenotify.masks import IN_CREATE
from tests.cli.command import fusenotify
from tests.cli.older_daemon import older_daemon
from tests.conftest import User

_NAMES = ["max_queued_events", "max_user_watches", "max_user_trees", "max_user_instances"]


@pytest.mark.mount
def test_they_are_shown_to_people_and_to_programs(mounted: Mounted) -> None:
    done = fusenotify("limits", mounted.mountpoint)
    assert (done.returncode, done.stderr) == (0, "")
    shown = dict(line.split()[:2] for line in done.stdout.splitlines())
    assert shown == {
        "max_queued_events": "16384",
        "max_user_watches": "8192",
        "max_user_trees": "128",
        "max_user_instances": "128",
        "max_user_connections": "256",
        "max_waiting_requests": "256",
    }
    done = fusenotify("limits", "--json", mounted.mountpoint)
    as_json = json.loads(done.stdout)
    assert {name: str(as_json[name]) for name in shown} == shown
    assert {*as_json} - {*shown} == {"max_request_bytes", "max_answer_bytes"}


@pytest.mark.mount
def test_a_new_limit_is_in_status_at_once_and_the_others_are_unchanged(mounted: Mounted) -> None:
    done = fusenotify("limits", mounted.mountpoint, "--max-user-watches", "5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (report,) = json.loads(fusenotify("status", "--json", mounted.mountpoint).stdout)
    assert [report["limits"][name] for name in _NAMES] == [16384, 5, 128, 128]
    arguments = [f"--{name.replace('_', '-')}={value}" for value, name in enumerate(_NAMES)]
    done = fusenotify("limits", mounted.mountpoint, "--json", *arguments)
    assert [json.loads(done.stdout)[name] for name in _NAMES] == [0, 1, 2, 3]


@pytest.mark.mount
def test_a_limit_below_what_is_in_use_refuses_only_what_is_new(mounted: Mounted) -> None:
    for name in "abc":
        os.mkdir(f"{mounted.mountpoint}/{name}")
    with mounted.client() as client, client.init(nonblock=True) as device:
        device.add_watch("a", IN_CREATE)
        device.add_watch("b", IN_CREATE, tree=True)
        assert client.set_limits(max_user_watches=1, max_user_trees=0).max_user_watches == 1
        device.add_watch("a", IN_CREATE)  # it is there
        with pytest.raises(OSError, match="max_user_watches = 1") as refused:
            device.add_watch("c", IN_CREATE)
        assert refused.value.errno == errno.ENOSPC
        client.set_limits(max_user_watches=3)
        with pytest.raises(OSError, match="max_user_trees = 0"):
            device.add_watch("c", IN_CREATE, tree=True)
        device.add_watch("c", IN_CREATE)
        for name in "abc":
            os.mkdir(f"{mounted.mountpoint}/{name}/x")
        client.sync()
        assert len(list(unpack(device.read()))) == 3
        client.set_limits(max_user_instances=1)
        with pytest.raises(OSError, match="max_user_instances = 1") as refused:
            client.init()
        assert refused.value.errno == errno.EMFILE


@pytest.mark.mount
def test_a_device_keeps_the_queue_that_it_was_made_with(mounted: Mounted) -> None:
    with mounted.client() as client, client.init(nonblock=True) as earlier:
        client.set_limits(max_queued_events=2)
        with client.init(nonblock=True) as later:
            for device in (earlier, later):
                device.add_watch("/", IN_CREATE)
            for name in "abcd":
                os.mkdir(f"{mounted.mountpoint}/{name}")
            client.sync()
            assert len(list(unpack(earlier.read()))) == 4
            assert [event.wd for event in unpack(later.read())] == [1, 1, -1]


@pytest.mark.mount
def test_another_user_sees_them_and_may_not_set_them(public_path: Path, nobody: User) -> None:
    for name in ("source", "mnt"):
        (public_path / name).mkdir()
    with package.mounted(
        public_path / "source", public_path / "mnt", options=["allow_other"]
    ) as mount:
        command = [nobody.python, "-m", "fusenotify", "limits", mount.mountpoint]
        assert "max_user_watches" in nobody.run(*command).stdout
        done = nobody.run(*command, "--max-user-watches", "9000")
        assert "only root and the daemon's user may set the mount's limits" in done.stderr
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        with Client(mount.socket) as client:
            assert client.limits().max_user_watches == 8192


@pytest.mark.mount
def test_an_ordinary_user_sets_those_of_the_own_mount(public_path: Path, nobody: User) -> None:
    for name in ("source", "mnt"):
        (public_path / name).mkdir()
        os.chown(public_path / name, nobody.uid, nobody.uid)
    program = (
        'run="$1 -m fusenotify"; $run mount "$2/source" "$2/mnt" || exit\n'
        '$run limits "$2/mnt" --max-user-trees 7; $run limits "$2/mnt"; $run unmount "$2/mnt"'
    )
    done = nobody.run_with_fuse("sh", "-c", program, "sh", nobody.python, public_path)
    assert done.stderr == ""
    assert dict(line.split()[:2] for line in done.stdout.splitlines())["max_user_trees"] == "7"


@pytest.mark.parametrize("option", [f"--{name.replace('_', '-')}" for name in _NAMES])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-1", "'-1' is not a whole number of 0 or more"),
        ("many", "'many' is not a whole number of 0 or more"),
        ("1.5", "'1.5' is not a whole number of 0 or more"),
        ("", "'' is not a whole number of 0 or more"),
        ("2147483648", "'2147483648' is more than 2147483647"),
        ("9" * 5000, "is more than 2147483647"),
    ],
    ids=["negative", "a word", "a fraction", "nothing", "beyond an int", "huge"],
)
def test_bad_numbers_are_wrong_usage(option: str, value: str, message: str) -> None:
    done = fusenotify("limits", "/", option, value)
    assert done.stderr.startswith("usage: fusenotify limits")
    assert f"argument {option}: " in done.stderr
    assert message in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "the following arguments are required: MNT", id="no mount"),
        pytest.param(["/", "/"], "unrecognized arguments: /", id="two mounts"),
        pytest.param(["/", "--max-user-watches"], "expected one argument", id="no number"),
        pytest.param(["/", "--max-user-connections", "3"], "unrecognized arguments", id="a quota"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], message: str) -> None:
    done = fusenotify("limits", *arguments)
    assert message in done.stderr
    assert done.returncode == 2


def test_a_path_that_is_not_a_mount_is_refused_by_name(tmp_path: Path) -> None:
    done = fusenotify("limits", tmp_path)
    assert done.stderr.startswith(f"fusenotify: {tmp_path}: it is on ")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_a_daemon_that_does_not_know_the_request_is_status_1(tmp_path: Path) -> None:
    with older_daemon(tmp_path, "Invalid value 'limits' - at `$.type`") as path:
        done = fusenotify("limits", tmp_path, env={"FUSENOTIFY_SOCKET": path})
    assert done.stderr == (
        "fusenotify: Invalid value 'limits' - at `$.type`; is the daemon of another release?\n"
    )
    assert done.returncode == 1
