# SPDX-License-Identifier: GPL-2.0-or-later
"""The Hypothesis strategy that draws programs.

All choices of one program come from one Random that Hypothesis draws: its own
choices, one for each argument, repeat themselves too much and take longer than
running the program; and what differs is made smaller as data, not as choices.

What FUSE hides whatever the state is not drawn (docs/reference/differences.md): no mmap,
O_PATH, O_TMPFILE, working directory or large file; programs.hidden decides
about the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from random import Random

from hypothesis import strategies as st

from fusenotify import bits
from tests.differential.operations import (
    OTHER_USER,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    UTIME_NOW,
    UTIME_OMIT,
)
from tests.differential.programs import steps
from tests.differential.programs.sketch import DIRECTORY, FIFO, FILE, SYMLINK, Sketch
from tests.differential.programs.steps import LONG_QUEUE, OTHER, ROOT, Program, Queues, Step

_LENGTH = 60

# Others may mostly do what root may, so that much of what they do succeeds.
_FILE_MODES = (0o666, 0o666, 0o777, 0o644, 0o600, 0o4777, 0o6777, 0o2677, 0o2666, 0)
_DIRECTORY_MODES = (0o777, 0o777, 0o777, 0o755, 0o700, 0o1777, 0o2777)
_IDS = (-1, 0, OTHER_USER)
_TIMES = (5, UTIME_NOW, UTIME_OMIT)
_XATTRS = ("user.x", "user.x", "user.x", "user.y", "trusted.x", "nonsense.x")
# Files stay far below the kernel's readahead: each read is one request.  No
# write reaches into another page, as long as a program is: each is one request.
_SIZES = (0, 1, 7, 100, 4500)
_WRITE_SIZES = (0, 1, 7, 40)
_OFFSETS = (0, 0, 3, 4096, 8200)
_TARGETS = ("a", "b", "c", "a/b", "../a", "../b", "d", "nowhere", ".", "c/c")
_OPEN_FLAGS = (
    os.O_TRUNC,
    os.O_TRUNC,
    os.O_APPEND,
    os.O_DIRECTORY,
    os.O_NOFOLLOW,
    os.O_NONBLOCK,
    os.O_NOATIME,
    os.O_SYNC,
)
_WATCH_FLAGS = (
    bits.IN_ONLYDIR,
    bits.IN_DONT_FOLLOW,
    bits.IN_EXCL_UNLINK,
    bits.IN_EXCL_UNLINK,
    bits.IN_MASK_ADD,
    bits.IN_MASK_ADD,
    bits.IN_MASK_CREATE,
    bits.IN_ONESHOT,
)
_ODD_BITS = (0x1000, 0x00800000, 0x08000000, bits.IN_IGNORED, bits.IN_ISDIR)
_BUFFERS = (1 << 16, 4096, 4096, 200, 100, 64, 48, 32, 16, 15, 0)


@st.composite
def programs(draw: st.DrawFn, any_queues: bool) -> Program:
    """Draw a program.  any_queues: Linux's can be made short, which only root can."""
    random = draw(st.randoms(use_true_random=True))
    queues: Queues = (None, None)
    short = any_queues and random.random() < 0.2
    if any_queues:
        # Long ones are asked for, too: the machine's limit may just be a test's.
        queues = (random.randint(1, 9), LONG_QUEUE) if short else (LONG_QUEUE, LONG_QUEUE)
    # What fills up in a moment is read often, or there is little to see.
    return Program(queues, tuple(_Writer(random, 25 if short else 6).program()))


class _Writer:
    """Writes one program, step by step.  reads is how often devices are read."""

    def __init__(self, random: Random, reads: int) -> None:
        self._random = random
        self._sketch = Sketch(random)
        self._watches = [0, 0]
        weights: dict[Callable[[], Step], int] = {
            self._open: 14,
            self._open_directory: 2,
            self._close: 10,
            self._of_slot: 18,
            self._attribute: 10,
            self._mkdir: 5,
            self._mkfifo: 1,
            self._symlink: 2,
            self._unlink: 6,
            self._rmdir: 3,
            self._link: 3,
            self._rename: 10,
            self._look: 4,
            self._add_watch: 9,
            self._rm_watch: 2,
            self._ask: reads,
        }
        self._makers, self._weights = list(weights), list(weights.values())

    def program(self) -> Iterator[Step]:
        yield from self._beginning()
        step = None
        for _ in range(self._random.randint(_LENGTH // 2, _LENGTH * 3 // 2)):
            # Again the same, for what merges.
            if step is None or self._random.random() > 0.1:
                step = self._random.choices(self._makers, self._weights)[0]()
            yield step

    def _beginning(self) -> Iterator[Step]:
        """Most programs begin with something to act on, watched."""
        if self._random.random() < 0.1:
            return
        for path in ("a", "c", "c/c"):
            yield self._made(steps.Mkdir(ROOT, path, 0o777), DIRECTORY)
        for slot, path in enumerate(("b", "c/a")):
            yield self._opened(steps.Open(ROOT, path, slot, os.O_RDWR | os.O_CREAT, 0o666))
        for path in (".", "c", "c/c", "b", "c/a"):
            if self._random.random() < 0.7:
                yield steps.AddWatch(self._count_watch(), path, bits.IN_ALL_EVENTS)

    # Open files.

    def _open(self) -> Step:
        pick = self._random
        flags = pick.choice((os.O_RDWR, os.O_RDWR, os.O_RDONLY, os.O_WRONLY))
        creates = pick.random() < 0.4
        if creates:
            flags |= os.O_CREAT
            flags |= os.O_EXCL if pick.random() < 0.3 else 0
        if pick.random() < 0.3:
            flags |= pick.choice(_OPEN_FLAGS)
        path = self._sketch.new() if creates else self._sketch.path(FILE, SYMLINK)
        slot = self._sketch.any_slot()
        return self._opened(steps.Open(self._by(), path, slot, flags, pick.choice(_FILE_MODES)))

    def _open_directory(self) -> Step:
        path, slot = self._sketch.path(DIRECTORY), self._sketch.any_slot()
        return self._opened(steps.Open(self._by(), path, slot, os.O_RDONLY, 0))

    def _opened(self, step: steps.Open) -> Step:
        if step.flags & os.O_CREAT:
            self._sketch.made(step.path, FILE)
        self._sketch.filled(step.by, step.slot)
        return step

    def _close(self) -> Step:
        by = self._by_with_slot()
        slot = self._sketch.slot(by)
        self._sketch.emptied(by, slot)
        return steps.Close(by, slot)

    def _of_slot(self) -> Step:
        pick, by = self._random, self._by_with_slot()
        slot = self._sketch.slot(by)
        match pick.randrange(15):
            case 0:
                to = self._sketch.any_slot()
                self._sketch.filled(by, to)
                return steps.Dup(by, slot, to)
            case 1:
                to = self._sketch.any_slot()
                self._sketch.filled(OTHER - by, to)
                return steps.Pass(by, slot, to)
            case 2 | 3:
                return steps.Read(by, slot, pick.choice(_SIZES), pick.choice(_OFFSETS))
            case 4 | 5 | 6:
                return steps.Write(by, slot, pick.choice(_WRITE_SIZES))
            case 7:
                return steps.WriteAt(by, slot, pick.choice(_WRITE_SIZES), pick.choice(_OFFSETS))
            case 8:
                return steps.ListOpen(by, slot)
            case 9 | 10:
                return steps.TruncateOpen(by, slot, pick.choice(_SIZES))
            case 11:
                return steps.ChmodOpen(by, slot, pick.choice(_FILE_MODES))
            case 12:
                return steps.ChownOpen(by, slot, pick.choice(_IDS), pick.choice(_IDS))
            case 13:
                return steps.SetXattrOpen(by, slot)
            case _:
                return pick.choice((steps.SyncOpen, steps.StatOpen, steps.SetTimesOpen))(by, slot)

    # Attributes, by path.

    def _attribute(self) -> Step:
        pick, by = self._random, self._by()
        path = self._sketch.path(FILE, FILE, DIRECTORY, SYMLINK, FIFO)
        modes = _DIRECTORY_MODES if self._sketch.kind(path) == DIRECTORY else _FILE_MODES
        match pick.randrange(8):
            case 0 | 1:
                return steps.Chmod(by, path, pick.choice(modes))
            case 2:
                follow = pick.random() < 0.5
                return steps.Chown(by, path, pick.choice(_IDS), pick.choice(_IDS), follow)
            case 3 | 4:
                return steps.SetTimes(by, path, pick.choice(_TIMES), pick.choice(_TIMES))
            case 5:
                how = pick.choice((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))
                return steps.SetXattr(by, path, pick.choice(_XATTRS), how)
            case 6:
                return steps.RemoveXattr(by, path, pick.choice(_XATTRS))
            case _:
                return steps.Truncate(by, self._sketch.path(FILE), pick.choice(_SIZES))

    # Names.

    def _mkdir(self) -> Step:
        mode = self._random.choice(_DIRECTORY_MODES)
        return self._made(steps.Mkdir(self._by(), self._sketch.new(), mode), DIRECTORY)

    def _mkfifo(self) -> Step:
        return self._made(steps.Mkfifo(self._by(), self._sketch.new()), FIFO)

    def _symlink(self) -> Step:
        target = self._random.choice(_TARGETS)
        return self._made(steps.Symlink(self._by(), self._sketch.new(), target), SYMLINK)

    def _made(self, step: steps.OfPath, kind: str) -> Step:
        self._sketch.made(step.path, kind)
        return step

    def _unlink(self) -> Step:
        path = self._sketch.path(FILE, SYMLINK, FIFO)
        self._sketch.removed(path)
        return steps.Unlink(self._by(), path)

    def _rmdir(self) -> Step:
        path = self._sketch.path(DIRECTORY)
        self._sketch.removed(path)
        return steps.Rmdir(self._by(), path)

    def _link(self) -> Step:
        path, target = self._two_paths(FILE, FILE, FILE, SYMLINK, FIFO)
        self._sketch.made(target, self._sketch.kind(path))
        return steps.Link(self._by(), path, target)

    def _rename(self) -> Step:
        path, target = self._two_paths(FILE, DIRECTORY, SYMLINK, FIFO)
        how = self._random.choice((0, 0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, 3))
        if how in (0, RENAME_NOREPLACE):
            self._sketch.renamed(path, target)
        return steps.Rename(self._by(), path, target, how)

    def _two_paths(self, *kinds: str) -> tuple[str, str]:
        target = self._sketch.new() if self._random.random() < 0.6 else self._sketch.path(*kinds)
        return self._sketch.path(*kinds), target

    def _look(self) -> Step:
        by = self._by()
        match self._random.randrange(4):
            case 0 | 1:
                return steps.List(by, self._sketch.path(DIRECTORY))
            case 2:
                return steps.Readlink(by, self._sketch.path(SYMLINK))
            case _:
                path = self._sketch.path(FILE, DIRECTORY, SYMLINK, FIFO)
                return steps.Stat(by, path, self._random.random() < 0.5)

    # Devices.

    def _add_watch(self) -> Step:
        pick = self._random
        mask = bits.IN_ALL_EVENTS
        if pick.random() < 0.3:
            mask = sum(1 << bit for bit in pick.sample(range(12), pick.randint(0, 5)))
        if pick.random() < 0.4:
            for flag in pick.sample(_WATCH_FLAGS, pick.choice((1, 1, 2, 3))):
                mask |= flag
        if pick.random() < 0.02:
            mask |= pick.choice(_ODD_BITS)
        path = self._sketch.path(FILE, DIRECTORY, SYMLINK, FIFO)
        if pick.random() < 0.05:
            path = pick.choice((f"{path}/", f"{path}/.", f"./{path}", f"c/../{path}", f"/{path}"))
        return steps.AddWatch(self._count_watch(), path, mask)

    def _count_watch(self) -> int:
        device = self._random.choice((0, 0, 1))
        self._watches[device] += 1
        return device

    def _rm_watch(self) -> Step:
        device = self._random.randrange(2)
        wd = self._random.randint(-1, self._watches[device] + 1)
        return steps.RmWatch(device, wd)

    def _ask(self) -> Step:
        device = self._random.randrange(2)
        draw = self._random.random()
        if draw < 0.7:
            return steps.ReadEvents(device, self._random.choice(_BUFFERS))
        if draw < 0.9:
            return self._random.choice((steps.Fionread, steps.Poll))(device)
        self._watches[device] = 0
        return steps.Renew(device)

    # Processes.

    def _by(self) -> int:
        return self._random.choice((ROOT, ROOT, OTHER))

    def _by_with_slot(self) -> int:
        by = self._by()
        return by if self._sketch.has_open(by) else OTHER - by
