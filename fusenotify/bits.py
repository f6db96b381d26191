# SPDX-License-Identifier: GPL-2.0-or-later
"""The bits of inotify(7)'s masks, as plain ints, for code that handles many events.

Every layer imports this module; it imports nothing of ours.  Users have the
same names in fusenotify.masks, where they are members of an IntFlag.
"""

from __future__ import annotations

# Events that a program can ask for.
IN_ACCESS = 0x00000001
IN_MODIFY = 0x00000002
IN_ATTRIB = 0x00000004
IN_CLOSE_WRITE = 0x00000008
IN_CLOSE_NOWRITE = 0x00000010
IN_OPEN = 0x00000020
IN_MOVED_FROM = 0x00000040
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_DELETE_SELF = 0x00000400
IN_MOVE_SELF = 0x00000800

IN_CLOSE = IN_CLOSE_WRITE | IN_CLOSE_NOWRITE
IN_MOVE = IN_MOVED_FROM | IN_MOVED_TO
IN_ALL_EVENTS = 0x00000FFF

# Events that are always sent.
IN_UNMOUNT = 0x00002000
IN_Q_OVERFLOW = 0x00004000
IN_IGNORED = 0x00008000

# Flags of add_watch.
IN_ONLYDIR = 0x01000000
IN_DONT_FOLLOW = 0x02000000
IN_EXCL_UNLINK = 0x04000000
IN_MASK_CREATE = 0x10000000
IN_MASK_ADD = 0x20000000
IN_ONESHOT = 0x80000000

# Set in records about directories.
IN_ISDIR = 0x40000000

# All bits by their names, without ``IN_``.
SINGLE_BITS = {
    "ACCESS": IN_ACCESS,
    "MODIFY": IN_MODIFY,
    "ATTRIB": IN_ATTRIB,
    "CLOSE_WRITE": IN_CLOSE_WRITE,
    "CLOSE_NOWRITE": IN_CLOSE_NOWRITE,
    "OPEN": IN_OPEN,
    "MOVED_FROM": IN_MOVED_FROM,
    "MOVED_TO": IN_MOVED_TO,
    "CREATE": IN_CREATE,
    "DELETE": IN_DELETE,
    "DELETE_SELF": IN_DELETE_SELF,
    "MOVE_SELF": IN_MOVE_SELF,
    "UNMOUNT": IN_UNMOUNT,
    "Q_OVERFLOW": IN_Q_OVERFLOW,
    "IGNORED": IN_IGNORED,
    "ONLYDIR": IN_ONLYDIR,
    "DONT_FOLLOW": IN_DONT_FOLLOW,
    "EXCL_UNLINK": IN_EXCL_UNLINK,
    "MASK_CREATE": IN_MASK_CREATE,
    "MASK_ADD": IN_MASK_ADD,
    "ISDIR": IN_ISDIR,
    "ONESHOT": IN_ONESHOT,
}

# All bits that today's kernel knows in a mask; for any other it returns EINVAL.
KNOWN_BITS = sum(SINGLE_BITS.values())


def names(mask: int) -> list[str]:
    """Return the names of the bits set in mask, without ``IN_``, lowest bit first.

    Bits without a name come last, as one hexadecimal number.
    """
    mask = int(mask)  # the arithmetic of an IntFlag is many times slower
    found = [name for name, bit in SINGLE_BITS.items() if mask & bit]
    unknown = mask & ~KNOWN_BITS
    return [*found, hex(unknown)] if unknown else found
