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
from fusenotify.fs.behind.fanotify import why_not_heard
from fusenotify.fs.behind.in_order import HooksInOrder, placed
from fusenotify.fs.behind.listening import Behind
from fusenotify.fs.behind.notified import notify
from fusenotify.fs.covered import Covered
from fusenotify.fs.following import Following
from fusenotify.fs.inodes import Inode, Inodes
from fusenotify.fs.negotiation import LESS, Negotiation
from fusenotify.fs.operations import Operations
from fusenotify.fs.own_root import OwnRoot
from fusenotify.fs.passed import passed
from fusenotify.fs.paths import resolved
from fusenotify.fs.permissions import DirectoryPermissions
from fusenotify.fs.polling import TRIED, PollingTrio
from fusenotify.fs.processes import Processes
from fusenotify.fs.submounts import Submounts
from fusenotify.fs.syscalls import enter_descriptors, give_up_resource_capability, path_of
from fusenotify.fs.waiting import MOST, WAITING_MOST
from fusenotify.fs.writeback import WriteBack
from fusenotify.heard import OFF, Heard
from fusenotify.view import View

log = logging.getLogger(__name__)

# How many requests may be under way: more than fs.waiting lets wait, since all others end at once.
_MAX_TASKS = MOST + WAITING_MOST + 1000
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
        behind: str = OFF,
        view_alone: View | None = None,
    ) -> None:
        self.source = os.path.abspath(source)
        self.mountpoint = os.path.abspath(mountpoint)
        self._core = core
        self._hooks = hooks or Hooks(core)
        self._options = options
        self._reserved_xattr = reserved_xattr
        self._view = view or View()
        self._view_alone = view_alone or self._view
        self._heard = Heard(behind, OFF)
        self.behind: Behind | None = None
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
        self._listen()
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
        if self.behind is not None:
            self._operations.on_absent = self.behind.mounted()

    def _listen(self) -> None:
        """Begin to read changes behind the mount, if that is wanted and possible."""
        if isinstance(self._hooks, HooksInOrder) and self._inodes is not None:
            try:
                self.behind = Behind(self._heard.wanted, self._inodes, self._hooks)
            except OSError as error:
                self._heard = self._heard._replace(why_not=why_not_heard(error))
                log.warning("changes behind the mount are not heard: %s", self._heard.why_not)
        if self._hears_less():
            self._view = self._view_alone

    def _hears_less(self) -> bool:
        """Return whether changes that were to be heard are not heard somewhere in SOURCE."""
        if self.behind is None:
            return self._heard.wanted != OFF
        return not self.behind.hears_all()

    def found(self, mount: mountinfo.Mount) -> None:
        """Take this mount's entry in mountinfo, from which its id and its device are known."""
        assert self._inodes is not None
        self._device = mount.device
        self._root = OwnRoot(mount.id)
        if self._write_back is not None:
            self._write_back.mounted(mount.id)
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
                assert self._inodes is not None
                following = Following(self._inodes, self._hooks, self._another_below)
                helpers.start_soon(following.run)
                if self._inodes.submounts.is_live:
                    seconds = max(1.0, self._view.entry_timeout, self._view.attr_timeout)
                    helpers.start_soon(following.let_go_of_others, seconds)
                if self.behind is not None:
                    helpers.start_soon(self.behind.run)
                await pyfuse3.main(max_tasks=_MAX_TASKS)
                helpers.cancel_scope.cancel()
        except* OSError as group:
            _, others = group.split(lambda error: getattr(error, "errno", 0) == errno.ECONNABORTED)
            if others is not None:
                raise
            log.warning("the FUSE connection of %s was aborted", self.mountpoint)
        finally:
            negotiation.close()

    def _another_below(self) -> None:
        """Note that a mount below SOURCE came or went."""
        assert self._operations is not None
        self._operations.another_below()
        if self._hears_less():
            self._operations.remember_less(self._view_alone)

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
        if self.behind is not None:
            self.behind.close()
        self._inodes.close()
        if self._processes is not None:
            self._processes.close()
        if self._write_back is not None:
            self._write_back.close()

    def resolved(
        self, path: bytes, who: Credentials, *, follow: bool | None, directory: bool
    ) -> AbstractContextManager[Inode]:
        """Return a context manager that yields the inode at path, pinned, for the user who.

        See fs.paths.resolved().  After close() the error is ENOENT.
        """
        inodes = self._about_to_watch()
        return placed(
            self.behind,
            resolved(
                inodes,
                os.fsencode(self.mountpoint),
                path,
                who,
                follow=follow,
                directory=directory,
                view=self._view,
                covered=() if self._covered is None else self._covered.objects(),
            ),
        )

    def passed(
        self, descriptor: int, who: Credentials, *, directory: bool
    ) -> AbstractContextManager[Inode]:
        """Return a context manager that yields the inode of a client's descriptor, pinned.

        See fs.passed.  After close() the error is ENOENT.
        """
        inodes = self._about_to_watch()
        return placed(
            self.behind,
            passed(inodes, self._device, descriptor, who, directory=directory, view=self._view),
        )

    def _about_to_watch(self) -> Inodes:
        """Return the table of inodes; raise OSError (ENOENT) after close()."""
        if self._closed:
            raise FileNotFoundError(errno.ENOENT, "nothing is mounted here any more")
        assert self._inodes is not None
        assert self._operations is not None
        return self._inodes

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

    def heard(self) -> Heard:
        """Return what was heard of changes behind the mount."""
        return self._heard if self.behind is None else self.behind.heard()

    async def notify(self, path: bytes, what: int) -> None:
        """Report a change at a path of SOURCE that only the caller knows of (behind.notified)."""
        assert self._inodes is not None
        await notify(self._inodes, self._hooks, path, what)

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

        If changes behind the mount are heard, those from before are queued, too.
        """
        await self._background_told()
        if self.behind is not None:
            await self.behind.fence()

    async def _background_told(self) -> None:
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
        """Make a request through the mount, and wait for its answer; raises OSError."""
        assert self._root is not None
        with self._root.opened() as root:
            os.getxattr(path_of(root), SOCKET_XATTR)


class _Option(str):
    """An option that is passed to libfuse as bytes; pyfuse3 would accept only ASCII."""

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return os.fsencode(str(self))


def _option_value(text: str) -> str:
    """Return text, escaped for use as the value of a FUSE option."""
    return text.replace("\\", "\\\\").replace(",", "\\,")
