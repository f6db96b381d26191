# SPDX-License-Identifier: GPL-2.0-or-later
"""The trapped system calls: each is answered as the kernel would answer it.

run.supervisor calls handle() for each notification.  run.target reads the memory that the
arguments point to, run.paths resolves paths, and run.descriptor holds the events.

Invariants
    Every notification is answered at once, or is kept and answered when an event comes.
    If an answer reached no thread, its effect is undone: the new descriptor, the events read.
    A call on a descriptor that is not one of our pipes continues in the kernel.
"""

from __future__ import annotations

import asyncio
import errno
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fusenotify.bits import (
    IN_DONT_FOLLOW,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_ONLYDIR,
    KNOWN_BITS,
)
from fusenotify.protocol.connection import ConnectionLost
from fusenotify.protocol.faults import AnyFault
from fusenotify.run.architectures import Architecture
from fusenotify.run.descriptor import InotifyDescriptor
from fusenotify.run.filter import Range
from fusenotify.run.limits import RunLimits, kernel_limit
from fusenotify.run.mounts import Mounts, Served
from fusenotify.run.notify import Listener, Notification
from fusenotify.run.paths import opened
from fusenotify.run.reads import Reads, TrappedRead
from fusenotify.run.recorder import Recorder
from fusenotify.run.sources import LONGEST_RECORD, MountSource, Source
from fusenotify.run.target import Target


@dataclass(slots=True)
class Settings:
    """The settings of a run; None stands for the value of the mount, or of the kernel.

    faults are caused on each new device.
    """

    max_queued_events: int | None = None
    max_user_watches: int | None = None
    max_user_instances: int | None = None
    semantics: str | None = None
    faults: Sequence[AnyFault] = ()


class Calls:
    """The calls of all threads under one filter.

    on_made is called with each new descriptor.  Its owner watches the descriptor's pipe, and
    calls room_came() of the descriptor when the pipe is empty, and gone() here when all
    copies of the program's end are closed.  look_for_gone is called to make it do so at once.
    """

    def __init__(
        self,
        listener: Listener,
        abis: tuple[Architecture, ...],
        reserved: Range,
        settings: Settings,
        recorder: Recorder,
        warn: Callable[[str], None],
    ) -> None:
        self.on_made: Callable[[InotifyDescriptor], object] = _nobody
        self.look_for_gone: Callable[[], object] = _nobody
        self._listener = listener
        self._abis = abis
        self._reserved = reserved
        self._settings = settings
        self._recorder = recorder
        self._warn = warn
        self._mounts = Mounts(warn)
        self._descriptors: dict[bytes, InotifyDescriptor] = {}
        self._limits = RunLimits(
            settings.max_user_instances, settings.max_user_watches, self._descriptors
        )
        self._made = 0
        self._reads = Reads(listener, recorder)
        # (thread, wd) of removed watches whose thread did not get the answer: it calls again.
        self._removed: set[tuple[int, int]] = set()

    async def handle(self, notification: Notification) -> None:
        """Answer a notification."""
        try:
            abi = self._abi(notification)
            target = Target(notification.thread, abi.word)
            await self._call(notification, target, abi.calls[notification.number])
        except asyncio.CancelledError:
            self._listener.answer(notification.id, -errno.EINTR)
            raise
        except OSError as error:
            self._listener.answer(notification.id, -(error.errno or errno.EIO))
        except Exception:
            self._warn("a call failed because of a bug in fusenotify:\n" + traceback.format_exc())
            self._listener.answer(notification.id, -errno.EIO)

    def gone(self, descriptor: InotifyDescriptor) -> None:
        """Drop a descriptor that no process has any more."""
        self._descriptors.pop(descriptor.pipe.name, None)
        self._reads.forget(descriptor)
        descriptor.close()
        self._recorder.said("closed", inotify=descriptor.number)

    def close(self) -> None:
        """Drop all descriptors."""
        self._reads.close()
        for descriptor in self._descriptors.values():
            descriptor.close()
        self._mounts.close()

    def _abi(self, notification: Notification) -> Architecture:
        for abi in self._abis:
            if notification.audit == abi.audit and notification.number in abi.calls:
                return abi
        raise OSError(errno.ENOSYS, f"{notification.number} of {notification.audit:#x}")

    async def _call(self, notification: Notification, target: Target, name: str) -> None:
        number, second, third = (word & 0xFFFFFFFF for word in notification.arguments[:3])
        if name in ("inotify_init", "inotify_init1"):
            self._init(notification, target, name, number if name == "inotify_init1" else 0)
            return
        descriptor = self._descriptor_of(target, number)
        if descriptor is None:
            self._listener.let_continue(notification.id)
            return
        match name:
            case "inotify_add_watch":
                await self._add_watch(notification, target, descriptor, number, third)
            case "inotify_rm_watch":
                await self._rm_watch(notification, target, descriptor, number, _signed(second))
            case "ioctl":
                await self._fionread(notification, target, descriptor, number)
            case "write" | "writev":
                # An inotify descriptor is for reading only, but the pipe would accept a write.
                self._answer(notification, name, {"fd": number}, -errno.EBADF)
            case _:
                address, size = (_word(word, target) for word in notification.arguments[1:3])
                places = [(address, size)] if name == "read" else target.vector(address, size)
                if name == "readv" and not any(room for _, room in places):
                    self._answer(notification, name, {"fd": number, "size": 0}, 0)
                    return
                read = TrappedRead(notification, target, name, number, places)
                await descriptor.refresh()
                self._reads.serve(descriptor, read)

    def _descriptor_of(self, target: Target, number: int) -> InotifyDescriptor | None:
        try:
            return self._descriptors.get(target.descriptor(number))
        except OSError:  # it is not open, or we may not look at it
            return None

    # inotify_init1

    def _init(self, notification: Notification, target: Target, name: str, flags: int) -> None:
        if flags & ~(os.O_NONBLOCK | os.O_CLOEXEC):
            self._answer(notification, name, {"flags": flags}, -errno.EINVAL)
            return
        if not target.is_open_to_us():
            self._warn(
                f"process {notification.thread} cannot be inspected (it is not dumpable, or "
                "belongs to another user): it uses the kernel's inotify"
            )
            self._listener.let_continue(notification.id)
            return
        owner = target.effective_user()
        if not self._limits.allow_another(owner, self.look_for_gone):
            self._answer(notification, name, {"flags": flags}, -errno.EMFILE)
            return
        made = InotifyDescriptor(
            self._made + 1,
            owner,
            self._settings.max_queued_events,
            self._settings.semantics,
            partial(kernel_limit, "max_queued_events"),
        )
        end = made.pipe.program_end(nonblock=bool(flags & os.O_NONBLOCK))
        try:
            number = self._placed(notification, target, end, bool(flags & os.O_CLOEXEC))
        except OSError as error:
            made.close()
            self._answer(notification, name, {"flags": flags}, -(error.errno or errno.EMFILE))
            return
        finally:
            os.close(end)
        if number is None:
            made.close()
            return
        if not self._reserved.first <= number < self._reserved.end:
            made.expect(LONGEST_RECORD)  # reads of any larger size get whole records
        self._made += 1
        self._descriptors[made.pipe.name] = made
        made.on_events = lambda: self._reads.serve_held(made)
        if self._recorder.is_wanted:
            made.on_readable = lambda events: self._recorder.events(made.number, events)
        self._recorder.call(
            notification.thread, name, {"flags": flags} if name[-1] == "1" else {}, number
        )
        self.on_made(made)

    def _placed(
        self, notification: Notification, target: Target, end: int, close_on_exec: bool
    ) -> int | None:
        """Give a thread a copy of a descriptor, in the range of trapped reads if possible.

        Returns its number there; None if the thread is gone.

        Raises OSError: EMFILE.
        """
        free = target.free_number(self._reserved.first, self._reserved.end)
        add = self._listener.add_descriptor
        if free is not None:
            try:
                return add(notification.id, end, free, close_on_exec=close_on_exec)
            except OSError as error:
                if error.errno not in (errno.EBADF, errno.EMFILE):
                    raise
        return add(notification.id, end, None, close_on_exec=close_on_exec)

    # inotify_add_watch, inotify_rm_watch

    async def _add_watch(
        self,
        notification: Notification,
        target: Target,
        descriptor: InotifyDescriptor,
        number: int,
        mask: int,
    ) -> None:
        shown: dict[str, object] = {"fd": number, "path": None, "mask": mask}
        try:
            if self._settings.semantics in (None, "linux-6"):
                _check_mask(mask)
            path = target.text(_word(notification.arguments[1], target))
            shown["path"] = path
            wd = await self._watched(notification, descriptor, target, path, mask)
            if wd is None:
                return
            result = wd
        except ConnectionLost:
            result = -errno.ENOTCONN
        except OSError as error:
            # EMFILE: the user has max_user_instances devices.  inotify_add_watch(2) does not
            # fail so.
            code = error.errno or errno.EIO
            result = -errno.ENOSPC if code == errno.EMFILE else -code
        self._answer(notification, "inotify_add_watch", shown, result)

    async def _watched(
        self,
        notification: Notification,
        descriptor: InotifyDescriptor,
        target: Target,
        path: bytes,
        mask: int,
    ) -> int | None:
        """Watch a path in one of the descriptor's sources, or in a new one.

        Returns the watch descriptor; None if the thread is gone.  The object that we opened is
        closed by then, and keeps nobody from unmounting.
        """
        follow, directory = not mask & IN_DONT_FOLLOW, bool(mask & IN_ONLYDIR)
        found = await opened(target, path, follow=follow, directory=directory)
        if not self._listener.is_valid(notification.id):
            return None
        has_failed = False
        while True:
            served = await self._mounts.serving(target, found)
            try:
                source: Source
                if served is None:
                    source = descriptor.kernel()
                else:
                    async with descriptor.lock:
                        source = descriptor.of_mount(served.link) or await self._device(
                            descriptor, served
                        )
                return await self._limits.kept(source, await source.add_watch(found, mask))
            except ConnectionLost:
                if served is None:
                    raise
                # The filesystem was mounted again, perhaps with the same device number.
                self._mounts.forget(served)
                if has_failed:
                    raise
                has_failed = True

    async def _device(self, descriptor: InotifyDescriptor, served: Served) -> MountSource:
        wanted = self._settings.max_queued_events
        most = served.limits.max_queued_events
        source = await MountSource.made(
            descriptor.next_wd,
            served.link,
            served.client,
            None if wanted is None else min(wanted, most),
            self._settings.semantics,
        )
        semantics = self._settings.semantics or served.client.semantics
        descriptor.follow_mount(source, most, semantics)
        for fault in self._settings.faults:
            try:
                await served.client.fault(fault, source.device)
            except OSError as error:
                self._warn(f"the fault was not caused: {error.strerror}")
        return source

    async def _rm_watch(
        self,
        notification: Notification,
        target: Target,
        descriptor: InotifyDescriptor,
        number: int,
        wd: int,
    ) -> None:
        again = (notification.thread, wd)
        try:
            await descriptor.rm_watch(wd)
            result = 0
        except ConnectionLost:
            result = 0  # the watch ended with the mount
        except OSError as error:
            result = 0 if again in self._removed else -(error.errno or errno.EIO)
        self._removed.discard(again)
        shown: dict[str, object] = {"fd": number, "wd": wd}
        if not self._answer(notification, "inotify_rm_watch", shown, result) and not result:
            self._removed.add(again)

    # ioctl(FIONREAD)

    async def _fionread(
        self, notification: Notification, target: Target, descriptor: InotifyDescriptor, number: int
    ) -> None:
        await descriptor.refresh()
        unread = descriptor.unread_bytes()
        result = 0
        try:
            address = _word(notification.arguments[2], target)
            if target.store(unread.to_bytes(4, "little"), [(address, 4)]) < 4:
                result = -errno.EFAULT
        except OSError as error:
            result = -(error.errno or errno.EIO)
        descriptor.settle()
        shown: dict[str, object] = {"fd": number, "request": "FIONREAD", "bytes": unread}
        self._answer(notification, "ioctl", shown, result)

    def _answer(
        self, notification: Notification, name: str, shown: dict[str, object], result: int
    ) -> bool:
        self._recorder.call(notification.thread, name, shown, result)
        return self._listener.answer(notification.id, result)


def _check_mask(mask: int) -> None:
    """Raise OSError (EINVAL) for masks that the kernel refuses before it looks at the path."""
    both = IN_MASK_ADD | IN_MASK_CREATE
    if mask & ~KNOWN_BITS or not mask or mask & both == both:
        raise OSError(errno.EINVAL, f"the mask {mask:#x} is invalid")


def _nobody(*_: object) -> None:
    """Do nothing: the callback is not set yet."""


def _word(argument: int, target: Target) -> int:
    """Return an argument cut to the width of the thread's words."""
    return argument if target.word == 8 else argument & 0xFFFFFFFF


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word
