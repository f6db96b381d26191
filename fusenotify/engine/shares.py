# SPDX-License-Identifier: GPL-2.0-or-later
"""What one user may take of what there is only so much of, so that some is left for the next.

fs.descriptors shares the daemon's descriptors out by it, engine.hooks the names
that were removed while they were in use.

Invariant
    A user who holds nothing is not remembered.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Shares:
    """How many each user holds of most that there are.

    A user may hold as many as he leaves free: the first takes a half at most,
    the next a half of what is left, and so on.  Root and the daemon's user may
    take all.
    """

    def __init__(self, most: int) -> None:
        self.taken = 0
        self._most = most
        self._held: dict[int, int] = {}
        self._without_share = frozenset({0, os.geteuid()})

    def may_take(self, uid: int) -> bool:
        """Return whether a user may take one more."""
        free = self._most - self.taken
        return free > 0 and (self._held.get(uid, 0) < free or uid in self._without_share)

    def take(self, uid: int) -> None:
        """Say that a user took one."""
        self.taken += 1
        self._held[uid] = self._held.get(uid, 0) + 1

    def give_back(self, uid: int) -> None:
        """Say that a user let go of one."""
        self.taken -= 1
        left = self._held[uid] - 1
        if left:
            self._held[uid] = left
        else:
            del self._held[uid]


class Kept(Generic[_T]):
    """Objects that are kept for users, of whom each may have as many as he leaves free of most.

    Nobody is refused: who has too many loses what was kept for longest.  owners
    says whom each object is kept for.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.owners: dict[_T, int] = {}
        self._by_owner: dict[int, OrderedDict[_T, None]] = {}

    def __len__(self) -> int:
        return len(self.owners)

    def __contains__(self, kept: object) -> bool:
        return kept in self.owners

    def add(self, kept: _T, uid: int) -> _T | None:
        """Keep an object for a user; return the one that he loses, if he has too many."""
        own = self._by_owner.setdefault(uid, OrderedDict())
        own[kept] = None
        self.owners[kept] = uid
        if len(own) <= self._most - len(self.owners) + 1:
            return None
        oldest = next(iter(own))
        self.remove(oldest)
        return oldest

    def remove(self, kept: _T) -> None:
        """Keep an object no longer."""
        uid = self.owners.pop(kept)
        own = self._by_owner[uid]
        del own[kept]
        if not own:
            del self._by_owner[uid]

    def pop(self) -> _T | None:
        """Remove one and return it, while there are any."""
        if not self.owners:
            return None
        kept = next(iter(self.owners))
        self.remove(kept)
        return kept
