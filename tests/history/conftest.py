# SPDX-License-Identifier: GPL-2.0-or-later
"""A journal of a tree without a filesystem, that can be closed and opened again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify.bits import names
from fusenotify.credentials import Process
from fusenotify.engine.core import Core, Inode
from fusenotify.engine.hooks import Hooks
from fusenotify.history.bounds import Bounds
from fusenotify.history.entries import Entry
from fusenotify.history.journal import Journal
from fusenotify.history.reading import Reading
from fusenotify.history.store import Store

SOMEBODY = Process(77, 1000, 1000, b"cp")


class Kept:
    """A tree whose changes are kept in a file, and what can be read of it."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        self.path = path
        self.bounds = bounds
        self.open()

    def open(self) -> None:
        core = Core()
        self.root = Inode(is_dir=True)
        self.hooks = Hooks(core).by(SOMEBODY)
        self.journal = Journal(core, self.store())
        self.journal.watch(self.root)

    def store(self, source: bytes = b"/source") -> Store:
        return Store(bytes(self.path), source, self.bounds)

    def create(self, name: bytes, parent: Inode | None = None, *, is_dir: bool = False) -> Inode:
        inode = Inode(is_dir)
        self.hooks.created(parent or self.root, name, inode)
        return inode

    def cursor(self) -> str:
        return str(self.journal.now())

    def again(self) -> None:
        """End this run, and begin the next one."""
        self.journal.close()
        self.open()

    def since(self, cursor: str, path: bytes = b"") -> list[Entry]:
        """Return all there is, after a new run began, so that it is all written."""
        self.again()
        reading = Reading(self.journal.store, cursor, path)
        found: list[Entry] = []
        while (entries := reading.next()) is not None:
            found += entries
        assert Reading(self.journal.store, str(reading.cursor), path).next() is None
        return found


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "journal", Bounds())
    yield kept
    kept.journal.close()


def said(entries: list[Entry]) -> list[str]:
    """Return entries in words, without the gap of the run that begins to read them."""
    assert entries[-1].reason == "stopped"
    return [words(entry) for entry in entries[:-1]]


def words(entry: Entry) -> str:
    if entry.reason is not None:
        return f"gap: {entry.reason}"
    text = "|".join(names(entry.mask)) + " " + entry.path.decode()
    return text if entry.old_path is None else f"{text} from {entry.old_path.decode()}"
