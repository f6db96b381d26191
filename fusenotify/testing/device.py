# SPDX-License-Identifier: GPL-2.0-or-later
"""A device of a real mount, for use in a test; testing.mounts makes it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusenotify import mountinfo
from fusenotify.testing.expectations import Seen
from fusenotify.testing.marker import with_the_marker
from fusenotify.testing.watching import Named, Watcher

if TYPE_CHECKING:
    from fusenotify.client import Client, Device


class MountDevice(Watcher):
    """A device of a mount, on a connection of its own."""

    raw: Device[Any]

    def __init__(
        self,
        owner: Named,
        path: Path,
        client: Client,
        max_queued_events: int | None,
        semantics: str | None,
        detailed: bool,
    ) -> None:
        super().__init__(owner, detailed)
        self._root = os.fsencode(path)
        self._client = client
        if detailed:
            self.raw = client.init(True, max_queued_events, semantics, detailed=True)
        else:
            self.raw = client.init(True, max_queued_events, semantics)

    def sync(self) -> None:
        self._client.sync()

    def close(self) -> None:
        super().close()
        self._client.close()

    def give_up(self) -> None:
        self._client.close()

    def _read(self) -> list[Seen]:
        given = self.raw.read()
        return self._seen(given) if isinstance(given, bytes) else self._seen_whole(given)

    def _relative(self, path: bytes) -> bytes:
        if not path.startswith(b"/"):
            return path
        if not mountinfo.contains(self._root, path):
            raise ValueError(
                f"'{os.fsdecode(path)}' is not in the mount at '{os.fsdecode(self._root)}': "
                "watch a path in it, absolute or relative to it"
            )
        return path[len(self._root) :].lstrip(b"/") or b"."

    def _add_watch(
        self,
        path: bytes,
        mask: int,
        tree: bool,
        exclude: Iterable[str | bytes],
        ignore_self: bool,
    ) -> int:
        try:
            return self.raw.add_watch(
                path, mask, tree=tree, exclude=exclude, ignore_self=ignore_self
            )
        except OSError as refusal:
            raise with_the_marker(refusal) from None
