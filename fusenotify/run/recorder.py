# SPDX-License-Identifier: GPL-2.0-or-later
"""The calls of a program and their results: JSON lines for a report, or lines as strace's.

run.calls, run.reads and run.back write here.  Each event is written once, when the program
can read it for the first time.

Invariant
    The program does not notice a disk that is full, or a log that nobody reads any more.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import IO

from fusenotify.bits import SINGLE_BITS
from fusenotify.events import Event, record_size


class Recorder:
    """Writes JSON lines to file and lines of text to log; either may be None.

    warn is called once if the file takes no more; then the record ends.
    """

    def __init__(self, file: IO[str] | None, log: IO[str] | None) -> None:
        self.warn: Callable[[str], object] = _nobody
        self._file = file
        self._log = log

    @property
    def is_wanted(self) -> bool:
        """Return whether there is a file or a log."""
        return self._file is not None or self._log is not None

    def descriptors(self) -> set[int]:
        """Return the descriptor of the file, if there is one, as a set."""
        return set() if self._file is None else {self._file.fileno()}

    def log_is(self, descriptor: int) -> bool:
        """Return whether the log is written to a descriptor."""
        return self._log is not None and self._log.fileno() == descriptor

    def call(self, thread: int, name: str, arguments: dict[str, object], result: int | str) -> None:
        """Write a call and its result, which is a negative errno if the call failed.

        result is a text if the kernel carries the call out, so that its result is not known.
        """
        if not self.is_wanted:
            return
        shown: dict[str, object] = {"thread": thread, "call": name}
        shown |= {key: _plain(key, value) for key, value in arguments.items()}
        failed = isinstance(result, int) and result < 0
        if failed:
            assert isinstance(result, int)
            shown["error"] = errno.errorcode.get(-result, str(-result))
            text = f"-1 {shown['error']} ({os.strerror(-result)})"
        else:
            shown["result"] = result
            text = str(result)
        words = ", ".join(_quoted(key, value) for key, value in arguments.items())
        self._tell(shown, f"[pid {thread}] {name}({words}) = {text}")

    def events(self, descriptor: int, events: Sequence[Event]) -> None:
        """Write events that the program can read now."""
        if not self.is_wanted or not events:
            return
        shown = [
            {
                "wd": event.wd,
                "mask": mask_words(event.mask),
                "cookie": event.cookie,
                "name": None if event.name is None else os.fsdecode(event.name),
            }
            for event in events
        ]
        words = ", ".join(map(_record, events))
        self._tell({"inotify": descriptor, "events": shown}, f"inotify {descriptor} <- [{words}]")

    def said(self, what: str, **fields: object) -> None:
        """Write something else that happened, such as the program's end."""
        self._tell({"what": what} | fields, f"--- {what} {fields or ''} ---")

    def _tell(self, shown: dict[str, object], text: str) -> None:
        if self._file is not None:
            line = json.dumps({"time": time.time_ns()} | shown, ensure_ascii=True)
            try:
                self._file.write(line + "\n")
            except OSError as error:
                self.warn(f"{self._file.name}: the record ends here: {error.strerror}")
                self._file = None
        if self._log is not None:
            try:
                self._log.write(text + "\n")
                self._log.flush()
            except OSError:
                self._log = None


def _nobody(_: str) -> None:
    """Do nothing: the callback is not set yet."""


def mask_words(mask: int) -> str:
    """Return a mask as strace prints it: IN_CREATE|IN_DELETE."""
    words = [f"IN_{name}" for name, bit in SINGLE_BITS.items() if mask & bit]
    unknown = mask & ~sum(SINGLE_BITS.values())
    return "|".join(words + ([f"{unknown:#x}"] if unknown or not words else []))


def _plain(key: str, value: object) -> object:
    if key == "mask":
        assert isinstance(value, int)
        return mask_words(value)
    return os.fsdecode(value) if isinstance(value, bytes) else value


def _quoted(key: str, value: object) -> str:
    if isinstance(value, bytes):
        return json.dumps(os.fsdecode(value))
    return str(_plain(key, value))


def _record(event: Event) -> str:
    fields = f"wd={event.wd}, mask={mask_words(event.mask)}, cookie={event.cookie:#x}"
    if event.name is None:
        return "{" + fields + ", len=0}"
    return (
        "{" + f"{fields}, len={record_size(event.name) - 16}, "
        f"name={json.dumps(os.fsdecode(event.name))}" + "}"
    )
