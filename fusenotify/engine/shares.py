# SPDX-License-Identifier: GPL-2.0-or-later
"""Each user's share of a limited resource, of which some must be left for other users.

fs.descriptors divides the daemon's descriptors by it, engine.hooks the names that
were removed while they were in use.

Invariant
    A user who holds nothing is not remembered.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Shares:
    """How many items each user holds, of most items in all.

    Users may hold as many items as they leave free: the first takes at most
    half, the next at most half of the rest, and so on.  Root and the daemon's
    user may take all.
    """

    def __init__(self, most: int) -> None:
        self.taken = 0
        self._most = most
        self._held: dict[int, int] = {}
        self._without_share = frozenset({0, os.geteuid()})

    def may_take(self, uid: int) -> bool:
        """Return whether a user may take one more item."""
        free = self._most - self.taken
        return free > 0 and (self._held.get(uid, 0) < free or uid in self._without_share)

    def take(self, uid: int) -> None:
        """Record that a user took one item."""
        self.taken += 1
        self._held[uid] = self._held.get(uid, 0) + 1

    def give_back(self, uid: int) -> None:
        """Record that a user gave one item back."""
        self.taken -= 1
        left = self._held[uid] - 1
        if left:
            self._held[uid] = left
        else:
            del self._held[uid]


class Kept(Generic[_T]):
    """Objects that are kept for users, at most so many in all as most says.

    Users may have as many objects as they leave free.  Nobody is refused: a user
    who has too many loses the object that was kept for longest.  owners has the
    uid of the user for whom each object is kept.
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
        """Keep an object for a user; return the object that the user loses for it, if any."""
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
        """Remove an object and return it; return None if there is none."""
        if not self.owners:
            return None
        kept = next(iter(self.owners))
        self.remove(kept)
        return kept
