# SPDX-License-Identifier: GPL-2.0-or-later
"""The named semantics: a table of the differences between Linux 2.6.18 and today's Linux.

The engine looks in this table wherever the two differ; nothing else tells them
apart.  docs/reference/semantics.md explains each flag.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusenotify.bits import (
    IN_ALL_EVENTS,
    IN_EXCL_UNLINK,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_ONESHOT,
    KNOWN_BITS,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """One semantics.  For each flag, this says what happens if it is True.

    merge_with_newest
        A new event is compared with the newest queued event (otherwise with the
        oldest) and dropped if they are equal.
    merge_compares_cookies
        Events with different cookies are different.
    merge_into_full_queue
        Merging is tried before the queue's limit is tested.
    overflow_keeps_cookie
        IN_Q_OVERFLOW has the lost event's cookie (otherwise 0).
    overflow_repeats
        A second IN_Q_OVERFLOW may be queued while one is queued.
    oneshot_ends_with_ignored
        An IN_ONESHOT watch ends with IN_IGNORED after its event.
    short_read_is_error
        A buffer too small for the first record is EINVAL (otherwise the read
        returns no bytes).
    strict_masks
        Unknown bits, and IN_MASK_ADD with IN_MASK_CREATE, are EINVAL before
        anything else is looked at, and flags alone make a watch (otherwise
        unknown bits are dropped, and a mask without an event is EINVAL after
        the path was resolved).
    watch_bits
        The bits that a watch keeps of the requested mask.
    honours_mask_create
        IN_MASK_CREATE on a watched inode is EEXIST.
    refusal_takes_wd
        An add_watch refused with ENOSPC uses up a watch descriptor.
    unmount_tells_isdir
        IN_UNMOUNT of a directory has IN_ISDIR.
    """

    name: str
    merge_with_newest: bool
    merge_compares_cookies: bool
    merge_into_full_queue: bool
    overflow_keeps_cookie: bool
    overflow_repeats: bool
    oneshot_ends_with_ignored: bool
    short_read_is_error: bool
    strict_masks: bool
    watch_bits: int
    honours_mask_create: bool
    refusal_takes_wd: bool
    unmount_tells_isdir: bool

    def refuses_at_once(self, mask: int) -> str:
        """Return why a mask is refused before the path and the device are looked at, or ''."""
        if not self.strict_masks:
            return ""
        if not mask & KNOWN_BITS:
            return "the mask names no event and no flag"
        if mask & ~KNOWN_BITS:
            return f"the mask has unknown bits {mask & ~KNOWN_BITS:#x}"
        if mask & IN_MASK_ADD and mask & IN_MASK_CREATE:
            return "IN_MASK_ADD and IN_MASK_CREATE exclude each other"
        return ""


LINUX_2_6_18 = Policy(
    name="linux-2.6.18",
    merge_with_newest=False,
    merge_compares_cookies=True,
    merge_into_full_queue=True,
    overflow_keeps_cookie=True,
    overflow_repeats=True,
    oneshot_ends_with_ignored=False,
    short_read_is_error=False,
    strict_masks=False,
    watch_bits=IN_ALL_EVENTS | IN_ONESHOT,
    honours_mask_create=False,
    refusal_takes_wd=False,
    unmount_tells_isdir=False,
)

LINUX_6 = Policy(
    name="linux-6",
    merge_with_newest=True,
    merge_compares_cookies=False,
    merge_into_full_queue=False,
    overflow_keeps_cookie=False,
    overflow_repeats=False,
    oneshot_ends_with_ignored=True,
    short_read_is_error=True,
    strict_masks=True,
    watch_bits=IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK,
    honours_mask_create=True,
    refusal_takes_wd=True,
    unmount_tells_isdir=True,
)

SEMANTICS = {policy.name: policy for policy in (LINUX_2_6_18, LINUX_6)}


def semantics(name: str) -> Policy:
    """Return the semantics of that name.

    Raises ValueError for an unknown name, with the known names.
    """
    try:
        return SEMANTICS[name]
    except KeyError:
        known = " and ".join(SEMANTICS)
        raise ValueError(f"unknown semantics '{name}': there are {known}") from None
