# SPDX-License-Identifier: GPL-2.0-or-later
"""Some rounds of an ordinary user who means harm, and that harm is found where it is done."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import rounds, users
from tests.hostile.context import CALLS
from tests.hostile.program import Step, programs_of, settings_of
from tests.hostile.world import Settings, World, world

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run programs as other users"),
]


@pytest.fixture
def place() -> Iterator[World]:
    with users.two_users() as (attacker, victim), world(Settings(), attacker, victim) as made:
        yield made


def test_each_call_of_the_attacker_harms_nobody(place: World) -> None:
    calls = sorted(set(CALLS) - _LONG)
    programs = [[Step(name, 1) for name in calls[start::3]] for start in range(3)]
    report = rounds.run(place, programs, rounds.Held.by(place), seconds=6.0)
    assert report.problems + report.broken == []
    assert report.calls > len(calls) / 2


def stay(writing: int) -> None:
    """Be a process that ends by SIGKILL only."""
    os.write(writing, b"there")
    time.sleep(600)


# They take seconds each, and tests of their own have what they do.
_LONG = {"kill_in_mid_request", "many_processes", "flood_of_fsync", "deep_tree", "many_links"}


def test_rounds_are_drawn_by_their_seed_and_number() -> None:
    assert programs_of(7, 3) == programs_of(7, 3) != programs_of(7, 4)
    assert {step.call for step in programs_of(7, 3, ["leases"])[0]} == {"leases"}
    assert settings_of(7, 0) == Settings()
    assert len({settings_of(7, 10 * number) for number in range(20)}) > 5
    for number in range(20):
        settings = settings_of(7, 10 * number)
        assert Settings.from_text(str(settings)) == settings


def test_a_changed_file_of_root_is_found(place: World) -> None:
    secret = place.source / "root/secret"
    status = secret.stat()
    secret.write_bytes(secret.read_bytes().replace(b"secret", b"public"))
    os.utime(secret, ns=(status.st_atime_ns, status.st_mtime_ns))
    (found,) = place.damage()
    assert found.startswith("source/root/secret was ")


def test_a_set_uid_file_of_root_and_a_capability_are_found(place: World) -> None:
    for name in ("setuid", "own", "capable"):
        (place.source / "share" / name).touch()
    (place.source / "share/setuid").chmod(0o4755)
    os.chown(place.source / "share/own", place.attacker, place.attacker)
    (place.source / "share/own").chmod(0o4755)
    value = os.getxattr(place.source / "root/capable", "security.capability")
    os.setxattr(place.source / "share/capable", "security.capability", value)
    found = [each.split(":")[0] for each in place.damage()]
    assert sorted(found) == ["./share/capable", "./share/setuid"]


def test_a_daemon_that_hangs_and_one_that_ended_are_found(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.hostile.probe._PATIENCE", 1.0)
    before = rounds.Held.by(place)
    os.kill(place.pid, signal.SIGSTOP)
    report = rounds.run(place, [[]], before, seconds=1.0)
    assert any("another user's" in problem for problem in report.problems)
    os.kill(place.pid, signal.SIGCONT)
    os.kill(place.pid, signal.SIGKILL)
    while place.is_alive():
        time.sleep(0.01)
    report = rounds.run(place, [[]], before, seconds=1.0)
    assert any("the daemon ended" in problem for problem in report.problems)


def test_a_secret_that_the_attacker_read_is_found(place: World) -> None:
    (place.source / "root/secret").chmod(0o644)

    report = rounds.run(
        place, [[Step("use_what_is_foreign", 1)]], rounds.Held.by(place), seconds=3.0
    )
    assert any("read a secret" in problem for problem in report.problems)


def test_a_process_that_is_another_users_is_found(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_PATIENCE", 1.0)
    _, reading = users.fork_as(place.victim, stay)
    assert os.read(reading, 5) == b"there"
    os.close(reading)
    report = rounds.run(place, [[]], rounds.Held.by(place), seconds=1.0)
    (found,) = report.problems
    assert found.endswith(f"of user {place.victim}")


def test_nothing_of_a_world_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with users.two_users() as (attacker, victim):
        settings = Settings(in_place=True, acl=True)
        with world(settings, attacker, victim) as made:
            _, reading = users.fork_as(attacker, stay)
            assert os.read(reading, 5) == b"there"
            os.close(reading)
            assert made.is_alive()
        assert users.processes_of(attacker) == []
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
