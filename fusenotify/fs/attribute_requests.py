# SPDX-License-Identifier: GPL-2.0-or-later
"""FUSE requests about attributes: owner, mode, size, times, extended attributes.

It builds on fs.file_requests; fs.operations adds the requests about names.
fs.set_id decides about set-id bits.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import partial

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError, RequestContext

from fusenotify.credentials import Credentials
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.file_requests import FileRequests
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.ownership import AsUser, by_owner
from fusenotify.fs.permissions import allowed
from fusenotify.fs.requests import answered, answered_when_possible
from fusenotify.fs.set_id import (
    CAPABILITY,
    keeps_set_id,
    settable_mode,
    strip_by_acl,
    strip_set_id,
    strip_unjudged,
)
from fusenotify.fs.syscalls import CAP_CHOWN, utimens
from fusenotify.fs.writeback import Unwritten
from fusenotify.view import SET_ID, View

SOCKET_XATTR = b"user.fusenotify.socket"
_ACCESS_ACL = b"system.posix_acl_access"
_ROOTS_ALONE = b"trusted."
_SYSTEMS = b"system."


class AttributeRequests(FileRequests):
    """Requests that read and change attributes of an object, whatever its names are.

    socket is the value of the reserved extended attribute by which clients find
    the server; view and exact_access are those of FileRequests.
    """

    def __init__(
        self, inodes: Inodes, hooks: Hooks, *, socket: bytes, view: View, exact_access: bool
    ) -> None:
        super().__init__(inodes, hooks, view=view, exact_access=exact_access)
        self._socket = socket

    @answered
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """GETATTR: vfs_getattr()."""
        found = self.known[inode]
        return self.attributes(found, os.fstat(found.fd))

    @answered_when_possible
    def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: RequestContext,
        *,
        opened: int | None = None,
        written: bool = False,
    ) -> EntryAttributes:
        """SETATTR: notify_change()."""
        changed = self.known[inode]
        if self.overlays and not fields.update_size:  # a new size is set by opening for writing
            self.layers.need(changed)
        if fields.update_mtime and not (fields.update_size or written) and self._stores(changed):
            raise Unwritten  # earlier stores must not change the time that is set
        file = None if fh is None else self.files[fh]
        if changed.others is not None:
            self.names.use(changed, ctx.pid)
        path = changed.path
        owner = fields.update_uid or fields.update_gid
        times = fields.update_atime or fields.update_mtime
        nothing = not (owner or times or fields.update_mode or fields.update_size)
        strips = False
        mode = stat.S_IMODE(attr.st_mode) if fields.update_mode else 0
        if nothing or owner or fields.update_size or mode & SET_ID:
            before = os.fstat(changed.fd)
            if before.st_mode & SET_ID:
                if nothing:
                    strips = self._may_strip(changed, before, ctx)
                elif owner or fields.update_size:
                    strips = owner or not keeps_set_id(ctx)
        if mode & SET_ID:
            mode = settable_mode(mode, before, self._view, ctx)
        if fields.update_size:  # first, since it may have to wait
            self.resize(changed, file, attr.st_size, ctx, opened)
        if owner:
            uid = attr.st_uid if fields.update_uid else -1
            gid = attr.st_gid if fields.update_gid else -1
            self._chown(changed, before, uid, gid, ctx)
        if fields.update_mode:  # after the owner, since chown() clears set-id bits
            if not self._is_plain:
                strip_unjudged(changed.fd, self._view)
            self.by_owner(ctx, partial(os.chmod, path, mode), changed)
        lost = strips and strip_set_id(changed.fd, before, ctx)
        if times:  # last, since the other changes set times
            atime = attr.st_atime_ns if fields.update_atime else None
            mtime = attr.st_mtime_ns if fields.update_mtime else None
            utimens(path, atime, mtime)
        self.hooks.by(ctx).attributes_changed(
            changed,
            changed.dentry if file is None else file.dentry,
            atime=fields.update_atime,
            mtime=fields.update_mtime,
            size=fields.update_size,
            owner_or_mode=owner or fields.update_mode or lost,
        )
        return self.attributes(changed, os.fstat(changed.fd))

    @answered
    def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """ACCESS: inode_permission().  The kernel does not send it with default_permissions."""
        found = self.known[inode]
        groups = frozenset(pyfuse3.get_sup_groups(ctx.pid))
        who = Credentials(ctx.pid, ctx.uid, ctx.gid, groups)
        return allowed(found.fd, os.fstat(found.fd), who, mode, self._view)

    # Extended attributes.

    @answered
    def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """GETXATTR: vfs_getxattr(); the reserved attribute has the path of the server's socket."""
        if name == SOCKET_XATTR:
            return self._socket
        return os.getxattr(self.known[inode].path, name)

    @answered_when_possible
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """SETXATTR: vfs_setxattr()."""
        _refuse_reserved(name)
        if name == os.fsencode(CAPABILITY) and ctx.uid and not self._is_plain:
            raise FUSEError(errno.EPERM)  # as fs.set_id refuses set-id bits
        changed = self.known[inode]
        if self.overlays:
            self.layers.need(changed)
        if changed.others is not None:
            self.names.use(changed, ctx.pid)
        before = os.fstat(changed.fd) if name == _ACCESS_ACL else None
        if name == _ACCESS_ACL and not self._is_plain:
            strip_unjudged(changed.fd, self._view)
        act = partial(os.setxattr, changed.path, name, value)
        if _is_for_owners(changed, name) or (ctx.uid and self.is_short_of_room(changed.fd)):
            self.by_owner(ctx, act, changed)
        else:
            act()
        if before is not None:
            strip_by_acl(changed.path, before, self._view.shown(before).st_gid, ctx)
        self.forget_attributes(changed)  # an ACL sets the mode
        self.hooks.by(ctx).xattr_changed(changed)

    @answered
    def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        """LISTXATTR: vfs_listxattr()."""
        names = [os.fsencode(name) for name in os.listxattr(self.known[inode].path)]
        if ctx.uid:
            return [name for name in names if not name.startswith(_ROOTS_ALONE)]
        return names

    @answered_when_possible
    def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """REMOVEXATTR: vfs_removexattr()."""
        _refuse_reserved(name)
        changed = self.known[inode]
        if self.overlays and self.layers.may_be_below(changed):
            os.getxattr(changed.path, name)  # fails if there is none, so that nothing is copied
            self.layers.need(changed)
        if changed.others is not None:
            self.names.use(changed, ctx.pid)
        if name == _ACCESS_ACL and not self._is_plain:
            strip_unjudged(changed.fd, self._view)
        act = partial(os.removexattr, changed.path, name)
        if _is_for_owners(changed, name):
            self.by_owner(ctx, act, changed)
        else:
            act()
        self.forget_attributes(changed)
        self.hooks.by(ctx).xattr_changed(changed)

    # Helpers.

    def _stores(self, inode: Inode) -> bool:
        """Return whether a file may have stores to mappings that can be written back."""
        return self.write_back is not None and self.files_by_inode.has_storer(inode)

    def _may_strip(self, inode: Inode, status: os.stat_result, ctx: RequestContext) -> bool:
        """Return whether a SETATTR that changes nothing may remove set-id bits.

        The kernel sends such a request before a write by a user who may not keep
        the bits or a file's capabilities.  A chown(2) that changes neither owner
        nor group is also one; only the owner may do that.

        Raises FUSEError (EPERM).
        """
        shown = self._view.shown(status)
        if not shown.st_mode & SET_ID or stat.S_ISDIR(shown.st_mode):
            return False
        if ctx.uid not in (0, shown.st_uid) and not self.files_by_inode.has_writer(inode):
            raise FUSEError(errno.EPERM)
        return True

    def by_owner(self, ctx: RequestContext, act: Callable[[], None], *objects: Inode) -> None:
        """Do what only the objects' owner may do.

        If the view shows the owners that SOURCE has, SOURCE judges who the owner is.

        Raises OSError.
        """
        if self._view.uid is None:
            by_owner(ctx, act, lambda: [os.fstat(each.fd) for each in objects])
        else:
            with AsUser.calling(ctx):
                act()

    def _chown(
        self, changed: Inode, before: os.stat_result, uid: int, gid: int, ctx: RequestContext
    ) -> None:
        """Give an object, whose status was before, an owner and a group; -1 leaves one as it is.

        The shown owner may set the owner and group that are shown already.  SOURCE may
        have others; those stay.
        """
        shown = self._view.shown(before)
        if ctx.uid and uid == shown.st_uid:
            uid = -1
        if ctx.uid and gid == shown.st_gid:
            gid = -1
        act = partial(os.chown, changed.path, uid, gid)
        if self._view.uid is None:
            member = ctx.gid if gid == -1 else gid
            by_owner(ctx, act, lambda: [os.fstat(changed.fd)], gid=member, capability=CAP_CHOWN)
        else:
            act()


def _is_for_owners(inode: Inode, name: bytes) -> bool:
    """Return whether the owner of an object matters to SOURCE when it gets or loses an attribute.

    It does for an ACL, and for a "user" attribute of a sticky directory.
    Linux: xattr_permission().
    """
    return inode.is_dir or name.startswith(_SYSTEMS)


def _refuse_reserved(name: bytes) -> None:
    if name == SOCKET_XATTR:
        raise FUSEError(errno.EPERM)
