# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's errors; each has the errno that the kernel would return.

Every layer imports this module; it imports nothing of ours.
"""

from __future__ import annotations

import errno
import os


class NotifyError(OSError):
    """A refusal that the kernel would express as a negative errno."""

    code = errno.EIO

    def __init__(self, detail: str = "") -> None:
        text = os.strerror(self.code)
        super().__init__(self.code, f"{text}: {detail}" if detail else text)


class InvalidMask(NotifyError):
    """The mask of a watch names no event, or has unknown bits."""

    code = errno.EINVAL


class InvalidPattern(NotifyError):
    """An exclusion pattern does not compile."""

    code = errno.EINVAL


class NoPatterns(NotifyError):
    """The libraries for patterns are not installed."""

    code = errno.EOPNOTSUPP


class NoSuchWatch(NotifyError):
    """The device has no watch with this descriptor."""

    code = errno.EINVAL


class WatchExists(NotifyError):
    """The mask has IN_MASK_CREATE, but this device watches the inode already."""

    code = errno.EEXIST


class TooManyWatches(NotifyError):
    """The user's watches have reached max_user_watches."""

    code = errno.ENOSPC


class TooManyTrees(TooManyWatches):
    """The user's tree watches have reached max_user_trees."""


class TooManyExclusions(TooManyWatches):
    """The user's watches have the largest allowed number of lists of patterns."""


class NoDirectory(NotifyError):
    """A tree watch was requested for an object that is not a directory."""

    code = errno.ENOTDIR


class TooManyInstances(NotifyError):
    """The user's devices have reached max_user_instances."""

    code = errno.EMFILE


class QueueEmpty(NotifyError):
    """Nothing is queued, and the reader does not want to wait."""

    code = errno.EAGAIN


class BufferTooSmall(NotifyError):
    """The first queued record does not fit the reader's buffer."""

    code = errno.EINVAL


class DeviceClosed(NotifyError):
    """The device was closed."""

    code = errno.EBADF
