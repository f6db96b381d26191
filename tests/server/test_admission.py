# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may connect to a daemon, and how often."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.client import Client
from fusenotify.masks import IN_CREATE
from tests.cli.command import fusenotify as command
from tests.server.acting import User, acting_as

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users"),
]

ROOT = User(0, 0)
ANN = User(4001, 4001)
BEN = User(4002, 4002, (4009,))
CAT = User(4003, 4009)

Open = Callable[..., contextlib.AbstractContextManager[Mounted]]


@pytest.fixture
def opening(public_path: Path) -> Open:
    """Mount where others may reach the socket."""
    source, mountpoint = public_path / "source", public_path / "mnt"
    source.mkdir()
    mountpoint.mkdir()

    def mount(**settings: Any) -> contextlib.AbstractContextManager[Mounted]:
        return fusenotify.mounted(source, mountpoint, socket=public_path / "x.sock", **settings)

    return mount


def connect(user: User, mount: Mounted) -> Client:
    with acting_as(user):
        return Client(mount.socket)


def may_connect(user: User, mount: Mounted) -> bool:
    try:
        connect(user, mount).close()
    except PermissionError:
        return False
    return True


@pytest.mark.parametrize(
    ("settings", "mode", "admitted"),
    [
        pytest.param({}, 0o600, [ROOT], id="private"),
        pytest.param({"options": ["allow_other"]}, 0o666, [ROOT, ANN, BEN, CAT], id="allow_other"),
        pytest.param({"socket_mode": 0o666}, 0o666, [ROOT, ANN, BEN, CAT], id="a mode for all"),
        pytest.param(
            {"options": ["allow_other"], "socket_mode": 0o600}, 0o600, [ROOT], id="a private mode"
        ),
        pytest.param({"allow_users": [4001]}, 0o666, [ROOT, ANN], id="a user"),
        pytest.param({"allow_users": ["root"]}, 0o666, [ROOT], id="a user by name"),
        pytest.param({"allow_groups": [4009]}, 0o666, [ROOT, BEN, CAT], id="a group"),
        pytest.param(
            {"allow_users": [4001, 4003], "allow_groups": [4001]},
            0o666,
            [ROOT, ANN, CAT],
            id="users and a group",
        ),
        pytest.param(
            {"allow_users": [4001], "socket_mode": 0o600}, 0o600, [ROOT], id="a mode is stronger"
        ),
    ],
)
def test_which_users_may_connect(
    opening: Open, settings: dict[str, Any], mode: int, admitted: list[User]
) -> None:
    with opening(**settings) as mount:
        assert os.stat(mount.socket).st_mode & 0o777 == mode
        assert [user for user in (ROOT, ANN, BEN, CAT) if may_connect(user, mount)] == admitted


def test_a_refused_client_is_told_the_reason(opening: Open) -> None:
    with (
        opening(allow_users=[ANN.uid]) as mount,
        pytest.raises(PermissionError, match=r"user 4002 may not connect.*--allow-user"),
    ):
        connect(BEN, mount)


def test_an_admitted_user_watches_with_their_own_permissions(opening: Open) -> None:
    with opening(allow_users=[ANN.uid]) as mount, connect(ANN, mount) as client:
        os.mkdir(mount.source + "/private", mode=0o700)
        device = client.init()
        device.add_watch("/", IN_CREATE)
        with pytest.raises(PermissionError):
            device.add_watch("/private", IN_CREATE)


def test_a_users_connections_have_a_limit_and_roots_have_none(opening: Open) -> None:
    with (
        opening(options=["allow_other"], max_user_connections=3) as mount,
        contextlib.ExitStack() as open_clients,
    ):
        for user, most in ((ANN, 3), (BEN, 3), (ROOT, 5)):
            for _ in range(most):
                open_clients.enter_context(connect(user, mount))
        for user in (ANN, BEN):
            with pytest.raises(OSError, match=f"user {user.uid} has 3 connections already"):
                connect(user, mount)
        (report,) = json.loads(command("status", "--json", mount.mountpoint).stdout)
        assert report["limits"]["max_user_connections"] == 3
        assert [(user["uid"], user["connections"]) for user in report["users"]] == [
            (0, 6),  # status itself is one
            (ANN.uid, 3),
            (BEN.uid, 3),
        ]


def test_waiting_requests_have_the_limit_that_was_asked_for(opening: Open) -> None:
    with opening(max_waiting_requests=0) as mount, mount.client() as client:
        assert client.status().limits.max_waiting_requests == 0
        with pytest.raises(OSError, match="0 requests of this connection wait already"):
            client.init().poll()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--socket-mode=888", "is not a mode"),
        ("--socket-mode=1777", "is not a mode"),
        ("--allow-user=no-such-user", "there is no user 'no-such-user'"),
        ("--allow-group=no-such-group", "there is no group 'no-such-group'"),
        ("--max-user-connections=-1", "is not a whole number"),
    ],
)
def test_bad_settings_are_usage_errors(public_path: Path, option: str, said: str) -> None:
    done = command("mount", option, public_path, public_path)
    assert done.returncode == 2
    assert said in done.stderr
