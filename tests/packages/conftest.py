# SPDX-License-Identifier: GPL-2.0-or-later
"""The source distribution and the wheel, built once, and what an installer makes of the wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import REPOSITORY


class Built(NamedTuple):
    """The two files, the source distribution unpacked, and a prefix with the wheel installed."""

    sdist: Path
    wheel: Path
    unpacked: Path
    prefix: Path


@pytest.fixture(scope="package")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build from this checkout, the wheel from the source distribution, and install it."""
    top = tmp_path_factory.mktemp("built")
    # Without isolation: the tests' environment has what builds, and nothing is fetched.
    run("build", "--no-isolation", f"--outdir={top / 'dist'}", str(REPOSITORY))
    (sdist,), (wheel,) = (top / "dist").glob("*.tar.gz"), (top / "dist").glob("*.whl")
    run("tarfile", "--extract", str(sdist), str(top))
    prefix = top / "prefix"
    run(
        *("pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"),
        *("--ignore-installed", f"--prefix={prefix}", str(wheel)),
    )
    return Built(sdist, wheel, top / sdist.name.removesuffix(".tar.gz"), prefix)


def run(module: str, *arguments: str) -> str:
    """Run a module of the tests' environment, which must succeed, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stdout
    return done.stdout
