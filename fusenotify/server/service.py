# SPDX-License-Identifier: GPL-2.0-or-later
"""The server of a mount: it accepts connections and runs a session for each.

The daemon starts it; server.session handles one client.

Invariant
    Nothing that a client does, and no bug in a session, ends the server or
    another session.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator
from itertools import count

import trio

from fusenotify.admission import Admission, Quotas
from fusenotify.credentials import Credentials
from fusenotify.engine.activity import Activity
from fusenotify.engine.device import DeviceTable
from fusenotify.history.journal import Journal
from fusenotify.protocol.messages import MAX_READ, ActivityOf, CauseFault, Events, Notify, Status
from fusenotify.server.devices import message_of
from fusenotify.server.faults import Faults
from fusenotify.server.history import History
from fusenotify.server.logged import session_class
from fusenotify.server.peer import credentials, is_privileged, named
from fusenotify.server.session import Session
from fusenotify.server.status import status_for
from fusenotify.server.tree import Tree
from fusenotify.server.turns import Turns

log = logging.getLogger(__name__)

ADMIT_ALL = Admission()
DEFAULT_QUOTAS = Quotas()


class Server:
    """The server of one mount.

    mountpoint and source are absolute paths, which clients see.  faults says that
    clients may cause faults (server.faults); journal is what clients may read, if there is
    one.  activity is what was done in the mount, if that is remembered.
    """

    def __init__(
        self,
        table: DeviceTable,
        tree: Tree,
        *,
        mountpoint: bytes,
        source: bytes,
        admission: Admission = ADMIT_ALL,
        quotas: Quotas = DEFAULT_QUOTAS,
        faults: bool = False,
        journal: Journal | None = None,
        activity: Activity | None = None,
    ) -> None:
        self.table = table
        self.tree = tree
        self.mountpoint = mountpoint
        self.source = source
        self.admission = admission
        self.quotas = quotas
        self._started = time.monotonic()
        self.turns = Turns()
        self.history = None if journal is None else History(journal, tree, self.turns, table)
        # In the order in which they came.
        self._sessions: dict[Session, None] = {}
        self._by_user: dict[int, dict[Session, None]] = {}
        self._faults = Faults(table, self._sessions.keys()) if faults else None
        self._activity = activity
        self._progress = trio.lowlevel.ParkingLot()

    async def serve(self, listener: trio.SocketListener) -> None:
        """Serve all clients that connect, until cancelled; all connections are closed then."""
        if self.history is not None:
            self.history.follow()
        async with trio.open_nursery() as nursery:
            if self._faults is not None:
                nursery.start_soon(self._faults.wake_readers)
            await trio.serve_listeners(self._serve_client, [listener])

    async def drain(self, timeout: float) -> None:
        """Wait until clients have taken all queued events, then close every connection.

        Waits at most timeout seconds.
        """
        with trio.move_on_after(timeout):
            while not all(session.is_drained() for session in self._sessions):
                await self._progress.park()
        for session in self._sessions:
            session.drop()

    def status(self, who: Credentials, request: int) -> Status:
        """Return what a user may see of the mount and its clients; request is the answer's id."""
        # For an ordinary user only the user's own, so that others' sessions cost nothing here.
        sessions = self._sessions if is_privileged(who) else self._by_user.get(who.uid, {})
        return status_for(
            who,
            request,
            table=self.table,
            quotas=self.quotas,
            mountpoint=self.mountpoint,
            source=self.source,
            started=self._started,
            tasks=trio.lowlevel.current_statistics().tasks_living,
            clients=[(session.who, session.devices) for session in sessions],
            heard=self.tree.heard(),
            faults=self._faults,
            history=self.history,
        )

    def device_numbers(self) -> Iterator[int]:
        """Return the iterator from which a connection takes the numbers of its devices.

        With faults it is the same for all connections, so that a number means one device.
        """
        return count(1) if self._faults is None else self._faults.numbers

    async def cause(self, asking: Session, request: CauseFault | Notify) -> None:
        """Cause a fault.

        Raises OSError: EPERM if the mount allows no faults, otherwise as Faults.cause().
        """
        if isinstance(request, Notify):
            if not is_privileged(asking.who):
                raise OSError(errno.EPERM, "only root and the daemon's user may say what changed")
            await self.tree.notify(request.path, request.what)
            return
        if self._faults is None:
            raise OSError(errno.EPERM, "this mount allows no faults: it was not made with --faults")
        self._faults.cause(asking, request)

    async def activity(self, who: Credentials, request: ActivityOf) -> Events:
        """Return what was done in the mount before, the latest of it.

        Raises OSError (EPERM) if the mount does not remember it, or if the client is neither
        root nor the daemon's user.
        """
        if self._activity is None or not is_privileged(who):
            raise OSError(
                errno.EPERM,
                "this mount does not remember what was done in it"
                if self._activity is None
                else "only root and the daemon's user may ask what was done in a mount",
            )
        await self.tree.fence()
        events = self._activity.since(request.since, MAX_READ)
        return Events(id=request.id, events=tuple(map(message_of, events)))

    def progressed(self) -> None:
        """Note that a queue may have become empty.  Sessions call this."""
        if self._progress:
            self._progress.unpark_all()

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        """Run a session; trio closes the stream when it ends."""
        try:
            who = credentials(stream.socket.fileno())
            session = session_class()(self, stream, who)
            try:
                self._check_admitted(who)
                self.tree.client_came(who.uid)
            except OSError as refusal:
                log.info("%s may not connect: %s", named(who), refusal.strerror)
                await session.refuse(refusal.errno or errno.EACCES, refusal.strerror or "")
                await session.end()
                return
            own = self._by_user.setdefault(who.uid, {})
            own[session] = self._sessions[session] = None
            log.info("%s has connected", named(who))
            try:
                with self.turns.connected(who):
                    await session.run()
                    await session.end()  # until this is done the connection counts
            finally:
                del self._sessions[session], own[session]
                if not own:
                    self._by_user.pop(who.uid, None)
                self.tree.client_went(who.uid)
                log.info("%s has gone", named(who))
        except Exception:
            # A bug may cost this client the connection, but must not end the mount.
            log.exception("the connection of a client failed")

    def _check_admitted(self, who: Credentials) -> None:
        """Check that a user may connect.

        Raises OSError: EACCES if the user may not, EMFILE for too many connections.
        """
        if is_privileged(who):
            return
        if not self.admission.admits(who):
            raise OSError(
                errno.EACCES,
                f"user {who.uid} may not connect to this mount: it was mounted only for some "
                "users or groups (--allow-user, --allow-group)",
            )
        most = self.quotas.max_user_connections
        if len(self._by_user.get(who.uid, ())) >= most:
            raise OSError(errno.EMFILE, f"user {who.uid} has {most} connections already")
