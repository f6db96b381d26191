# SPDX-License-Identifier: GPL-2.0-or-later
"""Information from /proc about the processes that make requests.  Linux: proc(5)."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from contextlib import suppress

from fusenotify.credentials import Process
from fusenotify.engine.core import Core
from fusenotify.proc import shows_our_numbers

# For reading processes' commands, one descriptor in _ONE_IN is kept, at most _MOST_COMMANDS.
_ONE_IN = 128
_MOST_COMMANDS = 8

_SIGKILL = 1 << 8
# For how many seconds, and of how many threads, the process is remembered.
_REMEMBERED = 1.0
_MOST_THREADS = 4096
# The most bytes of a command.  Linux: TASK_COMM_LEN is 16, and kernel threads may have more.
_LONGEST_COMMAND = 32


def status_of(pid: int) -> dict[bytes, bytes]:
    """Return the fields of /proc/PID/status, with the white space of each value.

    Nothing is returned if the process is gone, is in another pid namespace (0), or cannot
    be seen: /proc may hide other users' processes, or be that of another pid namespace.
    """
    if shows_our_numbers():
        with suppress(OSError), open(f"/proc/{pid}/status", "rb") as lines:
            return dict(line.split(b":", 1) for line in lines)
    return {}


def process_behind(pid: int, names: Core) -> Process:
    """Return the process that changed SOURCE itself, with what can still be found out of it."""
    uid = gid = -1
    command = None
    if pid and names.asks_for_processes:
        status = status_of(pid)
        uid, gid = (int((status.get(key) or b"-1").split()[-1]) for key in (b"Uid", b"Gid"))
        command = names.details.command_of(pid)
    return Process(pid, uid, gid, command, behind=True)


def is_capable(pid: int, capability: int, status: os.stat_result) -> bool:
    """Return whether a thread has a capability for an object; status is that of the object.

    The capability counts in the thread's user namespace, which must contain the object's
    owner and group.  Linux: capable_wrt_inode_uidgid().
    """
    effective = int(status_of(pid).get(b"CapEff", b"0"), 16)
    return bool(
        effective >> capability & 1
        and _is_mapped(f"/proc/{pid}/uid_map", status.st_uid)
        and _is_mapped(f"/proc/{pid}/gid_map", status.st_gid)
    )


def _is_mapped(table: str, number: int) -> bool:
    """Return whether a user or group id of ours is mapped in a user namespace, by its table."""
    with suppress(OSError), open(table, "rb") as lines:
        for line in lines:
            _, begin, length = map(int, line.split())
            if begin <= number < begin + length:
                return True
    return False


class Processes:
    """The processes of the threads that make requests, and the commands of the processes.

    A thread makes many requests, so its process is remembered for a second.  A process
    may run another command at the next request, so that is read each time, from a
    descriptor that always refers to this process.  limit is that of open files.
    """

    def __init__(self, limit: int) -> None:
        self._most_commands = kept_commands(limit)
        self._processes: dict[int, int] = {}
        self._until = 0.0
        self._commands: OrderedDict[int, int] = OrderedDict()

    def process_of(self, thread: int) -> int:
        """Return the id of a thread's process; 0 if it is gone or cannot be seen."""
        now = time.monotonic()
        if now >= self._until or len(self._processes) >= _MOST_THREADS:
            self._processes.clear()
            self._until = now + _REMEMBERED
        process = self._processes.get(thread)
        if process is None:
            # /proc/PID/status takes far longer than these, because it has so much else.
            if _is_process(thread) and self.command_of(thread) is not None:
                process = thread
            else:
                process = int(status_of(thread).get(b"Tgid", 0))
            self._processes[thread] = process
        return process

    def command_of(self, process: int) -> bytes | None:
        """Return the name of a process's command; None if the process is gone."""
        descriptor = self._commands.get(process)
        if descriptor is not None:
            self._commands.move_to_end(process)
            command = _read(descriptor)
            if command is not None:
                return command
            os.close(self._commands.pop(process))  # another process may have its id now
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
    """Return how many descriptors Processes keeps, where limit is that of open files."""
    return min(limit // _ONE_IN, _MOST_COMMANDS)


def _is_process(thread: int) -> bool:
    """Return whether a thread is the first one of a process, which has its id, and which exists.

    Processes that /proc hides from us are among them.
    """
    if not shows_our_numbers():
        return False
    try:
        os.close(os.pidfd_open(thread))
    except OSError:  # there may also be no descriptor left, or it may be forbidden
        return False
    return True


def _read(command: int) -> bytes | None:
    try:
        return os.pread(command, _LONGEST_COMMAND, 0)[:-1]
    except OSError:
        return None


def is_killed(pid: int) -> bool:
    """Return whether a thread was killed and ends as soon as its system call returns.

    The kernel turns every signal that ends a process into SIGKILL.
    """
    return bool(int(status_of(pid).get(b"SigPnd", b"0"), 16) & _SIGKILL)
