# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of the processes that make requests.  Linux: proc(5)."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from contextlib import suppress

from fusenotify.proc import shows_our_numbers

# How many descriptors are kept to read from which command a process runs: one in so many, at most.
_ONE_IN = 128
_MOST_COMMANDS = 8

_SIGKILL = 1 << 8
# For how long, in seconds, and of how many threads it is remembered whose they are.
_REMEMBERED = 1.0
_MOST_THREADS = 4096
# Linux: TASK_COMM_LEN is 16, and kernel threads may have more.  What a message has room for.
_LONGEST_COMMAND = 32


def status_of(pid: int) -> dict[bytes, bytes]:
    """Return /proc/PID/status.

    Nothing where a caller is gone, in another pid namespace (0), or not for us to see:
    /proc may hide other users' processes, or be that of another pid namespace.
    """
    if shows_our_numbers():
        with suppress(OSError), open(f"/proc/{pid}/status", "rb") as lines:
            return dict(line.split(b":", 1) for line in lines)
    return {}


def is_capable(pid: int, capability: int, status: os.stat_result) -> bool:
    """Return whether a thread has a capability about an object.

    That is in its user namespace, which must have the object's owner and group in it.
    Linux: capable_wrt_inode_uidgid().
    """
    effective = int(status_of(pid).get(b"CapEff", b"0"), 16)
    return bool(
        effective >> capability & 1
        and _is_mapped(f"/proc/{pid}/uid_map", status.st_uid)
        and _is_mapped(f"/proc/{pid}/gid_map", status.st_gid)
    )


def _is_mapped(table: str, number: int) -> bool:
    """Return whether a user or group of ours is one in the user namespace of a table."""
    with suppress(OSError), open(table, "rb") as lines:
        for line in lines:
            _, begin, length = map(int, line.split())
            if begin <= number < begin + length:
                return True
    return False


class Processes:
    """Whose the threads are that make requests, and what their processes run.

    A thread makes many requests, so its process is remembered for a second.  What a
    process runs may be another program by the next request, so it is read each
    time, from a descriptor that stays that process's.  limit is that of open files.
    """

    def __init__(self, limit: int) -> None:
        self._most_commands = kept_commands(limit)
        self._processes: dict[int, int] = {}
        self._until = 0.0
        self._commands: OrderedDict[int, int] = OrderedDict()

    def process_of(self, thread: int) -> int:
        """Return the id of a thread's process; 0 where it is gone or unseen (0)."""
        now = time.monotonic()
        if now >= self._until or len(self._processes) >= _MOST_THREADS:
            self._processes.clear()
            self._until = now + _REMEMBERED
        process = self._processes.get(thread)
        if process is None:
            process = int(status_of(thread).get(b"Tgid", 0))
            self._processes[thread] = process
        return process

    def command_of(self, process: int) -> bytes | None:
        """Return the name of what a process runs; None where it is gone."""
        descriptor = self._commands.get(process)
        if descriptor is not None:
            self._commands.move_to_end(process)
            command = _read(descriptor)
            if command is not None:
                return command
            os.close(self._commands.pop(process))  # another one may have its number by now
        try:
            descriptor = os.open(f"/proc/{process}/comm", os.O_RDONLY)
        except OSError:
            return None
        self._commands[process] = descriptor
        command = _read(descriptor)
        if len(self._commands) > self._most_commands:
            os.close(self._commands.popitem(last=False)[1])
        return command

    def close(self) -> None:
        """Close the descriptors."""
        while self._commands:
            os.close(self._commands.popitem()[1])


def kept_commands(limit: int) -> int:
    """Return how many descriptors Processes keeps, of so many that there may be."""
    return min(limit // _ONE_IN, _MOST_COMMANDS)


def _read(command: int) -> bytes | None:
    with suppress(OSError):
        return os.pread(command, _LONGEST_COMMAND, 0).removesuffix(b"\n")
    return None


def is_killed(pid: int) -> bool:
    """Return whether a thread that waits in a system call is to end, and only waits for that.

    The kernel makes SIGKILL of every signal that ends a process.
    """
    return bool(int(status_of(pid).get(b"SigPnd", b"0"), 16) & _SIGKILL)
