# SPDX-License-Identifier: GPL-2.0-or-later
"""A model kept by the records of a tree watch is the tree; tests.trees.mirror runs longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusenotify.bits import IN_CREATE
from fusenotify.events import Event
from tests.conftest import User
from tests.trees.mirror import Mirror, mirrored

pytestmark = pytest.mark.mount


def test_the_model_is_the_tree_after_each_round(tmp_path: Path) -> None:
    with mirrored(tmp_path) as mirror:
        rounds = [mirror.round(seed) for seed in range(15)]
    assert sum(each.records for each in rounds) > 500
    assert not any(each.overflowed for each in rounds)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hears of a whole filesystem")
@pytest.mark.parametrize("storms", ["source", "both"])
def test_the_model_is_the_tree_where_it_is_changed_behind_the_mount(
    tmp_path: Path, storms: str
) -> None:
    with mirrored(tmp_path, storms=storms, behind="all") as mirror:
        rounds = [mirror.round(seed) for seed in range(12)]
    assert sum(each.records for each in rounds) > 400


@pytest.mark.parametrize("storms", ["source", "both"])
def test_an_ordinary_user_has_a_model_of_the_directories_that_are_known(
    nobody: User, storms: str
) -> None:
    options = ["--behind", "watched", "--changes", "files", "--storms", storms]
    ran = nobody.run_with_fuse(
        *(nobody.python, "-m", "tests.trees.mirror"), *options, "--rounds", "10", "--seed", "1"
    )
    assert ran.stderr == ""
    assert "10 rounds" in ran.stdout
    assert "0 rounds with an overflow" in ran.stdout


def test_with_a_short_queue_an_overflow_says_when_to_list_again(tmp_path: Path) -> None:
    with mirrored(tmp_path, queue=128) as mirror:
        rounds = [mirror.round(seed) for seed in range(15)]
    assert {each.overflowed for each in rounds} == {True, False}


def test_a_record_that_is_missing_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Mirror._records

    def all_but_the_last_made(mirror: Mirror) -> list[Event]:
        found = records(mirror)
        made = [number for number, record in enumerate(found) if record.mask & IN_CREATE]
        del found[made[-1]]
        return found

    monkeypatch.setattr(Mirror, "_records", all_but_the_last_made)

    def mirror_on() -> None:
        for seed in range(20):  # another process may have replaced what was made last
            mirror.round(seed)

    with mirrored(tmp_path) as mirror, pytest.raises(AssertionError):
        mirror_on()
