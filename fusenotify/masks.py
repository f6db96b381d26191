# SPDX-License-Identifier: GPL-2.0-or-later
"""Masks in the form in which people write and read them: an IntFlag, and words.

Clients, commands and tests show them to users; fusenotify.bits has the same as plain
ints, for code that handles many events.

Invariant
    The text of a mask gives the same mask again: that of str() wherever a mask is
        accepted (plain()), that of repr() in Python code that imports the names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from enum import IntFlag

from fusenotify import bits
from fusenotify.bits import SINGLE_BITS, names


class Mask(IntFlag):
    """Events and flags of inotify(7).  Plain ints are accepted wherever this is.

    str() returns words such as ``CREATE|ISDIR``, repr() names such as
    ``IN_CREATE|IN_ISDIR``; a bit without a name is a hexadecimal number.
    """

    ACCESS = bits.IN_ACCESS
    MODIFY = bits.IN_MODIFY
    ATTRIB = bits.IN_ATTRIB
    CLOSE_WRITE = bits.IN_CLOSE_WRITE
    CLOSE_NOWRITE = bits.IN_CLOSE_NOWRITE
    OPEN = bits.IN_OPEN
    MOVED_FROM = bits.IN_MOVED_FROM
    MOVED_TO = bits.IN_MOVED_TO
    CREATE = bits.IN_CREATE
    DELETE = bits.IN_DELETE
    DELETE_SELF = bits.IN_DELETE_SELF
    MOVE_SELF = bits.IN_MOVE_SELF
    UNMOUNT = bits.IN_UNMOUNT
    Q_OVERFLOW = bits.IN_Q_OVERFLOW
    IGNORED = bits.IN_IGNORED
    ONLYDIR = bits.IN_ONLYDIR
    DONT_FOLLOW = bits.IN_DONT_FOLLOW
    EXCL_UNLINK = bits.IN_EXCL_UNLINK
    MASK_CREATE = bits.IN_MASK_CREATE
    MASK_ADD = bits.IN_MASK_ADD
    ISDIR = bits.IN_ISDIR
    ONESHOT = bits.IN_ONESHOT
    # Several events.
    CLOSE = bits.IN_CLOSE
    MOVE = bits.IN_MOVE
    ALL_EVENTS = bits.IN_ALL_EVENTS

    def __str__(self) -> str:
        return "|".join(_shown(self)) or "0"

    def __and__(self, other: int) -> Mask:
        # Programs do this with each event, and IntFlag's own method takes four times as long.
        return MASKS[int(self) & other]

    __rand__ = __and__

    def __repr__(self) -> str:
        words = [word if word.startswith("0x") else f"IN_{word}" for word in _shown(self)]
        return "|".join(words) or f"{type(self).__name__}(0)"


class _Masks(dict[int, Mask]):
    """The mask for each int; a lookup here is faster than Mask()."""

    def __missing__(self, bits: int) -> Mask:
        return self.setdefault(bits, Mask(bits))


MASKS = _Masks()

# The accepted forms of a mask: bits, words such as "CREATE|DELETE", or several of either.
AnyMask = int | str | Iterable[int | str]

IN_ACCESS = Mask.ACCESS
IN_MODIFY = Mask.MODIFY
IN_ATTRIB = Mask.ATTRIB
IN_CLOSE_WRITE = Mask.CLOSE_WRITE
IN_CLOSE_NOWRITE = Mask.CLOSE_NOWRITE
IN_OPEN = Mask.OPEN
IN_MOVED_FROM = Mask.MOVED_FROM
IN_MOVED_TO = Mask.MOVED_TO
IN_CREATE = Mask.CREATE
IN_DELETE = Mask.DELETE
IN_DELETE_SELF = Mask.DELETE_SELF
IN_MOVE_SELF = Mask.MOVE_SELF
IN_UNMOUNT = Mask.UNMOUNT
IN_Q_OVERFLOW = Mask.Q_OVERFLOW
IN_IGNORED = Mask.IGNORED
IN_ONLYDIR = Mask.ONLYDIR
IN_DONT_FOLLOW = Mask.DONT_FOLLOW
IN_EXCL_UNLINK = Mask.EXCL_UNLINK
IN_MASK_CREATE = Mask.MASK_CREATE
IN_MASK_ADD = Mask.MASK_ADD
IN_ISDIR = Mask.ISDIR
IN_ONESHOT = Mask.ONESHOT
IN_CLOSE = Mask.CLOSE
IN_MOVE = Mask.MOVE
IN_ALL_EVENTS = Mask.ALL_EVENTS

_WORDS = {name: mask.value for name, mask in Mask.__members__.items()}
# The words for several bits.
GROUPS = {name: mask for name, mask in _WORDS.items() if name not in SINGLE_BITS}


def plain(mask: AnyMask) -> int:
    """Return a mask in any form as a plain int.

    Words are the names of bits and of groups of bits (CLOSE, MOVE, ALL_EVENTS), in upper
    or lower case, with or without ``IN_``, separated by ``|`` or commas.

    Raises TypeError for an object that is not a mask, ValueError for an unknown word.
    """
    if type(mask) is int:
        return mask
    if isinstance(mask, int) and not isinstance(mask, bool):
        return int(mask)
    found = 0
    if isinstance(mask, str):
        for word in re.split("[|,]", mask):
            found |= _bits_of(word.strip(), mask)
        return found
    if isinstance(mask, Iterable) and not isinstance(mask, bytes | bytearray):
        for part in mask:
            if not isinstance(part, int | str):
                raise _no_mask(part)
            found |= plain(part)
        return found
    raise _no_mask(mask)


def unknown_word(word: str, known: Collection[str], whole: str) -> ValueError:
    """Return the error for a word in whole that is not a known one."""
    import difflib  # its import takes longer than everything else here

    near = difflib.get_close_matches(word.strip().upper().removeprefix("IN_"), known, 1)
    meant = f"did you mean {near[0]}?" if near else "there are " + ", ".join(known)
    return ValueError(f"'{whole}': {word or 'an empty word'} is not an event; {meant}")


def _shown(mask: int) -> list[str]:
    """Return the words for a mask, as few as possible."""
    if mask & bits.IN_ALL_EVENTS == bits.IN_ALL_EVENTS:
        return ["ALL_EVENTS", *names(mask & ~bits.IN_ALL_EVENTS)]
    return names(mask)


def _bits_of(word: str, whole: str) -> int:
    name = word.upper().removeprefix("IN_")
    if name in _WORDS:
        return _WORDS[name]
    if re.fullmatch("0|0X[0-9A-F]+", name):
        return int(name, 16)
    raise unknown_word(word, _WORDS, whole)


def _no_mask(given: object) -> TypeError:
    return TypeError(
        f"a mask is an int, words such as 'CREATE|DELETE', or a list of them, not {given!r}"
    )
