# SPDX-License-Identifier: GPL-2.0-or-later
"""Real mounts of temporary trees, and the reason if mounts are impossible.

Above is the pytest plugin; below are fusenotify.mounted, which starts and ends
the daemon, and the client.  Modules that they need are imported when a mount is
made.

Invariant
    After the with block of temporary_mount() nothing is mounted, and its
    clients and devices are closed, whatever happened in the block.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from fusenotify.mounting.mounted import Mounted, mounted
from fusenotify.testing import register
from fusenotify.testing.device import MountDevice
from fusenotify.testing.faults import Faults
from fusenotify.testing.marker import MountSettings, no_faults, with_the_marker
from fusenotify.testing.patience import within

if TYPE_CHECKING:
    from fusenotify.client import Client
    from fusenotify.protocol.details import DetailedEvent

# How many operations a mount remembers, for the report of a failed test.
REMEMBERED = 1000
# How many seconds a report waits for the daemon.
REPORT_SECONDS = 3.0
_CAP_SYS_ADMIN = 1 << 21


class TemporaryMount:
    """A mount that belongs to the test alone.

    path is the mount point, in which programs work.  source is the directory that
    the mount shows; changes made there directly are not reported.  socket and pid
    are the daemon's.  name is for messages.  is_shared says that tests share the mount.
    The mount can be used as its path: ``mount / "a"``, ``os.listdir(mount)``.
    """

    def __init__(
        self, mount: Mounted, closing: contextlib.ExitStack, has_faults: bool = False
    ) -> None:
        self.path = Path(mount.mountpoint)
        self.name = f"the mount at {self.path}"
        self.source = Path(mount.source)
        self.socket = mount.socket
        self.pid = mount.pid
        self._closing = closing
        self._mount = mount
        self.is_shared = False
        self._has_faults = has_faults
        self._made = 0
        self._activity: tuple[DetailedEvent, ...] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}>"

    def __fspath__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str | os.PathLike[str]) -> Path:
        """Return the path of a name in the mount."""
        return self.path / name

    def client(self) -> Client:
        """Return a new connection, which is closed with the mount, if not earlier."""
        return self._closing.enter_context(self._mount.client())

    def device(
        self,
        *,
        max_queued_events: int | None = None,
        semantics: str | None = None,
        detailed: bool = False,
    ) -> MountDevice:
        """Return a new device on a connection of its own, closed with the mount, if not earlier.

        Its settings default to the mount's.  A detailed device reports a rename as
        one event.

        Raises OSError: EMFILE (max_user_instances), EINVAL, EPERM (a queue
        longer than the mount's).
        """
        try:
            device = MountDevice(
                self, self.path, self.client(), max_queued_events, semantics, detailed
            )
        except OSError as refusal:
            raise with_the_marker(refusal) from None
        register.enter(device)
        return self._closing.enter_context(device)

    def sync(self) -> None:
        """Wait until the events of everything done before are queued, on all devices."""
        self._control.sync()

    @property
    def faults(self) -> Faults:
        """The faults that a test may cause, if the mount's settings say faults=True.

        Raises PermissionError if they do not.
        """
        if not self._has_faults:
            raise no_faults(self.name, self.is_shared)
        return Faults(self._control)

    @functools.cached_property
    def _control(self) -> Client:
        """A connection without devices."""
        return self.client()

    def activity(self, since: int = 0) -> tuple[DetailedEvent, ...]:
        """Return the operations in the mount since a time (ns since 1970), whoever did them.

        The mount remembers the latest REMEMBERED operations.  They are as of
        Client.activity(), also after the mount ended.

        Raises OSError: TimeoutError if the daemon does not answer.
        """
        if self._activity is None:
            with self._mount.client() as client:
                return within(REPORT_SECONDS, client.close, partial(client.activity, since))
        return tuple(event for event in self._activity if event.time >= since)

    def begin(self) -> None:
        """Note that another test begins."""

    def about_to_end(self) -> None:
        """Keep the operations, for the report of a test that fails in its teardown."""
        register.leave(self)
        with contextlib.suppress(OSError):
            self._activity = self.activity()

    def fresh_directory(self) -> Path:
        """Return a new empty directory in the mount, for a test that shares the mount."""
        self._made += 1
        made = self.path / f"fresh-{self._made}"
        made.mkdir()
        return made


@contextlib.contextmanager
def temporary_mount(
    directory: str | os.PathLike[str], **settings: Unpack[MountSettings]
) -> Iterator[TemporaryMount]:
    """Make ``source`` and ``mnt`` in directory, and mount one at the other during the with block.

    settings are those of fusenotify.mounted().  With allow_other or allow_root
    among the options, the two are made in the system's directory for temporary
    files instead, where other users can reach them, and are removed at the end.

    Raises MountFailed.
    """
    shared = {"allow_other", "allow_root"} & {*settings.get("options", ())}
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(_public_directory()) if shared else directory)
        for name in ("source", "mnt"):
            (top / name).mkdir(exist_ok=True)
        mount = stack.enter_context(
            mounted(top / "source", top / "mnt", activity=REMEMBERED, **settings)
        )
        closing = stack.enter_context(contextlib.ExitStack())
        made = TemporaryMount(mount, closing, settings.get("faults", False))
        register.enter(made)
        closing.callback(made.about_to_end)
        yield made


@functools.cache
def why_no_mounts() -> str:
    """Return what is missing for real mounts, or "".  It is found out once per process."""
    from fusenotify.mounting.checks import check_fuse
    from fusenotify.mounting.failure import Failure
    from fusenotify.mounting.spawn import environment

    try:
        check_fuse(())
    except Failure as failure:
        return str(failure)
    if not os.geteuid() and not _may_mount():
        return "root needs CAP_SYS_ADMIN here (to a container: --cap-add SYS_ADMIN)"
    # In a process of its own, in which it is imported as in the daemon; this process does not
    # need it.
    code = "from fusenotify.mounting.checks import check_pyfuse3 as c; c()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.returncode:
        return ""
    last_line = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
    return last_line.removeprefix("fusenotify.mounting.failure.Failure: ")


def _may_mount() -> bool:
    with open("/proc/self/status") as lines:
        (capabilities,) = (int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return bool(capabilities & _CAP_SYS_ADMIN)


@contextlib.contextmanager
def _public_directory() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="fusenotify-")
    try:
        os.chmod(path, 0o755)  # noqa: S103
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
