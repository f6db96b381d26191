# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: one mount, its engine and its server in one process.

Above is cli.mount, which has had the settings checked; below are fs and server,
which do not use each other.  Only this module uses both.

Invariants
    The socket is bound before the mount is visible, so that clients that find
        the mount can connect; it is unlinked when the mount is gone.
    However the mount ends (by a signal, by umount, by the end of the caller),
        every watch gets IN_UNMOUNT and IN_IGNORED, and clients have
        DRAIN_SECONDS to read them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial

import trio

from fusenotify.engine.activity import Activity, ActivityHooks
from fusenotify.engine.core import Core
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.hooks import Hooks
from fusenotify.engine.policy import semantics
from fusenotify.fs import logged
from fusenotify.fs.behind.in_order import HooksInOrder
from fusenotify.fs.mount import Mount, MountError
from fusenotify.fs.operations import Operations
from fusenotify.fs.syncing import FullySyncedOperations, SyncedOperations
from fusenotify.heard import OFF
from fusenotify.history.journal import Journal
from fusenotify.history.store import Store
from fusenotify.mountinfo import MountId
from fusenotify.mounting.attached import Attached
from fusenotify.mounting.attributes import source_attributes
from fusenotify.mounting.checks import Places
from fusenotify.mounting.failure import Failure, describe
from fusenotify.mounting.mountpoints import State, find, id_of, opened, state_of, take_away
from fusenotify.mounting.options import (
    MS_DIRSYNC,
    MS_SYNCHRONOUS,
    flags_beyond_fuse,
    flags_of,
    for_fuse,
)
from fusenotify.mounting.refused import advice
from fusenotify.mounting.remount import set_flags
from fusenotify.mounting.settings import Settings
from fusenotify.mounting.signals import EndSignals
from fusenotify.server import Server
from fusenotify.server.listener import bind_socket
from fusenotify.socket_file import SocketFile

log = logging.getLogger(__name__)

# How long open files may delay an unmount that a signal asked for.
GRACE_SECONDS = 2.0
# How long clients may take to read their last events.
DRAIN_SECONDS = 2.0


def run(
    settings: Settings,
    places: Places,
    signals: EndSignals,
    announce: Callable[[MountId, str], None],
    ending: Callable[[], None],
    until_eof: int | None = None,
) -> None:
    """Mount, serve until unmounted, and clean up.

    announce is called once, when the mount answers, with the mount's id and the socket's path.
    ending is called at least once when the end begins.  until_eof is a descriptor whose end of
    file ends the mount, as a signal does.  If a signal came before, nothing is mounted.

    Raises Failure, OSError; then nothing is mounted and no socket is left.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if signals.count:
        return
    try:
        trio.run(_run, settings, places, signals, announce, ending, until_eof)
    except MountError as error:
        what_to_do = advice(settings.mountpoint)
        raise Failure(f"{error}: {what_to_do}" if what_to_do else str(error)) from error


async def _run(
    settings: Settings,
    places: Places,
    signals: EndSignals,
    announce: Callable[[MountId, str], None],
    ending: Callable[[], None],
    until_eof: int | None,
) -> None:
    core = Core()
    table = DeviceTable(core, settings.limits, semantics(settings.semantics))
    activity = Activity(settings.activity) if settings.activity else None
    with _bound(settings) as (file, listener), _kept(core, settings) as journal:
        mount = Mount(
            settings.source,
            settings.mountpoint,
            core,
            options=for_fuse(settings.options),
            reserved_xattr=os.fsencode(file.path),
            view=settings.view,
            exact_access=settings.access == "exact",
            poll_seconds=settings.poll * 1e-6,
            operations=_operations(flags_of(settings.options)),
            attributes=source_attributes(settings.options),
            hooks=_hooks(core, settings, activity),
            behind=settings.behind,
            view_alone=settings.view_alone,
        )
        server = Server(
            table,
            mount,
            mountpoint=os.fsencode(settings.mountpoint),
            source=os.fsencode(settings.source),
            admission=settings.admission,
            quotas=settings.quotas,
            faults=settings.faults,
            journal=journal,
            activity=activity,
        )

        def end() -> None:
            if journal is not None:
                journal.ends()
            ending()

        try:
            mount.open(places.source, places.mountpoint)
        except MountError:
            _clean_up_after_fusermount(settings.mountpoint)
            raise
        attached = _attached(mount, places.mountpoint, settings)
        mount.found(attached.mount)
        if journal is not None:
            journal.watch(mount.root)
        async with trio.open_nursery() as clients:
            clients.start_soon(server.serve, listener)
            try:
                async with trio.open_nursery() as helpers:
                    helpers.start_soon(_end_on_signal, mount, attached, signals, end)
                    if until_eof is not None:
                        helpers.start_soon(_end_on_eof, mount, attached, until_eof, end)
                    helpers.start_soon(
                        _announce_when_it_answers,
                        attached,
                        partial(announce, attached.id, file.path),
                    )
                    log.info("%r is mounted at %r", settings.source, settings.mountpoint)
                    log.info("clients are served at %r", file.path)
                    await mount.serve()
                    helpers.cancel_scope.cancel()
            finally:
                log.info("%r is unmounted", settings.mountpoint)
                end()
                mount.close()  # queues the last events, which the server drains
                await _detach(attached)  # needed if an error ended it
                # Before the drain: the next daemon for this mount point need not wait.
                file.remove()
            await server.drain(DRAIN_SECONDS)
            clients.cancel_scope.cancel()
        log.info("the daemon of %r ends", settings.mountpoint)


@contextlib.contextmanager
def _bound(settings: Settings) -> Iterator[tuple[SocketFile, trio.SocketListener]]:
    """Listen at the first of the settings' sockets that no living daemon has; unlink it at the end.

    Raises OSError, as SocketFile and bind_socket(), and Failure if no default socket can be made.
    """
    *others, last = settings.sockets
    for path in [*others, last]:
        with _socket_file(settings, path) as file:
            try:
                listener = bind_socket(file, settings.socket_mode)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and path != last:
                    continue
                raise _without_a_place(settings, error) from error
            try:
                yield file, listener
            finally:
                file.remove()
            return


@contextlib.contextmanager
def _kept(core: Core, settings: Settings) -> Iterator[Journal | None]:
    """Open the journal if the settings have one, and close it at the end, with all entries written.

    Raises OSError, as history.store.Store.
    """
    wanted, path = settings.journal, settings.journal_path
    if wanted is None or path is None:
        yield None
        return
    if wanted.path is None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    source = os.fsencode(settings.source)
    store = Store(os.fsencode(path), source, wanted.bounds, synced=wanted.synced)
    journal = Journal(core, store, mask=wanted.events)
    try:
        yield journal
    finally:
        journal.close()


def _socket_file(settings: Settings, path: str) -> SocketFile:
    try:
        return SocketFile(path, private=settings.wanted_socket is None)
    except OSError as error:
        raise _without_a_place(settings, error) from error


def _without_a_place(settings: Settings, error: OSError) -> Exception:
    """Return the exception to raise for a socket that cannot be made; it may say what to do."""
    if settings.wanted_socket is None and error.errno in (errno.EROFS, errno.EACCES, errno.ENOSPC):
        return Failure(
            f"the socket cannot be made: {describe(error)}; name another place with --socket PATH, "
            "or a directory of yours in XDG_RUNTIME_DIR"
        )
    return error


class _ActivityHooksInOrder(HooksInOrder, ActivityHooks):
    """Hooks that tell changes in order and keep the latest operations."""


def _hooks(core: Core, settings: Settings, activity: Activity | None) -> Hooks:
    """Return the hooks of a mount with these settings."""
    in_order = settings.behind != OFF
    if activity is None:
        return HooksInOrder(core) if in_order else Hooks(core)
    return _ActivityHooksInOrder(core, activity) if in_order else ActivityHooks(core, activity)


def _operations(flags: int) -> type[Operations]:
    """Return the class that answers the requests of a mount with these flags."""
    operations = SyncedOperations if flags & MS_DIRSYNC else Operations
    if flags & MS_SYNCHRONOUS:
        operations = FullySyncedOperations
    return logged.logged(operations) if logged.wanted() else operations


def _clean_up_after_fusermount(mountpoint: str) -> None:
    """Unmount a mount that fusermount3 made but was killed before it could report."""
    left = find(mountpoint)
    # There was no mount before.
    if left is not None and state_of(left) is State.DEAD:
        take_away(id_of(left), lazy=True)


def _attached(mount: Mount, mountpoint: int, settings: Settings) -> Attached:
    """Find a new mount in the kernel's tree; unmount it if it is not where it should be.

    Raises Failure.
    """
    attached = None
    try:
        attached = Attached(mountpoint)
        if not attached.as_wanted:
            raise Failure(f"{mount.mountpoint}: something else was mounted there at the same time")
        if flags_beyond_fuse(settings.options):
            set_flags(attached.mount, flags_of(settings.options))
    except BaseException:
        mount.close()
        if attached is not None:
            take_away(attached.id, lazy=True)
        raise
    finally:
        os.close(mountpoint)
    return attached


async def _announce_when_it_answers(attached: Attached, announce: Callable[[], None]) -> None:
    """Ask the mount for its root, as a program does, and call announce when it has answered."""

    def ask() -> None:
        with opened(attached.mount) as root:
            os.fstat(root)

    try:
        # In a thread, because the answer comes from this one.
        await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
    except (OSError, Failure):
        return  # unmounted already: the waiting caller sees the daemon end
    announce()


async def _end_on_signal(
    mount: Mount, attached: Attached, signals: EndSignals, ending: Callable[[], None]
) -> None:
    await signals.wait_for(1)
    log.info("a signal asks for the end")
    ending()
    await _detach(attached)
    with trio.move_on_after(GRACE_SECONDS):
        await signals.wait_for(2)  # a second signal ends the wait
    mount.terminate()


async def _end_on_eof(
    mount: Mount, attached: Attached, descriptor: int, ending: Callable[[], None]
) -> None:
    await trio.lowlevel.wait_readable(descriptor)
    log.info("the program that asked for the mount has ended")
    ending()
    await _detach(attached)
    await trio.sleep(GRACE_SECONDS)
    mount.terminate()


async def _detach(attached: Attached) -> None:
    """Take the mount out of the tree; it ends when nothing in it is open any more.

    If another mount covers it, it stays, and is dead when the daemon has ended.
    """
    try:
        # In a thread, because stores to mappings are written back first, as requests.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(take_away, attached.id, lazy=True))
    except Failure as failure:
        log.warning("%s; the mount stays", failure)
