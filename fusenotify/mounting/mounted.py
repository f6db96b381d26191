# SPDX-License-Identifier: GPL-2.0-or-later
"""A mount during a ``with`` block; its daemon is a process of its own.

Programs and tests use it as ``fusenotify.mounted``.  It starts the daemon as
``fusenotify mount`` does (mounting.spawn).  Modules that it needs are imported when
it is called, because every import of fusenotify loads this module.

Invariants
    After the block the daemon has ended and nothing is mounted, even after an
        exception or if this process is killed: the daemon watches a pipe that
        is closed at the end of the process.
    A child of fork() does not hold the pipe, and does not end the daemon when it
        leaves the block.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from fusenotify.client import Client
    from fusenotify.mounting.spawn import Started

# How many seconds a daemon may take to end: its own grace and drain, and some more.
_END_SECONDS = 15.0


class MountFailed(Exception):
    """The daemon did not start, or failed later; the message is the daemon's."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mount: absolute paths, and the daemon's process id."""

    source: str
    mountpoint: str
    socket: str
    pid: int

    def client(self) -> Client:
        """Return a new connection to the daemon, which the caller has to close.

        Raises OSError, as Client.
        """
        from fusenotify.client import Client

        return Client(self.socket)


@contextlib.contextmanager
def mounted(
    source: str | os.PathLike[str],
    mountpoint: str | os.PathLike[str] | None = None,
    *,
    socket: str | os.PathLike[str] | None = None,
    semantics: str | None = None,
    access: str | None = None,
    poll: int | None = None,
    attr_timeout: float | None = None,
    entry_timeout: float | None = None,
    exclusive: bool = False,
    behind: str | None = None,
    max_queued_events: int | None = None,
    max_user_watches: int | None = None,
    max_user_trees: int | None = None,
    max_user_instances: int | None = None,
    max_user_connections: int | None = None,
    max_waiting_requests: int | None = None,
    socket_mode: int | None = None,
    allow_users: Collection[int | str] = (),
    allow_groups: Collection[int | str] = (),
    faults: bool = False,
    journal: str | os.PathLike[str] | None = None,
    activity: int = 0,
    options: Sequence[str] = (),
) -> Iterator[Mounted]:
    """Mount source at mountpoint, or over itself, during the with block.

    The settings and their defaults are those of ``fusenotify mount``.  poll is in
    microseconds, timeouts are in seconds, max_queued_events counts events.  Users
    and groups are names or numbers.  activity is how many operations
    Client.activity() can return.  options are FUSE's, one word each.

    Raises MountFailed on entry if the mount cannot be made, and at the end if the
    daemon failed.  A daemon that was ended by SIGKILL has not failed, since
    somebody wanted that.
    """
    import tempfile

    from fusenotify.mounting.mountpoints import resolve_source
    from fusenotify.mounting.spawn import start_daemon

    source = resolve_source(os.fspath(source))
    mountpoint = source if mountpoint is None else os.path.realpath(mountpoint)
    settings = {
        "--socket": socket,
        "--semantics": semantics,
        "--access": access,
        "--poll": poll,
        "--attr-timeout": attr_timeout,
        "--entry-timeout": entry_timeout,
        "--behind": behind,
        "--max-queued-events": max_queued_events,
        "--max-user-watches": max_user_watches,
        "--max-user-trees": max_user_trees,
        "--max-user-instances": max_user_instances,
        "--max-user-connections": max_user_connections,
        "--max-waiting-requests": max_waiting_requests,
        "--journal": journal,
        "--activity": activity or None,
        "--socket-mode": None if socket_mode is None else f"{socket_mode:o}",
    }
    given = [f"{name}={_text(value)}" for name, value in settings.items() if value is not None]
    given += [f"--allow-user={user}" for user in allow_users]
    given += [f"--allow-group={group}" for group in allow_groups]
    if exclusive:
        given.append("--exclusive")
    if faults:
        given.append("--faults")
    fuse_options = [f"-o{option}" for option in options]
    with tempfile.TemporaryFile() as messages:
        started = start_daemon(
            [*given, *fuse_options, "--", source, mountpoint],
            stderr=messages.fileno(),
            with_lifeline=True,
        )
        assert started.lifeline is not None
        _lifelines.add(started.lifeline)
        try:
            if started.socket is not None:
                yield Mounted(source, mountpoint, started.socket, started.process.pid)
        finally:
            is_ours = started.lifeline in _lifelines
            if is_ours:
                _end(started)
        if is_ours:
            _check_ended_well(started, messages)


def _let_go_of_lifelines() -> None:
    """Close a child's copies of the pipes that daemons watch."""
    while _lifelines:
        with contextlib.suppress(OSError):
            os.close(_lifelines.pop())


# The pipes of the mounts that this process made.
_lifelines: set[int] = set()
os.register_at_fork(after_in_child=_let_go_of_lifelines)


def _text(value: float | str | os.PathLike[str]) -> str:
    return str(value) if isinstance(value, int | float) else os.fspath(value)


def _end(started: Started) -> None:
    """End the daemon, by force if necessary, and leave nothing mounted."""
    import subprocess

    from fusenotify.mounting.failure import Failure
    from fusenotify.mounting.mountpoints import remove_dead_socket, take_away

    process = started.process
    try:
        if started.socket is not None:
            process.terminate()  # a daemon that did not start ends by itself, with a message
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if started.lifeline is not None:
            _lifelines.discard(started.lifeline)
            os.close(started.lifeline)
    if started.mount is not None:
        try:
            take_away(started.mount, lazy=True)
        except Failure as failure:
            raise MountFailed(str(failure)) from failure
    if started.socket is not None:
        remove_dead_socket(started.socket)


def _check_ended_well(started: Started, messages: IO[bytes]) -> None:
    """Raise MountFailed if the daemon did not start or failed later."""
    import signal

    status = started.process.returncode
    if started.socket is not None and status in (0, -signal.SIGKILL):
        return
    messages.seek(0)
    said = messages.read().decode(errors="backslashreplace").strip()
    said = said.removeprefix("fusenotify: ") or f"the daemon ended with status {status}"
    raise MountFailed(said)
