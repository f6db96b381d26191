# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of all FUSE requests: their tables, answers and errors.

fs.file_requests, fs.attribute_requests and fs.operations build on it; pyfuse3 calls the
methods that they define.

Invariants
    A request ends with an answer or with FUSEError, or with neither if it has
        no answer, whatever happened: any other exception would end the daemon.
    The change of SOURCE and its notification are one piece that does not await
        (answered()); requests that have to wait do so before it.  So when a
        program gets its answer, the events are queued; the fence of fs.mount
        depends on this.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar, TypeVarTuple

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError

from fusenotify.engine.hooks import Hooks
from fusenotify.fs.appending import Ends
from fusenotify.fs.descriptors import Held
from fusenotify.fs.handles import FilesByInode, OpenFile
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.layers import BeingCopied, NotCopiedUp, copy_up
from fusenotify.fs.names import NamesUsed
from fusenotify.fs.waiting import Leased, Obstacle, SleepingOpen, Turns
from fusenotify.fs.writeback import Unwritten, WriteBack
from fusenotify.view import View

_Self = TypeVar("_Self", bound="Requests")
_P = ParamSpec("_P")
_Args = TypeVarTuple("_Args")
_T = TypeVar("_T")
_R = TypeVar("_R")

log = logging.getLogger(__name__)


def answered(
    method: Callable[[_Self, *_Args], _T],
) -> Callable[[_Self, *_Args], Coroutine[Any, Any, _T]]:
    """Turn a method into a request; its exceptions become the errno that the program gets.

    The method cannot await, so the request ends before another one begins.
    """

    @functools.wraps(method)
    async def answer(self: _Self, /, *args: *_Args) -> _T:
        try:
            return method(self, *args)
        except Exception as error:
            raise _refusal(error, method.__name__, args) from None

    return answer


def answered_later(
    method: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]]:
    """Do what answered() does, for a request that causes no event and may take seconds."""

    @functools.wraps(method)
    async def answer(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(self, *args, **kwargs)
        except Exception as error:
            raise _refusal(error, method.__name__, args) from None

    return answer


def answered_when_possible(
    method: Callable[Concatenate[_Self, _P], _T],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]]:
    """Do what answered() does, for a request that may have to wait, as for a lease in open(2).

    The method's first argument is an inode's number, its last one the request's context.  Before
    it has changed anything, the method may raise an Obstacle, with SleepingOpen after all others.
    It is called again when the obstacle is gone, and even then does not await from its beginning
    to its end.  The argument opened is a descriptor that was opened for it; written says that
    stores were written back.
    """

    @functools.wraps(method)
    async def answer(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            try:
                return method(self, *args, **kwargs)
            except Obstacle as obstacle:
                return await self.wait(functools.partial(method, self), args, obstacle)
        except Exception as error:
            raise _refusal(error, method.__name__, args) from None

    return answer


def unanswered(
    method: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, None]]:
    """Do what answered() does, for a request that has no answer: errors are logged."""

    @functools.wraps(method)
    async def take(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            await method(self, *args, **kwargs)
        except Exception:
            log.exception("%s failed", method.__name__)

    return take


def _refusal(error: Exception, name: str, args: tuple[object, ...]) -> FUSEError:
    if isinstance(error, FUSEError):
        return error
    if isinstance(error, OSError):
        return FUSEError(error.errno or errno.EIO)
    log.error("%s%r failed", name, args, exc_info=error)
    return FUSEError(errno.EIO)


class Requests(pyfuse3.Operations):
    """The state that the requests of one mount share.

    view says how SOURCE is shown.  known has the inodes, by number.  layers has the objects of
    overlays, overlays the st_dev of these, mostly none.  names knows which of several names a
    program has used.  files has the open files, by descriptor, ends the ends of those that are
    open for appending.  write_back writes back what programs store to mappings.  background
    counts the requests of those kinds that the kernel sends although no program waits for them,
    released the RELEASEs among them.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, inodes: Inodes, hooks: Hooks, *, view: View) -> None:
        super().__init__()
        self.enable_acl = view.acl
        self.inodes = inodes
        self.known = inodes.by_number
        self.layers = inodes.layers
        self.overlays = inodes.layers.overlays
        self.hooks = hooks
        self.background = self.released = 0
        self.files: dict[int, OpenFile] = {}
        self.names = NamesUsed(view.entry_timeout)
        self.turns = Turns(inodes.descriptors.brief)
        self.files_by_inode = FilesByInode()
        inodes.descriptors.borrow = self.files_by_inode.any_of
        self.ends = Ends()
        self.write_back: WriteBack | None = None
        self._view = view
        self._is_plain = view.is_plain

    async def wait(
        self,
        method: Callable[..., _T],
        args: Sequence[Any],
        obstacle: Obstacle,
    ) -> _T:
        """Remove the obstacle, or wait until it is gone, and call a request's method again."""
        ctx = args[-1]
        inode = self.known[args[0]]
        given: dict[str, Any] = {}
        excused: list[Held] = []

        def attempt() -> _T:
            self.layers.excused = excused
            try:
                return method(*args, **given)
            finally:
                self.layers.excused = ()

        inode.pin()
        try:
            while True:
                if isinstance(obstacle, SleepingOpen):
                    given["opened"] = await self._in_thread(
                        ctx, inode, obstacle.held, obstacle.open, os.close
                    )
                elif isinstance(obstacle, Unwritten):
                    written = functools.partial(self._write_back, inode.number)
                    await self.turns.until_done(ctx.uid, ctx.pid, written)
                    given["written"] = True
                elif isinstance(obstacle, BeingCopied):
                    await self.turns.until_done(ctx.uid, ctx.pid, obstacle.ended.wait)
                elif isinstance(obstacle, NotCopiedUp):
                    copied = obstacle.inode
                    if await self._in_thread(ctx, copied, os.dup(copied.fd), copy_up):
                        self.layers.mark_up(copied)
                    else:
                        excused.append(copied)
                try:
                    if isinstance(obstacle, Leased):
                        return await self.turns.until_possible(ctx.uid, ctx.pid, attempt)
                    return attempt()
                except Obstacle as another:
                    obstacle = another
        finally:
            inode.unpin()

    async def _write_back(self, number: int) -> None:
        assert self.write_back is not None
        async with self.turns.brief:
            await self.write_back.of(number)

    async def _in_thread(
        self,
        ctx: pyfuse3.RequestContext,
        inode: Held,
        held: int,
        call: Callable[[int], _R],
        undo: Callable[[_R], object] = lambda _: None,
    ) -> _R:
        """Return call(held), made in a thread; held is a descriptor of inode.

        See Turns.unless_killed().  A descriptor is counted against the user during the call.
        """
        descriptors = self.inodes.descriptors
        try:
            descriptors.make_room(ctx.uid)
        except OSError:
            os.close(held)
            raise
        descriptors.shares.take(ctx.uid)
        try:
            self.layers.begin(inode)
            ended = functools.partial(self.layers.end, inode)
            return await self.turns.unless_killed(ctx.uid, ctx.pid, held, call, undo, ended)
        finally:
            descriptors.shares.give_back(ctx.uid)

    def entry(self, inode: Inode, status: os.stat_result) -> EntryAttributes:
        """Return the answer that names an inode, of which the kernel then has one lookup more.

        The kernel must not cache the names of a file that has several: requests name
        only the inode, and the preceding LOOKUP tells which name was used.
        """
        inode.lookups += 1
        answer = self.attributes(inode, status)
        if status.st_nlink > 1 and not inode.is_dir:
            answer.entry_timeout = 0
        return answer

    def forget_attributes(self, inode: Inode) -> None:
        """Make the kernel forget the attributes and ACL of an inode before the program goes on.

        This is for requests that change more than their answer says.  The kernel must
        be waiting for the answer to a request about this inode: it then holds the inode,
        and does not wait for us here.
        """
        with suppress(OSError):  # unmounted
            pyfuse3.invalidate_inode(pyfuse3.InodeT(inode.number), attr_only=True)

    def attributes(self, inode: Inode, status: os.stat_result) -> EntryAttributes:
        if self.ends and (end := self.ends.get(inode)) is not None:
            end.told(status.st_size)
        answer = EntryAttributes()
        answer.st_ino = inode.number
        answer.entry_timeout = self._view.entry_timeout
        answer.attr_timeout = self._view.attr_timeout
        answer.st_mode = status.st_mode
        answer.st_nlink = status.st_nlink
        answer.st_uid = status.st_uid
        answer.st_gid = status.st_gid
        answer.st_rdev = status.st_rdev
        answer.st_size = status.st_size
        answer.st_blksize = status.st_blksize
        answer.st_blocks = status.st_blocks
        answer.st_atime_ns = status.st_atime_ns
        answer.st_mtime_ns = status.st_mtime_ns
        answer.st_ctime_ns = status.st_ctime_ns
        if not self._is_plain:
            answer.st_mode, answer.st_uid, answer.st_gid = self._view.shown(status)
        return answer
