# SPDX-License-Identifier: GPL-2.0-or-later
"""A mount: it mounts SOURCE, serves requests, and ends.

The daemon runs it, and takes it out of the tree; fs.operations answers the
requests.  For the server it is a Tree: resolved(), passed(), fence() and others.

Invariants
    SOURCE is opened by the caller before the mount covers it, so SOURCE and the
        mount point may be the same directory.
    pyfuse3 allows one mount per process.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

import pyfuse3
import trio

from fusenotify import mountinfo
from fusenotify.credentials import Credentials
from fusenotify.engine.core import Core
from fusenotify.engine.hooks import Hooks
from fusenotify.fs.attribute_requests import SOCKET_XATTR
from fusenotify.fs.covered import Covered
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.negotiation import LESS, Negotiation
from fusenotify.fs.operations import Operations
from fusenotify.fs.own_root import OwnRoot
from fusenotify.fs.passed import passed
from fusenotify.fs.paths import resolved
from fusenotify.fs.permissions import DirectoryPermissions
from fusenotify.fs.polling import TRIED, PollingTrio
from fusenotify.fs.processes import Processes
from fusenotify.fs.submounts import Place, Seen, Submounts
from fusenotify.fs.syscalls import enter_descriptors, give_up_resource_capability, path_of
from fusenotify.fs.waiting import MOST, WAITING_MOST
from fusenotify.fs.writeback import WriteBack
from fusenotify.view import View

log = logging.getLogger(__name__)

# How many requests may be under way: more than fs.waiting lets wait, since all others end at once.
_MAX_TASKS = MOST + WAITING_MOST + 1000
# How long after a change of the mounts below SOURCE the kernel is told once more to forget the
# changed names.
_SETTLED_SECONDS = 0.05
# After how many seconds a failed look at the mounts below SOURCE is repeated; longer each time.
_LOOK_AGAIN_SECONDS = 0.5
_LOOK_AGAIN_AT_MOST = 60.0
# How many requests that no program waits for the kernel sends at a time (max_background).
_SENT_AT_A_TIME = 12


class MountError(Exception):
    """The mount cannot be made; the message is for the user."""


class Mount:
    """A passthrough of source at mountpoint, both paths of directories.

    options are FUSE's.  reserved_xattr is the value of the attribute
    ``user.fusenotify.socket`` of every object.  exact_access is that of FileRequests, view
    that of Requests, poll_seconds that of PollingTrio.  operations are those of fs.syncing
    for a mount with sync or dirsync.  attributes are those that Submounts sets and clears.
    hooks are those of core.
    """

    def __init__(
        self,
        source: str,
        mountpoint: str,
        core: Core,
        *,
        options: Sequence[str] = (),
        reserved_xattr: bytes = b"",
        view: View | None = None,
        exact_access: bool = False,
        poll_seconds: float = 0.0,
        operations: type[Operations] = Operations,
        attributes: tuple[int, int] = (0, 0),
        hooks: Hooks | None = None,
    ) -> None:
        self.source = os.path.abspath(source)
        self.mountpoint = os.path.abspath(mountpoint)
        self._core = core
        self._hooks = hooks or Hooks(core)
        self._options = options
        self._reserved_xattr = reserved_xattr
        self._view = view or View()
        self._exact_access = exact_access
        self._attributes = attributes
        self._waits = PollingTrio(poll_seconds)
        self._inodes: Inodes | None = None
        self._closed = False
        self._kind = operations
        self._device: str | None = None
        self._root: OwnRoot | None = None
        self._covered: Covered | None = None
        self._write_back: WriteBack | None = None
        self._processes: Processes | None = None
        self._operations: Operations | None = None

    def open(self, source: int, mountpoint: int) -> None:
        """Mount SOURCE; source is a descriptor of it, mountpoint one of the mount point.

        Both are O_PATH descriptors; source belongs to the mount from now on.  Only fusermount3,
        which is needed by users other than root and for auto_unmount, gets the path.

        This sets the process's umask to 0 (requests have that of the caller), raises
        its limit of open files to the hard limit (each known inode takes one), gives
        up CAP_SYS_RESOURCE (so that users' disk quotas hold for what it does for
        them), and makes the directory of its descriptors the working directory.

        Raises MountError if FUSE refuses.
        """
        os.umask(0)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        give_up_resource_capability()
        enter_descriptors()
        self._write_back = WriteBack.start()
        submounts = Submounts(source, *self._attributes)
        submounts.update(submounts.scan())
        self._inodes = Inodes(submounts, self._core)
        self._core.trees.permissions = DirectoryPermissions(self._view)
        self._processes = Processes(hard)
        self._core.details.process_of = self._processes.process_of
        self._core.details.command_of = self._processes.command_of
        self._operations = self._kind(
            self._inodes,
            self._hooks,
            socket=self._reserved_xattr,
            view=self._view,
            exact_access=self._exact_access,
        )
        self._operations.write_back = self._write_back
        name = self.source
        options = {"default_permissions", "subtype=fusenotify"}
        for option in self._options:
            word, _, value = option.partition("=")
            if word == "fsname":
                name = value
            else:
                options.add(option)
        options.add(_Option(f"fsname={_option_value(name)}"))
        by_path = os.geteuid() or "auto_unmount" in options
        target = self.mountpoint if by_path else f"/proc/self/fd/{mountpoint}"
        try:
            pyfuse3.init(self._operations, target, options)
        except RuntimeError as error:
            self._let_go()
            shown = ",".join(self._options) or "none given"
            raise MountError(
                f"FUSE refuses to mount {self.mountpoint} ({error}; options: {shown})"
            ) from None

    def found(self, mount: mountinfo.Mount) -> None:
        """Take this mount's entry in mountinfo, from which its id and its device are known."""
        assert self._inodes is not None
        self._device = mount.device
        self._root = OwnRoot(mount.id)
        if self._write_back is not None:
            self._write_back.mount = mount.id
        self._covered = Covered(mount, self._inodes.root.fd)

    @property
    def root(self) -> Inode:
        """The root of the tree, once open() has returned."""
        assert self._inodes is not None
        return self._inodes.root

    async def serve(self) -> None:
        """Answer requests until the mount is unmounted or terminate() is called."""
        assert self._operations is not None
        negotiation = Negotiation()
        version = getattr(pyfuse3, "__version__", "of an unknown version")
        if version in TRIED:
            self._waits.negotiate(negotiation)
            self._operations.names.forget = negotiation.next_epoch
            setattr(pyfuse3, "trio", self._waits)  # noqa: B010 - no part of its typed interface
        else:
            log.warning(
                "pyfuse3 %s is not a tested version (%s): the daemon sleeps before each request, "
                "and " + LESS,
                version,
                ", ".join(TRIED),
            )
        try:
            async with trio.open_nursery() as helpers:
                helpers.start_soon(self._follow_submounts)
                if self._inodes is not None and self._inodes.submounts.is_live:
                    helpers.start_soon(self._let_go_of_others)
                await pyfuse3.main(max_tasks=_MAX_TASKS)
                helpers.cancel_scope.cancel()
        except* OSError as group:
            _, others = group.split(_is_aborted)
            if others is not None:
                raise
            log.warning("the FUSE connection of %s was aborted", self.mountpoint)
        finally:
            negotiation.close()

    async def _follow_submounts(self) -> None:
        """Show the mounts below SOURCE, and release those that are unmounted."""
        assert self._inodes is not None
        submounts = self._inodes.submounts
        while True:
            await submounts.changed()
            pause = _LOOK_AGAIN_SECONDS
            while not await self._look_below():
                await trio.sleep(pause)
                pause = min(2 * pause, _LOOK_AGAIN_AT_MOST)

    async def _look_below(self) -> bool:
        """Show the present mounts below SOURCE; return whether all of them could be seen."""
        assert self._inodes is not None
        try:
            seen = await trio.to_thread.run_sync(self._inodes.submounts.scan)
        except OSError as error:  # no descriptor is left, for a while
            log.warning("the mounts below SOURCE cannot be seen now: %s", error.strerror)
            return False
        changed = self._update(seen)
        # Twice, since the kernel may just have received an answer from before the change.
        for _ in range(2):
            for place in changed:
                directory = self._inodes.at(place)
                if directory is not None:
                    number = pyfuse3.InodeT(directory.number)
                    pyfuse3.invalidate_entry_async(number, place.name, ignore_enoent=True)
            await trio.sleep(_SETTLED_SECONDS)
        return seen.is_whole

    async def _let_go_of_others(self) -> None:
        """Close descriptors now and then, so that filesystems below an uncloned SOURCE can end."""
        assert self._inodes is not None
        while True:
            await trio.sleep(max(1.0, self._view.entry_timeout, self._view.attr_timeout))
            self._inodes.descriptors.let_go_of_others()

    def _update(self, seen: Seen) -> list[Place]:
        """Update the table of mounts; return the places that have changed."""
        inodes = self._inodes
        assert inodes is not None
        submounts = inodes.submounts
        changed, gone = submounts.update(seen)
        if changed and self._operations is not None:
            self._operations.another_below()
        for shown in gone:
            if shown.device != inodes.device and shown.device not in submounts.devices:
                self._hooks.by(None).unmounted(inodes.of_device(shown.device))
                inodes.abandon(shown.device)
            os.close(shown.fd)
        return changed

    def terminate(self) -> None:
        """Make serve() return now; files that are still open get errors."""
        self._waits.close()
        if self._operations is not None:
            self._operations.turns.end()
        pyfuse3.terminate()

    def close(self) -> None:
        """End the connection, close all files, send IN_UNMOUNT and IN_IGNORED to every watch.

        A mount that is still in the tree stays there, dead: libfuse would unmount whatever its
        path leads to now.
        """
        assert self._inodes is not None
        assert self._operations is not None
        self._closed = True
        pyfuse3.close(unmount=False)
        self._operations.close_all()
        if self._covered is not None:
            self._covered.close()
        self._hooks.by(None).unmounted(self._inodes.all())
        self._let_go()

    def _let_go(self) -> None:
        assert self._inodes is not None
        self._inodes.close()
        if self._processes is not None:
            self._processes.close()
        if self._write_back is not None:
            self._write_back.close()

    def resolved(
        self, path: bytes, who: Credentials, *, follow: bool, directory: bool
    ) -> AbstractContextManager[Inode]:
        """Return a context manager that yields the inode at path, pinned, for the user who.

        See fs.paths.resolved().  After close() the error is ENOENT.
        """
        if self._closed:
            raise FileNotFoundError(errno.ENOENT, "nothing is mounted here any more")
        assert self._inodes is not None
        assert self._operations is not None
        self._operations.names.watched()
        mountpoint = os.fsencode(self.mountpoint)
        return resolved(
            self._inodes,
            mountpoint,
            path,
            who,
            follow=follow,
            directory=directory,
            view=self._view,
            covered=() if self._covered is None else self._covered.objects(),
        )

    def passed(
        self, descriptor: int, who: Credentials, *, directory: bool
    ) -> AbstractContextManager[Inode]:
        """Return a context manager that yields the inode of a client's descriptor, pinned.

        See fs.passed.  After close() the error is ENOENT.
        """
        if self._closed:
            raise FileNotFoundError(errno.ENOENT, "nothing is mounted here any more")
        assert self._inodes is not None
        assert self._operations is not None
        self._operations.names.watched()
        return passed(
            self._inodes, self._device, descriptor, who, directory=directory, view=self._view
        )

    def client_came(self, uid: int) -> None:
        """Count the descriptor of a client's connection, in the share for the user's open files.

        Raises OSError (EMFILE) if it exceeds the user's share.
        """
        assert self._inodes is not None
        descriptors = self._inodes.descriptors
        try:
            descriptors.make_room(uid)
        except OSError as error:
            message = f"user {uid} has used up the user's share of the daemon's descriptors"
            raise OSError(error.errno, f"{message}, by open files and connections") from None
        descriptors.shares.take(uid)

    def client_went(self, uid: int) -> None:
        """Give that descriptor back."""
        assert self._inodes is not None
        self._inodes.descriptors.shares.give_back(uid)

    async def fence(self) -> None:
        """Wait until the events of everything done through the mount before are queued.

        Programs wait for every request except RELEASE, so there is nothing to wait
        for if no file is open.  Otherwise we make a request of our own through the
        mount.  It is answered after all earlier requests, except those that the
        kernel holds back: it sends only _SENT_AT_A_TIME requests at a time that no
        program waits for, in their order.  If such requests arrived during ours, it
        may hold back more, so we make another one.  No earlier RELEASE is missing
        once as many arrived as files were open; nor, in a busy stream that never
        ends, after enough rounds for one RELEASE of each open file and as many reads.
        """
        operations = self._operations
        assert operations is not None
        open_files = len(operations.files)
        enough = operations.released + open_files
        for _ in range(2 * open_files // _SENT_AT_A_TIME + 2):
            before = operations.background
            if not operations.files:
                return
            with suppress(OSError):  # unmounted: nothing can come any more
                await trio.to_thread.run_sync(self._ask_itself)
            if operations.background == before or operations.released >= enough:
                return

    def _ask_itself(self) -> None:
        """Make a request through the mount, and wait for its answer.

        Raises OSError.
        """
        assert self._root is not None
        with self._root.opened() as root:
            os.getxattr(path_of(root), SOCKET_XATTR)


def _is_aborted(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ECONNABORTED


class _Option(str):
    """An option that is passed to libfuse as bytes; pyfuse3 would accept only ASCII."""

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return os.fsencode(str(self))


def _option_value(text: str) -> str:
    """Return text, escaped for use as the value of a FUSE option."""
    return text.replace("\\", "\\\\").replace(",", "\\,")
