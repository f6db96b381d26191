# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client may see of the journal's entries: names, halves of renames, and who did it.

server.history reads entries for a client's request, and asks here about each.

Invariant
    A user other than root and the daemon's user sees a name only if the user may, at the
        time of the request, read its directory and search all directories above, none of
        which is a symbolic link; and only if the journal knows of no other directory that
        had this path since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from fusenotify.bits import IN_MOVED_FROM, IN_MOVED_TO, IN_Q_OVERFLOW
from fusenotify.credentials import Credentials
from fusenotify.engine.time_share import TimeShare
from fusenotify.history.cursors import Cursor
from fusenotify.history.entries import Entry
from fusenotify.history.lookups import replaced
from fusenotify.history.reading import half
from fusenotify.history.store import Store
from fusenotify.protocol.past import PastEvent
from fusenotify.server.peer import is_privileged
from fusenotify.server.tree import Tree
from fusenotify.server.turns import Turns

# About how many bytes the directories in verdicts may take.
_MOST_VERDICT_BYTES = 4 * 1024 * 1024


class Visible:
    """The entries that a client may see, by verdicts on their directories."""

    def __init__(
        self,
        store: Store,
        tree: Tree,
        turns: Turns,
        who: Credentials,
        time: TimeShare,
        apart: Callable[[Callable[[], dict[bytes, int]]], Awaitable[dict[bytes, int]]],
    ) -> None:
        """apart calls a function in a thread, in the user's share of time.

        What the function finds in the store includes all changes made before apart() was called.
        """
        self._store = store
        self._tree = tree
        self._turns = turns
        self._time = time
        self._apart = apart
        self._who = who
        self._sees_all = is_privileged(who)
        # By directory, the number of the first entry that the client may see; None for none.
        self._verdicts: dict[bytes, int | None] = {}
        self._bytes = 0

    async def judge(self, entries: Sequence[Entry]) -> None:
        """Judge the directories of entries, for event()."""
        if self._sees_all:
            return
        if self._bytes > _MOST_VERDICT_BYTES:
            self._verdicts.clear()
            self._bytes = 0
        permitted: list[bytes] = []
        paths = [path for entry in entries for path in (entry.path, entry.old_path)]
        for directory in [_directory(path) for path in paths if path is not None]:
            if directory not in self._verdicts and await self._judge(directory):
                permitted.append(directory)
        if permitted:
            newest = await self._apart(partial(replaced, self._store, permitted))
            self._verdicts |= {directory: last + 1 for directory, last in newest.items()}

    def event(self, entry: Entry) -> PastEvent | None:
        """Return the event for an entry, with what the client may see; None if that is nothing."""
        if not self._sees_all and not entry.mask & IN_Q_OVERFLOW:
            new = self._sees(entry, entry.path)
            old = entry.old_path is not None and self._sees(entry, entry.old_path)
            if not (new or old):
                return None
            if entry.old_path is not None and not (new and old):
                entry = half(entry, IN_MOVED_TO if new else IN_MOVED_FROM)
        with_actor = self._sees_all or entry.uid == self._who.uid
        return _message(entry, self._store.cursor(entry.sequence), with_actor)

    def _sees(self, entry: Entry, path: bytes) -> bool:
        first = self._verdicts[_directory(path)]
        return first is not None and entry.sequence >= first

    async def _judge(self, directory: bytes) -> bool:
        """Find out whether the client could watch a directory."""
        await self._turns.take(self._who)
        await trio.sleep(self._time.wait())
        self._time.begin()
        try:
            # The journal's paths lead through no links: a link has taken a directory's place.
            with self._tree.resolved(b"/" + directory, self._who, follow=None, directory=True):
                verdict = True
        except OSError:
            verdict = False
        finally:
            self._time.end()
        self._bytes += len(directory) + 100
        self._verdicts[directory] = None
        return verdict


def _directory(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _message(entry: Entry, cursor: Cursor, with_actor: bool) -> PastEvent:
    event = PastEvent(
        cursor=str(cursor),
        sequence=entry.sequence,
        time=entry.time,
        mask=entry.mask,
        path=entry.path,
        old_path=entry.old_path,
        replaced=entry.replaced,
        exchanged=entry.exchanged,
    )
    if entry.reason is not None:
        event.reason, event.since = entry.reason, entry.since
    elif with_actor and entry.uid >= 0:
        event.pid, event.uid, event.gid = entry.pid or None, entry.uid, entry.gid
        event.command = entry.command
    return event
