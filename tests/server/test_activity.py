# SPDX-License-Identifier: GPL-2.0-or-later
"""Root and the daemon's user may ask what was done in a mount, where that is remembered."""

from __future__ import annotations

import errno
import os

import pytest

from fusenotify.client import Client
from tests.conftest import Mounting, User

pytestmark = pytest.mark.mount

ASK = """
import sys
from fusenotify.client import Client
with Client(sys.argv[1]) as client:
    try:
        client.activity()
    except OSError as refusal:
        print(refusal.errno, refusal.strerror)
"""


def test_which_users_may_ask(mounting: Mounting, nobody: User) -> None:
    with mounting(activity=10, socket_mode=0o666) as mount, mount.client() as client:
        assert client.activity() == ()
        said = nobody.run(nobody.python, "-c", ASK, mount.socket).stdout
        assert said == "1 only root and the daemon's user may ask what was done in a mount\n"


def test_without_it_there_is_nothing_to_ask_for(mounting: Mounting) -> None:
    with mounting() as mount, mount.client() as client:
        with pytest.raises(PermissionError, match="does not remember what was done") as refused:
            client.activity()
        assert refused.value.errno == errno.EPERM


def test_nothing_else_tells_that_it_is_remembered(mounting: Mounting) -> None:
    seen = []
    for activity in (0, 10):
        with mounting(activity=activity, faults=True, max_user_watches=1) as mount:
            seen.append(what_clients_see(mount.mountpoint, mount.client(), mount.client()))
            if activity:
                with mount.client() as client:
                    assert [event.path for event in client.activity()][-1] == b"c"
    assert seen[0] == seen[1]


def what_clients_see(path: str, watching: Client, other: Client) -> object:
    """Return what a test can ask, with what differs between any two mounts left out."""
    with watching, other:
        before = other.status()
        device = watching.init(nonblock=True, detailed=True)
        device.add_watch("/", "CREATE")
        for name in ("a", "b", "c"):
            with open(f"{path}/{name}", "w"):
                pass
            os.unlink(f"{path}/{name}")
            watching.sync()
        events = [(event.sequence, event.path, event.command) for event in device.read()]
        after = other.status()
        for status in (before, after):
            status.pid = status.id = 0
            status.uptime = 0.0
        return before, after, events, device.number
