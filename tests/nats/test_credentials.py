# SPDX-License-Identifier: GPL-2.0-or-later
"""A file with credentials lets in where the operator signed it; anything else is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fusenotify import Mounted
from tests.cli.command import fusenotify, until
from tests.nats.credentials import settings_and_credentials
from tests.nats.servers import NATS_SERVER
from tests.nats.test_many_machines import kept, objects, program, running

__all__ = ["kept"]

SEED = "-----BEGIN USER NKEY SEED-----\n"


def refusal(credentials: Path) -> str:
    """Return what a subscriber says, which needs no server for it."""
    server = ["--from", "nats://127.0.0.1:1"]
    done = fusenotify("subscribe", *server, "--credentials", credentials)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.skipif(NATS_SERVER is None, reason="nats-server is not installed")
@pytest.mark.mount
def test_a_publisher_and_a_subscriber_with_credentials_are_let_in_and_others_are_not(
    kept: Mounted, tmp_path: Path
) -> None:
    mine, others, printed = tmp_path / "mine", tmp_path / "others", tmp_path / "printed"
    settings_and_credentials(others)
    with running(tmp_path / "nats", settings_and_credentials(mine)) as server:
        publish = ["publish", kept.mountpoint, "--to", server.url]
        without: list[str | Path] = []
        for arguments in (without, ["--credentials", others]):
            done = fusenotify(*publish, *arguments)
            assert (done.returncode, "refuses these credentials" in done.stderr) == (1, True)
        subscribe = ["subscribe", "--from", server.url, "--json", "--since", "1"]
        with (
            program(*publish, "--credentials", mine, output=tmp_path / "said"),
            program(*subscribe, "--credentials", mine, output=printed),
        ):
            os.mkdir(f"{kept.mountpoint}/d")
            until(lambda: bool(objects(printed)), "it is published")


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda text: text.partition(SEED)[0],
        lambda text: SEED + text.partition(SEED)[2],
        lambda text: text.replace(SEED + "SU", SEED + "SX"),
        lambda text: text.replace(SEED, SEED + "\n"),
        lambda text: text[:-60],
    ],
    ids=["nothing", "no seed", "no token", "another seed", "an empty line", "cut off"],
)
def test_what_has_no_credentials_is_refused(tmp_path: Path, change: Callable[[str], str]) -> None:
    file = tmp_path / "credentials"
    settings_and_credentials(file)
    file.write_text(change(file.read_text()))
    assert refusal(file) == f"fusenotify: {file} has no credentials such as nsc makes\n"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert refusal(tmp_path / "fifo").endswith("fifo is not a regular file\n")
    assert refusal(tmp_path / "gone").endswith("gone: No such file or directory\n")
