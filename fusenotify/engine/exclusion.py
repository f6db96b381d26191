# SPDX-License-Identifier: GPL-2.0-or-later
"""What a watch is not told of: names by the patterns of gitignore(5), and its own process.

engine.core and engine.trees ask before a watch is told, so that what is not
wanted takes no place in a queue and uses up no one-shot watch.  Patterns come
from clients and are matched in the daemon's only thread, so they are matched by
an automaton (RE2) whose time grows with the name alone, never by backtracking.

Invariants
    What lies below an excluded directory is excluded.
    A name is matched once: its verdict is remembered, for names of at most
        REMEMBERED bytes in all.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fusenotify.credentials import Actor
from fusenotify.errors import InvalidPattern, NoPatterns
from fusenotify.masks import IN_ISDIR

# Without them all but patterns works, as where an environment was put together by hand.
_HAS_LIBRARIES = bool(find_spec("pathspec") and find_spec("re2"))
if TYPE_CHECKING or _HAS_LIBRARIES:
    import re2
    from pathspec import GitIgnoreSpec

# Of how many bytes of names the verdicts are remembered before all are forgotten.
REMEMBERED = 1 << 18
# How many patterns a watch may have; together they fill at most a request.
MOST_PATTERNS = 1000

# Names are bytes of any kind, and patterns match characters: one for each byte.
_ONE_CHARACTER_A_BYTE = "latin-1"
# What pathspec, re (which it asks first) and RE2 raise at a pattern that does not compile.
_ERRORS = (ValueError, FutureWarning, re.error, *((re2.error,) if _HAS_LIBRARIES else ()))


class Exclusion:
    """Compiled patterns, each a line of a .gitignore file in the watched directory.

    ``*.o`` excludes such names everywhere, ``/build`` one in the watched
    directory itself, ``cache/`` directories only, ``!keep.o`` takes an
    exclusion back where no directory above is excluded.  Empty lines and
    lines that begin with ``#`` exclude nothing.

    Raises InvalidPattern (EINVAL), which says which pattern is wrong and why;
    NoPatterns (EOPNOTSUPP) where the libraries are missing.
    """

    __slots__ = ("_remembered", "_spec", "_verdicts", "patterns")

    def __init__(self, patterns: Sequence[bytes]) -> None:
        if not _HAS_LIBRARIES:
            raise NoPatterns("the daemon's Python lacks them: pip install 'pathspec[re2]'")
        if len(patterns) > MOST_PATTERNS:
            raise InvalidPattern(f"{len(patterns)} patterns, of at most {MOST_PATTERNS}")
        self.patterns = tuple(patterns)
        self._spec = _compiled(self.patterns)
        self._verdicts: dict[tuple[bytes, bool], bool] = {}
        self._remembered = 0

    def excludes(self, path: bytes, is_dir: bool) -> bool:
        """Return whether nothing is told of path, which is relative to the watched directory.

        is_dir says that it is a directory.
        """
        verdict = self._verdicts.get((path, is_dir))
        return self._judge(path, is_dir) if verdict is None else verdict

    def _judge(self, path: bytes, is_dir: bool) -> bool:
        """Judge a path from the top: a directory that is excluded decides for all below."""
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
        self._remembered += len(path)
        if self._remembered > REMEMBERED:
            self._verdicts.clear()
            self._remembered = len(path)
        self._verdicts[path, is_dir] = verdict
        return verdict

    def _matches(self, path: bytes, is_dir: bool) -> bool:
        text = path.decode(_ONE_CHARACTER_A_BYTE)
        return self._spec.match_file(text + "/" if is_dir else text)


class Unwanted:
    """What one watch is not told of.

    exclusion are its patterns, or None; process is the id of a process whose
    own doings it does not hear of, or 0.  process_of returns that of a thread.
    """

    __slots__ = ("_exclusion", "_process", "_process_of")

    def __init__(
        self,
        exclusion: Exclusion | None = None,
        process: int = 0,
        process_of: Callable[[int], int] = int,
    ) -> None:
        self._exclusion = exclusion
        self._process = process
        self._process_of = process_of

    def has(self, mask: int, name: bytes | None, actor: Actor | None) -> bool:
        """Return whether an event is unwanted: what an actor did to a name.

        What is told of the watched object itself (without a name) is never
        excluded.
        """
        if self._exclusion is not None and name:
            path = name.removesuffix(b"/")
            if self._exclusion.excludes(path, bool(mask & IN_ISDIR) or path is not name):
                return True
        if not self._process or actor is None or not actor.pid:
            return False
        return self._process in (actor.pid, self._process_of(actor.pid))


def _compiled(patterns: Sequence[bytes]) -> GitIgnoreSpec:
    """Raises InvalidPattern."""
    try:
        return _spec(patterns)
    except _ERRORS as error:
        for pattern in patterns:  # which of them?
            try:
                _spec([pattern])
            except _ERRORS as one:
                shown = pattern.decode(errors="backslashreplace")
                raise InvalidPattern(f"the pattern '{shown}': {one}") from None
        raise InvalidPattern(f"too much for one watch: {error}") from None


def _spec(patterns: Sequence[bytes]) -> GitIgnoreSpec:
    """Raises one of _ERRORS, which does not say which pattern it is."""
    lines = [pattern.decode(_ONE_CHARACTER_A_BYTE) for pattern in patterns]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what re finds ambiguous is no pattern of git's
        return GitIgnoreSpec.from_lines(lines, backend="re2")
