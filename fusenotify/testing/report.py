# SPDX-License-Identifier: GPL-2.0-or-later
"""The sections about devices and mounts in the report of a failed test.

The pytest plugin adds them to the report; testing.register lists the devices and mounts.
A device's section has the records that the test took and those that it did not take.  A
mount has a section with the operations in it if the test watched it by other means: no
device of the plugin watched it, or something else also watches it now.

Invariants
    The report does not change what the test's finalizers see.
    A section has the latest MOST_LINES records or operations.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from fusenotify.bits import IN_Q_OVERFLOW
from fusenotify.testing import register
from fusenotify.testing.differences import speller
from fusenotify.testing.expectations import spell
from fusenotify.testing.mounts import REPORT_SECONDS, TemporaryMount
from fusenotify.testing.own_means import is_watched_natively, watching_devices
from fusenotify.testing.patience import within
from fusenotify.testing.watching import MOST_TAKEN, Named, Watcher

if TYPE_CHECKING:
    from fusenotify.protocol.details import DetailedEvent

MOST_LINES = MOST_TAKEN
# The width of an event's text, before the column of processes.
_COLUMN = 40


class Section(NamedTuple):
    """A part of a report.  says_something is False if its lines say that nothing happened."""

    title: str
    lines: list[str]
    says_something: bool = True


def sections(fixtures: Mapping[str, object], began: int) -> list[Section]:
    """Return the sections for a test, which began at a time in ns since 1970.

    fixtures are the values of the test's fixtures, by name.
    """
    names = {id(value): name for name, value in fixtures.items()}
    recent, earlier = register.entries()
    own = recent + [entry for entry in earlier if id(entry) in names]
    # What earlier tests made counts if this test did something with it.
    entries = list(dict.fromkeys(own + earlier))
    devices = [
        entry
        for entry in entries
        if isinstance(entry, Watcher) and (entry in own or entry.taken_in_all)
    ]
    found = []
    for device in devices:
        title = f"Records of {_device_name(device, devices, names)}"
        found.append(Section(title, _records(device), device.has_watched))
    watched = {id(device.owner) for device in devices if device.has_watched}
    for mount in entries:
        if not isinstance(mount, TemporaryMount):
            continue
        if id(mount) not in watched or _is_watched_otherwise(mount, devices):
            lines = _activity(mount, began)
            if lines or mount in own:
                title = f"What happened on {_name(mount, names)}"
                found.append(Section(title, lines or ["nothing"], bool(lines)))
    return found


def _is_watched_otherwise(mount: TemporaryMount, devices: Sequence[Watcher]) -> bool:
    """Return whether a mount is also watched by other means than these devices, now."""
    if is_watched_natively(str(mount.path)):
        return True
    own = sum(device.owner is mount and bool(device.watching) for device in devices)
    with contextlib.suppress(OSError), mount.client() as client:
        return within(REPORT_SECONDS, client.close, partial(watching_devices, client)) > own
    return False


def _device_name(device: Watcher, devices: Sequence[Watcher], names: Mapping[int, str]) -> str:
    if name := names.get(id(device)) or device.name:
        return name
    siblings = [other for other in devices if other.owner is device.owner]
    unnamed = [other for other in siblings if not (other.name or id(other) in names)]
    number = f"device {unnamed.index(device) + 1}" if len(unnamed) > 1 else "a device"
    return f"{number} of {_name(device.owner, names)}"


def _name(owner: Named, names: Mapping[int, str]) -> str:
    return names.get(id(owner)) or owner.name


def _records(device: Watcher) -> list[str]:
    """Return the lines about a device: what it watches, and its records."""
    if not device.has_watched:
        return ["It watched nothing: watch() was not called."]
    watching = ", ".join(device.watching.values()) or "nothing any more"
    taken = list(device.taken)
    error = ""
    try:
        untaken = within(REPORT_SECONDS, device.give_up, device.untaken)
    except OSError as refusal:
        untaken, error = [], str(refusal)
    spelled = speller((), [*taken, *untaken], {})
    lines = _latest([spelled(record) for record in taken], device.taken_in_all)
    more = _latest([spelled(record) for record in untaken], len(untaken))
    if error:
        more = [f"What it has queued is not known: {error}"]
    elif more:
        more = ["not taken by the test:", *more]
    if not lines and not more:
        lines = ["no record"]
    return [f"watching {watching}", *lines, *more]


def _activity(mount: TemporaryMount, began: int) -> list[str]:
    """Return the lines about the operations in a mount; no lines if there were none."""
    try:
        events = list(mount.activity(began))
    except OSError as error:
        return [f"That is not known: {error}"]
    if not events:
        return []
    forgotten = 0
    if events[0].mask & IN_Q_OVERFLOW:
        forgotten = events.pop(0).lost or 0
    texts = [spell(event.mask, event.path, old_name=event.old_path) for event in events]
    lines = [
        f"{(event.time - began) / 1e9:7.3f} s  {text:{_COLUMN}} {_actor(event)}".rstrip()
        for event, text in zip(events, texts, strict=True)
    ]
    head = f"(paths from {mount.path}, seconds since the test began)"
    return [head, *_latest(lines, len(lines) + forgotten)]


def _actor(event: DetailedEvent) -> str:
    """Return the words for the process that did something."""
    if event.pid == os.getpid():
        return "this process"
    user = "" if event.uid in (None, os.geteuid()) else f", user {event.uid}"
    if event.pid is None:
        return "a process that ended" + user
    return f"{os.fsdecode(event.command or b'?')}, process {event.pid}{user}"


def _latest(lines: list[str], in_all: int) -> list[str]:
    """Return the latest of in_all lines, after a line that says how many are left out."""
    shown = lines[-MOST_LINES:]
    before = in_all - len(shown)
    return [f"... {before} earlier ones", *shown] if before else shown
