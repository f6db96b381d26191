# SPDX-License-Identifier: GPL-2.0-or-later
"""A smaller form of ``python -m tests.programs``, and proof that it sees differences."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs import material
from tests.programs.comparison import compared
from tests.programs.programs import PROGRAMS
from tests.programs.trees import described, differences

SIZE = 200

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what is compared has many owners")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("git", "tar"):
        if shutil.which(needed) is None:
            pytest.skip(f"there is no {needed}")
    directory = tmp_path_factory.mktemp("material")
    material.make(directory, SIZE)
    return directory


@pytest.mark.mount
@pytest.mark.parametrize("name", PROGRAMS)
def test_does_the_same_through_a_watched_mount(
    name: str, generated: Path, public_path: Path
) -> None:
    program = PROGRAMS[name]
    if shutil.which(program.needs) is None:
        pytest.skip(f"there is no {program.needs}")
    result = compared(program, generated, SIZE, public_path)
    assert result.differences == []


def one_more_byte(top: Path) -> None:
    with open(top / "sparse", "r+b") as file:
        file.write(b"x")


def a_link_of_its_own(top: Path) -> None:
    (top / "hard-a").unlink()
    shutil.copy2(top / "hard-long", top / "hard-a")


def without_holes(top: Path) -> None:
    status = (top / "sparse").stat()
    (top / "sparse").write_bytes((top / "sparse").read_bytes())
    os.utime(top / "sparse", ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: list[tuple[Callable[[Path], object], str]] = [
    (one_more_byte, "content"),
    (a_link_of_its_own, "same_as"),
    (without_holes, "has_holes"),
    (lambda top: (top / "plain").chmod(0o711), "mode"),
    (lambda top: os.chown(top / "symlink-1", 5, -1, follow_symlinks=False), "uid"),
    (lambda top: os.removexattr(top / "plain", "user.directory"), "xattrs"),
    (lambda top: os.removexattr(top / "acl", "system.posix_acl_default"), "xattrs"),
    (lambda top: os.utime(top / "fifo", ns=(1, 1)), "mtime_ns"),
    (lambda top: (top / "new").touch(), "only through the mount"),
    (lambda top: (top / "null").unlink(), "only natively"),
]


@pytest.mark.parametrize(
    ("change", "seen"), CHANGES, ids=[f"{n}: {c[1]}" for n, c in enumerate(CHANGES)]
)
def test_a_difference_is_seen(
    change: Callable[[Path], object], seen: str, generated: Path, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        subprocess.run(["cp", "-a", generated / "everything", tmp_path / name], check=True)
    expected = described(str(tmp_path / "one"))
    assert differences(expected, described(str(tmp_path / "other")), times=True) == []
    change(tmp_path / "other")
    lines = differences(expected, described(str(tmp_path / "other")), times=True)
    assert any(seen in line for line in lines)
