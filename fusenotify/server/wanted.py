# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the journal's entries a client wants: without excluded names and its own process's.

server.history reads entries for a client's request, and asks here about each.  A watch with the
same patterns and ignore_self leaves out the same events.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from fusenotify.bits import IN_ISDIR, IN_MOVED_FROM, IN_MOVED_TO, IN_Q_OVERFLOW
from fusenotify.credentials import Credentials
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.exclusion import Exclusion
from fusenotify.engine.time_share import OutOfTime
from fusenotify.history.entries import Entry
from fusenotify.history.reading import half
from fusenotify.proc import started
from fusenotify.protocol.messages import Since
from fusenotify.server.peer import own_process


class Wanted:
    """What a request leaves out."""

    def __init__(self, path: bytes, exclusion: Exclusion | None, ignored: int) -> None:
        """path is from the mount's root, without a slash at either end; ignored is a pid, or 0."""
        self._inside = path + b"/" if path else b""
        self._exclusion = exclusion
        self._ignored = ignored
        # Another process may have had the number before.
        self._since = started(ignored) if ignored else 0

    @classmethod
    async def of(cls, request: Since, table: DeviceTable, who: Credentials) -> Wanted:
        """Return what a client's request leaves out, after the time to compile its patterns.

        Raises OSError: EINVAL (patterns), EOPNOTSUPP, ENOSPC (too many lists of patterns).
        """
        exclusion = None
        if request.exclude:
            while wait := table.exclusions.wait(who.uid, request.exclude):
                await trio.sleep(wait)
            exclusion = table.exclusions.of(who.uid, request.exclude)
        ignored = own_process(table.core.details, who) if request.ignore_self else 0
        path = b"/".join(name for name in request.path.split(b"/") if name not in (b"", b"."))
        return cls(path, exclusion, ignored)

    async def among(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the entries that are wanted."""
        if self._exclusion is None and not self._ignored:
            return entries
        return [wanted for entry in entries if (wanted := await self._wanted(entry)) is not None]

    async def _wanted(self, entry: Entry) -> Entry | None:
        """Return an entry, or the half of a rename that is wanted, or None."""
        if entry.mask & IN_Q_OVERFLOW:
            return entry
        if self._ignored and entry.pid == self._ignored and entry.time >= self._since:
            return None
        is_dir = bool(entry.mask & IN_ISDIR)
        new = not await self._excludes(entry.path, is_dir)
        if entry.old_path is None:
            return entry if new else None
        old = not await self._excludes(entry.old_path, is_dir)
        if new and old:
            return entry
        if new:
            return half(entry, IN_MOVED_TO)
        return half(entry, IN_MOVED_FROM) if old else None

    async def _excludes(self, path: bytes, is_dir: bool) -> bool:
        exclusion = self._exclusion
        if exclusion is None or not path.startswith(self._inside) or path == self._inside:
            return False
        while True:
            try:
                return exclusion.excludes(path[len(self._inside) :], is_dir)
            except OutOfTime:
                wait = exclusion.wait()
                if not wait:
                    return False  # no share is large enough for it
                await trio.sleep(wait)
