# SPDX-License-Identifier: GPL-2.0-or-later
"""Tell the records of fanotify to engine.hooks, as requests tell their changes.

behind.listening passes the records, in order.  Changes of names that are not watched and that the
kernel does not remember are not told.  As always, the engine decides which devices get an event.

Invariants
    Names are told so that a client can follow them: none is created twice or removed twice,
        however the kernel merged a process's records.  settle() compares what was told with
        what is.
    When no record waits any more, the engine's names and those that the kernel remembers are
        as in SOURCE.
"""

from __future__ import annotations

from contextlib import suppress

from fusenotify.bits import (
    IN_ACCESS,
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_ISDIR,
    IN_MODIFY,
    IN_OPEN,
)
from fusenotify.engine import core
from fusenotify.engine.hooks import Hooks
from fusenotify.engine.inodes import DEAD
from fusenotify.fs.behind.adopting import Adopting
from fusenotify.fs.behind.fanotify import (
    FAN_ATTRIB,
    FAN_CLOSE_WRITE,
    FAN_DELETE,
    FAN_MODIFY,
    FAN_ONDIR,
    FAN_RENAME,
    NAMES,
    Record,
)
from fusenotify.fs.behind.forgetting import Forgetting
from fusenotify.fs.behind.marks import Marks
from fusenotify.fs.behind.merged import Merged, OutOfOrder
from fusenotify.fs.behind.names_told import NamesTold
from fusenotify.fs.behind.pending import Pending
from fusenotify.fs.behind.state import State
from fusenotify.fs.behind.whereabouts import Unexplained, Whereabouts
from fusenotify.fs.inodes import Inode, Inodes

# Bits that are not about names, in the order in which most programs cause those of one record; in
# records they have the same values.
_HAPPENED = (IN_OPEN, IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE)
_ANY = sum(_HAPPENED)
# Bits after which there may be other data.  What is stored to mappings causes no record of its own.
_DATA = FAN_MODIFY | FAN_CLOSE_WRITE
# Bits after which stat(2) may return other attributes.
_ATTRIBUTES = FAN_ATTRIB | _DATA
# How long after a rename the record about the object that it replaced may come.
_SECOND_SECONDS = 2e-3


class Retelling:
    """Tells records; told counts them.  mended counts names that were corrected without one."""

    def __init__(
        self,
        inodes: Inodes,
        hooks: Hooks,
        whereabouts: Whereabouts,
        pending: Pending,
        forgetting: Forgetting,
        marks: Marks,
    ) -> None:
        self._inodes = inodes
        self._hooks = hooks
        self._core = hooks.core
        self._whereabouts = whereabouts
        self._pending = pending
        self._forgetting = forgetting
        self._marks = marks
        self.told = 0
        self.mended = 0
        self._lost = ""
        self._told = NamesTold()
        self._state = State(inodes, hooks.core, whereabouts, forgetting)
        self.links = self._state.links
        self._merged = Merged(hooks.core, whereabouts, pending, self._state, self._told)
        self._adopting = Adopting(inodes, hooks, whereabouts, self._told)

    def tell(self, record: Record, waited: bool = False) -> None:
        """Tell one record; the core's actor is the process that caused it.

        waited says that a record that would explain this one was awaited and did not come.

        Raises Unexplained, OSError.
        """
        if record.mask & FAN_RENAME:
            self._rename(record)
            return
        where = self._whereabouts
        mask, name = record.mask, record.name
        if record.directory is None:
            self._nameless(record, waited)
            return
        try:
            parent = where.directory(record.directory, itself=name == b".")
        except Unexplained:
            if mask & NAMES:
                raise
            return  # what is gone is worth no waiting for where it was
        if name == b".":
            if parent is not None:
                self._happened(parent, parent.dentry, mask)
            return
        if mask & NAMES:
            self._state.change_at(record.directory, name)
        inode = where.known(record.target)
        child = parent.children.get(name) if parent is not None and parent.children else None
        if parent is None and inode is not None:
            parent = self._state.elsewhere
        if parent is None or (inode is None and child is None and not self._core.hears(parent)):
            self._unheard(parent, name, mask)
            if record.is_dir and mask & FAN_DELETE and mask != FAN_DELETE | FAN_ONDIR:
                where.is_removed(record.target)  # and records about what was in it may follow
            return
        if mask & FAN_DELETE:
            is_early = self._merged.is_early(parent, record)
            mask = record.mask = record.mask & ~FAN_DELETE if is_early else record.mask
            if not mask & ~FAN_ONDIR:
                return
        self.told += 1
        made, removed = self._merged.steps(parent, record)
        if 0 < removed < made:
            self._removed(parent, name, record)
        if made:
            self._made(parent, name, record)
        if mask & _ANY:
            inode = where.known(record.target)
            if inode is None:
                for bit in _HAPPENED:
                    if mask & bit:
                        isdir = IN_ISDIR if record.is_dir else 0
                        self._hooks.happened_to_name(parent, name, bit | isdir)
            else:
                dentry = parent.children.get(name) if parent.children else None
                if dentry is None or dentry.inode is not inode:
                    dentry = core.Dentry(parent, name, inode)
                self._happened(inode, dentry, mask)
        if removed > made:
            self._removed(parent, name, record)
        elif parent is self._state.elsewhere and parent.children:
            for dentry in list(parent.children.values()):
                self._core.unhash(dentry)

    def _nameless(self, record: Record, waited: bool) -> None:
        """Handle what was done by file handle, while no name was in the kernel's memory.

        Other records without a name are about link counts; tell them unless one about a name
        follows.
        """
        inode = self._whereabouts.known(record.target)
        if inode is None:
            return
        if record.mask & ~(FAN_ATTRIB | FAN_ONDIR):
            self._happened(inode, inode.dentry, record.mask)
            return
        self._forgetting.inode(inode)
        if not inode.watches:
            return
        following = self._pending.next_of(record.pid)
        if following is None and not waited:
            raise Unexplained(_SECOND_SECONDS)
        if following is None or not (following.mask & NAMES and following.target == record.target):
            if self._state.links(inode):
                self._hooks.happened(inode, None, IN_ATTRIB)
            else:
                self._hooks.vanished(inode)

    def own(self, parent: core.Inode, name: bytes, echo: Record | None) -> None:
        """Note that a request told that the object of an echo has a name."""
        if echo is None:
            self._told.forget_name(parent, name)
        else:
            self._told.told_by_request(parent, name, echo.target, echo.is_dir)

    def own_removal(self, parent: core.Inode, name: bytes, echo: Record | None) -> None:
        """Note that a request, whose echo is given, told that a name is gone."""
        if echo is None:
            self._told.forget_name(parent, name)
        else:
            self._told.told_by_request(parent, name, None)

    def settle(self) -> bool:
        """When no record waits, compare names with what was told; return whether to do it again."""
        again = bool(self._told) and self._told.compare(
            self._state.now, self._state.align, self._is_final, self._mend
        )
        if self._lost:
            raise OutOfOrder(self._lost)
        if not again:
            self._whereabouts.settled()
        return again

    def forget_told(self) -> None:
        """Forget what was told, after an overflow."""
        self._told.forget()
        self._lost = ""
        self._state.realign()
        self._whereabouts.settled()
        self._whereabouts.moved()

    # Names.

    def _is_final(self, directory: Inode) -> bool:
        """Return whether all changes of a directory's names that show were told."""
        self._whereabouts.await_changes(directory)
        self._whereabouts.more()
        return not self._pending.concerns(self._whereabouts.handle_of(directory))

    def _made(self, parent: core.Inode, name: bytes, record: Record) -> None:
        assert record.target is not None
        inode = self._whereabouts.known(record.target)
        self._state.change_name(parent, name)
        if inode is None:
            isdir = IN_ISDIR if record.is_dir else 0
            self._hooks.happened_to_name(parent, name, IN_CREATE | isdir)
        else:
            child = parent.children.get(name) if parent.children else None
            has_another = inode.dentry is not None and not inode.dentry.unlinked
            has_another = has_another and (child is None or child.inode is not inode)
            if has_another and not inode.is_dir:
                self._hooks.linked(inode, parent, name)
            else:
                self._hooks.created(parent, name, inode)
            self._forgetting.inode(inode)
            self._state.restore(child, inode)
        self._told.told(parent, name, record.target, record.is_dir)
        if record.is_dir and self._marks.marks_each and isinstance(parent, Inode):
            self._adopting.adopt(parent, name, tells=True)

    def _removed(self, parent: core.Inode, name: bytes, record: Record) -> None:
        where = self._whereabouts
        inode: core.Inode | None = where.known(record.target)
        if record.is_dir:
            inode = inode or where.removed(record.target)
        self._state.change_name(parent, name)
        child = parent.children.get(name) if parent.children else None
        if inode is not None and isinstance(inode, Inode):
            if record.is_dir:
                self._hooks.removed_directory(parent, name, inode)
            else:
                self._hooks.unlinked(parent, name, inode, self._state.links(inode))
            self._forgetting.inode(inode)
            self._state.restore(child, inode)
            self._told.told(parent, name, None)  # before its directory may be dropped
            self._inodes.drop_if_unused(inode)
        elif record.is_dir:
            gone = inode or self._state.stand_in(parent, name, is_dir=True)
            gone.unlinked = True
            self._core.queue_event(gone, IN_DELETE_SELF)
            gone.unlinked = DEAD
            self._hooks.happened_to_name(parent, name, IN_DELETE | IN_ISDIR)
        else:
            self._hooks.happened_to_name(parent, name, IN_DELETE)
        if not isinstance(inode, Inode):
            self._told.told(parent, name, None)

    def _rename(self, record: Record) -> None:
        where, name, new_name = self._whereabouts, record.name, record.new_name
        parent = where.directory(record.directory)
        new_parent = where.directory(record.new_directory)
        if record.is_dir:
            where.moved()
        self._state.change_at(record.directory, name)
        self._state.change_at(record.new_directory, new_name)
        child = parent.children.get(name) if parent is not None and parent.children else None
        other = None
        if new_parent is not None and new_parent.children:
            other = new_parent.children.get(new_name)
        moved: core.Inode | None = where.known(record.target)
        places = (parent, new_parent)
        heard = any(each is not None and self._core.hears(each) for each in places)
        if not heard and moved is None and child is None and other is None:
            self._unheard(parent, name, record.mask)
            self._unheard(new_parent, new_name, record.mask)
            return
        self.told += 1
        if not self._pending.next_of(record.pid):  # the second record of an exchange, for example
            where.await_changes(new_parent)
            where.more()
        old = parent or self._state.elsewhere
        new = new_parent or self._state.elsewhere_too
        if moved is None:
            moved = self._moving(record, old, name)
        half = self._pending.other_half(record) or self._merged.other_half(record, new, other)
        target = record.target
        self._merged.check(parent, name, target)
        if half is not None:
            self._merged.check(new_parent, new_name, half.target)
            back = where.known(half.target) or self._moving(half, new, new_name)
            self._hooks.exchanged(old, name, moved, new, new_name, back)
            self._told.told(old, name, half.target, half.is_dir)
            self._told.told(new, new_name, target, record.is_dir)
            self._state.let_go(back, old)
        else:
            replaced, ahead = self.replaced(record, new, new_name, moved), None
            if replaced is not None and self._state.is_at(new_parent, new_name, replaced):
                ahead, replaced = other, None  # it was created later, and is known already
            links = self._state.links(replaced) if replaced is not None else 0
            self._hooks.renamed(old, name, new, new_name, moved, replaced, links)
            self._told.told(old, name, None)
            self._told.told(new, new_name, target, record.is_dir)
            if isinstance(replaced, Inode):
                self._pending.take_count(record, where.handle_of(replaced))
                self._forgetting.inode(replaced)
                self._inodes.drop_if_unused(replaced)
            self._state.restore(ahead, moved)
        self._state.restore(child, moved)
        if isinstance(moved, Inode):
            self._forgetting.inode(moved)
        if record.is_dir and self._marks.marks_each and isinstance(new, Inode):
            self._adopting.adopt(new, new_name, tells=False)
        self._state.let_go(moved, new)
        self._marks.moved(moved)

    def replaced(
        self, rename: Record, parent: core.Inode, name: bytes, moved: core.Inode
    ) -> core.Inode | None:
        """Return what a rename to a name replaced; a stand-in if it is not known."""
        known = parent.children.get(name) if parent.children else None
        gone = None
        if rename.is_dir:
            gone = self._pending.replaced(rename, self._whereabouts.is_gone)
        if known is not None and known.inode is not moved:
            return known.inode
        if gone is None:
            return None
        return self._whereabouts.known(gone) or self._state.stand_in(parent, name, is_dir=True)

    def _moving(self, record: Record, parent: core.Inode, name: bytes) -> core.Inode:
        """Return an object that is moved and not known: itself, or a stand-in."""
        found: core.Inode | None = None
        if record.is_dir and record.target is not None:
            found = self._whereabouts.directory_itself(record.target)
        return found or self._state.stand_in(parent, name, record.is_dir)

    def _mend(self, parent: Inode, name: bytes, told: bytes | None, now: bytes | None) -> None:
        """Tell what a name is now, although no record says so.

        A directory cannot be told, because something may be in it.
        """
        self.mended += 1
        if told is not None and self._told.is_directory(told):
            self._lost = f"the directory {name!r} is elsewhere"
            return
        self._hooks.by(None)
        record = Record(0, 0)
        if told is not None:
            record.target = told
            record.mask = FAN_ONDIR if self._told.is_directory(told) else 0
            self._removed(parent, name, record)
        if now is not None:
            with suppress(OSError):
                inode, _ = self._inodes.find(parent, name)
                record.target = self._whereabouts.handle_of(inode)
                record.mask = FAN_ONDIR if inode.is_dir else 0
                if inode.is_dir:
                    self._lost = f"{name!r} is a directory"
                else:
                    self._made(parent, name, record)
                self._inodes.drop_if_unused(inode)

    # Everything else.

    def _happened(self, inode: core.Inode, dentry: core.Dentry | None, mask: int) -> None:
        for bit in _HAPPENED:
            if mask & bit:
                self._hooks.happened(inode, dentry, bit)
        if mask & _ATTRIBUTES and isinstance(inode, Inode):
            self._forgetting.inode(inode)
            if mask & _DATA and not inode.is_dir:
                self._forgetting.data(inode)
        self.told += 1

    def _unheard(self, parent: core.Inode | None, name: bytes, mask: int) -> None:
        """Handle a change of a name that nobody watches: the kernel may remember it."""
        if mask & NAMES and parent is not None:
            self._told.forget_name(parent, name)
            self._state.change_name(parent, name)
