# SPDX-License-Identifier: GPL-2.0-or-later
"""What a random program is made of: plain data, one object per call.

A step is drawn (programs.drawn), perhaps left out (programs.hidden), run in
both worlds (programs.lockstep), and printed as the code that makes it.
Paths are relative to the program's directory; ``by`` names the process that
makes a call, ``slot`` one of its descriptors.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tests.differential.operations import renameat2, utimensat
from tests.differential.programs.printing import code
from tests.differential.programs.processes import Process
from tests.differential.scenario import AnyDevice

ROOT, OTHER = 0, 1  # processes: this one, and one of another user
LONG_QUEUE = 16384

Queues = tuple[int | None, int | None]


@dataclass(frozen=True)
class Step:
    """One call."""

    def __repr__(self) -> str:
        shown = (code(field.name, getattr(self, field.name)) for field in fields(self))
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True)
class Program:
    """Steps, and how many events the two devices queue (None: the machine's limit)."""

    queues: Queues
    steps: tuple[Step, ...]

    def __repr__(self) -> str:
        return "\n".join((f"Program({self.queues}, (", *(f"    {s!r}," for s in self.steps), "))"))


@dataclass(frozen=True, repr=False)
class Call(Step):
    """A call that a process makes."""

    by: int

    def run(self, process: Process) -> Any:
        """Make the call and return what is to be compared.  Raises OSError."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class OfSlot(Call):
    """A call about an open file."""

    slot: int


@dataclass(frozen=True, repr=False)
class OfPath(Call):
    """A call about a path; follows says whether a symbolic link at its end is followed."""

    path: str

    @property
    def follows(self) -> bool:
        return True


@dataclass(frozen=True, repr=False)
class OfName(OfPath):
    """A call about a name: a symbolic link at the path's end is not followed."""

    @property
    def follows(self) -> bool:
        return False


@dataclass(frozen=True, repr=False)
class Open(OfPath):
    slot: int
    flags: int
    mode: int

    @property
    def follows(self) -> bool:
        exclusive = os.O_CREAT | os.O_EXCL
        return not (self.flags & os.O_NOFOLLOW or self.flags & exclusive == exclusive)

    def run(self, process: Process) -> Any:
        process.put(self.slot, os.open(process.at(self.path), self.flags, self.mode))


@dataclass(frozen=True, repr=False)
class Dup(OfSlot):
    to: int

    def run(self, process: Process) -> Any:
        process.put(self.to, os.dup(process.fd(self.slot)))


@dataclass(frozen=True, repr=False)
class Close(OfSlot):
    def run(self, process: Process) -> Any:
        process.drop(self.slot)


@dataclass(frozen=True, repr=False)
class Read(OfSlot):
    size: int
    offset: int

    def run(self, process: Process) -> Any:
        return os.pread(process.fd(self.slot), self.size, self.offset)


@dataclass(frozen=True, repr=False)
class Write(OfSlot):
    size: int

    def run(self, process: Process) -> Any:
        return os.write(process.fd(self.slot), b"w" * self.size)


@dataclass(frozen=True, repr=False)
class WriteAt(OfSlot):
    size: int
    offset: int

    def run(self, process: Process) -> Any:
        return os.pwrite(process.fd(self.slot), b"p" * self.size, self.offset)


@dataclass(frozen=True, repr=False)
class ListOpen(OfSlot):
    def run(self, process: Process) -> Any:
        return sorted(os.listdir(process.fd(self.slot)))


@dataclass(frozen=True, repr=False)
class TruncateOpen(OfSlot):
    size: int

    def run(self, process: Process) -> Any:
        os.ftruncate(process.fd(self.slot), self.size)


@dataclass(frozen=True, repr=False)
class ChmodOpen(OfSlot):
    mode: int

    def run(self, process: Process) -> Any:
        os.fchmod(process.fd(self.slot), self.mode)


@dataclass(frozen=True, repr=False)
class ChownOpen(OfSlot):
    uid: int
    gid: int

    def run(self, process: Process) -> Any:
        os.fchown(process.fd(self.slot), self.uid, self.gid)


@dataclass(frozen=True, repr=False)
class SetTimesOpen(OfSlot):
    def run(self, process: Process) -> Any:
        os.utime(process.fd(self.slot), ns=(5, 5))


@dataclass(frozen=True, repr=False)
class SetXattrOpen(OfSlot):
    def run(self, process: Process) -> Any:
        os.setxattr(process.fd(self.slot), "user.x", b"1")


@dataclass(frozen=True, repr=False)
class SyncOpen(OfSlot):
    def run(self, process: Process) -> Any:
        os.fsync(process.fd(self.slot))


@dataclass(frozen=True, repr=False)
class StatOpen(OfSlot):
    def run(self, process: Process) -> Any:
        return _about(os.fstat(process.fd(self.slot)))


@dataclass(frozen=True, repr=False)
class Truncate(OfPath):
    size: int

    def run(self, process: Process) -> Any:
        os.truncate(process.at(self.path), self.size)


@dataclass(frozen=True, repr=False)
class Chmod(OfPath):
    mode: int

    def run(self, process: Process) -> Any:
        os.chmod(process.at(self.path), self.mode)


@dataclass(frozen=True, repr=False)
class Chown(OfPath):
    uid: int
    gid: int
    follow: bool

    @property
    def follows(self) -> bool:
        return self.follow

    def run(self, process: Process) -> Any:
        os.chown(process.at(self.path), self.uid, self.gid, follow_symlinks=self.follow)


@dataclass(frozen=True, repr=False)
class SetTimes(OfPath):
    """utimensat(2), the times in nanoseconds: 5, UTIME_NOW or UTIME_OMIT."""

    atime: int
    mtime: int

    def run(self, process: Process) -> Any:
        utimensat(Path(process.at(self.path)), (0, self.atime), (0, self.mtime))


@dataclass(frozen=True, repr=False)
class SetXattr(OfPath):
    name: str
    how: int  # XATTR_CREATE, XATTR_REPLACE

    def run(self, process: Process) -> Any:
        os.setxattr(process.at(self.path), self.name, b"1", self.how)


@dataclass(frozen=True, repr=False)
class RemoveXattr(OfPath):
    name: str

    def run(self, process: Process) -> Any:
        os.removexattr(process.at(self.path), self.name)


@dataclass(frozen=True, repr=False)
class Stat(OfPath):
    follow: bool

    @property
    def follows(self) -> bool:
        return self.follow

    def run(self, process: Process) -> Any:
        return _about(os.stat(process.at(self.path), follow_symlinks=self.follow))


@dataclass(frozen=True, repr=False)
class List(OfPath):
    def run(self, process: Process) -> Any:
        return sorted(os.listdir(process.at(self.path)))


@dataclass(frozen=True, repr=False)
class Mkdir(OfName):
    mode: int

    def run(self, process: Process) -> Any:
        os.mkdir(process.at(self.path), self.mode)


@dataclass(frozen=True, repr=False)
class Mkfifo(OfName):
    def run(self, process: Process) -> Any:
        os.mkfifo(process.at(self.path))


@dataclass(frozen=True, repr=False)
class Symlink(OfName):
    target: str

    def run(self, process: Process) -> Any:
        os.symlink(self.target, process.at(self.path))


@dataclass(frozen=True, repr=False)
class Readlink(OfName):
    def run(self, process: Process) -> Any:
        return os.readlink(process.at(self.path))


@dataclass(frozen=True, repr=False)
class Unlink(OfName):
    def run(self, process: Process) -> Any:
        os.unlink(process.at(self.path))


@dataclass(frozen=True, repr=False)
class Rmdir(OfName):
    def run(self, process: Process) -> Any:
        os.rmdir(process.at(self.path))


@dataclass(frozen=True, repr=False)
class ToName(OfName):
    """A call about two names."""

    target: str


@dataclass(frozen=True, repr=False)
class Link(ToName):
    def run(self, process: Process) -> Any:
        os.link(process.at(self.path), process.at(self.target), follow_symlinks=False)


@dataclass(frozen=True, repr=False)
class Rename(ToName):
    how: int  # RENAME_NOREPLACE, RENAME_EXCHANGE

    def run(self, process: Process) -> Any:
        renameat2(Path(process.at(self.path)), Path(process.at(self.target)), self.how)


@dataclass(frozen=True, repr=False)
class Pass(OfSlot):
    """Give the other process a descriptor (SCM_RIGHTS).  The runner does it."""

    to: int


@dataclass(frozen=True, repr=False)
class OfDevice(Step):
    """A call of the program that watches."""

    device: int

    def run(self, device: AnyDevice, directory: str) -> Any:
        """Make the call and return what is to be compared; records as bytes.

        Raises OSError.
        """
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class AddWatch(OfDevice):
    path: str
    mask: int

    def run(self, device: AnyDevice, directory: str) -> Any:
        return device.add_watch(os.fsencode(f"{directory}/{self.path}"), self.mask)


@dataclass(frozen=True, repr=False)
class RmWatch(OfDevice):
    wd: int

    def run(self, device: AnyDevice, directory: str) -> Any:
        device.rm_watch(self.wd)


@dataclass(frozen=True, repr=False)
class ReadEvents(OfDevice):
    size: int

    def run(self, device: AnyDevice, directory: str) -> Any:
        return device.read(self.size)


@dataclass(frozen=True, repr=False)
class Fionread(OfDevice):
    def run(self, device: AnyDevice, directory: str) -> Any:
        return device.fionread()


@dataclass(frozen=True, repr=False)
class Poll(OfDevice):
    def run(self, device: AnyDevice, directory: str) -> Any:
        return device.poll()


@dataclass(frozen=True, repr=False)
class Renew(OfDevice):
    """Close a device and make a new one in its place.  The runner does it."""


def _about(found: os.stat_result) -> tuple[int, ...]:
    """Return the attributes that two runs share; a directory's size is the disk's affair."""
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return (found.st_mode, found.st_nlink, found.st_uid, found.st_gid, size)
