# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: one mount, its engine and its server in one process.

Above is cli.mount, which has had the settings checked; below are fs and server,
which know nothing of each other.  This is the only module that sees both.

Invariants
    The socket is bound before the mount shows, so that who finds the mount
        can connect, and it is unlinked when the mount is gone.
    However the mount ends (a signal, umount, the end of who asked for it),
        every watch hears IN_UNMOUNT and IN_IGNORED, and clients have
        DRAIN_SECONDS to take them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import trio

from fusenotify.engine.core import Core
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.policy import semantics
from fusenotify.fs.mount import Mount, MountError
from fusenotify.mounting.failure import Failure
from fusenotify.mounting.options import for_fuse
from fusenotify.mounting.settings import Settings
from fusenotify.mounting.signals import EndSignals
from fusenotify.server import Server
from fusenotify.server.listener import bind_socket

# How long open files may hold up an unmount that a signal asked for.
GRACE_SECONDS = 2.0
# How long clients may take to read their last events.
DRAIN_SECONDS = 2.0


def run(
    settings: Settings,
    signals: EndSignals,
    announce: Callable[[], None],
    until_eof: int | None = None,
) -> None:
    """Mount, serve until unmounted, and clean up.

    announce is called once, when the mount answers.  until_eof is a descriptor
    whose end of file asks for the end, as a signal does.  Where a signal came already,
    nothing is mounted.

    Raises Failure, OSError; then nothing is mounted and no socket is left.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if signals.count:
        return
    try:
        trio.run(_run, settings, signals, announce, until_eof)
    except MountError as error:
        raise Failure(str(error)) from error


async def _run(
    settings: Settings,
    signals: EndSignals,
    announce: Callable[[], None],
    until_eof: int | None,
) -> None:
    core = Core()
    table = DeviceTable(core, settings.limits, semantics(settings.semantics))
    mount = Mount(
        settings.source,
        settings.mountpoint,
        core,
        options=for_fuse(settings.options),
        reserved_xattr=os.fsencode(settings.socket),
        view=settings.view,
        exact_access=settings.access == "exact",
        poll_seconds=settings.poll * 1e-6,
    )
    server = Server(
        table,
        mount,
        mountpoint=os.fsencode(settings.mountpoint),
        source=os.fsencode(settings.source),
        admission=settings.admission,
        quotas=settings.quotas,
        faults=settings.faults,
    )
    listener = bind_socket(settings.socket, settings.socket_mode)
    try:
        mount.open()
    except BaseException:
        os.unlink(settings.socket)
        raise
    async with trio.open_nursery() as clients:
        clients.start_soon(server.serve, listener)
        try:
            async with trio.open_nursery() as helpers:
                helpers.start_soon(_end_on_signal, mount, signals)
                if until_eof is not None:
                    helpers.start_soon(_end_on_eof, mount, until_eof)
                helpers.start_soon(_announce_when_it_answers, settings.mountpoint, announce)
                await mount.serve()
                helpers.cancel_scope.cancel()
        finally:
            mount.close()  # tells the watches, for the server to drain
            # Before the drain: the next daemon for this mount point need not wait.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(settings.socket)
        await server.drain(DRAIN_SECONDS)
        clients.cancel_scope.cancel()


async def _announce_when_it_answers(mountpoint: str, announce: Callable[[], None]) -> None:
    """Ask the mount for its root, as any program does, and say that it answered."""
    try:
        # In a thread, because the answer comes from this one.
        await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
    except OSError:
        return  # unmounted already: who waits for the announcement sees the daemon end
    announce()


async def _end_on_signal(mount: Mount, signals: EndSignals) -> None:
    await signals.wait_for(1)
    await mount.detach()
    with trio.move_on_after(GRACE_SECONDS):
        await signals.wait_for(2)  # a second one is impatient
    mount.terminate()


async def _end_on_eof(mount: Mount, descriptor: int) -> None:
    await trio.lowlevel.wait_readable(descriptor)
    await mount.detach()
    await trio.sleep(GRACE_SECONDS)
    mount.terminate()
