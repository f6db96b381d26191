# SPDX-License-Identifier: GPL-2.0-or-later
"""The events that a watch leaves out: by patterns as in gitignore(5), and those of one process.

engine.core and engine.trees ask here before they pass an event to a watch, so
an unwanted event takes no place in a queue and uses up no one-shot watch.
Patterns come from clients and are matched in the daemon's only thread, so they
are matched by an automaton (RE2), never by backtracking.  The time still grows
with the length of the name times the size of the patterns, so each user has a
share of the thread's time (engine.time_share).

Invariants
    Everything below an excluded directory is excluded.
    A name is matched once: its verdict is remembered, for names of at most
        REMEMBERED bytes in all.
    An event that there is no time to judge counts as lost, and the device
        reports that: it is neither passed on nor silently left out.
    Equal lists of patterns of one user are compiled once, and a user has at
        most MOST_LISTS of them, since each takes up to 8 MiB.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from fusenotify.bits import IN_ISDIR
from fusenotify.credentials import Actor
from fusenotify.engine.time_share import OutOfTime, TimeShare
from fusenotify.errors import InvalidPattern, NoPatterns, TooManyExclusions

# An environment that was put together by hand may lack them: then everything but patterns works.
_HAS_LIBRARIES = bool(find_spec("pathspec") and find_spec("re2"))
if TYPE_CHECKING or _HAS_LIBRARIES:
    import re2
    from pathspec import GitIgnoreSpec

# Verdicts are remembered for names of so many bytes together, then all are forgotten.  Each
# verdict counts _VERDICT_BYTES more than its name.
REMEMBERED = 1 << 20
_VERDICT_BYTES = 200
# How many patterns a watch may have, and how many bytes they may have together.
MOST_PATTERNS = 1000
MOST_PATTERN_BYTES = 8 * 1024
# How many different lists of patterns the watches of a user may have.
MOST_LISTS = 32
# The length of a name times the bytes of the patterns may be so large.  At that size, name and
# patterns that are chosen to be slow take a quarter of a second.
MOST_WORK = 4 << 20
# Shorter patterns count as so many bytes, so that no path of half a megabyte is matched:
# engine.trees uses one as a placeholder for all paths that are too long.
_LEAST_SIZE = 8
# With so many users in the table, those who need not be remembered are removed.
_MOST_USERS = 1000

# Names are arbitrary bytes, but patterns match characters: each byte is one character.
_ONE_CHARACTER_A_BYTE = "latin-1"
# The exceptions for a pattern that does not compile, of pathspec, of re (which pathspec tries
# first) and of RE2.
_ERRORS = (ValueError, FutureWarning, re.error, *((re2.error,) if _HAS_LIBRARIES else ()))


class Exclusion:
    """Compiled patterns, each a line of a .gitignore file in the watched directory.

    ``*.o`` excludes such names everywhere, ``/build`` only the one in the
    watched directory itself, and ``cache/`` only directories.  ``!keep.o``
    includes a name again unless a directory above it is excluded.  Empty lines
    and lines that begin with ``#`` exclude nothing.  time is the share of time
    that matching uses; by default a new share.

    Raises InvalidPattern (EINVAL), which says which pattern is wrong and why;
    NoPatterns (EOPNOTSUPP) if the libraries are missing.
    """

    __slots__ = ("__weakref__", "_remembered", "_size", "_spec", "_time", "_verdicts", "patterns")

    def __init__(self, patterns: Sequence[bytes], time: TimeShare | None = None) -> None:
        if not _HAS_LIBRARIES:
            raise NoPatterns(
                "the daemon's Python lacks the libraries for patterns: pip install 'pathspec[re2]'"
            )
        if len(patterns) > MOST_PATTERNS:
            raise InvalidPattern(f"{len(patterns)} patterns: at most {MOST_PATTERNS} are allowed")
        if (size := sum(map(len, patterns))) > MOST_PATTERN_BYTES:
            raise InvalidPattern(
                f"{size} bytes of patterns: at most {MOST_PATTERN_BYTES} are allowed"
            )
        self.patterns = tuple(patterns)
        self._size = max(size, _LEAST_SIZE)
        self._time = TimeShare() if time is None else time
        self._spec = _compiled(self.patterns)
        self._verdicts: dict[tuple[bytes, bool], bool] = {}
        self._remembered = 0

    def excludes(self, path: bytes, is_dir: bool) -> bool:
        """Return whether path, which is relative to the watched directory, is excluded.

        is_dir says whether the path is one of a directory.

        Raises OutOfTime.
        """
        verdict = self._verdicts.get((path, is_dir))
        if verdict is not None:
            return verdict
        if self._time.wait():
            raise OutOfTime
        self._time.begin()
        try:
            return self._judge(path, is_dir)
        finally:
            self._time.end()

    def wait(self) -> float:
        """Return how many seconds to wait before excludes() has time for another name."""
        return self._time.wait()

    def _judge(self, path: bytes, is_dir: bool) -> bool:
        """Judge a path from the top: an excluded directory decides for everything below it."""
        end = path.find(b"/")
        while end >= 0:
            above = path[:end]
            verdict = self._verdicts.get((above, True))
            if verdict is None:
                verdict = self._remember(above, True, self._matches(above, True))
            if verdict:
                return self._remember(path, is_dir, True)
            end = path.find(b"/", end + 1)
        return self._remember(path, is_dir, self._matches(path, is_dir))

    def _remember(self, path: bytes, is_dir: bool, verdict: bool) -> bool:
        size = _VERDICT_BYTES + len(path)
        self._remembered += size
        if self._remembered > REMEMBERED:
            self._verdicts.clear()
            self._remembered = size
        self._verdicts[path, is_dir] = verdict
        return verdict

    def _matches(self, path: bytes, is_dir: bool) -> bool:
        if len(path) * self._size > MOST_WORK or self._time.is_used_up():
            raise OutOfTime
        text = path.decode(_ONE_CHARACTER_A_BYTE)
        return self._spec.match_file(text + "/" if is_dir else text)


class UsersExclusions:
    """The lists of patterns of one user; each is compiled once and kept while a watch uses it.

    compiling and matching are the user's shares of time for compiling patterns and
    for matching names.
    """

    def __init__(self) -> None:
        self.compiling = TimeShare()
        self.matching = TimeShare()
        self.lists: WeakValueDictionary[tuple[bytes, ...], Exclusion] = WeakValueDictionary()


class Exclusions:
    """The patterns of all watches, by user."""

    def __init__(self) -> None:
        self._users: dict[int, UsersExclusions] = {}

    def wait(self, uid: int, patterns: Sequence[bytes]) -> float:
        """Return how many seconds the user has to wait before of() may compile the patterns."""
        user = self._users.get(uid)
        return 0.0 if user is None or tuple(patterns) in user.lists else user.compiling.wait()

    def of(self, uid: int, patterns: Sequence[bytes]) -> Exclusion:
        """Return the exclusion that all watches of a user with these patterns share.

        Raises InvalidPattern (EINVAL), NoPatterns (EOPNOTSUPP), TooManyExclusions (ENOSPC).
        """
        user = self._users.get(uid)
        if user is None:
            self._forget_idle()
            user = self._users[uid] = UsersExclusions()
        found = user.lists.get(tuple(patterns))
        if found is not None:
            return found
        if len(user.lists) >= MOST_LISTS:
            raise TooManyExclusions(f"user {uid} has {MOST_LISTS} lists of patterns already")
        user.compiling.begin()
        try:
            found = user.lists[tuple(patterns)] = Exclusion(patterns, user.matching)
        finally:
            user.compiling.end()
        return found

    def _forget_idle(self) -> None:
        if len(self._users) < _MOST_USERS:
            return
        for uid, user in list(self._users.items()):
            if not (user.lists or user.compiling.wait() or user.matching.wait()):
                del self._users[uid]


class Unwanted:
    """The events that one watch leaves out.

    exclusion has its patterns, or is None.  process is the id of the process whose
    events it leaves out, or 0; process_of returns the process id of a thread.
    lose is called for an event that there is no time to judge.
    """

    __slots__ = ("_exclusion", "_lose", "_process", "_process_of")

    def __init__(
        self,
        exclusion: Exclusion | None = None,
        process: int = 0,
        process_of: Callable[[int], int] = int,
        lose: Callable[[], object] = int,
    ) -> None:
        self._exclusion = exclusion
        self._lose = lose
        self._process = process
        self._process_of = process_of

    def has(self, mask: int, name: bytes | None, actor: Actor | None) -> bool:
        """Return whether an event, which actor caused on the object with that name, is unwanted.

        Patterns never exclude events of the watched object itself (without a name).
        """
        if self._exclusion is not None and name:
            path = name.removesuffix(b"/")
            try:
                if self._exclusion.excludes(path, bool(mask & IN_ISDIR) or path is not name):
                    return True
            except OutOfTime:
                self._lose()
                return True
        if not self._process or actor is None or not actor.pid:
            return False
        return self._process in (actor.pid, self._process_of(actor.pid))


def _compiled(patterns: Sequence[bytes]) -> GitIgnoreSpec:
    """Return compiled patterns.

    Raises InvalidPattern, which names the first wrong one.
    """
    try:
        return _spec(patterns)
    except _ERRORS as error:
        for pattern in patterns:  # find the wrong one
            try:
                _spec([pattern])
            except _ERRORS as one:
                shown = pattern.decode(errors="backslashreplace")
                raise InvalidPattern(f"the pattern '{shown}': {one}") from None
        raise InvalidPattern(f"the patterns are too much for one watch: {error}") from None


def _spec(patterns: Sequence[bytes]) -> GitIgnoreSpec:
    """Return compiled patterns.

    Raises one of _ERRORS, which does not say which pattern is wrong.
    """
    lines = [pattern.decode(_ONE_CHARACTER_A_BYTE) for pattern in patterns]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a pattern that re warns about is not one of git's
        return GitIgnoreSpec.from_lines(lines, backend="re2")
