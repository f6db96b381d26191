# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests share: real mounts, and other users' processes.

Tests that mount carry the ``mount`` marker; where mounting is impossible they
are skipped, with the reason.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fusenotify
from fusenotify import Mounted

REPOSITORY = Path(fusenotify.__file__).parent.parent
NOBODY = 65534

Mounting = Callable[..., contextlib.AbstractContextManager[Mounted]]


def why_no_mounts() -> str:
    """Return what is missing for real mounts, or nothing."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if shutil.which("fusermount3") is None:
        return "there is no fusermount3 (Debian package fuse3)"
    for module in ("trio", "pyfuse3"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{module} cannot be imported: {error}"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_no_mounts()
    if reason:
        for item in items:
            if item.get_closest_marker("mount"):
                item.add_marker(pytest.mark.skip(reason=f"cannot mount: {reason}"))


@pytest.fixture
def mounting(tmp_path: Path) -> Mounting:
    """A fresh source and mount point, and what mounts them: ``with mounting(**settings)``."""
    (tmp_path / "source").mkdir(exist_ok=True)
    (tmp_path / "mnt").mkdir(exist_ok=True)

    def mount(**settings: Any) -> contextlib.AbstractContextManager[Mounted]:
        return fusenotify.mounted(tmp_path / "source", tmp_path / "mnt", **settings)

    return mount


@pytest.fixture
def mounted(mounting: Mounting) -> Iterator[Mounted]:
    """A real mount with default settings, of an empty directory."""
    with mounting() as mount:
        yield mount


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A directory that other users may reach, as tmp_path is not."""
    path = Path(tempfile.mkdtemp(prefix="fusenotify-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


class User:
    """Another user, in whose name programs run."""

    def __init__(self, uid: int, python: str) -> None:
        self.uid = uid
        self.python = python

    def run(self, *command: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its environment finds this project's modules."""
        environment = _modules() | settings.pop("env", {})
        return subprocess.run(
            [str(word) for word in command],
            user=self.uid,
            group=self.uid,
            extra_groups=[],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            **settings,
        )


def _modules() -> dict[str, str]:
    purelib = sysconfig.get_path("purelib")
    return {"PYTHONPATH": f"{REPOSITORY}:{purelib}", "PATH": os.environ["PATH"]}


@pytest.fixture
def nobody() -> User:
    """A user who is not root, with a Python that may import what the tests import."""
    if os.geteuid():
        pytest.skip("only root can run programs as another user")
    version = "python{}.{}".format(*sys.version_info)
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        user = User(NOBODY, python)
        try:
            if not user.run(python, "-c", "import fusenotify.client, pyfuse3, trio").returncode:
                return user
        except OSError:
            continue  # not there, or in a directory closed to others
    pytest.skip("no Python that an ordinary user may run finds the tests' modules")
