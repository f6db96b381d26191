# SPDX-License-Identifier: GPL-2.0-or-later
"""Each object has a number of its own, and is found by it and by st_dev and st_ino."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusenotify.fs.index import LAST_PLACE, OTHERS, PLACE_BITS, ROOT_NUMBER, Index
from tests.conftest import Mounting

DEVICE = 7
# What once led to one number for two objects, and what stands at the ends of the ranges.
NUMBERS = [0, 1, 2, (1 << 56) + 2, (2 << 56) + 1, (1 << PLACE_BITS) - 1, 1 << PLACE_BITS]
NUMBERS += [OTHERS - 1, OTHERS, OTHERS + 2, OTHERS + (1 << PLACE_BITS) + 2, (1 << 64) - 1]


@dataclass(eq=False)
class Known:
    device: int
    ino: int
    number: int = 0


def added(index: Index[Known], device: int, ino: int) -> Known:
    known = Known(device, ino, index.new_number(device, ino))
    index.add(known)
    return known


pairs = st.tuples(
    st.sampled_from([DEVICE, *range(100, 104)]),
    st.sampled_from(NUMBERS) | st.integers(min_value=0, max_value=9),
)


@given(st.lists(st.tuples(pairs, st.sampled_from(["know", "know", "forget", "replace"]))))
def test_no_two_have_one_number_and_each_is_found(
    steps: list[tuple[tuple[int, int], str]],
) -> None:
    index: Index[Known] = Index(DEVICE)
    index.add(Known(DEVICE, 2, ROOT_NUMBER))
    here = {(DEVICE, 2): index.by_number[ROOT_NUMBER]}
    gone: list[Known] = []
    for pair, what in steps:
        known = here.get(pair)
        assert index.find(*pair) is known
        if known is None:
            here[pair] = added(index, *pair)
        elif known.number == ROOT_NUMBER:
            continue
        elif what == "forget":
            index.remove(here.pop(pair))
        elif what == "replace":
            index.superseded(known)
            gone.append(known)
            here[pair] = added(index, *pair)
        assert all(0 < number < 1 << 64 for number in index.by_number)
        assert {id(known) for known in index.by_number.values()} == {
            id(known) for known in [*here.values(), *gone]
        }
    for known in [*gone, *here.values()]:
        assert index.by_number[known.number] is known
        index.remove(known)
    assert not index.by_number
    assert not index._others  # nothing is kept of what is not known


def test_numbers_are_those_of_the_disk_and_stay_the_same_elsewhere() -> None:
    index: Index[Known] = Index(DEVICE)
    for _ in range(2):
        known = [added(index, DEVICE, 12), added(index, DEVICE, (1 << 56) + 2)]
        assert [each.number for each in known] == [each.ino for each in known]
        known += [added(index, device, 12) for device in range(100, 104)]
        numbers = [each.number for each in known]
        for each in known:
            index.remove(each)
    assert [added(index, each.device, each.ino).number for each in known] == numbers


def test_more_filesystems_than_have_a_place() -> None:
    index: Index[Known] = Index(DEVICE)
    for device in range(LAST_PLACE + 10):
        added(index, 100 + device, 5)
    assert len(index.by_number) == LAST_PLACE + 10


@pytest.fixture
def numbered(tmp_path: Path, mounting: Mounting) -> Iterator[Path]:
    """The source of a mount: a disk with files of NUMBERS, and a tmpfs in it with some, too."""
    if os.geteuid():
        pytest.skip("only root mounts other filesystems")
    source = tmp_path / "source"
    script = Path(__file__).with_name("numbered_disk.py")
    wanted = [str(number) for number in NUMBERS if number > ROOT_NUMBER]
    command = [sys.executable, str(script), str(source), *wanted]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as disk:
        assert disk.stdout is not None
        assert disk.stdout.readline() == b"ready\n"
        inner = source / "others"
        subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=True)
        for number in range(8):
            (inner / str(number)).write_text(f"inner {number}")
        yield source
        subprocess.run(["umount", inner], check=True)
        subprocess.run(["fusermount3", "-u", source], check=True)


@pytest.mark.mount
def test_a_read_returns_the_named_object_whatever_its_number(
    numbered: Path, mounting: Mounting
) -> None:
    inner = numbered / "others"
    assert inner.stat().st_ino == 1
    assert {2, 5} <= {path.stat().st_ino for path in inner.iterdir()}
    with mounting() as mount:
        top = Path(mount.mountpoint)
        paths = [top / "others" / path.name for path in inner.iterdir()]
        expected = {path: f"inner {path.name}" for path in paths}
        expected |= {top / str(number): str(number) for number in NUMBERS if number > ROOT_NUMBER}
        for _ in range(2):
            assert {path: path.read_text() for path in expected} == expected
        numbers = {path.stat().st_ino for path in [*expected, top, top / "others"]}
        assert len(numbers) == len(expected) + 2
