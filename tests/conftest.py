# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests share: the pytest plugin, real mounts, and other users' processes.

Tests that mount carry the ``mount`` marker, and are skipped where the plugin's
own fixtures would be.  ``mounting`` and ``mounted`` give the mount alone, for
tests of the mount; for tests of what devices hear there are the plugin's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import fusenotify
from fusenotify import Mounted, mountinfo
from fusenotify.mounting.mountpoints import id_of, take_away
from fusenotify.testing import why_no_mounts

REPOSITORY = Path(fusenotify.__file__).parent.parent
NOBODY = 65534
PUBLIC_PREFIX = f"fusenotify-test-{os.getpid()}-"

# Gives an ordinary user /dev/fuse in a mount namespace of the program's own:
# not every machine opens the real one to all.
_WITH_FUSE = """
mknod "$1/fuse" c 10 229 && chmod 666 "$1/fuse" && mount --bind "$1/fuse" /dev/fuse &&
    cd "$1" && eval "$2" && cd / || exit
shift 2
exec "$@"
"""

# Where the project is installed, pytest has found its plugin already.
PLUGIN = [] if entry_points(group="pytest11", name="fusenotify") else ["fusenotify.pytest_plugin"]
pytest_plugins = ["pytester", *PLUGIN]
# The configuration of runs of pytest in tests.  pytest-asyncio warns where it is not configured.
USERS_PYPROJECT = """
[tool.pytest.ini_options]
filterwarnings = ["error"]
addopts = "-p no:asyncio"
"""

# Continuous integration and users set these; programs that a test starts, pytest and mypy among
# them, would then print colours, or lines of another length, or more than they print for everybody
# else, or at another time; or in another language, or warn that the language is not installed; or
# they would take the user's options, or talk to another daemon or to the service manager.
_CHANGE_PROGRAMS = (
    *("CI", "BUILD_NUMBER", "FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "MYPY_FORCE_COLOR"),
    *("PY_COLORS", "PYTEST_ADDOPTS", "PYTHONUNBUFFERED", "COLUMNS", "LINES", "LANG", "LANGUAGE"),
    *("POSIXLY_CORRECT", "FUSENOTIFY_SOCKET", "NOTIFY_SOCKET", "JOURNAL_STREAM"),
    *("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"),
)
for _name in list(os.environ):
    if _name in _CHANGE_PROGRAMS or _name.startswith("LC_"):
        del os.environ[_name]

# Other users are to reach what tests make for them.
os.umask(0o022)

# A shell without job control starts commands in the background with these ignored.  Tests send
# them to this process and to programs that they start, and would wait for ever.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

# How long an example takes is the machine's affair: no test fails for it.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

Mounting = Callable[..., contextlib.AbstractContextManager[Mounted]]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mount") and (reason := why_no_mounts()):
        pytest.skip(f"cannot mount: {reason}")


@pytest.fixture(autouse=True)
def nothing_stays_mounted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Fail a test that leaves a mount, and clean up."""
    if request.node.get_closest_marker("mount") is None:
        yield
        return
    places = (
        os.fsencode(tmp_path_factory.getbasetemp()) + b"/",
        os.fsencode(tempfile.gettempdir()) + b"/" + PUBLIC_PREFIX.encode(),
    )
    before = _our_mounts(places)
    yield
    left = [mount for mount in _our_mounts(places) if mount not in before]
    for mount in reversed(left):
        take_away(id_of(mount), lazy=True)
    assert not left


def _our_mounts(places: tuple[bytes, ...]) -> list[mountinfo.Mount]:
    return [
        mount
        for mount in mountinfo.mounts()
        if mount.fstype == mountinfo.FSTYPE and mount.mountpoint.startswith(places)
    ]


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
    path = Path(tempfile.mkdtemp(prefix=PUBLIC_PREFIX))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


class User:
    """Another user, in whose name programs run."""

    def __init__(self, uid: int, python: str) -> None:
        self.uid = uid
        self.python = python

    def run(
        self, *command: str | Path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its environment finds this project's modules."""
        return self._run(self.as_user(map(str, command)), env or {})

    def run_with_fuse(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Do so where the user may open /dev/fuse; what is mounted is seen only there."""
        with self.with_fuse(*command) as start:
            return self._run(start, {})

    @contextlib.contextmanager
    def with_fuse(self, *command: str | Path, prepare: str = ":") -> Iterator[list[str]]:
        """Yield the command that does so, once root has run a script there."""
        with tempfile.TemporaryDirectory() as device:
            start = ["unshare", "--mount", "sh", "-c", _WITH_FUSE, "sh", device, prepare]
            yield [*start, *self.as_user(map(str, command))]

    def as_user(self, command: Iterable[str]) -> list[str]:
        """Return the command that runs another one in the user's name."""
        setpriv = shutil.which("setpriv")
        assert setpriv is not None
        ids = [f"--reuid={self.uid}", f"--regid={self.uid}"]
        return [setpriv, *ids, "--clear-groups", "--", *command]

    def _run(self, command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=modules() | env,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def modules() -> dict[str, str]:
    """Return an environment in which programs find this project and what it needs."""
    purelib = sysconfig.get_path("purelib")
    return {"PYTHONPATH": f"{REPOSITORY}:{purelib}", "PATH": os.environ["PATH"]}


@pytest.fixture(scope="session")
def nobody() -> User:
    """A user who is not root, with a Python that may import what the tests import."""
    if os.geteuid():
        pytest.skip("only root can run programs as another user")
    user = ordinary_user()
    if user is None:
        pytest.skip("no Python that an ordinary user may run finds the tests' modules")
    return user


def ordinary_user() -> User | None:
    """Return a user who is not root; None if there is no Python for that user."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # The daemon is started by it, so that it must be found by the user, too.
    probe = (
        "import subprocess, sys, fusenotify.client, pyfuse3, trio\n"
        "subprocess.run([sys.executable, '-c', ''], check=True)"
    )
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        user = User(NOBODY, python)
        if not user.run(python, "-c", probe).returncode:
            return user
    return None
